"""Sends spans to a collector over OTLP/gRPC. Beside `push`, the only module that loads OpenTelemetry's SDK.

Invariant: a collector that is slow, gone or broken costs spans and nothing else. It slows no task,
delays an exit by some seconds at most, and leaves one line in the log when it goes and one when it
comes back.
"""

import atexit
import logging
import threading
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.observability.logs import logger

_QUEUE = 32_768
"""Spans that may wait for the collector, about a second at full speed; more are dropped."""

_BATCH = 1_024
_INTERVAL = 0.5
"""Seconds that a finished span waits at most, so that a trace can be looked at as it grows."""

_TIMEOUT = 3.0
_REST = 5.0
"""Seconds without a further try after a failed one: the queue is emptied meanwhile, not filled."""

_LAST_WORDS = 3.0
"""Seconds for what is queued at the end."""

FOREIGN_LOGGER = "opentelemetry.exporter.otlp.proto.grpc.exporter"

_log = logger(__name__)


def start(endpoint: str, service: str) -> Callable[[], None]:
    """Makes a provider that exports to `endpoint` the process's own; see `tracing.setup`."""
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    exporter = CalmExporter(OTLPSpanExporter(url, timeout=_TIMEOUT), url)
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=_QUEUE,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_INTERVAL * 1000,
        )
    )
    trace.set_tracer_provider(provider)

    def flush() -> None:
        atexit.unregister(flush)
        exporter.finish_within(_LAST_WORDS)
        provider.shutdown()

    atexit.register(flush)
    return flush


class CalmExporter(SpanExporter):
    """Delivers spans by another exporter, or drops them without ado.

    Args:
        inner: what delivers; may block for its own time-out, fail or raise.
        destination: its address, for the log.
        clock: tells when to try again.
    """

    def __init__(self, inner: SpanExporter, destination: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._inner = inner
        self._destination = destination
        self._clock = clock
        self._failed_at: float | None = None
        self._deadline: float | None = None
        self._quiet = QuietThread()
        logging.getLogger(FOREIGN_LOGGER).addFilter(self._quiet)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Delivers the spans, unless the last try failed a moment ago."""
        if self._resting():
            return SpanExportResult.FAILURE
        reason = self._try(spans)
        if reason is None:
            if self._failed_at is not None:
                _log.info("spans are delivered again", endpoint=self._destination)
            self._failed_at = None
            return SpanExportResult.SUCCESS
        if self._failed_at is None:
            _log.warning(
                "spans can't be delivered and are dropped until the collector answers",
                endpoint=self._destination,
                reason=reason,
                advice="look at the collector and otlp_endpoint; tasks run on meanwhile",
            )
        self._failed_at = self._clock.monotonic()
        return SpanExportResult.FAILURE

    def finish_within(self, seconds: float) -> None:
        """From now on: tries go on for `seconds`, or until the first one fails."""
        self._deadline = self._clock.monotonic() + seconds

    def shutdown(self) -> None:
        """Closes the other exporter."""
        self._inner.shutdown()
        logging.getLogger(FOREIGN_LOGGER).removeFilter(self._quiet)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's name
        """Nothing is kept here."""
        return True

    def _resting(self) -> bool:
        now = self._clock.monotonic()
        if self._deadline is not None and (now >= self._deadline or self._failed_at is not None):
            return True
        return self._failed_at is not None and now - self._failed_at < _REST

    def _try(self, spans: Sequence[ReadableSpan]) -> str | None:
        """Why it failed; None when it didn't."""
        with self._quiet:
            try:
                delivered = self._inner.export(spans) is SpanExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the SDK's log
                return f"{type(error).__name__}: {error}"
        return None if delivered else self._quiet.last_words


class QuietThread(logging.Filter):
    """Holds back what the exporter logs while it works for us: we say it once, in one line.

    Only in the thread that exports, so that an exporter of the user's own still speaks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread: int | None = None
        self.last_words = "refused"

    def __enter__(self) -> None:
        self._thread = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._thread = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps what the exporting thread says, and lets all else through."""
        if record.thread != self._thread:
            return True
        self.last_words = record.getMessage()
        return False
