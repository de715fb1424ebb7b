"""Keeps the metrics of the table, for Prometheus to fetch.

Only the worker's extra brings `prometheus_client`; without it every metric is a no-op, so nobody has
to ask. Counters and histograms are taken once, with their labels, and then cost one addition;
gauges are functions that are asked at each fetch, so a series ends when its partition leaves.

    sent = metrics.counter(table.SENT, topic="shop.tasks.high")
    sent.inc()
    metrics.gauge(table.LAG, lambda: {("shop.tasks.high", "0"): 17.0})
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from taskstream.observability.logs import logger
from taskstream.observability.table import METRICS, Kind, Metric

Reading = Mapping[tuple[str, ...], float]
"""A gauge's values now, by the values of its labels in the table's order."""

_log = logger(__name__)


class Counter(Protocol):
    """A number that grows."""

    def inc(self, amount: float = 1) -> None:
        """Adds `amount`."""
        ...


class Histogram(Protocol):
    """How often values of which size were seen."""

    def observe(self, amount: float) -> None:
        """Counts one value, in the metric's unit."""
        ...


class Metrics:
    """The metrics of one process. Every method may be called from any thread."""

    def __init__(self) -> None:
        try:
            # Only here: a program that only publishes does without.
            import prometheus_client  # noqa: PLC0415
        except ModuleNotFoundError:
            self._kept = None
        else:
            self._kept = _Kept(prometheus_client)

    def counter(self, metric: Metric, **labels: str) -> Counter:
        """The counter with these labels; the same one each time.

        Raises:
            ValueError: the metric is no counter, or its labels are others.
        """
        _check(metric, Kind.COUNTER, labels)
        return self._kept.labelled(metric, labels) if self._kept else _NOTHING

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        """The histogram with these labels; the same one each time.

        Raises:
            ValueError: the metric is no histogram, or its labels are others.
        """
        _check(metric, Kind.HISTOGRAM, labels)
        return self._kept.labelled(metric, labels) if self._kept else _NOTHING

    def gauge(self, metric: Metric, read: Callable[[], Reading]) -> None:
        """Asks `read` at each fetch; a later call for the same metric adds to it.

        Raises:
            ValueError: the metric is no gauge.
        """
        _check(metric, Kind.GAUGE, None)
        if self._kept:
            self._kept.read(metric, read)

    def exposition(self) -> bytes:
        """All metrics as the text that Prometheus fetches."""
        if self._kept is None:
            return b"# no metrics here: pip install 'taskstream[worker]'\n"
        return self._kept.exposition()


class _Nothing:
    """A metric that nobody keeps."""

    def inc(self, amount: float = 1) -> None:
        pass

    def observe(self, amount: float) -> None:
        pass


_NOTHING = _Nothing()


class _Kept:
    """The metrics in a registry of their own: the user's default one stays as it is."""

    def __init__(self, prometheus: Any) -> None:
        self._prometheus = prometheus
        self._registry = prometheus.CollectorRegistry()
        self._counted = {
            metric.name: self._made(metric) for metric in METRICS if metric.kind is not Kind.GAUGE
        }
        self._gauges: dict[Metric, list[Callable[[], Reading]]] = {}
        self._registry.register(self)

    def labelled(self, metric: Metric, labels: Mapping[str, str]) -> Any:
        """A counter or histogram with its labels."""
        made = self._counted[metric.name]
        return made.labels(**labels) if labels else made

    def read(self, metric: Metric, read: Callable[[], Reading]) -> None:
        """Adds a function that is asked at each fetch."""
        self._gauges.setdefault(metric, []).append(read)

    def exposition(self) -> bytes:
        """The text format."""
        text: bytes = self._prometheus.generate_latest(self._registry)
        return text

    def collect(self) -> Iterable[Any]:
        """What the registry asks at each fetch."""
        for metric, readers in list(self._gauges.items()):
            family = self._prometheus.metrics_core.GaugeMetricFamily(
                metric.prometheus_name, metric.meaning, labels=metric.label_names
            )
            for read in list(readers):
                for values, number in self._asked(metric, read).items():
                    family.add_metric(values, number)
            yield family

    def _asked(self, metric: Metric, read: Callable[[], Reading]) -> Reading:
        try:
            return read()
        except Exception:  # noqa: BLE001 - one gauge that can't be read must not hide the others
            _log.exception("a gauge could not be read", metric=metric.name)
            return {}

    def _made(self, metric: Metric) -> Any:
        place = {"labelnames": metric.label_names, "registry": self._registry}
        if metric.kind is Kind.COUNTER:
            return self._prometheus.Counter(metric.prometheus_name, metric.meaning, **place)
        return self._prometheus.Histogram(
            metric.prometheus_name, metric.meaning, buckets=metric.buckets, **place
        )


def _check(metric: Metric, kind: Kind, labels: Mapping[str, str] | None) -> None:
    if metric.kind is not kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
    if labels is not None and set(labels) != set(metric.label_names):
        raise ValueError(
            f"{metric.name} has the labels {', '.join(metric.label_names) or '(none)'}, "
            f"not {', '.join(labels) or '(none)'}"
        )
