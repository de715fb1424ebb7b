"""`taskstream queues …`."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    AsJson,
    Commands,
    FirstWord,
    Reason,
    Yes,
    confirm,
    new_table,
    open_app,
    print_json,
    print_table,
    progress_bar,
    with_app,
)

if TYPE_CHECKING:
    from taskstream.admin.queues import Lane, Ordered
    from taskstream.admin.waiting import Waiting
    from taskstream.app.app import App

LOOK_EVERY = 1.0
"""Seconds between two looks at what is left."""

Second = Annotated[
    str | None,
    typer.Argument(
        metavar="QUEUE",
        help="A queue, or one of its priorities: QUEUE.PRIORITY.",
        show_default=False,
    ),
]
OfTask = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="Instead of a queue: all tasks of this name."),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Return only when nothing is left, with a progress bar.")
]


class _Order(Protocol):
    def __call__(self, app: "App", target: str, *, reason: str = "") -> "Ordered": ...


def register(cli: typer.Typer) -> None:
    """Adds `queues` to the command line."""
    queues = typer.Typer(cls=Commands, no_args_is_help=True)
    queues.command("list", epilog="Example: taskstream queues list shop.main:app --json")(
        list_queues
    )
    queues.command(
        epilog="Example: taskstream queues pause shop.main:app tasks.low --reason 'the bank is down'"
    )(pause)
    queues.command(epilog="Example: taskstream queues resume shop.main:app --task charge")(resume)
    queues.command(epilog="Example: taskstream queues drain shop.main:app tasks --wait")(drain)
    queues.command(
        epilog="Example: taskstream queues purge shop.main:app --task charge --reason 'sent twice'"
    )(purge)
    cli.add_typer(
        queues,
        name="queues",
        help="Queues and what waits in them.",
        epilog="Example: taskstream queues list shop.main:app",
    )


def list_queues(
    app: AppPath,
    *,
    group: Annotated[
        str | None,
        typer.Option(
            help="What waits for the workers of `--group NAME`; default those without.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List queues and priorities: what waits, for how long, and how many dead letters came of it."""
    from taskstream.admin.queues import lanes, standing
    from taskstream.core.names import check_part
    from taskstream.core.queue_orders import HOLDING

    if group is not None:
        check_part("group", group)
    opened = open_app(app)
    found = lanes(opened, group=group)
    if as_json:
        print_json([lane.as_json() for lane in found])
        return
    _show(found)
    for order in standing(opened).orders:
        if order.verb in HOLDING:
            sys.stderr.write(f"{order}\n")
    for lane in found:
        if lane.waits_longer_than(opened.settings.alarming_age):
            typer.secho(
                f"{lane.topic}: its oldest task has waited for half of the retention; "
                "start workers for it before Kafka deletes it",
                fg="red", err=True,
            )  # fmt: skip


def pause(
    first: FirstWord = None,
    second: Second = None,
    *,
    task: OfTask = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let nothing more of a queue, of a priority or of one kind of task start; what runs goes on.

    The order is durable, and in force within a second: until `resume`, for workers that start later, too.
    """
    from taskstream.admin.queues import pause as give

    _order(give, "pause", (first, second), task, reason=reason, as_json=as_json)


def resume(
    first: FirstWord = None,
    second: Second = None,
    *,
    task: OfTask = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let go on what was paused or drained; a queue with all its priorities."""
    from taskstream.admin.queues import resume as give

    _order(give, "resume", (first, second), task, reason=reason, as_json=as_json)


def drain(
    first: FirstWord = None,
    second: Second = None,
    *,
    task: OfTask = None,
    wait: Wait = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let what is there be finished, and nothing start that comes later, until `resume`.

    With --wait: back when nothing of it is left but tasks whose due time is still to come.
    """
    from taskstream.admin.queues import drain as give

    app, ordered = _given(give, "drain", (first, second), task, reason=reason)
    if not (as_json and wait):  # one document: the one at the end
        _tell(ordered, as_json=as_json)
    if wait:
        _wait(app, ordered, as_json=as_json)


def purge(
    first: FirstWord = None,
    second: Second = None,
    *,
    task: OfTask = None,
    wait: Wait = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End as cancelled all that waits now, delayed tasks and retries with it; what runs goes on.

    Counts first, and asks. It can't be taken back; each task keeps its row, with the reason.
    """
    from taskstream.admin.queues import find, waiting
    from taskstream.admin.queues import purge as give

    path, target = _target("purge", (first, second), task)
    app = open_app(path)
    name = find(app, target).name
    before = waiting(app, target)
    sys.stderr.write(f"{name}: {_told(before)} (running ones among the queued, which go on)\n")
    confirm(f"End {before.total} tasks of {name} as cancelled?", yes=yes)
    ordered = give(app, target, reason=reason, count=before.total)
    if not as_json:
        _tell(ordered, as_json=False)
    elif not wait:
        print_json({**ordered.as_json(), "waiting": before.as_json()})
    if wait:
        _wait(app, ordered, as_json=as_json)


def _target(verb: str, words: tuple[str | None, str | None], task: str | None) -> tuple[str, str]:
    """The app's path, and what the order is about."""
    usage = f"taskstream queues {verb} APP QUEUE[.PRIORITY] | --task NAME"
    if task is not None:
        path, _ = with_app(words, least=0, most=0, usage=usage)
        return path, f"task:{task}"
    path, (queue,) = with_app(words, least=1, most=1, usage=usage)
    return path, f"queue:{queue}"


def _given(
    give: _Order, verb: str, words: tuple[str | None, str | None], task: str | None, *, reason: str
) -> "tuple[App, Ordered]":
    path, target = _target(verb, words, task)
    app = open_app(path)
    return app, give(app, target, reason=reason)


def _order(
    give: _Order,
    verb: str,
    words: tuple[str | None, str | None],
    task: str | None,
    *,
    reason: str,
    as_json: bool,
) -> None:
    _, ordered = _given(give, verb, words, task, reason=reason)
    _tell(ordered, as_json=as_json)


def _tell(ordered: "Ordered", *, as_json: bool) -> None:
    if as_json:
        print_json(ordered.as_json())
        return
    _show(ordered.lanes)
    if not ordered.changed:
        sys.stderr.write(f"{ordered.target}: nothing held it back\n")
    else:
        names = ", ".join(worker.worker for worker in ordered.workers)
        followers = (
            f"followed by {names}" if names else "no worker is alive; those that start follow it"
        )
        sys.stderr.write(f"{ordered.verb} {ordered.target}: {followers}\n")
    for sentence in ordered.holding:
        sys.stderr.write(f"{sentence}\n")


def _wait(app: "App", ordered: "Ordered", *, as_json: bool) -> None:
    """Waits until nothing is left that had entered by then, but what is not due yet."""
    from taskstream.admin.queues import left

    with progress_bar(ordered.verb) as show:
        seen_empty, last = 0, left(app, ordered)
        most = max(1, last.queued + last.retrying)
        while True:
            busy = last.queued + last.retrying
            seen_empty = 0 if busy else seen_empty + 1
            most = max(most, busy)
            show(most - busy, most)
            if seen_empty == 2:
                break
            time.sleep(LOOK_EVERY)
            last = left(app, ordered)
    if as_json:
        print_json({**ordered.as_json(), "left": last.as_json()})
    later = f"; {last.delayed} are not due yet, and run when they are" if last.delayed else ""
    sys.stderr.write(f"{ordered.verb} {ordered.target}: nothing is left{later}\n")


def _told(waiting: "Waiting") -> str:
    return f"{waiting.queued} queued, {waiting.retrying} waiting for a retry, {waiting.delayed} delayed"


def _show(lanes: "Sequence[Lane]") -> None:
    table = new_table(("queue", "priority", "topic"), ("partitions", "lag", "oldest", "dead"))
    table.add_column("paused")
    for lane in lanes:
        oldest = "-" if lane.oldest_s is None else f"{lane.oldest_s:.1f} s"
        table.add_row(
            lane.queue, lane.priority, lane.topic,
            str(lane.partitions), str(lane.lag), oldest, str(lane.dead), "paused" if lane.paused else "-",
        )  # fmt: skip
    print_table(table)
