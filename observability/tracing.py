"""One trace from publish over every attempt to the final state, written by hand.

The publisher's span is the parent of the attempt's, the attempt's that of its row and of its
hand-off (retry, dead letter), and so on. Context travels in W3C headers. Without an SDK in the
process all of this costs next to nothing and passes on what came in; the same holds for a trace that
is not sampled. (Why not the ready-made instrumentations: see "Traps already met" in DESIGN.md.)

An attempt that fails is kept, sampled or not: in a trace that nobody samples, its span is recorded
once it has failed, under the same trace id, and what follows from it is sampled. What came before is
gone, as head sampling has it. A sampler that keeps nothing at all has its way.

Invariants: headers handed out replace those of the record they came from, one of each name at most;
a span ends once, whoever is first; nothing that a task's error holds can make its span fail.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass
from random import getrandbits
from traceback import TracebackException
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote_plus

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from taskstream._version import __version__
from taskstream.core.envelope import BAGGAGE, TRACE_HEADERS, TRACEPARENT, TRACESTATE, Header
from taskstream.core.errors import MissingExtra
from taskstream.core.states import State
from taskstream.observability import logs
from taskstream.observability.table import (
    ATTEMPT,
    CONSISTENCY,
    DB_BATCH_SIZE,
    DB_COLLECTION,
    DB_NAMESPACE,
    DB_OPERATION,
    DB_SYSTEM,
    DEATH_REASON,
    DELAY,
    DESTINATION,
    ERROR_EVENT,
    ERROR_TYPE,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    FINAL,
    FIRED_BY,
    GROUP,
    IDEMPOTENT,
    INSTRUMENTATION,
    KEPT,
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
    WAITED,
    WORKER,
)

_log = logs.logger(__name__)

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
    flush = start(endpoint, service)
    _known.until = 0.0  # what was found before holds no more
    return flush


Attributes = Mapping[str, str | int | float | bool]
"""What a span says, by name."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, where it may be no exception.

    Args:
        kind: one word: the error's class name, or ours.
        message: its text.
        error: the exception; None where there was none, as for bytes that nobody can read.
    """

    kind: str
    message: str
    error: BaseException | None = None


_ENDED: list[Span] = []
"""What is unended of all that have no span."""


class _Ending:
    """A span that ends once; without a span, one that has ended."""

    __slots__ = ("_unended",)

    def __init__(self, span: Span | None) -> None:
        # A list, because its pop is atomic: where a delivery report and a time-out race, each in
        # its own thread, one of them gets the span and the other finds nothing to do.
        self._unended = _ENDED if span is None else [span]

    def _end(self, attributes: Attributes, failure: Failure | None) -> None:
        try:
            span = self._unended.pop()
        except IndexError:
            return
        if span.is_recording():
            span.set_attributes(attributes)
            if failure is not None:
                _record(span, failure)
        span.end()


class PublishSpan(_Ending):
    """A record on its way to Kafka. Methods may be called from any thread; the first one counts.

    Attributes:
        headers: this span's context as W3C headers, to replace those of the record.
    """

    __slots__ = ("headers",)

    def __init__(self, span: Span | None, headers: tuple[Header, ...]) -> None:
        self._unended = _ENDED if span is None else [span]
        self.headers = headers

    @property
    def pending(self) -> "Pending":
        """What must be kept until Kafka answers, for `publish_failed`."""
        if self._unended:
            return self
        # Of a hundred thousand at once, each object is one more for the garbage collector to visit;
        # bytes it lets be.
        return next((value or b"" for name, value in self.headers if name == TRACEPARENT), b"")

    def acknowledged(self, partition: int, offset: int) -> None:
        """Ends the span: Kafka has the record."""
        if self._unended:
            self._end({PARTITION.name: str(partition), OFFSET.name: offset}, None)

    def failed(self, error: BaseException) -> None:
        """Ends the span: the record was not acknowledged."""
        if self._unended:
            self._end({}, failure_of(error))


Pending = PublishSpan | bytes
"""The span of a publish; where it isn't recorded, the `traceparent` of its record."""


class ProcessSpan(_Ending):
    """One attempt. It begins when it is entered, or, where it never ran, when it ends.

    Attributes:
        context: this span; before it begins, and where nobody records, what came in the headers.
    """

    __slots__ = ("_began_ns", "_came", "_describe", "_maker", "_name", "context")

    def __init__(
        self, maker: "SpanMaker | None", name: str, context: Context, describe: "Describe"
    ) -> None:
        self._unended = []
        self._maker = maker
        self._name = name
        self._describe = describe
        self._began_ns = 0
        self._came = context
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
        """Begins, and makes this span the current one for as long as the caller's context variables last."""
        self._begin()
        if self.context or get_current():
            attach(self.context)

    def activate(self) -> "_Activation":
        """A context manager in which this span is the current one, and nothing around it is.

        Enter and leave it in the same asyncio task or thread.
        """
        self._begin()
        return _Activation(self.context)

    def decide(self, *, failed: bool) -> None:
        """Settles whether this attempt is recorded: one that failed is, also in an unsampled trace.

        To be called before its trace id and its headers are asked for, and before `finish`.
        """
        self._begin()
        if failed and self._maker is not None and not self._unended and self.trace_id is None:
            self._keep(self._maker)

    def finish(self, state: State, failure: Failure | None) -> None:
        """Ends the span with the attempt's verdict.

        Args:
            state: how it ended.
            failure: what went wrong, also where the task is tried again.
        """
        if self._unended:
            self._end({STATE.name: state.value, FINAL.name: state.final}, failure)

    @property
    def store_maker(self) -> "SpanMaker | None":
        """What makes the spans below it; None where it is not recorded."""
        return self._maker if self._maker is not None and self.trace_id is not None else None

    def abandon(self) -> None:
        """Ends the span of an attempt that was begun and is somebody else's by now."""
        self._end(
            {FINAL.name: False}, Failure("Abandoned", "its task is with another worker by now")
        )

    def _begin(self) -> None:
        if self._maker is None or self._began_ns:
            return
        self._began_ns = time.time_ns()
        if self._maker.leaves(self.context):
            return
        span = self._maker.start(self._name, self.context, SpanKind.CONSUMER, self._describe)
        self.context = trace.set_span_in_context(span, self.context)
        if span.is_recording():
            self._unended.append(span)

    def _keep(self, maker: "SpanMaker") -> None:
        # Under the same trace id, which the logs of this attempt and of its publisher have already.
        # To parent-based samplers the flag of the parent is the decision.
        came = trace.get_current_span(self._came).get_span_context().is_valid
        context = _sampled(self._came if came else self.context)
        span = maker.tracer.start_span(
            self._name, context, SpanKind.CONSUMER, {**self._describe(), KEPT.name: True},
            start_time=self._began_ns,
        )  # fmt: skip
        if span.is_recording():
            self.context = trace.set_span_in_context(span, self.context)
            self._unended.append(span)


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
            told = {DB_BATCH_SIZE.name: batch_size} if batch_size > 1 else {}
            self._end(told, None if error is None else failure_of(error))


def publish_span(
    topic: str,
    *,
    task: str,
    task_id: str,
    key: str | None,
    parent: Sequence[Header] | None = None,
    link: Sequence[Header] | None = None,
    name: str = "send",
    about: "Describe | None" = None,
    keep: bool = False,
) -> PublishSpan:
    """Starts the span of a record that is about to be produced.

    Args:
        topic: where it goes.
        task: the task's name.
        task_id: the task's id.
        key: its ordering key.
        parent: None for the context that is current here; else headers with the context that asked
            for a hand-off, as `ProcessSpan.headers` gives them.
        link: headers with the context of an earlier trace that this record has to do with, where it
            begins a new one, as a replay and a schedule's firing do: then the span has this link and no
            parent, and the baggage goes on.
        name: what the operation is called, the first word of the span's name.
        about: asked for its `task_attributes`, where somebody records it; None for a plain publish.
        keep: whether it tells of a failure: then it is recorded in an unsampled trace, too.
    """
    maker = current_maker()
    if link is not None:
        parent = [header for header in link if header[0] == BAGGAGE]
    if maker is None:
        headers = _inject(get_current()) if parent is None else _trace_headers(parent)
        return PublishSpan(None, headers) if headers else _UNTRACED_PUBLISH
    context = get_current() if parent is None else _extract(parent)
    if keep:
        context = _sampled(context)
    elif not context:
        unsampled = maker.unsampled_root()
        if unsampled is not None:
            return PublishSpan(None, ((TRACEPARENT, unsampled),))

    def describe() -> Attributes:
        return _publish_attributes(
            name, topic, task=task, task_id=task_id, key=key,
            about=_PLAIN_PUBLISH if about is None else about(),
        )  # fmt: skip

    links = () if link is None else _links(link)
    # What is left of those without a context is sampled, and must not be drawn for a second time.
    span = maker.start(
        f"{name} {topic}", context, SpanKind.PRODUCER, describe, links, decided=not context
    )
    headers = _inject(trace.set_span_in_context(span, context))
    return PublishSpan(span if span.is_recording() else None, headers)


def trace_of(pending: Pending) -> tuple[Header, ...]:
    """The W3C headers of a publish, for a link to it."""
    if isinstance(pending, PublishSpan):
        return pending.headers
    return ((TRACEPARENT, pending),) if pending else ()


def publish_failed(
    pending: Pending, error: BaseException, *, topic: str, task: str, task_id: str
) -> None:
    """Ends the span of a publish that was not acknowledged; of an unsampled one, records that it failed.

    Args:
        pending: as `PublishSpan.pending` gave it.
        error: why.
        topic: where it was to go.
        task: the task's name.
        task_id: the task's id.
    """
    if isinstance(pending, PublishSpan):
        pending.failed(error)
        return
    maker = current_maker() if pending else None
    if maker is None:
        return
    attributes = _publish_attributes(
        "send", topic, task=task, task_id=task_id, key=None, about={KEPT.name: True}
    )
    context = _sampled(_extract(((TRACEPARENT, pending),)))
    span = maker.tracer.start_span(f"send {topic}", context, SpanKind.PRODUCER, attributes)
    if span.is_recording():
        _record(span, failure_of(error))
    span.end()


def _publish_attributes(
    name: str, topic: str, *, task: str, task_id: str, key: str | None, about: Attributes
) -> Attributes:
    attributes: dict[str, str | int | float | bool] = {
        MESSAGING_SYSTEM.name: "kafka",
        OPERATION_NAME.name: name,
        OPERATION_TYPE.name: "send",
        DESTINATION.name: topic,
        MESSAGE_ID.name: task_id,
        TASK.name: task,
        **about,
    }
    if key is not None:
        attributes[MESSAGE_KEY.name] = key
    return attributes


def task_attributes(
    state: State,
    *,
    run: int = 0,
    attempt: int = 1,
    delay: float | None = None,
    reason: str | None = None,
    schedule: str | None = None,
) -> Attributes:
    """What the span of a record says of its task.

    Args:
        state: what the task is once Kafka has the record: waiting, delayed, retrying, dead.
        run: of the task.
        attempt: the one that the record asks for; of a dead letter, the last one that was made.
        delay: for how many seconds it waits before it goes to its queue.
        reason: of a dead letter, one word.
        schedule: the schedule that fired it.
    """
    attributes: dict[str, str | int | float | bool] = {
        STATE.name: state.value, RUN.name: run, ATTEMPT.name: attempt,
    }  # fmt: skip
    if delay is not None:
        attributes[DELAY.name] = round(max(0.0, delay), 3)
    if reason is not None:
        attributes[DEATH_REASON.name] = reason
    if schedule is not None:
        attributes[FIRED_BY.name] = schedule
    return attributes


_PLAIN_PUBLISH: Attributes = {}
"""What a plain publish says of its task: that it waits for its first attempt goes without saying."""

LOOK_EVERY = 0.1
"""Seconds for which nobody records once nobody did. Without a provider the library looks into the
environment each time, which costs as much as all else that a publish does with its trace."""


class Known:
    """What was found out about the process's provider.

    Attributes:
        maker: what makes its spans; a provider that is set stays for the life of its process.
        until: until when nobody records, in monotonic seconds.
        told_of_baggage: whether it was said that some baggage is too large.
    """

    def __init__(self) -> None:
        self.maker: SpanMaker | None = None
        self.until = 0.0
        self.told_of_baggage = False


_known = Known()

Describe = Callable[[], Attributes]
"""Says what a span says, once it is known that somebody records it."""


class DrawnIds(Protocol):
    """Makes trace ids, and uses those first that were drawn before; see `observability.export`."""

    def give(self, trace_id: int) -> None:
        """The next trace that begins in this thread has this id."""


class Sampler(Protocol):
    """Decides whether a trace is sampled by nothing but its id and its parent."""

    def should_sample(
        self, parent_context: Context, trace_id: int, name: str, kind: SpanKind
    ) -> Any:
        """As in OpenTelemetry's SDK."""


class SpanMaker:
    """Makes the spans of one provider.

    Args:
        tracer: of the provider.
        sampler: that of a provider of ours, which can be asked before there is a span; None for one
            of somebody else, whose sampler may want to see all that a span says.
        ids: of a provider of ours.
    """

    __slots__ = ("_bound", "_follows", "_ids", "_sampler", "tracer")

    def __init__(
        self, tracer: Tracer, sampler: Sampler | None = None, ids: DrawnIds | None = None
    ) -> None:
        self.tracer = tracer
        self._sampler = sampler
        self._ids = ids
        self._bound = 0 if sampler is None else _bound_of(sampler)
        self._follows = sampler is not None and _follows(sampler)

    def leaves(self, context: Context) -> bool:
        """Whether what follows in this context is not sampled, because what came before was not.

        Then the context goes on as it is: an id of its own would lead nobody anywhere.
        """
        if not self._follows or not context:
            return False
        parent = trace.get_current_span(context).get_span_context()
        return parent.is_valid and not parent.trace_flags.sampled

    def start(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        describe: Describe,
        links: Sequence[Link] = (),
        *,
        decided: bool = False,
    ) -> Span:
        """Starts a span. Of one that is not sampled nothing is made but its context.

        Args:
            name: what it is called.
            context: its parent and baggage.
            kind: of the span.
            describe: asked for what it says, if it is sampled.
            links: to other traces.
            decided: whether `unsampled_root` has been asked, so that only the SDK is left to be.
        """
        unsampled = None if decided else self._unsampled(name, context, kind)
        if unsampled is not None:
            return NonRecordingSpan(unsampled)
        return self.tracer.start_span(name, context, kind, describe(), links)

    def unsampled_root(self) -> bytes | None:
        """The `traceparent` of a new trace that is not sampled; None where it is, or only the SDK can tell.

        Nothing else is made of it: this is what every publish costs of which no trace is kept.
        """
        if self._ids is None:
            return None
        trace_id = getrandbits(128) or 1
        if trace_id & _LOW < self._bound:
            self._ids.give(trace_id)  # what was decided is decided of this one
            return None
        return b"00-%032x-%016x-%02x" % (trace_id, getrandbits(64) or 1, _UNSAMPLED)

    def _unsampled(self, name: str, context: Context, kind: SpanKind) -> SpanContext | None:
        """The context of a span that is not sampled; None where it is, or only the SDK can tell."""
        if self._sampler is None or self._ids is None:
            return None
        parent = trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else getrandbits(128) or 1
        if self._sampler.should_sample(context, trace_id, name, kind).decision.is_sampled():
            if not parent.is_valid:
                self._ids.give(trace_id)  # what was decided is decided of this one
            return None
        if parent.is_valid:
            return parent
        return SpanContext(trace_id, getrandbits(64) or 1, is_remote=False, trace_flags=_UNSAMPLED)


_LOW = 2**64 - 1
"""The part of a trace id that samplers look at."""


def _bound_of(sampler: Sampler) -> int:
    """Below which number the low part of its id makes a new trace a sampled one; found by halving.

    So it is for all samplers that the environment can name: always, never, and a ratio.
    """
    low, high = 0, _LOW + 1  # at or above `high`, none is sampled; below `low`, all are
    while low < high:
        middle = (low + high) // 2
        found = sampler.should_sample(_NO_CONTEXT, 2**64 + middle, "send", SpanKind.PRODUCER)
        if found.decision.is_sampled():
            low = middle + 1
        else:
            high = middle
    return low


def _follows(sampler: Sampler) -> bool:
    """Whether what has an unsampled parent, here or elsewhere, is never sampled."""
    return not any(
        sampler.should_sample(
            trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 1, is_remote)), _NO_CONTEXT),
            1, "process", SpanKind.CONSUMER,
        ).decision.is_sampled()
        for is_remote in (False, True)
    )  # fmt: skip


_UNSAMPLED = TraceFlags(0x02)
"""Not sampled; the trace id is random, by the second level of W3C Trace Context."""


def current_maker() -> SpanMaker | None:
    """What makes spans in this process; None where nobody records.

    A provider that is set later counts within `LOOK_EVERY`, and then for good.
    """
    known = _known
    if known.maker is not None:
        return known.maker
    now = time.monotonic()
    if now >= known.until:
        known.maker = _maker_of(trace.get_tracer_provider())
        known.until = now + LOOK_EVERY
    return known.maker


def process_span(
    maker: SpanMaker | None, *, topic: str, headers: Sequence[Header], describe: Describe
) -> ProcessSpan:
    """The span of an attempt, a child of the context in the record's headers.

    Without the link that the conventions allow beside it: Jaeger keeps one reference between two
    spans, prefers the link, and would show the attempt as nobody's child.

    Args:
        maker: what makes it.
        topic: where the record stood.
        headers: of the record.
        describe: asked, once the attempt begins, for its `attempt_attributes`.
    """
    context = _extract(headers) if headers else _NO_CONTEXT
    if maker is None and not context:
        return _UNTRACED_PROCESS
    return ProcessSpan(maker, f"process {topic}", context, describe)


def attempt_attributes(
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
    worker: str,
    waited: float,
) -> Attributes:
    """What the span of an attempt says from its start.

    Args:
        task: the task's name.
        task_id: the task's id.
        run: of the task.
        attempt: of that run.
        topic: where the record stood.
        partition: of the topic.
        offset: of the record.
        group: the consumer group.
        key: the record's key.
        worker: who runs it.
        waited: seconds since it could have run: its publish, or its due time.
    """
    attributes: dict[str, str | int | float | bool] = {
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
        WAITED.name: round(max(0.0, waited), 6),
    }
    if key is not None:
        attributes[MESSAGE_KEY.name] = key
    return attributes


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
    maker = parent.store_maker if isinstance(parent, ProcessSpan) else current_maker()
    if maker is None:
        return _UNTRACED_STORE
    context = parent.context if isinstance(parent, ProcessSpan) else _extract(parent)
    attributes: dict[str, str | bool] = {
        DB_SYSTEM.name: system,
        DB_NAMESPACE.name: keyspace,
        DB_COLLECTION.name: table,
        DB_OPERATION.name: "INSERT",
    }
    if system == "cassandra":
        attributes[CONSISTENCY.name] = "local_quorum"
        attributes[IDEMPOTENT.name] = True
    span = maker.tracer.start_span(f"INSERT {table}", context, SpanKind.CLIENT, attributes)
    return StoreSpan(span)


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
_UNTRACED_PROCESS = ProcessSpan(None, "", _NO_CONTEXT, dict)
_UNTRACED_STORE = StoreSpan(None)
_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


HEADER_LIMIT_BYTES = 8192
"""The longest baggage and the like that travels, as W3C has it; a header that came longer is left behind."""

_ENTRIES = 180
_ENTRY_LIMIT_BYTES = 4096
"""How many entries of baggage, and how long each may be: OpenTelemetry's readers take no more."""


def _maker_of(provider: trace.TracerProvider) -> SpanMaker | None:
    """Our maker for a provider; None of the proxy that stands there until an SDK sets a real one."""
    if isinstance(provider, ProxyTracerProvider):
        return None
    tracer = provider.get_tracer(INSTRUMENTATION, __version__, SCHEMA_URL)
    ids = getattr(provider, "id_generator", None)
    if hasattr(ids, "give"):
        return SpanMaker(tracer, provider.sampler, ids)  # type: ignore[attr-defined]
    return SpanMaker(tracer)


def _extract(headers: Sequence[Header]) -> Context:
    """The context in the headers, on top of nothing: what is current here doesn't leak in."""
    if len(headers) == 1 and headers[0][0] == TRACEPARENT:
        plain = _PLAIN.fullmatch(headers[0][1] or b"")
        if plain:
            return _context_of(*plain.groups())
    carrier = {
        # Of a repeated name the last one wins, as Kafka clients agree.
        name: value.decode(errors="replace")
        for name, value in headers
        if name in TRACE_HEADERS and value is not None and len(value) <= HEADER_LIMIT_BYTES
    }
    if not carrier:
        return _NO_CONTEXT
    context = _TRACE.extract(carrier, _NO_CONTEXT)
    return _BAGGAGE.extract(carrier, context) if BAGGAGE in carrier else context


_PLAIN = re.compile(b"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
"""What nearly all records have: read here in a third of the library's time, with the same outcome."""


def _context_of(trace_id: bytes, span_id: bytes, flags: bytes) -> Context:
    span = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(span), _NO_CONTEXT)


def _inject(context: Context) -> tuple[Header, ...]:
    if not context:
        return ()
    headers: list[Header] = []
    span = trace.get_current_span(context).get_span_context()
    if span.is_valid:
        text = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        headers.append((TRACEPARENT, text.encode()))
        if span.trace_state:
            headers.append((TRACESTATE, span.trace_state.to_header().encode()))
    entries = baggage.get_all(context)
    if entries:
        text = _bounded(entries)
        if text:
            headers.append((BAGGAGE, text.encode()))
    return tuple(headers)


def _bounded(entries: Mapping[str, object]) -> str:
    """As much of the baggage as a reader takes; says once in each process that some of it is too much.

    The library has the same bounds, and says so of each record.
    """
    kept: list[str] = []
    size = -1  # the first has no comma
    for name, value in entries.items():
        entry = f"{quote_plus(name)}={quote_plus(str(value))}"
        if (
            len(entry) <= _ENTRY_LIMIT_BYTES
            and size + 1 + len(entry) <= HEADER_LIMIT_BYTES
            and len(kept) < _ENTRIES
        ):
            kept.append(entry)
            size += 1 + len(entry)
        elif not _known.told_of_baggage:
            _known.told_of_baggage = True
            _log.warning(
                "baggage is too large to travel with tasks",
                entry=name, limit_bytes=HEADER_LIMIT_BYTES,
                advice="carry less of it, or put it into arguments",
            )  # fmt: skip
    return ",".join(kept)


def _sampled(context: Context) -> Context:
    """The same context, as if its span had been sampled; where there is none, one that nobody recorded."""
    span = trace.get_current_span(context).get_span_context()
    if span.trace_flags.sampled:
        return context
    flags = TraceFlags(span.trace_flags | TraceFlags.SAMPLED)
    sampled = SpanContext(
        span.trace_id or getrandbits(128) or 1,
        span.span_id or getrandbits(64) or 1,
        is_remote=True,
        trace_flags=flags,
        trace_state=span.trace_state,
    )
    return trace.set_span_in_context(NonRecordingSpan(sampled), context)


def _links(headers: Sequence[Header]) -> tuple[Link, ...]:
    """A link to the context in the headers; none where they hold none."""
    context = trace.get_current_span(_extract(headers)).get_span_context()
    return (Link(context),) if context.is_valid else ()


def _trace_headers(headers: Sequence[Header]) -> tuple[Header, ...]:
    found = {name: value for name, value in headers if name in TRACE_HEADERS}
    return tuple(
        (name, value)
        for name, value in found.items()
        if value is not None and len(value) <= HEADER_LIMIT_BYTES
    )


def failure_of(error: BaseException) -> Failure:
    """What a span says of an exception; never raises."""
    return Failure(type(error).__name__, "", error)


def _record(span: Span, failure: Failure) -> None:
    span.set_attribute(ERROR_TYPE.name, failure.kind)
    if failure.error is None:
        span.set_status(Status(StatusCode.ERROR, _sendable(failure.message[:_TEXT_LIMIT])))
        return
    # Not span.record_exception(): that one raises where the error's own __str__ does.
    details = TracebackException.from_exception(failure.error)
    kind = type(failure.error)
    message = _sendable(str(details)[:_TEXT_LIMIT])
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
