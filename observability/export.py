"""Sends spans to a collector over OTLP/gRPC. Beside `push`, the only module that loads OpenTelemetry's SDK.

Invariant: a collector that is slow, gone or broken costs spans and nothing else. It slows no task,
delays an exit by some seconds at most, and leaves one line in the log when it goes and one when it
comes back, with the number of spans that were lost.
"""

import atexit
import itertools
import logging
import os
import threading
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

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
        resource=Resource.create({SERVICE_NAME: service}),
        shutdown_on_exit=False,
        id_generator=DrawnIds(),
    )
    provider.add_span_processor(BoundedProcessor(exporter))
    # The SDK's queue of a forked child is empty, so ours must be.
    os.register_at_fork(after_in_child=exporter.forget)
    trace.set_tracer_provider(provider)

    def flush() -> None:
        atexit.unregister(flush)
        exporter.finish_within(_LAST_WORDS)
        provider.shutdown()

    atexit.register(flush)
    return flush


class BoundedProcessor(BatchSpanProcessor):
    """Queues spans for an exporter, as far as there is room, and counts those for which there is none."""

    def __init__(self, exporter: "CalmExporter") -> None:
        super().__init__(
            exporter,
            max_queue_size=_QUEUE,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_INTERVAL * 1000,
        )
        self._exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span that has ended, from any thread; never waits."""
        # Asked before the SDK is: a full queue of its own would be a foreign line in the log.
        if self._exporter.has_room():
            super().on_end(span)


class DrawnIds(RandomIdGenerator):
    """Uses trace ids that were drawn before the SDK is asked for a span.

    So whether a trace is sampled, which depends on its id, is known without one (`tracing.SpanMaker`).
    Only a provider of ours has it: all samplers that ours may have look at the id and the parent alone.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def give(self, trace_id: int) -> None:
        """The next trace that begins in this thread has this id."""
        self._local.drawn = trace_id

    def generate_trace_id(self) -> int:
        """The id that was given, once; else a random one."""
        drawn: int = getattr(self._local, "drawn", 0)
        self._local.drawn = 0
        return drawn or super().generate_trace_id()


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
        self._ended = itertools.count(1)  # a step of it is one step of the interpreter
        self._gone = 0
        self._counting = threading.Lock()
        self._dropped = 0
        self._overflowing = False
        self._quiet = QuietThread()
        logging.getLogger(FOREIGN_LOGGER).addFilter(self._quiet)

    def has_room(self) -> bool:
        """Whether one more span may wait; if not, it counts as dropped. From any thread."""
        if next(self._ended) - self._gone <= _QUEUE:
            return True
        with self._counting:
            self._gone += 1
            self._dropped += 1
            told, self._overflowing = self._overflowing, True
        if not told:
            _log.warning(
                "spans come faster than the collector takes them, and some are dropped",
                endpoint=self._destination,
                advice="sample fewer traces (OTEL_TRACES_SAMPLER), or give the collector more room",
            )
        return False

    def forget(self) -> None:
        """Nothing waits any more."""
        self._ended, self._gone, self._dropped = itertools.count(1), 0, 0
        self._counting = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Delivers the spans, unless the last try failed a moment ago."""
        result = SpanExportResult.FAILURE if self._resting() else self._deliver(spans)
        with self._counting:
            self._gone += len(spans)
            if result is SpanExportResult.FAILURE:
                self._dropped += len(spans)
        return result

    def _deliver(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        reason = self._try(spans)
        if reason is None:
            if self._failed_at is not None or self._overflowing:
                _log.info(
                    "spans are delivered again", endpoint=self._destination, dropped=self._lost()
                )
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
        """Closes the other exporter, and tells of what was lost and not told yet."""
        lost = self._lost()
        if lost:
            _log.info("spans were dropped", endpoint=self._destination, dropped=lost)
        self._inner.shutdown()
        logging.getLogger(FOREIGN_LOGGER).removeFilter(self._quiet)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's name
        """Nothing is kept here."""
        return True

    def _lost(self) -> int:
        """How many spans were dropped since it was last asked."""
        with self._counting:
            lost, self._dropped, self._overflowing = self._dropped, 0, False
        return lost

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
