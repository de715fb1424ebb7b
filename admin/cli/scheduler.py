"""`taskstream scheduler`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from taskstream.admin.cli.arguments import AppPath, LogFormat, LogLevel, begin_logs, open_app
from taskstream.core.errors import ConfigError

if TYPE_CHECKING:
    from taskstream.scheduler.service import Scheduler

PATIENCE = 300.0
"""Seconds that its loop may stand still: with Kafka away, its client waits for minutes."""

TELL_WITHIN = 2.0
"""Seconds that the worker beside it has to take in what it has counted last."""


def register(cli: typer.Typer) -> None:
    """Adds `scheduler` to the command line."""
    cli.command(epilog="Example: taskstream scheduler shop.main:app")(scheduler)


def scheduler(
    app: AppPath,
    *,
    health_port: Annotated[
        int | None, typer.Option(help="Serve /live, /ready and /metrics on this port.")
    ] = None,
    health_host: Annotated[str, typer.Option(help="Serve them on this address.")] = "127.0.0.1",
    log_level: LogLevel = None,
    log_format: LogFormat = None,
    with_parent: Annotated[
        int | None, typer.Option(hidden=True, help="End when this pipe closes.")
    ] = None,
    tell_to: Annotated[
        int | None, typer.Option("--tell", hidden=True, help="Tell this pipe what is counted.")
    ] = None,
) -> None:
    """Bring delayed tasks and retries home when they are due and fire schedules, until SIGTERM or Ctrl-C.

    Workers run one of these beside them unless told `--no-scheduler`. Any number may run.
    """
    import threading

    from taskstream.admin.companion import tell, when_parent_ends
    from taskstream.admin.schedules import bring
    from taskstream.core.garbage import settle_in
    from taskstream.observability import logs, meters
    from taskstream.observability.metrics import Metrics
    from taskstream.scheduler.service import Scheduler

    begin_logs(log_level, log_format)
    logs.catch_prints()
    try:
        loaded = open_app(app)
        loaded.configure(quiet=with_parent is not None)
        begin_logs(log_level, log_format, loaded.settings)
        logs.catch_prints()
        metrics = Metrics()
        service = Scheduler(loaded.name, loaded.settings, metrics=metrics)
    except ConfigError as error:
        if with_parent is None:
            raise
        raise typer.Exit(2) from error  # the worker beside us tells the same

    def stop(_number: int, _frame: object) -> None:
        service.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)  # a second one stops at once

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if with_parent is not None:
        when_parent_ends(with_parent, service.stop)
    settle_in()
    stopping = threading.Event()
    if loaded.include or loaded.schedules:
        threading.Thread(target=bring, args=(app, stopping), name="bring", daemon=True).start()
    telling = None
    if tell_to is not None:
        # A worker that stands still reads nothing: it must not keep us from our end.
        telling = threading.Thread(
            target=tell, args=(metrics, tell_to, stopping), name="tell", daemon=True
        )
        telling.start()
        flush = None
    else:  # else its worker sends what it tells
        flush = meters.send(metrics, loaded.settings.otlp_endpoint, f"{loaded.name}-scheduler")
    try:
        with _watched(service, health_host, health_port):
            service.run()
    finally:
        stopping.set()
        if telling is not None:
            telling.join(TELL_WITHIN)
        if flush is not None:
            flush()


@contextmanager
def _watched(service: "Scheduler", host: str, port: int | None) -> Iterator[None]:
    """Serves the health pages while the block lasts, where there is a port."""
    if port is None:
        yield
        return
    from taskstream.consumer.watch import Pace, Watchdog, dump_stacks
    from taskstream.observability.exposition import Exposition
    from taskstream.observability.health import HealthServer

    def paces() -> dict[str, Pace]:
        return {"the scheduler's loop": Pace(service.turns, PATIENCE)}

    watchdog = Watchdog(paces, dump=lambda _stuck: dump_stacks())
    health = HealthServer(
        live=lambda: watchdog.problems,
        ready=lambda: service.not_ready,
        metrics=Exposition(service.metrics),
        host=host,
        port=port,
    )
    health.start()
    watchdog.start()
    try:
        yield
    finally:
        watchdog.close()
        health.close()
