"""Shows what a program counts that has no page of its own, through OpenTelemetry's metrics API.

A program that only publishes has a meter provider or has none. Instruments that are asked cost nothing
until the provider's reader asks; without a provider nobody ever does. Where the settings name a collector
and the program has no provider, the kept metrics are sent there, as its spans are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from taskstream._version import __version__
from taskstream.core.errors import MissingExtra
from taskstream.observability import logs, table
from taskstream.observability.metrics import Labels, Metrics, Spread
from taskstream.observability.table import INSTRUMENTATION, SCHEMA_URL, Kind, Metric

Flush = Callable[[], None]
"""Sends the last numbers, for some seconds at most, and ends it; safe to call again."""

SHOWN = tuple(
    metric
    for metric in table.METRICS
    if metric is table.SENT or (table.CLIENT in metric.labels and metric is not table.KAFKA_FETCHED)
)
"""What a publishing program's provider is asked for, beside how long Kafka took."""

_log = logs.logger(__name__)


def show(
    find: Callable[[], Metrics | None],
    endpoint: str,
    app: str,
    provider: MeterProvider | None = None,
) -> Flush | None:
    """Makes a publishing program's metrics visible: by its own provider, else at the endpoint.

    Args:
        find: the metrics of this process; another one, or none, after a fork.
        endpoint: of a collector, as the setting `otlp_endpoint`; empty means nowhere.
        app: the app's name.
        provider: the program's own; by default the one that is set, or will be.

    Returns:
        What ends it, where metrics are sent; None where a provider asks for them.
    """
    provider = provider or api.get_meter_provider()
    # The API has no public name for what stands there until a provider is set.
    has_provider = not type(provider).__name__.endswith("ProxyMeterProvider")
    metrics = find()
    if metrics is None:
        return None
    if endpoint and not has_provider:
        try:
            return send(metrics, endpoint, app)
        except MissingExtra as error:
            # The endpoint may be just that of `taskstream up`: no reason to refuse a publish.
            _log.info("metrics are not sent", reason=str(error))
    # One meter for each app: of two instruments of one name, a meter asks the first alone.
    _bridge(find, metrics, provider.get_meter(f"{INSTRUMENTATION}.{app}", __version__, SCHEMA_URL))
    return None


def send(metrics: Metrics, endpoint: str, service: str) -> Flush:
    """Sends metrics to a collector over OTLP/gRPC from now on, in a thread of its own.

    Args:
        metrics: what is sent.
        endpoint: `host:port` or a URL, `https://` for TLS; empty means nowhere.
        service: the service's name.

    Raises:
        MissingExtra: OpenTelemetry's SDK or its OTLP exporter is not installed.
    """
    if not endpoint:
        return _nothing_to_flush
    try:
        # Only here: a process without an endpoint must not pay for the SDK and gRPC.
        from taskstream.observability.push import start  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("sending metrics to an OTLP endpoint", "otlp") from error
    return start(metrics, endpoint, service)


def attributes_of(metric: Metric, labels: Labels) -> dict[str, str]:
    """Labels as the semantic conventions call them; an empty one is none."""
    told = {
        label.otel_name: value for label, value in zip(metric.labels, labels, strict=True) if value
    }
    if metric.name.startswith("messaging."):
        told[table.MESSAGING_SYSTEM.name] = "kafka"
    return told


def _bridge(find: Callable[[], Metrics | None], metrics: Metrics, meter: Meter) -> None:
    for metric in SHOWN:
        create = (
            meter.create_observable_counter
            if metric.kind is Kind.COUNTER
            else meter.create_observable_gauge
        )
        create(metric.name, [partial(_observed, find, metric)], metric.unit, metric.meaning)
    durations = meter.create_histogram(
        table.OPERATION_DURATION.name,
        table.OPERATION_DURATION.unit,
        table.OPERATION_DURATION.meaning,
    )

    def record(labels: Mapping[str, str], seconds: float) -> None:
        told = attributes_of(table.OPERATION_DURATION, tuple(labels.values()))
        durations.record(seconds, told)

    metrics.mirror(table.OPERATION_DURATION, record)


def _observed(
    find: Callable[[], Metrics | None], metric: Metric, _options: CallbackOptions
) -> Iterable[Observation]:
    metrics = find()
    return () if metrics is None else _observations(metrics, metric)


def _observations(metrics: Metrics, metric: Metric) -> Iterator[Observation]:
    for labels, value in metrics.series(metric).items():
        if not isinstance(value, Spread):
            yield Observation(value, attributes_of(metric, labels))


def _nothing_to_flush() -> None:
    """What there is to flush where nothing is sent."""
