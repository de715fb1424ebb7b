"""Sends the kept metrics to a collector over OTLP/gRPC.

Invariant: a collector that is slow, gone or broken costs numbers and nothing else, as with spans. All that
is sent is cumulative, so what one try has lost comes with the next.
"""

import atexit
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_METRIC_EXPORT_INTERVAL,
)
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as Sent
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from taskstream._version import __version__
from taskstream.observability import table
from taskstream.observability.export import FOREIGN_LOGGER, QuietThread
from taskstream.observability.exposition import process_readings
from taskstream.observability.logs import logger
from taskstream.observability.meters import Flush, attributes_of
from taskstream.observability.metrics import Family, Metrics, Spread
from taskstream.observability.table import INSTRUMENTATION, SCHEMA_URL, Kind

INTERVAL = 10.0
"""Seconds from one export to the next, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise."""

TIMEOUT = 3.0
"""Seconds that a collector has to answer."""

POINTS = 2_000
"""Series in one request: collectors refuse messages beyond 4 MB."""

UNWANTED = "UNIMPLEMENTED"
"""What a collector answers that takes spans alone, as Jaeger does; or a proxy that does not find it for a moment."""

ASK_AGAIN = 600.0
"""Seconds until such a one is asked again."""

_log = logger(__name__)


def start(metrics: Metrics, endpoint: str, service: str) -> Flush:
    """Begins to send; see `meters.send`. Variables of OpenTelemetry that concern metrics alone are heeded."""
    if os.environ.get("OTEL_METRICS_EXPORTER") == "none":
        return lambda: None
    endpoint = os.environ.get(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) or endpoint
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    push = Push(
        metrics,
        lambda: OTLPMetricExporter(url, timeout=TIMEOUT, max_export_batch_size=POINTS),
        destination=url,
        service=service,
        interval=interval_of(os.environ.get(OTEL_METRIC_EXPORT_INTERVAL, "")),
    )
    push.start()
    return push.finish


def interval_of(text: str) -> float:
    """Seconds from one export to the next by what that variable holds, in milliseconds; says where it holds nonsense."""
    if not text:
        return INTERVAL
    try:
        seconds = float(text) / 1000
    except ValueError:
        seconds = 0.0
    if 0 < seconds <= threading.TIMEOUT_MAX:
        return seconds
    _log.warning(
        "metrics are sent at the usual pace, for the other one can't be read",
        variable=OTEL_METRIC_EXPORT_INTERVAL,
        value=text,
        advice=f"give {OTEL_METRIC_EXPORT_INTERVAL} a number of milliseconds above 0",
    )
    return INTERVAL


class Push:
    """Sends metrics again and again, until it is told to finish; seldom where nobody wants them.

    Args:
        metrics: what is sent.
        connect: makes what delivers, which may block for its own time-out, fail or raise.
        destination: its address, for the log.
        service: the service's name.
        interval: seconds from one export to the next.
    """

    def __init__(
        self,
        metrics: Metrics,
        connect: Callable[[], MetricExporter],
        *,
        destination: str,
        service: str,
        interval: float = INTERVAL,
    ) -> None:
        self._metrics = metrics
        self._connect = connect
        self._destination = destination
        self._interval = interval
        self._exporter: MetricExporter | None = None
        self._finishing = threading.Event()
        self._failed = False
        self._unwanted = False
        self._quiet = QuietThread()
        instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._resource = Resource.create(
            # Without an instance the numbers of two workers would be one series.
            {SERVICE_NAME: service, SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: instance}
        )
        self._thread = threading.Thread(target=self._run, name="taskstream-metrics", daemon=True)

    def start(self) -> None:
        """Begins to send, in a thread of its own."""
        atexit.register(self.finish)
        self._thread.start()

    def finish(self) -> None:
        """Sends the last numbers, unless the collector did not take those before; waits for it, for a while."""
        atexit.unregister(self.finish)
        self._finishing.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT)

    def export(self) -> None:
        """Sends all numbers once; says so where it begins to fail, or to succeed again."""
        reason = self._try()
        unwanted = reason is not None and UNWANTED in reason
        if reason is None:
            if self._failed:
                _log.info("metrics are delivered again", endpoint=self._destination)
        elif unwanted:
            if not self._unwanted:
                _log.info(
                    "the collector takes no metrics: it is asked again now and then",
                    endpoint=self._destination,
                    pause=ASK_AGAIN,
                )
        elif not self._failed or self._unwanted:
            _log.warning(
                "metrics can't be delivered until the collector answers",
                endpoint=self._destination,
                reason=reason,
                advice="look at the collector and otlp_endpoint; tasks run on meanwhile",
            )
        self._failed, self._unwanted = reason is not None, unwanted

    @property
    def pause(self) -> float:
        """Seconds until the next export."""
        return max(self._interval, ASK_AGAIN) if self._unwanted else self._interval

    def _run(self) -> None:
        # First of all filters, for one of the exporter's own holds back what it has said within 20 s.
        logging.getLogger(FOREIGN_LOGGER).filters.insert(0, self._quiet)
        try:
            while not self._finishing.wait(self.pause):
                self.export()
            if not self._failed:
                self.export()
        finally:
            logging.getLogger(FOREIGN_LOGGER).removeFilter(self._quiet)
            if self._exporter is not None:
                self._exporter.shutdown()

    def _try(self) -> str | None:
        """Why it failed; None when it didn't."""
        with self._quiet:
            try:
                self._exporter = self._exporter or self._connect()
                data = message(self._metrics, self._resource, time.time())
                delivered = self._exporter.export(data) is MetricExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - a thread that ends in silence would send no more
                return f"{type(error).__name__}: {error}"
        return None if delivered else self._quiet.last_words


def message(metrics: Metrics, resource: Resource, now: float) -> MetricsData:
    """All that is known now, and what the process tells of itself, as the SDK's data. `now` in seconds since 1970."""
    started_ns, now_ns = int(metrics.started * 1e9), int(now * 1e9)
    families = [*metrics.families(), *_process()]
    sent = [_sent(family, started_ns, now_ns) for family in families]
    scope = InstrumentationScope(INSTRUMENTATION, __version__, SCHEMA_URL)
    scoped = ScopeMetrics(scope, sent, SCHEMA_URL)
    return MetricsData([ResourceMetrics(resource, [scoped], resource.schema_url)])


def _process() -> list[Family]:
    told = process_readings()
    return [
        Family(metric, {(): told[name]}) for name, metric in table.PROCESS_METRICS if name in told
    ]


def _sent(family: Family, started_ns: int, now_ns: int) -> Sent:
    metric = family.metric
    data: Gauge | Histogram | Sum
    if metric.kind is Kind.HISTOGRAM:
        data = Histogram(
            [
                _spread(family, labels, spread, started_ns, now_ns)
                for labels, spread in family.series.items()
                if isinstance(spread, Spread)
            ],
            AggregationTemporality.CUMULATIVE,
        )
    else:
        points = [
            NumberDataPoint(attributes_of(metric, labels), started_ns, now_ns, value)
            for labels, value in family.series.items()
            if not isinstance(value, Spread)
        ]
        if metric.kind is Kind.GAUGE:
            data = Gauge(points)
        else:
            data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Sent(metric.name, metric.meaning, metric.unit, data)


def _spread(
    family: Family, labels: tuple[str, ...], spread: Spread, started_ns: int, now_ns: int
) -> HistogramDataPoint:
    bounds = family.metric.buckets
    # The SDK's data must have a least and a largest value; of both it is known in which bucket they lie.
    filled = [position for position, count in enumerate(spread.counts) if count]
    least = 0.0 if not filled or not filled[0] else bounds[filled[0] - 1]
    largest = bounds[min(filled[-1], len(bounds) - 1)] if filled else 0.0
    return HistogramDataPoint(
        attributes=attributes_of(family.metric, labels),
        start_time_unix_nano=started_ns,
        time_unix_nano=now_ns,
        count=sum(spread.counts),
        sum=spread.total,
        bucket_counts=spread.counts,
        explicit_bounds=bounds,
        min=least,
        max=largest,
        exemplars=_exemplars(spread),
    )


def _exemplars(spread: Spread) -> Sequence[Exemplar]:
    return [
        Exemplar(
            {},
            one.value,
            int(one.at * 1e9),
            span_id=int(one.span_id, 16),
            trace_id=int(one.trace_id, 16),
        )
        for one in spread.exemplars.values()
    ]
