"""One trace from publish over every attempt to the final state, written by hand.

The publisher's span is the parent of the attempt's, the attempt's that of its row and of its
hand-off (retry, dead letter), and so on. Context travels in W3C headers. Without an SDK in the
process all of this costs next to nothing and passes on what came in. (Why not the ready-made
instrumentations: see "Traps already met" in DESIGN.md.)

Invariants: headers handed out replace those of the record they came from, one of each name at most;
a span ends once, whoever is first; nothing that a task's error holds can make its span fail.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from functools import lru_cache
from traceback import TracebackException
from types import TracebackType

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    Link,
    ProxyTracerProvider,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from taskstream._version import __version__
from taskstream.core.envelope import BAGGAGE, TRACE_HEADERS, Header
from taskstream.core.errors import MissingExtra
from taskstream.observability.table import (
    ATTEMPT,
    CONSISTENCY,
    DB_BATCH_SIZE,
    DB_COLLECTION,
    DB_NAMESPACE,
    DB_OPERATION,
    DB_SYSTEM,
    DESTINATION,
    ERROR_EVENT,
    ERROR_TYPE,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    GROUP,
    IDEMPOTENT,
    INSTRUMENTATION,
    MESSAGE_ID,
    MESSAGE_KEY,
    MESSAGING_SYSTEM,
    OFFSET,
    OPERATION_NAME,
    OPERATION_TYPE,
    PARTITION,
    RUN,
    SCHEMA_URL,
    STATE,
    TASK,
    WORKER,
)

_TEXT_LIMIT = 16 * 1024
"""Characters of an error's message or traceback that a span keeps: collectors refuse 4 MB messages."""


def setup(endpoint: str, service: str) -> Callable[[], None]:
    """Starts to export this process's spans over OTLP/gRPC.

    A provider that the process already has stays as it is: its owner decides where spans go. A
    collector that can't be reached costs spans, one line in the log, and nothing else.

    Args:
        endpoint: `host:port` or a URL, `https://` for TLS; empty means nowhere.
        service: the service's name in traces.

    Returns:
        What to call at the end: flushes for some seconds at most; safe to call again. Exit calls
        it too.

    Raises:
        MissingExtra: OpenTelemetry's SDK or its OTLP exporter is not installed.
    """
    if not endpoint or not isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        return _nothing_to_flush
    try:
        # Only here: a process without an endpoint must not pay for the SDK and gRPC.
        from taskstream.observability.export import start  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("sending traces to an OTLP endpoint", "otlp") from error
    return start(endpoint, service)


class _Ending:
    """A span that ends once; without a span, one that has ended."""

    __slots__ = ("_unended",)

    def __init__(self, span: Span | None) -> None:
        # A list, because its pop is atomic: where a delivery report and a time-out race, each in
        # its own thread, one of them gets the span and the other finds nothing to do.
        self._unended = [] if span is None else [span]

    def _end(self, attributes: Mapping[str, str | int], error: BaseException | None) -> None:
        try:
            span = self._unended.pop()
        except IndexError:
            return
        if span.is_recording():
            span.set_attributes(attributes)
            if error is not None:
                _record(span, error)
        span.end()


class PublishSpan(_Ending):
    """A record on its way to Kafka. Methods may be called from any thread; the first one counts.

    Attributes:
        headers: this span's context as W3C headers, to replace those of the record.
    """

    __slots__ = ("headers",)

    def __init__(self, span: Span | None, headers: tuple[Header, ...]) -> None:
        super().__init__(span)
        self.headers = headers

    def acknowledged(self, partition: int, offset: int) -> None:
        """Ends the span: Kafka has the record."""
        if self._unended:
            self._end({PARTITION.name: str(partition), OFFSET.name: offset}, None)

    def failed(self, error: BaseException) -> None:
        """Ends the span: the record was not acknowledged."""
        self._end({}, error)


class ProcessSpan(_Ending):
    """One attempt.

    Attributes:
        tracer: what makes the spans below it; None where nobody records.
        context: this span, or what came in the headers where nobody records.
    """

    __slots__ = ("context", "tracer")

    def __init__(self, tracer: Tracer | None, span: Span | None, context: Context) -> None:
        super().__init__(span)
        self.tracer = tracer
        self.context = context

    @property
    def trace_id(self) -> str | None:
        """32 hex digits; None where nobody records a trace of this task."""
        if not self.context:
            return None
        context = trace.get_current_span(self.context).get_span_context()
        return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None

    @property
    def ids(self) -> tuple[str, str] | None:
        """Trace id and span id, 32 and 16 hex digits; None where nobody records a trace of this task."""
        if not self.context:
            return None
        context = trace.get_current_span(self.context).get_span_context()
        if not context.trace_flags.sampled:
            return None
        return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)

    @property
    def headers(self) -> tuple[Header, ...]:
        """This span's context as W3C headers, to replace those of the record."""
        return _inject(self.context)

    def enter(self) -> None:
        """Makes this span the current one for as long as the context variables of the caller last."""
        if self.context or get_current():
            attach(self.context)

    def activate(self) -> "_Activation":
        """A context manager in which this span is the current one, and nothing around it is.

        Enter and leave it in the same asyncio task or thread.
        """
        return _Activation(self.context)

    def finish(self, state: str, error: BaseException | None) -> None:
        """Ends the span with the attempt's verdict.

        Args:
            state: how it ended, as in `taskstream.core.states`.
            error: what went wrong, also where the task is tried again.
        """
        if self._unended:
            self._end({STATE.name: state}, error)


class StoreSpan(_Ending):
    """A row on its way to the result store."""

    __slots__ = ()

    def finish(self, batch_size: int, error: BaseException | None = None) -> None:
        """Ends the span: the store has the row, or refused it.

        Args:
            batch_size: rows in the batch that carried it.
            error: why it was refused.
        """
        if self._unended:
            # The conventions call it a batch from two on.
            self._end({DB_BATCH_SIZE.name: batch_size} if batch_size > 1 else {}, error)


def publish_span(
    topic: str,
    *,
    task: str,
    task_id: str,
    key: str | None,
    parent: Sequence[Header] | None = None,
    link: Sequence[Header] | None = None,
    name: str = "send",
) -> PublishSpan:
    """Starts the span of a record that is about to be produced.

    Args:
        topic: where it goes.
        task: the task's name.
        task_id: the task's id.
        key: its ordering key.
        parent: None for the context that is current here; else headers with the context that asked
            for a hand-off, as `ProcessSpan.headers` gives them.
        link: headers with the context of an earlier trace of the same task, where this record begins a
            new one, as a replay does: then the span has this link and no parent, and the baggage goes on.
        name: what the operation is called, the first word of the span's name.
    """
    tracer = current_tracer()
    if link is not None:
        parent = [header for header in link if header[0] == BAGGAGE]
    if tracer is None:
        headers = _inject(get_current()) if parent is None else _trace_headers(parent)
        return PublishSpan(None, headers) if headers else _UNTRACED_PUBLISH
    context = get_current() if parent is None else _extract(parent)
    attributes: dict[str, str | int] = {
        MESSAGING_SYSTEM.name: "kafka",
        OPERATION_NAME.name: name,
        OPERATION_TYPE.name: "send",
        DESTINATION.name: topic,
        MESSAGE_ID.name: task_id,
        TASK.name: task,
    }
    if key is not None:
        attributes[MESSAGE_KEY.name] = key
    links = () if link is None else _links(link)
    span = tracer.start_span(f"{name} {topic}", context, SpanKind.PRODUCER, attributes, links)
    return PublishSpan(span, _inject(trace.set_span_in_context(span, context)))


LOOK_EVERY = 0.1
"""Seconds for which nobody records once nobody did. Without a provider the library looks into the
environment each time, which costs as much as all else that a publish does with its trace."""


class Nobody:
    """Until when nobody records, in monotonic seconds."""

    until = 0.0


_nobody = Nobody()

SpanMaker = Tracer | None
"""What makes our spans; None where nobody records."""


def current_tracer() -> SpanMaker:
    """What makes spans in this process; a provider that is set later counts within `LOOK_EVERY`."""
    now = time.monotonic()
    if now < _nobody.until:
        return None
    tracer = _tracer_of(trace.get_tracer_provider())
    if tracer is None:
        _nobody.until = now + LOOK_EVERY
    return tracer


def process_span(
    tracer: SpanMaker,
    *,
    task: str,
    task_id: str,
    run: int,
    attempt: int,
    topic: str,
    partition: int,
    offset: int,
    group: str,
    key: str | None,
    headers: Sequence[Header],
    worker: str,
) -> ProcessSpan:
    """Starts the span of an attempt, a child of the context in the record's headers.

    Without the link that the conventions allow beside it: Jaeger keeps one reference between two
    spans, prefers the link, and would show the attempt as nobody's child.
    """
    context = _extract(headers) if headers else _NO_CONTEXT
    if tracer is None:
        return ProcessSpan(None, None, context) if context else _UNTRACED_PROCESS
    attributes: dict[str, str | int] = {
        MESSAGING_SYSTEM.name: "kafka",
        OPERATION_NAME.name: "process",
        OPERATION_TYPE.name: "process",
        DESTINATION.name: topic,
        PARTITION.name: str(partition),
        OFFSET.name: offset,
        MESSAGE_ID.name: task_id,
        GROUP.name: group,
        TASK.name: task,
        RUN.name: run,
        ATTEMPT.name: attempt,
        WORKER.name: worker,
    }
    if key is not None:
        attributes[MESSAGE_KEY.name] = key
    span = tracer.start_span(f"process {topic}", context, SpanKind.CONSUMER, attributes)
    return ProcessSpan(tracer, span, trace.set_span_in_context(span, context))


def store_span(
    parent: Sequence[Header] | ProcessSpan,
    *,
    keyspace: str,
    table: str,
    system: str = "cassandra",
) -> StoreSpan:
    """Starts the span of a row that is about to be written.

    Args:
        parent: the attempt that the row tells of, or its headers.
        keyspace: where the table lives.
        table: the table's name.
        system: "cassandra" or "sqlite".
    """
    if isinstance(parent, ProcessSpan):
        tracer, context = parent.tracer, parent.context
    else:
        tracer = current_tracer()
        context = _NO_CONTEXT if tracer is None else _extract(parent)
    if tracer is None:
        return _UNTRACED_STORE
    attributes: dict[str, str | bool] = {
        DB_SYSTEM.name: system,
        DB_NAMESPACE.name: keyspace,
        DB_COLLECTION.name: table,
        DB_OPERATION.name: "INSERT",
    }
    if system == "cassandra":
        attributes[CONSISTENCY.name] = "local_quorum"
        attributes[IDEMPOTENT.name] = True
    return StoreSpan(tracer.start_span(f"INSERT {table}", context, SpanKind.CLIENT, attributes))


def trace_id_of(headers: Sequence[Header]) -> str | None:
    """The trace that a record's headers belong to, as 32 hex digits; None where nobody recorded one."""
    context = trace.get_current_span(_extract(headers)).get_span_context()
    recorded = context.is_valid and context.trace_flags.sampled
    return trace.format_trace_id(context.trace_id) if recorded else None


class _Activation:
    """Makes a context the current one; lighter than a generator, since every attempt enters it."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token: Token[Context] = attach(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        detach(self._token)


_NO_CONTEXT = Context()
_UNTRACED_PUBLISH = PublishSpan(None, ())
_UNTRACED_PROCESS = ProcessSpan(None, None, _NO_CONTEXT)
_UNTRACED_STORE = StoreSpan(None)
_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


@lru_cache(maxsize=4)
def _tracer_of(provider: trace.TracerProvider) -> Tracer | None:
    """Our tracer of a provider; None of the proxy that stands there until an SDK sets a real one."""
    if isinstance(provider, ProxyTracerProvider):
        return None
    return provider.get_tracer(INSTRUMENTATION, __version__, SCHEMA_URL)


def _extract(headers: Sequence[Header]) -> Context:
    """The context in the headers, on top of nothing: what is current here doesn't leak in."""
    carrier = {
        # Of a repeated name the last one wins, as Kafka clients agree.
        name: value.decode(errors="replace")
        for name, value in headers
        if name in TRACE_HEADERS and value is not None
    }
    if not carrier:
        return _NO_CONTEXT
    context = _TRACE.extract(carrier, _NO_CONTEXT)
    return _BAGGAGE.extract(carrier, context) if "baggage" in carrier else context


def _inject(context: Context) -> tuple[Header, ...]:
    if not context:
        return ()
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier, context)
    _BAGGAGE.inject(carrier, context)
    return tuple((name, value.encode()) for name, value in carrier.items())


def _links(headers: Sequence[Header]) -> tuple[Link, ...]:
    """A link to the context in the headers; none where they hold none."""
    context = trace.get_current_span(_extract(headers)).get_span_context()
    return (Link(context),) if context.is_valid else ()


def _trace_headers(headers: Sequence[Header]) -> tuple[Header, ...]:
    return tuple({name: value for name, value in headers if name in TRACE_HEADERS}.items())


def _record(span: Span, error: BaseException) -> None:
    # Not span.record_exception(): that one raises where the error's own __str__ does.
    details = TracebackException.from_exception(error)
    kind = type(error)
    message = _sendable(str(details)[:_TEXT_LIMIT])
    span.set_attribute(ERROR_TYPE.name, kind.__name__)
    span.set_status(Status(StatusCode.ERROR, message))
    span.add_event(
        ERROR_EVENT,
        {
            EXCEPTION_TYPE.name: f"{kind.__module__}.{kind.__qualname__}",
            EXCEPTION_MESSAGE.name: message,
            # The end of a traceback is what happened; what comes first led there.
            EXCEPTION_STACKTRACE.name: _sendable("".join(details.format())[-_TEXT_LIMIT:]),
        },
    )


def _sendable(text: str) -> str:
    """The text without lone surrogates: one of them would cost the whole batch of spans."""
    return text.encode(errors="replace").decode()


def _nothing_to_flush() -> None:
    """What `setup` returns where it set nothing up."""
