"""`taskstream demo`: the demo as it looks in a terminal, and as plain lines elsewhere."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from taskstream.core.errors import TaskstreamError
from taskstream.core.states import State

if TYPE_CHECKING:
    from rich.console import Console

    from taskstream.admin.demo import Demo, Ending
    from taskstream.observability.collector import SeenSpan

LOOK_EVERY = 0.1
TRACE_WITHIN = 15.0
"""Seconds that the last spans may take to arrive."""


def register(cli: typer.Typer) -> None:
    """Adds `demo` to the command line."""
    cli.command(epilog="Example: taskstream demo --real")(demo)


def demo(
    *,
    real: Annotated[
        bool, typer.Option("--real", help="On the servers of `taskstream up`, not embedded.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds until it gives up.")] = 90.0,
) -> None:
    """Run a small shop from publish to trace: the main job, end to end.

    300 orders' tasks, one that fails twice, one that never works, and one record with broken bytes.
    Ends with exit code 0 if every task has ended as it must.
    """
    from rich.console import Console

    from taskstream.admin.demo import Demo, trace_link

    console = Console()
    if not console.is_terminal:
        console = Console(width=110, highlight=False)
    begun = time.monotonic()
    with Demo(real=real) as shop:
        where = "Kafka, Cassandra and Jaeger" if real else "the embedded broker, no server"
        console.print(f"[bold]A small shop on {where}[/bold]")
        shop.start()
        started = time.monotonic()
        count = shop.publish()
        console.print(f"published {count} tasks in {time.monotonic() - started:.2f} s, "
                      "each acknowledged by the broker")  # fmt: skip
        endings = _watch(console, shop, count, begun + timeout)
        _show_states(console, endings)
        shop.finish()
        _show_dead_letters(console, shop)
        spans = _whole_trace(shop, endings)
        _show_trace(console, spans)
        link = trace_link(shop.jaeger_url, spans)
        if link:
            console.print(f"\nthe same in Jaeger: {link}", soft_wrap=True)
    wrong = [one.batch.title for one in endings if not one.as_expected]
    if wrong:
        raise TaskstreamError(f"these tasks did not end as they must: {', '.join(wrong)}")
    console.print(
        f"\n[green]every task ended as it must[/green], {time.monotonic() - begun:.1f} s in all"
    )


def _watch(console: "Console", shop: "Demo", count: int, give_up_at: float) -> "list[Ending]":
    """Shows how far the tasks are until all are final, or time is up."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("[progress.description]{task.description:<22}"),
        BarColumn(40),
        TextColumn("{task.completed:>4.0f} of {task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    rows: dict[str, int] = {}
    told = -1
    with bar:
        while True:
            endings = shop.look()
            for one in endings:
                title = one.batch.title
                if title not in rows:
                    rows[title] = int(bar.add_task(title, total=len(one.batch.ids)))
                bar.update(bar.task_ids[rows[title]], completed=one.finished)
            finished = sum(one.finished for one in endings)
            if not console.is_terminal and finished != told:
                console.print(f"finished {finished} of {count}")
                told = finished
            if finished == count or time.monotonic() > give_up_at:
                return endings
            time.sleep(LOOK_EVERY)


def _show_states(console: "Console", endings: "list[Ending]") -> None:
    from rich import box
    from rich.table import Table

    table = Table(title="Final states", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("task", "priority"):
        table.add_column(column, no_wrap=True)
    for column in ("tasks", "succeeded", "dead", "attempts"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("ok")
    for one in endings:
        table.add_row(
            one.batch.title,
            one.batch.priority,
            str(len(one.batch.ids)),
            str(one.count(State.SUCCEEDED) or "-"),
            str(one.count(State.DEAD) or "-"),
            ", ".join(map(str, sorted({row.attempt for row in one.rows.values()}))),
            "[green]yes[/green]" if one.as_expected else "[red]NO[/red]",
        )
    console.print()
    console.print(table)


def _show_dead_letters(console: "Console", shop: "Demo") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = "Dead letters, byte for byte as published"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("task", "reason", "attempts", "from"):
        table.add_column(column, no_wrap=True)
    table.add_column("bytes", overflow="fold")
    for letter in shop.dead_letters():
        table.add_row(
            letter.task, letter.reason, str(letter.attempts), letter.origin,
            escape(repr(letter.value)[2:-1]),
        )  # fmt: skip
    console.print()
    console.print(table)


def _whole_trace(shop: "Demo", endings: "list[Ending]") -> "list[SeenSpan]":
    from taskstream.admin.demo import whole

    until = time.monotonic() + TRACE_WITHIN
    while True:
        spans = shop.trace(endings)
        if whole(spans, attempts=3) or time.monotonic() > until:
            return spans
        time.sleep(LOOK_EVERY)


def _show_trace(console: "Console", spans: "list[SeenSpan]") -> None:
    """One trace as a tree: what came of what, when, and how long it took."""
    from rich.markup import escape
    from rich.tree import Tree

    if not spans:
        raise TaskstreamError("no span of the trace has arrived")
    begun = spans[0].started
    tree = Tree(f"trace {spans[0].trace_id}", guide_style="dim")
    branches: dict[str, Tree] = {}
    for span in spans:
        above = branches.get(span.parent_id, tree)
        error = f"  [red]{escape(span.error.splitlines()[0])}[/red]" if span.error else ""
        branches[span.span_id] = above.add(
            f"{escape(span.name)}  [dim]+{span.started - begun:.3f} s, "
            f"{span.duration * 1000:.1f} ms[/dim]{error}"
        )
    console.print("\n[bold]One trace[/bold]: the task that fails twice and then works")
    console.print(tree)
