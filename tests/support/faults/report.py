"""How a run is told: one line of a table, and what was found."""

from collections.abc import Iterable, Sequence

from tests.support.faults.mutations import MUTATIONS
from tests.support.faults.run import Report

COLUMNS = (
    "fault",
    "struck",
    "acknowledged",
    "lost",
    "run twice",
    "key order broken",
    "fired early",
    "other findings",
    "recovery",
    "parent's peak memory",
)

_OF_A_COLUMN = ("lost", "key order", "key overlap", "fired early")


def cells(report: Report) -> list[str]:
    """One line of the table."""
    verdict, broken = report.verdict, report.verdict.broken
    others = {what: count for what, count in broken.items() if what not in _OF_A_COLUMN}
    twice = ", ".join(f"{count} {why}" for why, count in sorted(verdict.twice.items()) if count)
    if verdict.convicted:
        twice += f"; {verdict.convicted} struck three times: dead as `WorkerLost`"
    return [
        name(report),
        str(report.strikes),
        f"{verdict.acknowledged:,}",
        str(broken["lost"]),
        twice or "0",
        str(broken["key order"] + broken["key overlap"]),
        str(broken["fired early"]),
        ", ".join(f"{count} {what}" for what, count in others.items()) or "0",
        "-" if verdict.recovery is None else f"{verdict.recovery:.1f} s",
        f"{report.peak_bytes / 2**20:.0f} MiB",
    ]


def name(report: Report) -> str:
    """The fault, with the group protocol where it is the older one."""
    classic = ", classic protocol" if report.order.protocol == "classic" else ""
    return f"{report.order.fault}{classic}"


def table(reports: Iterable[Report]) -> list[str]:
    """The table as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return lines + [f"| {' | '.join(cells(report))} |" for report in reports]


def told(report: Report, most: int = 5) -> str:
    """A run in some lines, with up to `most` findings of each kind."""
    order, verdict = report.order, report.verdict
    head = (
        f"{name(report)}{f' with {order.mutation}' if order.mutation else ''}: seed {order.seed}, "
        f"{verdict.acknowledged:,} acknowledged, {report.refused} refused, {report.strikes} strikes, "
        f"{report.seconds:.0f} s, run twice {dict(verdict.twice)}, "
        f"{verdict.convicted} convicted, {verdict.letters_twice} second dead letters, recovery {verdict.recovery}, "
        f"peak {report.peak_bytes / 2**20:.0f} MiB, broken {dict(verdict.broken)}"
    )
    lines = [head]
    for what in verdict.broken:
        found: Sequence[str] = [one.told for one in verdict.findings if one.what == what]
        lines += [f"  {what}: {text}" for text in found[:most]]
    return "\n".join(lines)


def mutation_table(reports: Iterable[Report]) -> list[str]:
    """Which mutation was run under which fault, and what the oracle said, as Markdown."""
    lines = ["| mutation | under | the oracle says |", "|---|---|---|"]
    for report in reports:
        mutation = MUTATIONS[report.order.mutation]
        said = ", ".join(f"{count} {what}" for what, count in report.verdict.broken.items())
        lines.append(f"| {mutation.what} | {mutation.fault} | {said or 'nothing: **missed**'} |")
    return lines
