"""`taskstream workers …`."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    AsJson,
    Commands,
    FirstWord,
    Reason,
    new_table,
    open_app,
    print_json,
    print_table,
    with_app,
)
from taskstream.core.errors import ConfigError

if TYPE_CHECKING:
    from taskstream.admin.workers import Worker


def register(cli: typer.Typer) -> None:
    """Adds `workers` to the command line."""
    workers = typer.Typer(cls=Commands, no_args_is_help=True)
    workers.command("list", epilog="Example: taskstream workers list shop.main:app --json")(
        list_workers
    )
    workers.command("scale", epilog="Example: taskstream workers scale shop.main:app 8")(scale)
    cli.add_typer(
        workers,
        name="workers",
        help="Workers and their child processes.",
        epilog="Example: taskstream workers list shop.main:app",
    )


def list_workers(app: AppPath, *, as_json: AsJson = False) -> None:
    """List the workers that are alive: where, since when, and what they run."""
    from taskstream.admin.workers import workers

    found = workers(open_app(app))
    _show(found, as_json=as_json)
    if not found:
        sys.stderr.write("no worker is alive: start one with `taskstream worker`\n")


def scale(
    first: FirstWord = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="N", help="How many child processes each has.", show_default=False),
    ] = None,
    *,
    worker: Annotated[
        str | None, typer.Option(help="Only this one; default all, also those to come.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Without N: back to what each was started with.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Change the number of child processes of running workers, without a rebalance.

    The order is durable: it holds for a worker that starts later, too, until the next one or `--reset`.
    Shows the workers that it concerns, as they were when it was given.
    """
    from taskstream.admin.workers import scale as give
    from taskstream.admin.workers import unscale

    words = (first, second)
    usage = "taskstream workers scale APP N|--reset [--worker NAME] [--reason TEXT] [--json]"
    if reset:
        path, _ = with_app(words, least=0, most=0, usage=usage)
        concerned = unscale(open_app(path), worker=worker, reason=reason)
    else:
        path, (number,) = with_app(words, least=1, most=1, usage=usage)
        if not number.isdecimal():
            raise ConfigError(f"{number!r} is no number of children; usage: {usage}")
        concerned = give(open_app(path), int(number), worker=worker, reason=reason)
    _show(concerned, as_json=as_json)
    followers = "they follow" if concerned else "no worker is alive; those that start follow it"
    sys.stderr.write(f"{'taken back' if reset else 'ordered'}: {followers}\n")


def _show(workers: Sequence["Worker"], *, as_json: bool) -> None:
    if as_json:
        print_json([worker.as_json() for worker in workers])
        return
    if not workers:
        return
    table = new_table(("worker", "host"))
    table.add_column("pid", justify="right")
    for column in ("version", "queues"):
        table.add_column(column, no_wrap=True)
    for column in ("up", "children", "running"):
        table.add_column(column, justify="right")
    table.add_column("paused")
    now = time.time()
    for worker in workers:
        table.add_row(
            worker.worker, worker.host, str(worker.pid), worker.version, ",".join(worker.queues),
            f"{now - worker.since:.0f} s", str(worker.children), str(len(worker.running)),
            " ".join(worker.paused) or "-",
        )  # fmt: skip
    print_table(table)
