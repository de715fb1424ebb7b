"""`taskstream publish`."""

import sys
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import open_app, with_app


def register(cli: typer.Typer) -> None:
    """Adds `publish` to the command line."""
    cli.command(
        epilog="Example: taskstream publish shop.main:app charge "
        '\'{"order_id": "o-17", "cents": 1200}\''
    )(publish)


def publish(
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            help="module:attribute, unless TASKSTREAM_APP is set.",
            show_default=False,
        ),
    ] = None,
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
        [word for word in (first, second, third) if word is not None],
        least=1,
        most=2,
        usage="taskstream publish APP TASK [JSON|-]",
    )
    given = {"delay": delay, "id": task_id, "key": key, "queue": queue, "priority": priority}
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
