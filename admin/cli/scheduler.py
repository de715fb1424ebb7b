"""`taskstream scheduler`."""

import signal
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import AppPath, LogLevel, open_app
from taskstream.core.errors import ConfigError


def register(cli: typer.Typer) -> None:
    """Adds `scheduler` to the command line."""
    cli.command(epilog="Example: taskstream scheduler shop.main:app")(scheduler)


def scheduler(
    app: AppPath,
    *,
    log_level: LogLevel = "info",
    with_parent: Annotated[
        int | None, typer.Option(hidden=True, help="End when this pipe closes.")
    ] = None,
) -> None:
    """Bring delayed tasks and retries home when they are due and fire schedules, until SIGTERM or Ctrl-C.

    Workers run one of these beside them unless told `--no-scheduler`. Any number may run.
    """
    import threading

    from taskstream.admin.companion import when_parent_ends
    from taskstream.admin.schedules import bring
    from taskstream.core.garbage import settle_in
    from taskstream.observability import logs
    from taskstream.scheduler.service import Scheduler

    logs.configure(log_level)
    try:
        loaded = open_app(app)
        loaded.configure(quiet=with_parent is not None)
        service = Scheduler(loaded.name, loaded.settings)
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
    try:
        service.run()
    finally:
        stopping.set()
