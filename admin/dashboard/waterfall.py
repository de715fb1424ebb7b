"""A trace as a waterfall: each span one row, under its parent, its bar where its time is. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskstream.observability.collector import SeenSpan

ROWS = 500
"""How many spans are shown at most; Jaeger shows all."""

DEEPEST = 12
"""How far rows are moved in."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row.

    Args:
        span: what it shows.
        depth: how many spans it is below.
        left: where its bar begins, in percent of the whole.
        width: how long its bar is, in percent of the whole.
        offset: seconds since the trace began.
    """

    span: SeenSpan
    depth: int
    left: float
    width: float
    offset: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A trace.

    Args:
        bars: its rows.
        duration: seconds from the first begin to the last end.
        left_out: how many more spans it has.
        failed: how many of its spans ended in an error.
    """

    bars: tuple[Bar, ...]
    duration: float
    left_out: int
    failed: int


def waterfall(spans: Sequence[SeenSpan]) -> Waterfall:
    """The waterfall of a trace's spans, in whatever order they come.

    Every span has its row, once, also where its parent is missing or spans are each other's parents.
    """
    if not spans:
        return Waterfall((), 0.0, 0, 0)
    begin = min(span.started for span in spans)
    whole = max(span.started + max(0.0, span.duration) for span in spans) - begin
    rows = list(_in_tree(spans))
    bars = tuple(_bar(span, depth, begin, whole) for span, depth in rows[:ROWS])
    return Waterfall(bars, whole, len(rows) - len(bars), sum(bool(span.error) for span in spans))


def _in_tree(spans: Sequence[SeenSpan]) -> Iterator[tuple[SeenSpan, int]]:
    """Each span below its parent, brothers by their begin."""
    ordered = sorted(spans, key=lambda span: (span.started, span.span_id))
    known = {span.span_id for span in ordered}
    children: dict[str, list[SeenSpan]] = {}
    for span in ordered:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    seen: set[int] = set()
    # Roots first; then what is left over, which is in a circle.
    for root in [*children.get("", ()), *ordered]:
        waiting = [(root, 0)]
        while waiting:
            span, depth = waiting.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            yield span, depth
            below = reversed(children.get(span.span_id, ()))
            waiting += [(child, min(depth + 1, DEEPEST)) for child in below]


def _bar(span: SeenSpan, depth: int, begin: float, whole: float) -> Bar:
    offset = span.started - begin
    if whole <= 0:
        return Bar(span, depth, 0.0, 100.0, offset)
    left = min(99.7, 100 * offset / whole)
    # A bar that nobody can see tells nothing.
    width = min(100 - left, max(0.3, 100 * max(0.0, span.duration) / whole))
    return Bar(span, depth, round(left, 3), round(width, 3), offset)
