"""`taskstream publish`."""

import sys
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import open_app, with_app


def register(cli: typer.Typer) -> None:
    """Adds `publish` to the command line."""
    cli.command(
        epilog="Example: taskstream publish shop.main:app charge "
        "'{\"order_id\": \"o-17\", \"cents\": 1200}'"
    )(publish)


def publish(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[APP] TASK [JSON|-]",
            help="The App, unless TASKSTREAM_APP names it; the task's name; its arguments as a "
            "JSON object, or - for one object a line on standard input.",
        ),
    ],
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

    path, (task, *payload) = with_app(
        words, least=1, most=2, usage="taskstream publish APP TASK [JSON|-]"
    )
    given = {"delay": delay, "id": task_id, "key": key, "queue": queue, "priority": priority}
    options = {name: value for name, value in given.items() if value is not None}
    lines = sys.stdin if payload == ["-"] else payload or ["{}"]
    with open_app(path) as app:
        for one in publishing.publish_lines(app, task, lines, options):
            sys.stdout.write(f"{one}\n")
            sys.stdout.flush()
