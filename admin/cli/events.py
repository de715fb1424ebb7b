"""`taskstream events` and `taskstream rebuild`."""

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from taskstream.admin.cli.arguments import AppPath, AsJson, open_app, print_json

if TYPE_CHECKING:
    from taskstream.broker.tail import Start
    from taskstream.core.audit import Action
    from taskstream.results.row import Row


def register(cli: typer.Typer) -> None:
    """Adds `events` and `rebuild` to the command line."""
    cli.command(epilog="Example: taskstream events shop.main:app --follow --task charge")(events)
    cli.command(epilog="Example: taskstream rebuild shop.main:app")(rebuild)


def events(
    app: AppPath,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    last: Annotated[
        str,
        typer.Option(
            help="Begin so long ago: 10m, 2h, 3d, or seconds; by default at the first event, or now with "
            "--follow.",
            show_default=False,
        ),
    ] = "",
    task: Annotated[str | None, typer.Option(help="Attempts of this task alone.")] = None,
    task_id: Annotated[
        str | None, typer.Option("--id", help="What is about this task's id.")
    ] = None,
    actions: Annotated[bool, typer.Option("--actions", help="Only what people did.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document a line on standard output.")
    ] = False,
) -> None:
    """Show what happened: every attempt as it was judged, and what people did, with who and why.

    With --json each line is a document of its own, for the list has no end where it is followed.
    """
    from taskstream.admin import events as told
    from taskstream.core.audit import Action
    from taskstream.core.moments import span

    start: Start = "end" if follow else "begin"
    if last:
        start = time.time() - span(last)
    found = told.events(open_app(app), start=start, follow=follow)
    for event in found if follow else told.by_time(found):
        is_action = isinstance(event, Action)
        target = event.target if isinstance(event, Action) else event.task_id
        if (
            (actions and not is_action)
            or (task is not None and (isinstance(event, Action) or event.task != task))
            or (task_id is not None and target != task_id)
        ):
            continue
        line = json.dumps(told.shown(event), ensure_ascii=False) if as_json else _line(event)
        sys.stdout.write(f"{line}\n")
        if follow:
            sys.stdout.flush()


def rebuild(app: AppPath, *, as_json: AsJson = False) -> None:
    """Store every attempt anew that the events topic tells of, for a result store that was lost.

    Safe at any time, and to repeat: what is there stays as it is. Results live for `result_ttl` from now on.
    """
    from rich.console import Console

    from taskstream.admin.events import rebuild as store_anew

    opened = open_app(app)
    with Console(stderr=True).status("reading the events topic") as status:
        done = store_anew(opened, progress=lambda count: status.update(f"{count:,} attempts read"))
    if as_json:
        print_json(done.as_json())
    else:
        refused = f", {done.refused:,} refused by the store" if done.refused else ""
        sys.stdout.write(f"{done.attempts:,} attempts stored{refused}\n")
    if done.refused:
        raise typer.Exit(1)


def _line(event: "Row | Action") -> str:
    from taskstream.admin import events as told
    from taskstream.core.audit import Action
    from taskstream.core.moments import moment

    if isinstance(event, Action):
        words = [f"{event.verb} {event.target}", f"by {event.who}", *_said(event)]
        return f"{moment(told.happened(event))} {' '.join(words)}"
    words = [f"{event.task} {event.task_id} {event.state}", *_told(event)]
    return f"{moment(told.happened(event))} {' '.join(words)}"


def _said(action: "Action") -> Iterator[str]:
    if action.count is not None:
        yield f"count={action.count}"
    yield from (f"{name}={value}" for name, value in action.details.items())
    if action.reason:
        yield f"because: {action.reason}"


def _told(row: "Row") -> Iterator[str]:
    yield f"run={row.run} attempt={row.attempt}"
    if row.started is not None and row.finished is not None:
        yield f"in {row.finished - row.started:.3f} s"
    if row.worker:
        yield f"on {row.worker}"
    if row.error_type:
        from taskstream.observability.logs import flat

        yield flat(f"{row.error_type}: {row.error}" if row.error else row.error_type)
