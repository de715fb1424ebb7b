"""`taskstream worker`: a worker process, with a scheduler beside it.

This process is the worker's parent: it never imports the user's code, and so passes the app on as
the text it is.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    LogFormat,
    LogLevel,
    ShadowOf,
    begin_logs,
    shadow_path,
)
from taskstream.core.errors import ConfigError


def register(cli: typer.Typer) -> None:
    """Adds `worker` to the command line."""
    cli.command(
        epilog="Example: taskstream worker shop.main:app --queues tasks --priorities high,normal"
    )(worker)


def worker(
    app: AppPath,
    *,
    queues: Annotated[
        str, typer.Option(help="Serve these, separated by commas; default all.")
    ] = "",
    priorities: Annotated[
        str, typer.Option(help="Serve these, separated by commas; default all.")
    ] = "",
    children: Annotated[
        int | None,
        typer.Option(help="Child processes, which run the tasks; default 2.", show_default=False),
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option(
            metavar="LEAST,MOST", help="As many children as the load asks for, instead of a number."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Tasks that one child runs at once.")] = 50,
    reserved: Annotated[
        int | None,
        typer.Option(
            help="How many of these only a queue's first priority may take; default one of ten."
        ),
    ] = None,
    max_tasks_per_child: Annotated[
        int | None, typer.Option(metavar="N", help="Replace a child that has finished so many.")
    ] = None,
    max_memory_per_child: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Replace a child that has grown beyond it, like 512M."),
    ] = None,
    no_scheduler: Annotated[
        bool, typer.Option("--no-scheduler", help="Leave delayed tasks to a scheduler elsewhere.")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="Replaces the app's name in the consumer groups' names.")
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            help="A name that this worker keeps over restarts: it gets its partitions back."
        ),
    ] = None,
    drain: Annotated[
        float, typer.Option(help="Seconds that running tasks may go on after a stop.")
    ] = 30.0,
    exit_when_empty: Annotated[
        bool, typer.Option("--exit-when-empty", help="End once everything there is finished.")
    ] = False,
    health_port: Annotated[
        int | None, typer.Option(help="Serve /live, /ready and /metrics on this port.")
    ] = None,
    health_host: Annotated[str, typer.Option(help="Serve them on this address.")] = "127.0.0.1",
    shadow: ShadowOf = "",
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C.

    The first signal lets running tasks end and commits; the second one stops at once.
    """
    from taskstream.admin.companion import Companion
    from taskstream.consumer.parent.autoscale import Range
    from taskstream.consumer.parent.staffing import Limits, size_bytes
    from taskstream.consumer.worker import DEFAULT_CHILDREN, WorkerOptions, run
    from taskstream.observability import logs
    from taskstream.observability.metrics import Metrics, Told

    app = shadow_path(app, shadow)
    if children is not None and autoscale is not None:
        raise ConfigError(
            f"--children {children} and --autoscale {autoscale}: give a number or a range, not both"
        )
    options = WorkerOptions(
        app=app,
        directory=Path.cwd(),
        queues=_listed(queues),
        priorities=_listed(priorities),
        children=DEFAULT_CHILDREN if children is None else children,
        autoscale=None if autoscale is None else Range.parse(autoscale),
        concurrency=concurrency,
        limits=Limits(
            tasks=max_tasks_per_child,
            memory_bytes=None if max_memory_per_child is None else size_bytes(max_memory_per_child),
        ),
        reserved=reserved,
        group=group,
        instance=instance,
        drain=drain,
        exit_when_empty=exit_when_empty,
        health_port=health_port,
        health_host=health_host,
        log_level=log_level,
        log_format=log_format,
    )
    begin_logs(log_level, log_format)
    metrics = Metrics()

    def hear(told: Told | None) -> None:
        if told is None:
            metrics.forget("scheduler")
        else:
            metrics.hear("scheduler", told)

    companion = ("scheduler", app, *logs.flags(log_level, log_format))
    with Companion(companion, hear) as scheduler:
        # After the first child, which it would slow down: a worker has nothing to delay before.
        on_ready = _do_nothing if no_scheduler else scheduler.start
        finished = run(options, on_ready=on_ready, on_end=scheduler.stop, metrics=metrics)
    logs.logger(__name__).info("worker ended", pid=os.getpid(), finished=finished)


def _do_nothing() -> None:
    """What there is to do when a worker is ready that has no scheduler beside it."""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
