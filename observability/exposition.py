"""What Prometheus fetches: the kept metrics as text, and what prometheus_client knows of the process.

The only module that loads prometheus_client, which the worker's extra brings.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from taskstream.observability.metrics import Family, Metrics, Spread
from taskstream.observability.table import Kind, Metric


class Page(NamedTuple):
    """What a scrape gets back."""

    content_type: str
    body: bytes


class Exposition:
    """Makes the page of one process's metrics.

    Beside those of the table it has what prometheus_client tells of any Python process (its CPU time,
    memory and open files, the garbage collector), under the names that its users know.

    Args:
        metrics: what is kept.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry: Any = None

    def __call__(self, accept: str = "") -> Page:
        """The page in the format that the `Accept` header asks for: OpenMetrics, else plain text.

        Only OpenMetrics carries exemplars.
        """
        try:
            import prometheus_client  # noqa: PLC0415 - an extra
            from prometheus_client import exposition  # noqa: PLC0415
        except ModuleNotFoundError:
            return Page("text/plain", b"# no metrics here: pip install 'taskstream[worker]'\n")
        if self._registry is None:
            self._registry = _registry(prometheus_client, self._metrics)
        encode, content_type = exposition.choose_encoder(accept)
        return Page(content_type, encode(self._registry))


def process_readings() -> dict[str, float]:
    """What prometheus_client tells of this process, by its names; empty where it can't be told."""
    try:
        from prometheus_client import ProcessCollector  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return {}
    families = ProcessCollector(registry=None).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}


def _registry(prometheus: Any, metrics: Metrics) -> Any:
    """A registry of its own: the user's default one stays as it is."""
    registry = prometheus.CollectorRegistry(auto_describe=False)
    for collector in (
        prometheus.ProcessCollector,
        prometheus.PlatformCollector,
        prometheus.GCCollector,
    ):
        collector(registry=registry)
    registry.register(_Table(prometheus.metrics_core, metrics))
    return registry


class _Table:
    """The metrics of the table as prometheus_client wants to be told of them."""

    def __init__(self, families: Any, metrics: Metrics) -> None:
        self._families = families
        self._metrics = metrics

    def collect(self) -> Iterable[Any]:
        """What the registry asks at each fetch."""
        for family in self._metrics.families():
            yield self._told(family)

    def _told(self, family: Family) -> Any:
        metric = family.metric
        kinds = {
            Kind.COUNTER: self._families.CounterMetricFamily,
            Kind.GAUGE: self._families.GaugeMetricFamily,
            Kind.HISTOGRAM: self._families.HistogramMetricFamily,
        }
        told = kinds[metric.kind](
            metric.prometheus_name, metric.meaning, labels=list(metric.label_names)
        )
        for labels, value in family.series.items():
            if isinstance(value, Spread):
                told.add_metric(labels, buckets=_buckets(metric, value), sum_value=value.total)
            else:
                told.add_metric(labels, value)
        return told


def _buckets(metric: Metric, spread: Spread) -> list[Any]:
    """Upper bound, how many values were not above it, and an exemplar where there is one."""
    from prometheus_client.samples import Exemplar  # noqa: PLC0415 - an extra

    found: list[Any] = []
    below = 0
    for position, count in enumerate(spread.counts):
        below += count
        bound = metric.buckets[position] if position < len(metric.buckets) else float("inf")
        bucket = [str(bound) if bound != float("inf") else "+Inf", below]
        exemplar = spread.exemplars.get(position)
        if exemplar is not None:
            ids = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
            bucket.append(Exemplar(ids, exemplar.value, exemplar.at))
        found.append(bucket)
    return found
