"""Keeps the metrics of the table, whoever reads them: /metrics, an OTLP collector, or another process.

Counters and histograms are taken once, with their labels, and then cost one addition; gauges are
functions that are asked at each reading, so a series ends when its partition leaves.

    consumed = metrics.counter(table.CONSUMED, topic="shop.tasks.high")
    consumed.inc()
    metrics.gauge(table.LAG, lambda: {("shop.tasks.high", "0"): 17.0})

A process without a page of its own (a worker's child, the scheduler beside it) tells another one from
time to time what has happened since (`take`), which adds it to its own (`hear`). So each event is counted
once, in one place, and every reader is served from there.

The numbers are kept here and not by prometheus_client, for three reasons. Programs that only publish do
without it. It adds up processes only by files in a directory that somebody must empty, and loses the
exemplars then. And it costs more, as `COUNT=0 make bench ONLY=counting` shows (x86_64, 2 cores, Python
3.11): a counter takes 31 ns here, 234 ns there and 673 ns there with files; a value with an exemplar, 100
at once as a child counts them, 309 ns here, 1,597 ns and 2,356 ns there. What is fetched is written by it.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from taskstream.observability.logs import REPORT_IT, logger
from taskstream.observability.table import METRICS, Kind, Metric

Labels = tuple[str, ...]
"""The values of a metric's labels, in the table's order."""

Reading = Mapping[Labels, float]
"""A gauge's values now."""

MOST_SERIES = 1000
"""How many series one metric may have in a process. What comes beyond is counted as `OTHER`, for names
that a program makes up as it runs (error classes, topics) must not fill a monitoring system."""

OTHER = "other"
"""The value of all labels of what is counted beyond `MOST_SERIES`."""

_BY_NAME = {metric.name: metric for metric in METRICS}

_log = logger(__name__)


class Exemplar(NamedTuple):
    """One value that a histogram has counted, and the trace in which it came about.

    Args:
        value: in the metric's unit.
        trace_id: 32 hex digits, of a trace that is recorded.
        span_id: 16 hex digits.
        at: when it was counted, seconds since 1970.
    """

    value: float
    trace_id: str
    span_id: str
    at: float


Span = tuple[str, str]
"""Trace id and span id of what is recorded, as hex digits."""


class Spread(NamedTuple):
    """What a histogram has counted.

    Args:
        counts: how many values fell into each bucket, the one beyond the last bound included.
        total: the sum of all values.
        exemplars: the latest one of each bucket that has any, by the bucket's position.
    """

    counts: list[int]
    total: float
    exemplars: dict[int, Exemplar]


class Counter:
    """A number that grows.

    Without a lock, which would cost three times as much as the addition: CPython lets another thread go on
    at calls and jumps back, and there is none of them in `inc`.
    """

    __slots__ = ("_told", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._told: float | None = None

    @property
    def value(self) -> float:
        """How far it has come."""
        return self._value

    def inc(self, amount: float = 1.0) -> None:
        """Adds `amount`."""
        self._value += amount

    def take(self) -> float | None:
        """How much was added since the last call, at the first one also 0; None where that is nothing."""
        now, before = self._value, self._told
        if now == before:
            return None
        self._told = now
        return now - (before or 0.0)


class Histogram:
    """How often values of which size were seen.

    Args:
        bounds: the upper bounds of its buckets.
        also: told of each value that is seen in this process.
    """

    __slots__ = (
        "_also", "_bounds", "_counts", "_exemplars", "_lock", "_told", "_told_total", "_total",
    )  # fmt: skip

    def __init__(
        self, bounds: Sequence[float], also: Callable[[float], None] | None = None
    ) -> None:
        self._bounds = bounds
        self._also = also
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._exemplars: dict[int, Exemplar] = {}
        self._told = list(self._counts)
        self._told_total = 0.0

    @property
    def value(self) -> Spread:
        """All that was seen."""
        with self._lock:
            return Spread(list(self._counts), self._total, dict(self._exemplars))

    def observe(self, amount: float, span: Span | None = None) -> None:
        """Counts one value, in the metric's unit; `span` makes it its bucket's exemplar."""
        self.observe_all(((amount, span),))

    def observe_all(self, amounts: Sequence[tuple[float, Span | None]]) -> None:
        """Counts values, each with the recorded span that it came about in; one call costs less than many."""
        bounds, counts, now = self._bounds, self._counts, time.time()
        with self._lock:
            for amount, span in amounts:
                position = bisect_left(bounds, amount)
                counts[position] += 1
                self._total += amount
                if span is not None:
                    self._exemplars[position] = Exemplar(amount, *span, now)
        if self._also is not None:
            for amount, _ in amounts:
                self._also(amount)

    def add(self, spread: Spread) -> None:
        """Adds what another process has seen, in the same buckets."""
        with self._lock:
            for position, count in enumerate(spread.counts):
                self._counts[position] += count
            self._total += spread.total
            self._exemplars.update(spread.exemplars)

    def take(self) -> Spread | None:
        """What was seen since the last call; None where that is nothing."""
        with self._lock:
            if self._counts == self._told:
                return None
            fresh = Spread(
                [now - before for now, before in zip(self._counts, self._told, strict=True)],
                self._total - self._told_total,
                self._exemplars,
            )
            self._told, self._told_total, self._exemplars = list(self._counts), self._total, {}
        return fresh


class Family(NamedTuple):
    """A metric and what is known of it: by labels a number, or what a histogram has counted."""

    metric: Metric
    series: Mapping[Labels, float | Spread]


class Told(NamedTuple):
    """What one process tells another: plain values, fit for msgpack and JSON.

    Args:
        counted: name, labels and amount of what counters have counted since the last time.
        seen: name, labels, counts, sum, and exemplars (bucket, and what an `Exemplar` says) of histograms, likewise.
        readings: name, labels and value of gauges.
    """

    counted: Sequence[tuple[str, Labels, float]] = ()
    seen: Sequence[tuple[str, Labels, Sequence[int], float, Sequence[Any]]] = ()
    readings: Sequence[tuple[str, Labels, float]] = ()


class Metrics:
    """The metrics of one process. Every method may be called from any thread.

    Args:
        most_series: see `MOST_SERIES`.
    """

    def __init__(self, *, most_series: int = MOST_SERIES) -> None:
        self.started = time.time()
        self._most_series = most_series
        self._lock = threading.Lock()
        self._counters: dict[Metric, dict[Labels, Counter]] = {}
        self._histograms: dict[Metric, dict[Labels, Histogram]] = {}
        self._gauges: dict[Metric, list[Callable[[], Reading]]] = {}
        self._others: dict[str, dict[Metric, dict[Labels, float]]] = {}
        self._crowded: set[Metric] = set()
        self._mirrors: dict[Metric, Callable[[Mapping[str, str], float], None]] = {}
        for metric in METRICS:
            if not metric.labels:  # shows 0 before it first happens
                if metric.kind is Kind.COUNTER:
                    self.counter(metric)
                elif metric.kind is Kind.HISTOGRAM:
                    self.histogram(metric)

    def counter(self, metric: Metric, **labels: str) -> Counter:
        """The counter with these labels; the same one each time.

        Raises:
            ValueError: the metric is no counter, or its labels are others.
        """
        return self._counter(metric, _values(metric, Kind.COUNTER, labels))

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        """The histogram with these labels; the same one each time.

        Raises:
            ValueError: the metric is no histogram, or its labels are others.
        """
        return self._histogram(metric, _values(metric, Kind.HISTOGRAM, labels))

    def gauge(self, metric: Metric, read: Callable[[], Reading]) -> Callable[[], None]:
        """Asks `read` at each reading; a later call for the same metric adds to it.

        Where two of them have a value for the same labels, numbers of things are added up; of times and
        shares the largest counts.

        Returns:
            What ends it, for who asks on behalf of something that ends; safe to call again.

        Raises:
            ValueError: the metric is no gauge.
        """
        _check_kind(metric, Kind.GAUGE)
        with self._lock:
            self._gauges.setdefault(metric, []).append(read)
        return partial(self._ask_no_more, metric, read)

    def mirror(self, metric: Metric, record: Callable[[Mapping[str, str], float], None]) -> None:
        """Also gives `record` the labels and the value of all that histograms of a metric see from now on.

        For what is counted seldom: it costs a call each time. What has been seen is not told again.
        """
        self._mirrors[metric] = record

    def families(self) -> list[Family]:
        """All that is known now, in the order of the table; metrics without a series are left out."""
        known = ((metric, self.series(metric)) for metric in METRICS)
        return [Family(metric, series) for metric, series in known if series]

    def series(self, metric: Metric) -> Mapping[Labels, float | Spread]:
        """What is known of one metric now, by the values of its labels."""
        if metric.kind is Kind.GAUGE:
            return self._readings(metric)
        kept: Mapping[Metric, Mapping[Labels, Counter | Histogram]] = (
            self._counters if metric.kind is Kind.COUNTER else self._histograms
        )
        return {labels: one.value for labels, one in dict(kept.get(metric, {})).items()}

    # From one process to another

    def take(self) -> Told:
        """What has happened since the last call, and what the gauges say now; for `hear` elsewhere."""
        counted = [
            (metric.name, labels, amount)
            for metric, series in dict(self._counters).items()
            for labels, counter in dict(series).items()
            if (amount := counter.take()) is not None
        ]
        seen = [
            (metric.name, labels, spread.counts, spread.total, _plain(spread.exemplars))
            for metric, histograms in dict(self._histograms).items()
            for labels, histogram in dict(histograms).items()
            if (spread := histogram.take()) is not None
        ]
        readings = [
            (metric.name, labels, value)
            for metric in dict(self._gauges)
            for labels, value in self._readings(metric).items()
        ]
        return Told(counted, seen, readings)

    def hear(self, source: str, told: Told) -> None:
        """Adds what another process has counted; its gauges are read here until the next word.

        Args:
            source: which process; its last readings count.
            told: what `take` gave there. Names that the table does not have are passed over.
        """
        for name, labels, amount in told.counted:
            if (metric := _BY_NAME.get(name)) is not None:
                self._counter(metric, tuple(labels)).inc(amount)
        for name, labels, counts, total, exemplars in told.seen:
            if (metric := _BY_NAME.get(name)) is not None:
                latest = {position: Exemplar(*facts) for position, *facts in exemplars}
                spread = Spread(list(counts), total, latest)
                self._histogram(metric, tuple(labels)).add(spread)
        readings: dict[Metric, dict[Labels, float]] = {}
        for name, labels, value in told.readings:
            if (metric := _BY_NAME.get(name)) is not None:
                readings.setdefault(metric, {})[tuple(labels)] = value
        with self._lock:
            self._others[source] = readings

    def forget(self, source: str) -> None:
        """Another process has gone: what its gauges said counts no more."""
        with self._lock:
            self._others.pop(source, None)

    def _ask_no_more(self, metric: Metric, read: Callable[[], Reading]) -> None:
        with self._lock, suppress(ValueError):
            self._gauges[metric].remove(read)

    def _counter(self, metric: Metric, labels: Labels) -> Counter:
        series = self._counters.get(metric)
        known = None if series is None else series.get(labels)
        if known is not None:
            return known
        with self._lock:
            series = self._counters.setdefault(metric, {})
            labels = self._bounded(metric, series, labels)
            return series.setdefault(labels, Counter())

    def _histogram(self, metric: Metric, labels: Labels) -> Histogram:
        series = self._histograms.get(metric)
        known = None if series is None else series.get(labels)
        if known is not None:
            return known
        with self._lock:
            series = self._histograms.setdefault(metric, {})
            labels = self._bounded(metric, series, labels)
            record = self._mirrors.get(metric)
            also = None
            if record is not None:
                also = partial(record, dict(zip(metric.label_names, labels, strict=True)))
            return series.setdefault(labels, Histogram(metric.buckets, also))

    def _bounded(self, metric: Metric, series: Mapping[Labels, object], labels: Labels) -> Labels:
        if labels in series or len(series) < self._most_series:
            return labels
        if metric not in self._crowded:
            self._crowded.add(metric)
            _log.warning(
                "a metric has too many series; what comes is counted as 'other'",
                metric=metric.name, series=len(series), labels=",".join(labels),
                advice="let fewer names stand in what tells series apart, task names made up at run time say",
            )  # fmt: skip
        return (OTHER,) * len(labels)

    def _readings(self, metric: Metric) -> dict[Labels, float]:
        with self._lock:
            readers = list(self._gauges.get(metric, ()))
            readings = [one[metric] for one in self._others.values() if metric in one]
        adds_up = metric.unit not in ("s", "1")
        merged: dict[Labels, float] = {}
        for reading in (*(_asked(metric, read) for read in readers), *readings):
            for labels, value in reading.items():
                before = merged.get(labels)
                if before is None:
                    merged[labels] = value
                else:
                    merged[labels] = before + value if adds_up else max(before, value)
        return merged


def _asked(metric: Metric, read: Callable[[], Reading]) -> Reading:
    try:
        return {labels: float(value) for labels, value in read().items()}
    except Exception:  # noqa: BLE001 - one gauge that can't be read must not hide the others
        _log.exception("a gauge could not be read", metric=metric.name, advice=REPORT_IT)
        return {}


def _plain(exemplars: Mapping[int, Exemplar]) -> list[tuple[int, float, str, str, float]]:
    return [(position, *exemplar) for position, exemplar in exemplars.items()]


def _values(metric: Metric, kind: Kind, labels: Mapping[str, str]) -> Labels:
    _check_kind(metric, kind)
    names = metric.label_names
    if labels.keys() != set(names):
        raise ValueError(
            f"{metric.name} has the labels {', '.join(names) or '(none)'}, "
            f"not {', '.join(labels) or '(none)'}"
        )
    return tuple(labels[name] for name in names)


def _check_kind(metric: Metric, kind: Kind) -> None:
    if metric.kind is not kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
