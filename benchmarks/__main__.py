"""`python -m benchmarks`: runs the bench, and writes what it found."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import growth, machine, pages, rounds
from benchmarks.contenders import CONTENDERS, Contender, chosen, order
from benchmarks.document import Document, empty, figures_of, problems, sealed
from benchmarks.figures import changes
from benchmarks.report import comparison, number
from benchmarks.rounds import FULL, SHORT, Plan
from benchmarks.servers import Servers
from benchmarks.stage import Failed, MissingPeer, MissingServer

HERE = Path(__file__).parent
RESULTS = HERE / "results"

cli = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
told = Console(stderr=True, highlight=False)


@cli.command()
def run(
    *,
    only: Annotated[
        str,
        typer.Option(
            help="Contenders or projects, separated by commas; 'growth', or what grows, as 'tracing'."
        ),
    ] = "",
    repeats: Annotated[int | None, typer.Option(help="How often all is done.", min=1)] = None,
    peers: Annotated[bool, typer.Option(help="Measure the peers, too.")] = True,
    grow: Annotated[
        bool | None,
        typer.Option(
            "--growth/--no-growth", help="Cost as work grows; by default in full runs of all."
        ),
    ] = None,
    axes: Annotated[
        str, typer.Option(help=f"Grow along these alone: {', '.join(growth.AXES)}.")
    ] = "",
    scale: Annotated[
        float | None, typer.Option(help="Multiplies every number of tasks.", min=0.001)
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="A minute: shows that the bench works.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The JSON file to write.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Show ratios against this earlier JSON file.")
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Name the contenders, run nothing.")
    ] = False,
) -> None:
    """Measure taskstream, the bare loop and the peers in turn on the same servers.

    A run of everything writes benchmarks/results/latest.json and docs/benchmarks.md; any other one only
    some.json (or short.json) beside it, which git ignores.
    """
    if listed:
        for one in CONTENDERS:
            print(f"{one.name:22}{one.title}: {one.tuned}")
        return
    names = [name.strip() for name in only.split(",") if name.strip()]
    axes = ",".join([*filter(None, [axes]), *(name for name in names if name in growth.AXES)])
    names = [name for name in names if name not in growth.AXES]
    with_growth = (
        grow if grow is not None else bool(axes) or "growth" in names or not (short or names)
    )
    names = [name for name in names if name != "growth"]
    try:
        contenders = () if only.strip() and not names else chosen(names, peers=peers)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error
    base: Document | None = json.loads(compare.read_text("utf-8")) if compare else None
    plan = _plan(SHORT if short else FULL, scale, repeats)
    # Whoever ends the bench ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    points = list(growth.points(plan.scale)) if with_growth else []
    if axes:
        points = [one for one in points if one.axis in axes.split(",")]
    document = sealed(_measure_all(contenders, points, plan))
    whole = not (only or axes or short or out or scale) and peers and with_growth
    target = out or RESULTS / ("latest.json" if whole else "short.json" if short else "some.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not short:
        _show(document)
    if base is not None:
        _show_changes(document, base)
    told.print(f"wrote {target}")
    if whole:
        pages.main()
    if lacking := problems(document):
        told.print("[red]not whole:[/] " + "\n".join(lacking))
        sys.exit(1)


def _plan(plan: Plan, scale: float | None, repeats: int | None) -> Plan:
    return replace(
        plan,
        scale=plan.scale if scale is None else scale,
        repeats=plan.repeats if repeats is None else repeats,
    )


def _measure_all(
    contenders: tuple[Contender, ...], points: list[growth.Point], plan: Plan
) -> Document:
    about = {
        "taken": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": machine.commit(HERE),
        "plan": asdict(plan),
        "machine": machine.machine(),
    }
    document = empty(about, contenders, points)
    with tempfile.TemporaryDirectory(prefix="taskstream-bench-") as temporary:
        folder = Path(temporary)
        with Servers(folder) as servers:
            if not plan.short:
                rounds.warm_up(plan, servers, folder)
            for repeat in range(plan.repeats):
                for one in order(contenders, repeat):
                    entry = document["contenders"][one.name]
                    said = f"{repeat + 1}/{plan.repeats} {one.title}"
                    _try(entry, said, partial(rounds.measure, one, plan, servers, folder))
                for point in points[::-1] if repeat % 2 else points:
                    entry = document["growth"][point.name]
                    said = f"{repeat + 1}/{plan.repeats} {point.name}"
                    _try(entry, said, partial(growth.measure, point, servers, folder))
            document["versions"] = {
                "taskstream": machine.versions(),
                "servers": servers.versions,
                "peers": machine.peer_versions(),
            }
    return document


def _try(entry: Document, said: str, measure: Callable[[], dict[str, float]]) -> None:
    """One repeat into its entry; what can't be run is told there, and the rest goes on."""
    if entry["missing"]:
        return
    started = time.monotonic()
    try:
        sample = measure()
    except (MissingPeer, MissingServer) as error:
        entry["missing"] = str(error)
        told.print(f"{said}: [yellow]missing[/], {error}", soft_wrap=True)
    except (Failed, ChildProcessError, OSError) as error:
        entry["failures"].append(str(error))
        told.print(f"{said}: [red]failed[/], {error}", soft_wrap=True)
    else:
        entry["samples"].append(sample)
        rates = ", ".join(
            f"{name} {number(sample[name])}"
            for name in ("publish_per_s", "drain_per_s", "body_p50_ms", "result_p50_ms")
            if name in sample
        )
        told.print(f"{said}: {rates} ({time.monotonic() - started:.0f} s)", soft_wrap=True)


def _show(document: Document) -> None:
    table = Table("what", "target", "measured", "reached")
    for one in document["targets"]:
        if one["measured"] is not None:
            reached = "[green]yes[/]" if one["reached"] else "[red]no[/]"
            table.add_row(one["what"], one["target"], number(one["measured"]), reached)
    if table.row_count:
        Console().print(table)


def _show_changes(document: Document, base: Document) -> None:
    table = Table("contender", "measure", "before", "now", "ratio", "")
    for row in comparison(changes(figures_of(document), figures_of(base))):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    cli()
