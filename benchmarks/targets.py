"""What the bench must show, and whether it does: each target against the medians of one run. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.figures import ratio

Medians = Mapping[str, Mapping[str, float]]
"""By contender (or point of growth), by measure."""


@dataclass(frozen=True, slots=True)
class Target:
    """One line of what must be shown.

    Args:
        what: in words.
        bound: the number it is held against.
        at_least: whether the measured number must not be below the bound; else not above.
        unit: of both.
        measured: what a run has for it; None where the run can't tell.
    """

    what: str
    bound: float
    at_least: bool
    unit: str
    measured: Callable[[Medians], float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A target, and what a run says of it.

    Args:
        what: as in the target.
        target: the bound with its sense and unit, as it is shown.
        measured: what the run has; None where it can't tell.
        unit: of it.
        reached: whether the target is; None where the run can't tell.
    """

    what: str
    target: str
    measured: float | None
    unit: str
    reached: bool | None


def judge(medians: Medians) -> list[Judged]:
    """Every target against one run."""
    found = []
    for target in TARGETS:
        measured = target.measured(medians)
        reached = None
        if measured is not None:
            reached = measured >= target.bound if target.at_least else measured <= target.bound
        shown = f"{'≥' if target.at_least else '≤'} {target.bound:g} {target.unit}".strip()
        found.append(Judged(target.what, shown, measured, target.unit, reached))
    return found


def point(axis: str, value: float | str) -> str:
    """The name of a point of growth among the medians."""
    return f"{axis} {value}"


def _of(contender: str, measure: str) -> Callable[[Medians], float | None]:
    return lambda medians: medians.get(contender, {}).get(measure)


def _best(contenders: Iterable[Contender], measure: str) -> Callable[[Medians], float | None]:
    names = [one.name for one in contenders]
    return lambda medians: max(
        (medians[name][measure] for name in names if measure in medians.get(name, {})), default=None
    )


def _times(
    upper: Callable[[Medians], float | None], lower: Callable[[Medians], float | None]
) -> Callable[[Medians], float | None]:
    return lambda medians: ratio(upper(medians), lower(medians))


_PEERS = [one for one in CONTENDERS if one.peer]
_KEEPING = [one for one in _PEERS if one.results]


def _project(name: str) -> list[Contender]:
    return [one for one in _PEERS if one.project == name]


_DRAIN = _of("taskstream", "drain_per_s")
_PUBLISH = _of("taskstream", "publish_per_s")
_NOWAIT = _of("taskstream", "publish_nowait_per_s")
_RAW = _of("bare", "raw_produce_per_s")


def _over_floor(ours: str, floor: str) -> Callable[[Medians], float | None]:
    return _times(_of("taskstream", ours), _of("bare", floor))


TARGETS = (
    Target("drain, to the bare loop's", 0.8, True, "times", _times(_DRAIN, _of("bare", "drain_per_s"))),
    Target("drain, to the fastest peer's that keeps results", 3.5, True, "times", _times(_DRAIN, _best(_KEEPING, "drain_per_s"))),
    Target("drain, to Dramatiq's", 7, True, "times", _times(_DRAIN, _best(_project("dramatiq"), "drain_per_s"))),
    Target("drain, to Taskiq's best", 7, True, "times", _times(_DRAIN, _best(_project("taskiq"), "drain_per_s"))),
    Target("drain, to Celery's best", 10, True, "times", _times(_DRAIN, _best(_project("celery"), "drain_per_s"))),
    Target("drain, to Celery's on Kafka and Cassandra", 40, True, "times", _times(_DRAIN, _best(_project("celery-kafka"), "drain_per_s"))),
    Target("publish_many, to raw produce", 0.3, True, "times", _times(_PUBLISH, _RAW)),
    Target("publish_many, to the fastest peer's publish", 6, True, "times", _times(_PUBLISH, _best(_PEERS, "publish_per_s"))),
    Target("publish_nowait, to raw produce", 0.3, True, "times", _times(_NOWAIT, _RAW)),
    Target("publish_nowait, to the fastest peer's publish", 6, True, "times", _times(_NOWAIT, _best(_PEERS, "publish_per_s"))),
    Target("publish to task body, p50, to the floor", 1.5, False, "times", _over_floor("body_p50_ms", "consumed_p50_ms")),
    Target("publish to task body, p99, to the floor", 1.5, False, "times", _over_floor("body_p99_ms", "consumed_p99_ms")),
    Target("publish to result in hand, p50, to the floor", 1.5, False, "times", _over_floor("result_p50_ms", "read_p50_ms")),
    Target("publish to result in hand, p99, to the floor", 1.5, False, "times", _over_floor("result_p99_ms", "read_p99_ms")),
    Target("publish to task body, p50", 3, False, "ms", _of("taskstream", "body_p50_ms")),
    Target("publish to task body, p99", 10, False, "ms", _of("taskstream", "body_p99_ms")),
    Target("publish to result in hand, p50", 5, False, "ms", _of("taskstream", "result_p50_ms")),
    Target("publish to result in hand, p99", 15, False, "ms", _of("taskstream", "result_p99_ms")),
    Target("drain with 1,000,000 waiting, to that with 10,000", 0.9, True, "times", _times(_of(point("backlog", 1_000_000), "drain_per_s"), _of(point("backlog", 10_000), "drain_per_s"))),
    Target("the parent's memory with 1,000,000 waiting, to that with 10,000", 1.1, False, "times", _times(_of(point("backlog", 1_000_000), "parent_mib"), _of(point("backlog", 10_000), "parent_mib"))),
    Target("CPU of an idle worker", 1, False, "% of a core", _of("taskstream", "idle_cpu_percent")),
    Target("worker command to first task done", 1.5, False, "s", _of("taskstream", "cold_start_s")),
    Target("import taskstream", 100, False, "ms", _of("taskstream", "import_ms")),
    Target("10,000 coroutines that sleep 1 s, one child", 3, False, "s", _of("taskstream", "sleepers_s")),
)  # fmt: skip
"""All of them, in the order in which the page shows them."""
