"""The arithmetic of the bench: percentiles, medians, spreads, ratios. Pure."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Sample = Mapping[str, float]
"""What one repeat found, by the measure's name."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is measured.

    Args:
        name: in samples and in JSON; it ends in the unit.
        title: how it is shown.
        unit: of the number, as it is shown.
        more_is_better: which way is up.
    """

    name: str
    title: str
    unit: str
    more_is_better: bool = False


MEASURES = (
    Measure("publish_per_s", "publish", "tasks/s", more_is_better=True),
    Measure("drain_per_s", "drain with results", "tasks/s", more_is_better=True),
    Measure("both_per_s", "publish and drain at once", "tasks/s", more_is_better=True),
    Measure("body_p50_ms", "publish to task body, p50", "ms"),
    Measure("body_p99_ms", "publish to task body, p99", "ms"),
    Measure("result_p50_ms", "publish to result in hand, p50", "ms"),
    Measure("result_p99_ms", "publish to result in hand, p99", "ms"),
    Measure("publish_cpu_s", "CPU of 1,000 publishes", "s"),
    Measure("drain_cpu_s", "CPU of 1,000 tasks, workers", "s"),
    Measure("publish_servers_cpu_s", "CPU of 1,000 publishes, servers", "s"),
    Measure("drain_servers_cpu_s", "CPU of 1,000 tasks, servers", "s"),
    Measure("idle_mib", "memory of idle worker processes", "MiB"),
    Measure("busy_mib", "memory of busy worker processes, highest", "MiB"),
    Measure("parent_mib", "memory of the worker's parent, highest", "MiB"),
    Measure("processes", "worker processes", ""),
    Measure("cold_start_s", "worker command to first task done", "s"),
    Measure("idle_cpu_percent", "CPU of an idle worker", "% of a core"),
    Measure("publish_nowait_per_s", "publish_nowait and flush", "tasks/s", more_is_better=True),
    Measure("publish_async_per_s", "publish_async, 100 at a time", "tasks/s", more_is_better=True),
    Measure("publish_each_per_s", "publish, one at a time", "tasks/s", more_is_better=True),
    Measure("import_ms", "import taskstream", "ms"),
    Measure("sleepers_s", "10,000 coroutines that sleep 1 s, one child", "s"),
    Measure("raw_produce_per_s", "raw produce, same record size", "records/s", more_is_better=True),
    Measure("record_bytes", "size of a record", "bytes"),
    Measure("plain_drain_per_s", "drain without results", "tasks/s", more_is_better=True),
    Measure("consumed_p50_ms", "produce to consumed, p50", "ms"),
    Measure("consumed_p99_ms", "produce to consumed, p99", "ms"),
    Measure("written_p50_ms", "produce to row written, p50", "ms"),
    Measure("written_p99_ms", "produce to row written, p99", "ms"),
    Measure("read_p50_ms", "produce to row read back, p50", "ms"),
    Measure("read_p99_ms", "produce to row read back, p99", "ms"),
)
"""All measures; which of them a contender has is told by its samples."""

BY_NAME = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True, slots=True)
class Figure:
    """What repeats of one measure come to.

    Args:
        median: of all repeats.
        lowest: the least of them.
        highest: the most of them.
        repeats: how many there were.
    """

    median: float
    lowest: float
    highest: float
    repeats: int

    @property
    def spread(self) -> float:
        """Half the distance between the extremes, as a share of the median; 0 where that is 0."""
        return (self.highest - self.lowest) / 2 / self.median if self.median else 0.0


def figure(values: Sequence[float]) -> Figure:
    """Raises ValueError where there are none."""
    if not values:
        raise ValueError("no values")
    return Figure(statistics.median(values), min(values), max(values), len(values))


def figures(samples: Iterable[Sample]) -> dict[str, Figure]:
    """For each measure that any repeat has, what the repeats that have it come to."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            found.setdefault(name, []).append(value)
    return {name: figure(values) for name, values in found.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def percentiles_ms(prefix: str, seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds, by their measures' names; empty where there are no values."""
    if not seconds:
        return {}
    return {
        f"{prefix}_p50_ms": 1000 * percentile(seconds, 0.50),
        f"{prefix}_p99_ms": 1000 * percentile(seconds, 0.99),
    }


def ratio(value: float | None, to: float | None) -> float | None:
    """How many times the other it is; None where either is missing or the other is 0."""
    return None if value is None or not to else value / to


@dataclass(frozen=True, slots=True)
class Change:
    """A measure in this run beside an earlier one.

    Args:
        contender: whose.
        measure: which.
        now: its median.
        before: its median then.
        beyond_spread: whether the two ranges of repeats don't touch, so that it is more than noise.
    """

    contender: str
    measure: str
    now: float
    before: float
    beyond_spread: bool

    @property
    def ratio(self) -> float | None:
        """How many times the earlier one it is."""
        return ratio(self.now, self.before)

    @property
    def better(self) -> bool:
        """Whether it moved the way it should; a measure unknown today is better when smaller."""
        known = BY_NAME.get(self.measure)
        return self.now > self.before if known and known.more_is_better else self.now < self.before


def changes(
    now: Mapping[str, Mapping[str, Figure]], before: Mapping[str, Mapping[str, Figure]]
) -> list[Change]:
    """All measures that both runs have, contender by contender."""
    return [
        Change(
            contender,
            measure,
            value.median,
            then.median,
            value.lowest > then.highest or value.highest < then.lowest,
        )
        for contender, measures in now.items()
        for measure, value in measures.items()
        if (then := before.get(contender, {}).get(measure)) is not None
    ]
