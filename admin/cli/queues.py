"""`taskstream queues …`."""

import sys

import typer

from taskstream.admin.cli.arguments import AppPath, AsJson, open_app, print_json


def register(cli: typer.Typer) -> None:
    """Adds `queues` to the command line."""
    queues = typer.Typer(no_args_is_help=True)
    queues.command("list", epilog="Example: taskstream queues list shop.main:app --json")(
        list_queues
    )
    cli.add_typer(
        queues,
        name="queues",
        help="Queues and what waits in them.",
        epilog="Example: taskstream queues list shop.main:app",
    )


def list_queues(app: AppPath, *, as_json: AsJson = False) -> None:
    """List queues and priorities: what waits, for how long, and how many dead letters came of it."""
    from taskstream.admin.queues import lanes

    opened = open_app(app)
    found = lanes(opened)
    if as_json:
        print_json([lane.as_json() for lane in found])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("queue", "priority", "topic"):
        table.add_column(column, no_wrap=True)
    for column in ("partitions", "lag", "oldest", "dead"):
        table.add_column(column, justify="right")
    for lane in found:
        oldest = "-" if lane.oldest_s is None else f"{lane.oldest_s:.1f} s"
        table.add_row(
            lane.queue, lane.priority, lane.topic,
            str(lane.partitions), str(lane.lag), oldest, str(lane.dead),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for lane in found:
        if lane.waits_longer_than(opened.settings.alarming_age):
            typer.secho(
                f"{lane.topic}: its oldest task has waited for half of the retention; "
                "start workers for it before Kafka deletes it",
                fg="red", err=True,
            )  # fmt: skip
