"""The page of a run, docs/benchmarks.md: written from its document, never by hand. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contenders import BARE, OURS
from benchmarks.document import Document, figures_of
from benchmarks.figures import BY_NAME, Change, Figure
from benchmarks.growth import AXES

NOTE = "<!-- Written by `make bench-page` from benchmarks/results/: run the bench, don't edit. -->"

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Throughput": ("publish_per_s", "drain_per_s", "both_per_s"),
    "Latency at 100 tasks/s": ("body_p50_ms", "body_p99_ms", "result_p50_ms", "result_p99_ms"),
    "CPU": ("publish_cpu_s", "publish_servers_cpu_s", "drain_cpu_s", "drain_servers_cpu_s", "idle_cpu_percent"),
    "Memory and start": ("processes", "idle_mib", "busy_mib", "cold_start_s"),
}  # fmt: skip
"""The tables in which all contenders stand, with their measures."""

FLOORS = ("raw_produce_per_s", "record_bytes", "drain_per_s", "plain_drain_per_s", "consumed_p50_ms",
          "consumed_p99_ms", "written_p50_ms", "written_p99_ms", "read_p50_ms", "read_p99_ms")  # fmt: skip

ALONE = ("publish_per_s", "publish_nowait_per_s", "publish_async_per_s", "publish_each_per_s", "import_ms",
         "sleepers_s", "parent_mib")  # fmt: skip

GROWN = ("publish_per_s", "drain_per_s", "drain_cpu_s", "parent_mib")


def page(document: Document, plots: Sequence[str] = ()) -> str:
    """The page as Markdown.

    Args:
        document: a sealed one.
        plots: file names of the plots, as the page links them.
    """
    found = figures_of(document)
    lines = [
        "# Benchmarks",
        "",
        NOTE,
        "",
        *_about(document),
        *(line for plot in plots for line in (f"![{_alt(plot)}](benchmarks/{plot})", "")),
        *_targets(document),
    ]
    contenders = document["contenders"]
    for title, measures in GROUPS.items():
        rows = [
            (one["title"], *(_shown(found[name].get(measure)) for measure in measures))
            for name, one in contenders.items()
            if any(measure in found[name] for measure in measures)
        ]
        if rows:
            lines += [f"## {title}", "", *_table(("", *map(_head, measures)), rows), ""]
            if title == "Throughput":
                lines += _ratios(document)
    lines += _single("The bare loop: what the servers allow", found.get(BARE.name, {}), FLOORS)
    lines += _single("taskstream alone", found.get(OURS.name, {}), ALONE)
    lines += _growth(document, found)
    lines += ["## Who took part", ""]
    for one in contenders.values():
        state = _state(one)
        lines.append(f"- **{one['title']}**: {one['tuned']}{state}.")
    versions = document["versions"]
    lines += [
        "",
        *_table(("", "versions"), ((name, _listed(those)) for name, those in versions.items())),
    ]
    return "\n".join([*lines, ""])


def comparison(found: Iterable[Change]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows of a table: contender, measure, before, now, ratio, and whether it is more than noise."""
    return [
        (
            one.contender,
            BY_NAME[one.measure].title if one.measure in BY_NAME else one.measure,
            number(one.before),
            number(one.now),
            "" if one.ratio is None else f"{one.ratio:.2f}",
            ("better" if one.better else "worse") if one.beyond_spread else "within the spread",
        )
        for one in found
    ]


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
        if abs(value) >= 0.1
        else f"{value:.2g}"
    )


def _about(document: Document) -> list[str]:
    machine, plan = document["machine"], document["plan"]
    repeats = "once" if plan["repeats"] == 1 else f"{plan['repeats']} times, in changing order"
    kind = (
        " This was a **short run**: its figures only show that the bench works."
        if plan["short"]
        else ""
    )
    scale = f" Counts were {plan['scale']:g} of the full ones." if plan["scale"] != 1 else ""
    return [
        (
            f"Taken {document['taken']} at commit {document['commit'] or 'unknown'}, on {machine['cores']} cores "
            f"({machine['processor']}), {machine['memory_gib']:g} GiB, {machine['system']}, Python "
            f"{machine['python']}; servers, workers and publishers all on this machine. Each contender ran "
            f"{repeats}; figures are medians, with half the distance between the extremes.{scale}{kind}"
        ),
        "",
        (
            "Tasks do nothing and return a number; results are kept, where a contender can. A drain is timed "
            "from the moment when a tenth of the task bodies has run until the last result is stored "
            "(taskstream: until the last offset is committed, which comes after). Workers have two processes that run tasks. CPU of a drain is "
            "that of all worker processes, and of the servers they use. Run it yourself: `make bench`."
        ),
        "",
    ]


def _targets(document: Document) -> list[str]:
    if document["plan"]["short"]:
        return ["## Targets", "", "A short run judges none.", ""]
    rows = [
        (
            one["what"],
            one["target"],
            "" if one["measured"] is None else f"{number(one['measured'])} {one['unit']}",
            {True: "yes", False: "**no**", None: "not measured"}[one["reached"]],
        )
        for one in document["targets"]
    ]
    return ["## Targets", "", *_table(("what", "target", "measured", "reached"), rows), ""]


def _ratios(document: Document) -> list[str]:
    rows = [
        (document["contenders"][name]["title"], *(f"{times[m]:.2f}" if m in times else "" for m in GROUPS["Throughput"]))
        for name, times in document["ratios"].items()
        if times
    ]  # fmt: skip
    if not rows:
        return []
    return ["How many times theirs taskstream's is:", "",
            *_table(("", *(BY_NAME[name].title for name in GROUPS["Throughput"])), rows), ""]  # fmt: skip


def _single(title: str, measures: Mapping[str, Figure], names: Iterable[str]) -> list[str]:
    rows = [
        (BY_NAME[name].title, _shown(measures[name]), BY_NAME[name].unit)
        for name in names
        if name in measures
    ]
    return [f"## {title}", "", *_table(("what", "median", "unit"), rows), ""] if rows else []


def _growth(document: Document, found: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    lines: list[str] = []
    for axis, title in AXES.items():
        mine = {name: one for name, one in document["growth"].items() if one["axis"] == axis}
        rows = [
            (f"{one['value']:,}", *(_shown(found[name].get(measure)) for measure in GROWN), _state(one).strip(", "))
            for name, one in mine.items()
        ]  # fmt: skip
        if rows:
            lines += [
                f"### {axis.capitalize()}",
                "",
                *_table((title, *map(_head, GROWN), ""), rows),
                "",
            ]
    return ["## As work grows", "", *lines] if lines else []


def _state(one: Mapping[str, Any]) -> str:
    if one["missing"]:
        return f", **missing**: {one['missing']}"
    return "".join(f", **failed once**: {why}" for why in one["failures"])


def _head(measure: str) -> str:
    known = BY_NAME[measure]
    return f"{known.title} ({known.unit})" if known.unit else known.title


def _shown(value: Figure | None) -> str:
    if value is None:
        return ""
    return number(value.median) + (f" ±{value.spread:.0%}" if value.repeats > 1 else "")


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _alt(plot: str) -> str:
    return plot.removesuffix(".svg").replace("-", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
