"""`taskstream publish`."""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer

from taskstream.admin.cli.arguments import (
    FirstWord,
    open_app,
    with_app,
)
from taskstream.core.retry import Retry

T = TypeVar("T")


def register(cli: typer.Typer) -> None:
    """Adds `publish` to the command line."""
    cli.command(
        epilog="Example: taskstream publish shop.main:app charge "
        '\'{"order_id": "o-17", "cents": 1200}\''
    )(publish)


def publish(
    first: FirstWord = None,
    second: Annotated[
        str | None, typer.Argument(metavar="TASK", help="The task's name.", show_default=False)
    ] = None,
    third: Annotated[
        str | None,
        typer.Argument(
            metavar="JSON|-",
            help="Its arguments as a JSON object, or - for one object a line on standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    delay: Annotated[
        float | None, typer.Option(help="Seconds until it may run.", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="When it may run: 2027-01-01T09:00+01:00.", show_default=False),
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(help="Seconds after which it is too old to run.", show_default=False),
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(
            help="A retry policy of its own: 'attempts=5; delays=1,5'.", show_default=False
        ),
    ] = None,
    task_id: Annotated[
        str | None, typer.Option("--id", help="Your own id: published twice, it counts once.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The ordering key.")] = None,
    queue: Annotated[str | None, typer.Option(help="Another queue than the task's.")] = None,
    priority: Annotated[str | None, typer.Option(help="Another priority than the task's.")] = None,
) -> None:
    """Publish a task, or one for each line of JSON, and print its id.

    An id is printed once Kafka has acknowledged its task.
    """
    from taskstream.admin import publishing
    from taskstream.observability import tracing

    path, (task, *payload) = with_app(
        (first, second, third),
        least=1,
        most=2,
        usage="taskstream publish APP TASK [JSON|-]",
    )
    given = {
        "delay": delay,
        "at": None if at is None else _read("--at", at, datetime.fromisoformat),
        "expires": expires,
        "retry": None if retry is None else _read("--retry", retry, Retry.parse),
        "id": task_id,
        "key": key,
        "queue": queue,
        "priority": priority,
    }
    options = {name: value for name, value in given.items() if value is not None}
    with open_app(path) as app:
        flush = tracing.setup(app.settings.otlp_endpoint, app.name)
        if payload == ["-"]:
            for one in publishing.publish_lines(app, task, sys.stdin, options):
                sys.stdout.write(f"{one}\n")
                sys.stdout.flush()
        else:
            (line,) = payload or ["{}"]
            handle = publishing.publish_line(app, task, line, options)
            handle.acknowledged()
            sys.stdout.write(f"{handle.id}\n")
        flush()


def _read(option: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
