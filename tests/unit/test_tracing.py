"""Spans as an exporter sees them, and what passes on where there is none.

Broken on purpose once, and seen to fail: a failed attempt of an unsampled trace that is not kept; one
that is kept with its flag left unsampled; a bound of the sampler that is off by one half; a ratio
that is drawn twice; baggage without a bound; an attempt that begins when it is handed over.
"""

import asyncio
import contextvars
import importlib
import inspect
import pkgutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating
from opentelemetry.semconv.schemas import Schemas

from taskstream.core.envelope import TRACE_HEADERS, Header
from taskstream.core.errors import MissingExtra
from taskstream.core.states import State
from taskstream.observability import export, table, tracing
from taskstream.observability.export import DrawnIds
from taskstream.observability.tracing import (
    HEADER_LIMIT_BYTES,
    Failure,
    ProcessSpan,
    PublishSpan,
    attempt_attributes,
    current_maker,
    failure_of,
    process_span,
    publish_failed,
    publish_span,
    setup,
    store_span,
    task_attributes,
    trace_id_of,
)

TRACE_ID = "ab" * 16
SPAN_ID = "cd" * 8
INCOMING: tuple[Header, ...] = (
    ("ts-task", b"charge"),
    ("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01".encode()),
    ("tracestate", b"shop=7"),
    ("baggage", b"tenant=acme"),
)


class Spans:
    """What was exported, by name."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def one(self, name: str) -> ReadableSpan:
        [span] = [span for span in self.all() if span.name == name]
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """A process with an SDK that records everything."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provide(monkeypatch, provider)
    return Spans(exporter)


def provide(monkeypatch: pytest.MonkeyPatch, provider: TracerProvider | None) -> None:
    """Sets the process's provider, and lets it be seen at once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(tracing, "_known", tracing.Known())


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without an SDK."""
    provide(monkeypatch, None)


def publish(
    *,
    key: str | None = None,
    parent: Sequence[Header] | None = None,
    topic: str = "shop.tasks.high",
    name: str = "send",
) -> PublishSpan:
    return publish_span(topic, task="charge", task_id="o-17", key=key, parent=parent, name=name)


def process(headers: Sequence[Header], *, attempt: int = 1, key: str | None = "k") -> ProcessSpan:
    """An attempt that has begun."""
    span = process_span(
        current_maker(),
        topic="shop.tasks.high",
        headers=headers,
        describe=partial(
            attempt_attributes,
            task="charge", task_id="o-17", run=0, attempt=attempt, topic="shop.tasks.high", partition=3,
            offset=42, group="shop.tasks.high", key=key, worker="w1", waited=0.25,
        ),
    )  # fmt: skip
    span.decide(failed=False)
    return span


def end(span: ProcessSpan, state: State, error: BaseException | None = None) -> None:
    """The end of an attempt, as a child ends it."""
    failure = None if error is None else failure_of(error)
    span.decide(failed=failure is not None)
    span.finish(state, failure)


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_of(span: ReadableSpan) -> int | None:
    return int(span.parent.span_id) if span.parent else None


# --- one trace -------------------------------------------------------------------------------------


def test_a_retried_task_is_one_trace_without_orphans(spans: Spans) -> None:
    """Publish, two attempts, their rows and the retry's hand-off hang together as one tree."""
    published = publish()
    published.acknowledged(3, 42)
    first = process(published.headers)
    end(first, State.RETRYING, ValueError("declined"))
    store_span(first, keyspace="ts", table="results").finish(20)
    retried = publish(parent=first.headers, topic="shop.delay.5s")
    retried.acknowledged(0, 7)
    second = process(retried.headers, attempt=2)
    end(second, State.SUCCEEDED)
    store_span(second.headers, keyspace="ts", table="results").finish(1)

    send, attempt, row, handoff, again, last_row = spans.all()
    assert [span.name for span in spans.all()] == [
        "send shop.tasks.high",
        "process shop.tasks.high",
        "INSERT results",
        "send shop.delay.5s",
        "process shop.tasks.high",
        "INSERT results",
    ]
    assert len({span.context.trace_id for span in spans.all() if span.context}) == 1
    assert parent_of(send) is None
    assert parent_of(attempt) == id_of(send)
    assert parent_of(row) == parent_of(handoff) == id_of(attempt)
    assert parent_of(again) == id_of(handoff)
    assert parent_of(last_row) == id_of(again)


def test_a_publish_is_a_producer_span_that_its_acknowledgement_ends(spans: Spans) -> None:
    """It is open until Kafka answers, and then tells partition and offset."""
    span = publish(key="o-17")
    assert spans.all() == ()
    span.acknowledged(3, 42)

    done = spans.one("send shop.tasks.high")
    assert done.kind is trace.SpanKind.PRODUCER
    assert said(done) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "shop.tasks.high",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 42,
        "messaging.kafka.message.key": "o-17",
        "messaging.message.id": "o-17",
        "taskstream.task": "charge",
    }
    assert done.status.is_unset


def test_an_attempt_is_a_consumer_span_under_its_sender(spans: Spans) -> None:
    """It is the child of the span that sent the record, and has no link to it: Jaeger shows one only."""
    end(process(INCOMING), State.SUCCEEDED)

    done = spans.one("process shop.tasks.high")
    assert done.kind is trace.SpanKind.CONSUMER
    assert parent_of(done) == int(SPAN_ID, 16)
    assert not done.links
    assert said(done) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop.tasks.high",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 42,
        "messaging.kafka.message.key": "k",
        "messaging.message.id": "o-17",
        "messaging.consumer.group.name": "shop.tasks.high",
        "taskstream.task": "charge",
        "taskstream.run": 0,
        "taskstream.attempt": 1,
        "taskstream.worker": "w1",
        "taskstream.waited": 0.25,
        "taskstream.state": "succeeded",
        "taskstream.final": True,
    }


@pytest.mark.parametrize("runs", [True, False])
def test_an_attempt_begins_when_it_is_entered(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    """Not when it is handed to a child, where it may wait; one that never runs begins at its verdict."""
    now = 1_000
    monkeypatch.setattr(sdk_trace, "time_ns", lambda: now)
    span = process_span(current_maker(), topic="t", headers=(), describe=dict)
    now = 2_000
    if runs:
        contextvars.copy_context().run(span.enter)
    now = 3_000
    end(span, State.SUCCEEDED)
    done = spans.one("process t")
    assert (done.start_time, done.end_time) == (2_000 if runs else 3_000, 3_000)


def test_a_record_without_a_trace_starts_one(spans: Spans) -> None:
    """What a foreign producer sent without context begins its trace at the attempt."""
    span = process([("ts-task", b"charge")], key=None)
    end(span, State.SUCCEEDED)

    done = spans.one("process shop.tasks.high")
    assert parent_of(done) is None
    assert not done.links
    assert "messaging.kafka.message.key" not in said(done)
    assert done.context is not None
    assert span.trace_id == trace.format_trace_id(done.context.trace_id)


@pytest.mark.parametrize(
    ("system", "own"),
    [
        (
            "cassandra",
            {"cassandra.consistency.level": "local_quorum", "cassandra.query.idempotent": True},
        ),
        ("sqlite", {}),
    ],
)
def test_a_row_is_a_client_span(spans: Spans, system: str, own: Mapping[str, Any]) -> None:
    """It names the table, and the batch where the row did not go alone."""
    store_span(INCOMING, keyspace="ts", table="results", system=system).finish(20)

    done = spans.one("INSERT results")
    assert done.kind is trace.SpanKind.CLIENT
    assert parent_of(done) == int(SPAN_ID, 16)
    assert said(done) == {
        "db.system.name": system,
        "db.namespace": "ts",
        "db.collection.name": "results",
        "db.operation.name": "INSERT",
        "db.operation.batch.size": 20,
        **own,
    }


def test_a_row_that_went_alone_is_no_batch(spans: Spans) -> None:
    """The conventions speak of a batch from two on."""
    store_span(INCOMING, keyspace="ts", table="results").finish(1)
    assert "db.operation.batch.size" not in said(spans.one("INSERT results"))


# --- errors and endings ----------------------------------------------------------------------------


def test_an_error_is_recorded_with_its_cause(spans: Spans) -> None:
    """Type, text and traceback stand on the span, also where the task is tried again."""
    error = ValueError("declined")
    error.__cause__ = KeyError("card")
    end(process(INCOMING), State.RETRYING, error)

    done = spans.one("process shop.tasks.high")
    assert done.status.status_code is trace.StatusCode.ERROR
    assert done.status.description == "declined"
    assert said(done)["error.type"] == "ValueError"
    [event] = done.events
    assert event.name == "exception"
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "builtins.ValueError"
    assert event.attributes["exception.message"] == "declined"
    assert "KeyError: 'card'" in str(event.attributes["exception.stacktrace"])


def test_an_error_that_has_no_text_is_recorded_all_the_same(spans: Spans) -> None:
    """A broken __str__ in a task's exception harms neither the task nor its trace."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    end(process(INCOMING), State.DEAD, Broken())
    assert said(spans.one("process shop.tasks.high"))["error.type"] == "Broken"


def test_an_error_with_endless_or_unsendable_text_is_cut(spans: Spans) -> None:
    """Megabytes and lone surrogates would cost the whole batch of spans at the collector."""
    end(process(INCOMING), State.DEAD, ValueError("\udc80" + "x" * 5_000_000))

    [event] = spans.one("process shop.tasks.high").events
    assert event.attributes is not None
    for value in event.attributes.values():
        assert len(str(value).encode()) <= 16 * 1024


def test_a_failed_publish_tells_why(spans: Spans) -> None:
    """The error ends the span in place of the acknowledgement."""
    publish().failed(TimeoutError("no answer"))
    done = spans.one("send shop.tasks.high")
    assert said(done)["error.type"] == "TimeoutError"
    assert "messaging.kafka.offset" not in said(done)


def test_the_first_ending_counts(spans: Spans) -> None:
    """A delivery report and a time-out that race end the span once, from whichever thread."""
    racers = 8
    start = threading.Barrier(racers)

    def race(span: PublishSpan, number: int) -> None:
        start.wait()
        if number % 2:
            span.acknowledged(3, 42)
        else:
            span.failed(TimeoutError("no answer"))

    with ThreadPoolExecutor(racers) as pool:
        for _ in range(50):
            span = publish()
            list(pool.map(race, [span] * racers, range(racers)))
    assert len(spans.all()) == 50


# --- context ---------------------------------------------------------------------------------------


def test_headers_replace_those_of_the_record(spans: Spans) -> None:
    """One of each name, with this span's id; the trace's state and baggage pass through."""
    handed = publish(parent=INCOMING).headers

    assert sorted(name for name, _ in handed) == ["baggage", "traceparent", "tracestate"]
    by_name = dict(handed)
    assert (by_name["traceparent"] or b"").startswith(f"00-{TRACE_ID}-".encode())
    assert SPAN_ID.encode() not in (by_name["traceparent"] or b"")
    assert by_name["tracestate"] == b"shop=7"
    assert by_name["baggage"] == b"tenant=acme"


def test_of_a_repeated_header_the_last_one_counts(spans: Spans) -> None:
    """A record that some client re-published with its header appended joins the newer trace."""
    newer = b"00-" + b"ef" * 16 + b"-" + b"12" * 8 + b"-01"
    assert process([*INCOMING, ("traceparent", newer)]).trace_id == "ef" * 16


@pytest.mark.parametrize(
    "traceparent", [b"", b"junk", b"\xff\xfe", None, b"00-" + b"0" * 52 + b"-01"]
)
def test_a_broken_traceparent_starts_a_new_trace(spans: Spans, traceparent: bytes | None) -> None:
    """Headers of others are never a reason to fail."""
    span = process([("traceparent", traceparent)])
    end(span, State.SUCCEEDED)
    assert parent_of(spans.one("process shop.tasks.high")) is None
    assert span.trace_id


@given(st.lists(st.tuples(st.sampled_from(TRACE_HEADERS), st.binary(max_size=80) | st.none())))
def test_no_header_makes_a_span_fail(headers: list[Header]) -> None:
    """Whatever bytes arrive, an attempt gets its span and its headers."""
    span = process(headers)
    with span.activate():
        publish().acknowledged(0, 0)
    end(span, State.SUCCEEDED)
    assert len(dict(span.headers)) == len(span.headers)


def test_spans_inside_a_task_are_children_of_its_attempt(spans: Spans) -> None:
    """A user's own span and a task published from within hang below the running attempt."""
    span = process(INCOMING)
    with span.activate():
        assert baggage.get_baggage("tenant") == "acme"
        with trace.get_tracer("users").start_as_current_span("charge card"):
            publish(topic="shop.mail.low").acknowledged(0, 0)
    end(span, State.SUCCEEDED)

    attempt, own = spans.one("process shop.tasks.high"), spans.one("charge card")
    assert parent_of(own) == id_of(attempt)
    assert parent_of(spans.one("send shop.mail.low")) == id_of(own)


def test_attempts_that_run_side_by_side_keep_their_own_context(spans: Spans) -> None:
    """Two asyncio tasks that wait for each other inside their attempts do not mix traces."""

    async def attempt(turn: asyncio.Event, other: asyncio.Event) -> tuple[str | None, str]:
        span = process(())
        with span.activate():
            turn.set()
            await other.wait()
            seen = trace.get_current_span().get_span_context().trace_id
        return span.trace_id, trace.format_trace_id(seen)

    async def both() -> list[tuple[str | None, str]]:
        one, two = asyncio.Event(), asyncio.Event()
        return list(await asyncio.gather(attempt(one, two), attempt(two, one)))

    (mine, seen), (other, other_seen) = asyncio.run(both())
    assert mine == seen
    assert other == other_seen
    assert mine != other


def test_an_attempt_inherits_nothing_from_around_it(spans: Spans) -> None:
    """What is current in the worker's own code leaks neither into an attempt nor out of it."""
    with trace.get_tracer("worker").start_as_current_span("loop") as outer:
        span = process(())
        with span.activate():
            assert trace.get_current_span() is not outer
        assert trace.get_current_span() is outer
        assert span.trace_id != trace.format_trace_id(outer.get_span_context().trace_id)


def test_an_unsampled_trace_stays_unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody records it, so there is no id to look up, and its headers say so to the next."""
    provide(monkeypatch, TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    span = process(publish().headers)
    end(span, State.DEAD, ValueError("x"))
    assert span.trace_id is None
    flags = int((dict(span.headers)["traceparent"] or b"").rsplit(b"-", 1)[1], 16)
    assert not flags & trace.TraceFlags.SAMPLED


def test_what_is_published_right_after_the_setup_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that found nobody just before, that of another app in the process, counts no more."""
    monkeypatch.setattr(tracing, "_known", tracing.Known())
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(tracing, "LOOK_EVERY", 1000.0)

    def start(_endpoint: str, _service: str) -> Callable[[], None]:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
        return lambda: None

    monkeypatch.setattr(export, "start", start)
    assert current_maker() is None
    tracing.setup("127.0.0.1:1", "shop")
    assert current_maker() is not None


# --- sampling --------------------------------------------------------------------------------------

UNSAMPLED: tuple[Header, ...] = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00".encode()),)


def record(monkeypatch: pytest.MonkeyPatch, sampler: Sampler) -> Spans:
    """A process with a provider like the one that `setup` makes, with that sampler."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, id_generator=DrawnIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provide(monkeypatch, provider)
    return Spans(exporter)


def flags_of(headers: Sequence[Header]) -> int:
    return int((dict(headers)["traceparent"] or b"").rsplit(b"-", 1)[1], 16)


SAMPLERS = [ALWAYS_ON, ALWAYS_OFF, DEFAULT_ON, DEFAULT_OFF, TraceIdRatioBased(0.3), ParentBased(
    TraceIdRatioBased(0.01)
), ParentBasedTraceIdRatio(0.0), ParentBasedTraceIdRatio(1.0)]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=Sampler.get_description)
def test_what_is_decided_without_a_span_is_what_the_sampler_says(
    monkeypatch: pytest.MonkeyPatch, sampler: Sampler
) -> None:
    """The ids of new traces, kept or not, are on the side of the ratio where they are said to be."""
    spans = record(monkeypatch, sampler)
    published = [publish() for _ in range(500)]
    for span in published:
        span.acknowledged(0, 0)
    for span in published:
        trace_id, flags = int((span.headers[0][1] or b"")[3:35], 16), flags_of(span.headers)
        decision = sampler.should_sample(context.Context(), trace_id, "send").decision
        assert (decision is Decision.RECORD_AND_SAMPLE) == bool(flags & trace.TraceFlags.SAMPLED)
    assert len({span.headers for span in published}) == 500
    sampled = {span.headers[0][1] for span in published if flags_of(span.headers) & 1}
    assert len(spans.all()) == len(sampled)


def test_a_ratio_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many traces so many are kept, whether they begin at a publish or at an attempt."""
    spans = record(monkeypatch, ParentBasedTraceIdRatio(0.3))
    for _ in range(2_000):
        publish().acknowledged(0, 0)
        end(process(()), State.SUCCEEDED)
    counted = Counter(span.name.split()[0] for span in spans.all())
    # Seven standard deviations to either side.
    assert 450 < counted["send"] < 750
    assert 450 < counted["process"] < 750


def test_a_dead_letter_that_no_attempt_came_before_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its record had a trace or not."""
    spans = record(monkeypatch, ParentBasedTraceIdRatio(0.0))
    for headers in (UNSAMPLED, ()):
        publish_span(
            "shop.dead", task="charge", task_id="o-17", key=None, parent=headers, keep=True
        ).acknowledged(0, 0)
    first, second = spans.all()
    assert parent_of(first) == int(SPAN_ID, 16)
    assert second.context is not None
    assert second.context.trace_flags.sampled


@given(st.floats(0.0, 1.0), st.integers(0, 2**64 - 1))
def test_a_ratio_is_found_by_halving(rate: float, low: int) -> None:
    """Below the bound, and nowhere else, a trace is sampled."""
    sampler = ParentBasedTraceIdRatio(rate)
    for one in (low, max(0, tracing._bound_of(sampler) - 1), tracing._bound_of(sampler)):
        if one < 2**64:
            decision = sampler.should_sample(context.Context(), 2**64 + one, "send").decision
            assert (decision is Decision.RECORD_AND_SAMPLE) == (one < tracing._bound_of(sampler))


def test_an_unsampled_publish_asks_for_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a span nor attributes are made, and all that is kept of it until Kafka answers is bytes."""
    record(monkeypatch, ParentBasedTraceIdRatio(0.0))
    maker = current_maker()
    assert maker is not None
    monkeypatch.setattr(maker, "tracer", None)
    span = publish_span("t", task="charge", task_id="o-17", key=None, about=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert span.pending == dict(span.headers)["traceparent"]
    assert not flags_of(span.headers) & trace.TraceFlags.SAMPLED


def test_the_publishers_decision_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that would keep everything records no attempt, row or publish of an unsampled trace."""
    spans = record(monkeypatch, DEFAULT_ON)
    span = process(UNSAMPLED)
    with span.activate():
        nested = publish()
        nested.acknowledged(0, 0)
    store_span(span, keyspace="ts", table="results").finish(20)
    end(span, State.SUCCEEDED)
    assert spans.all() == ()
    assert span.trace_id is None
    for headers in (nested.headers, span.headers, publish(parent=UNSAMPLED).headers):
        assert dict(headers) == dict(UNSAMPLED)


@pytest.mark.parametrize("ours", [True, False])
def test_an_attempt_that_fails_is_kept_in_an_unsampled_trace(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, ours: bool
) -> None:
    """Under the same trace id, with what a tail sampler asks for; its row, retry and end are sampled too.

    With a provider of somebody else, too.
    """
    if ours:
        spans = record(monkeypatch, ParentBasedTraceIdRatio(0.0))
    first = process(UNSAMPLED)
    first.decide(failed=True)
    store_span(first, keyspace="ts", table="results").finish(1)
    first.finish(State.RETRYING, failure_of(ValueError("declined")))
    retried = publish(parent=first.headers, topic="shop.delay.5s")
    retried.acknowledged(0, 7)
    second = process(retried.headers, attempt=2)
    end(second, State.SUCCEEDED)

    row, attempt, send, last = spans.all()
    assert first.trace_id == second.trace_id == TRACE_ID
    assert parent_of(attempt) == int(SPAN_ID, 16)
    assert parent_of(row) == parent_of(send) == id_of(attempt)
    assert parent_of(last) == id_of(send)
    assert said(attempt)["taskstream.kept"] is True
    assert said(attempt)["error.type"] == "ValueError"
    assert (said(attempt)["taskstream.state"], said(attempt)["taskstream.final"]) == (
        "retrying",
        False,
    )
    assert "taskstream.kept" not in said(last)


def test_an_attempt_that_is_kept_has_its_whole_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins when the attempt began, not when it turned out to have failed."""
    spans = record(monkeypatch, ParentBasedTraceIdRatio(0.0))
    span = process(UNSAMPLED)
    began = span._began_ns
    end(span, State.DEAD, ValueError("x"))
    assert spans.one("process shop.tasks.high").start_time == began


def test_a_failure_without_a_trace_is_kept_under_the_id_that_its_logs_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A foreign record without context gets an id at its attempt, sampled or not."""
    spans = record(monkeypatch, ParentBasedTraceIdRatio(0.0))
    span = process(())
    with span.activate():
        logged = trace.get_current_span().get_span_context().trace_id
    end(span, State.DEAD, ValueError("x"))
    assert span.trace_id == trace.format_trace_id(logged)
    assert spans.one("process shop.tasks.high").status.status_code is trace.StatusCode.ERROR


def test_who_wants_no_trace_at_all_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`always_off` is no ratio: failures are not kept either."""
    spans = record(monkeypatch, ALWAYS_OFF)
    span = process(INCOMING)
    end(span, State.DEAD, ValueError("x"))
    publish(parent=span.headers).acknowledged(0, 0)
    assert spans.all() == ()


def test_a_publish_that_fails_is_kept_in_an_unsampled_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under the id that its record would have had."""
    spans = record(monkeypatch, ParentBasedTraceIdRatio(0.0))
    pending = publish().pending
    assert isinstance(pending, bytes)
    publish_failed(
        pending, TimeoutError("x"), topic="shop.tasks.high", task="charge", task_id="o-17"
    )
    sent = spans.one("send shop.tasks.high")
    assert sent.context is not None
    assert trace.format_trace_id(sent.context.trace_id).encode() == pending[3:35]
    assert said(sent)["error.type"] == "TimeoutError"
    assert said(sent)["taskstream.kept"] is True


def test_what_is_not_an_exception_is_an_error_all_the_same(spans: Spans) -> None:
    """Bytes that nobody can read have no traceback; the span has their reason."""
    span = process(INCOMING)
    span.decide(failed=True)
    span.finish(State.DEAD, Failure("Undecodable", "bytes\ud800"))
    done = spans.one("process shop.tasks.high")
    assert said(done)["error.type"] == "Undecodable"
    assert done.status.description == "bytes?"
    assert done.events == ()


def test_an_attempt_that_is_somebody_elses_ends_its_span(spans: Spans) -> None:
    """The spans inside it would hang under nothing; one that never began leaves none."""
    process(INCOMING).abandon()
    process_span(current_maker(), topic="t", headers=(), describe=dict).abandon()
    (done,) = spans.all()
    assert said(done)["error.type"] == "Abandoned"
    assert said(done)["taskstream.final"] is False


@given(st.lists(st.tuples(st.sampled_from(TRACE_HEADERS), st.binary(max_size=60) | st.none())))
def test_the_short_way_reads_what_the_long_one_does(headers: list[Header]) -> None:
    """Our own reading of a plain `traceparent` has the outcome of the library's."""
    for header in [
        *headers,
        *UNSAMPLED,
        INCOMING[1],
        ("traceparent", b"00-" + b"0" * 32 + b"-1-01"),
    ]:
        carrier = {header[0]: (header[1] or b"").decode(errors="replace")}
        known = trace.get_current_span(tracing._TRACE.extract(carrier, context.Context()))
        read = trace.get_current_span(tracing._extract([header]))
        assert read.get_span_context() == known.get_span_context()


# --- baggage ---------------------------------------------------------------------------------------


def test_baggage_reaches_the_task_and_what_it_publishes(spans: Spans) -> None:
    """And what the task adds goes on with it."""
    span = process(INCOMING)
    with span.activate():
        token = context.attach(baggage.set_baggage("step", "2"))
        inner = publish()
        context.detach(token)
    headers = dict(inner.headers)
    assert headers["baggage"] == b"tenant=acme,step=2"
    assert headers["tracestate"] == b"shop=7"
    assert dict(publish(parent=span.headers).headers)["baggage"] == b"tenant=acme"


@pytest.mark.parametrize("traced", [True, False])
def test_baggage_has_a_bound(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, caplog: pytest.LogCaptureFixture, traced: bool
) -> None:
    """What is too long is left behind, whole and without a word for each task; the trace goes on."""
    if not traced:
        provide(monkeypatch, None)
    huge = (INCOMING[1], ("baggage", b"tenant=" + b"x" * HEADER_LIMIT_BYTES))
    assert [name for name, _ in process(huge).headers] == ["traceparent"]
    assert [name for name, _ in publish(parent=huge).headers] == ["traceparent"]
    assert caplog.records == []


def test_no_publish_carries_more_baggage_than_a_reader_takes(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred entries of a hundred bytes: those that fit go, and one line in all says that some do not."""
    carried = context.get_current()
    for number in range(100):
        carried = baggage.set_baggage(f"entry-{number}", "x" * 100, carried)
    token = context.attach(carried)
    headers = [dict(publish().headers) for _ in range(3)]
    context.detach(token)
    assert all(len(each["baggage"] or b"") <= HEADER_LIMIT_BYTES for each in headers)
    assert len([one for one in caplog.records if "aggage" in one.getMessage()]) == 1


# --- without an SDK --------------------------------------------------------------------------------


def test_without_an_sdk_a_trace_passes_through(untraced: None) -> None:
    """A worker that records nothing hands on the publisher's context, to hand-offs and to user code."""
    span = process(INCOMING)
    assert span.trace_id == TRACE_ID
    assert dict(span.headers) == dict(INCOMING[1:])
    assert dict(publish(parent=INCOMING).headers) == dict(INCOMING[1:])
    with span.activate():
        assert dict(publish().headers) == dict(INCOMING[1:])
    assert publish().headers == ()


def test_without_an_sdk_nothing_is_made(untraced: None) -> None:
    """Where there is nothing to record or to pass on, no object is made for it."""
    assert publish() is publish()
    assert process(()) is process([("ts-task", b"charge")])
    assert process(()).trace_id is None
    assert process(()).headers == ()
    row = store_span(process(()), keyspace="ts", table="results")
    assert row is store_span(INCOMING, keyspace="ts", table="results")
    row.finish(20)
    end(process(()), State.SUCCEEDED)


def test_baggage_alone_passes_through(untraced: None) -> None:
    """Baggage that a caller set travels, also without any trace."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        assert publish().headers == (("baggage", b"tenant=acme"),)
    finally:
        context.detach(token)


# --- setup -----------------------------------------------------------------------------------------


def test_setup_leaves_a_provider_of_the_users_alone(spans: Spans) -> None:
    """Where the process has a provider, setup changes nothing, and its end flushes nothing."""
    before = trace.get_tracer_provider()
    setup("127.0.0.1:1", "shop")()
    assert trace.get_tracer_provider() is before


def test_setup_without_an_endpoint_sets_nothing_up(untraced: None) -> None:
    """An empty endpoint means that spans go nowhere."""
    setup("", "shop")()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_setup_names_the_extra_that_is_missing(
    untraced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With base dependencies alone, an endpoint is an error that says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "taskstream.observability.export", raising=False)
    with pytest.raises(MissingExtra, match=r"taskstream\[otlp\]"):
        setup("127.0.0.1:1", "shop")


# --- the table -------------------------------------------------------------------------------------


def conventional_names() -> Iterator[str]:
    """Every attribute of the installed conventions that is not deprecated."""
    for package in (stable, incubating):
        for module in pkgutil.iter_modules(package.__path__):
            source = importlib.import_module(f"{package.__name__}.{module.name}")
            text = inspect.getsource(source)
            for constant, name in vars(source).items():
                deprecated = f'{constant}: Final = "{name}"\n"""\nDeprecated' in text
                if constant.isupper() and isinstance(name, str) and not deprecated:
                    yield name


def test_the_table_speaks_the_current_conventions() -> None:
    """Every name outside `taskstream.` is one of OpenTelemetry's, and none is deprecated."""
    known = set(conventional_names())
    ours = [attribute for span in table.SPANS for attribute in span.attributes]
    for attribute in (*ours, *table.ERROR):
        assert attribute.name.startswith("taskstream.") or attribute.name in known
    assert Schemas.V1_44_0.value == table.SCHEMA_URL


def test_spans_say_only_what_the_table_lists(spans: Spans) -> None:
    """The docs come from the table, so each span's kind and attributes must be those it gives."""
    sent = partial(publish_span, "shop.tasks.high", task="charge", task_id="o-18", key="k")
    dead = partial(task_attributes, State.DEAD, attempt=3, reason="ValueError", delay=0.0)
    again = partial(task_attributes, State.WAITING, run=1)
    fired = partial(task_attributes, State.WAITING, schedule="nightly")
    sent(about=dead).acknowledged(3, 42)
    end(process(INCOMING), State.DEAD, ValueError("x"))
    store_span(INCOMING, keyspace="ts", table="results").finish(20)
    sent(link=(), name="fire", about=fired).acknowledged(3, 42)
    sent(parent=INCOMING, name="redrive", about=again).acknowledged(3, 43)
    sent(link=INCOMING, name="replay", about=again).acknowledged(3, 44)

    for told, span in zip(table.SPANS, spans.all(), strict=True):
        assert span.name.split()[0] == told.name.split()[0]
        assert span.kind.name == told.kind
        listed = {attribute.name for attribute in told.attributes} - {table.KEPT.name}
        assert set(said(span)) - {table.ERROR_TYPE.name} == listed
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.schema_url == table.SCHEMA_URL


def test_a_record_tells_its_trace_where_somebody_recorded_one() -> None:
    """Nobody is sent to look for what was not sampled, or not written."""
    unsampled: Header = ("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00".encode())
    assert trace_id_of(INCOMING) == TRACE_ID
    assert trace_id_of([unsampled]) is None
    assert trace_id_of([("traceparent", b"no trace")]) is None
    assert trace_id_of([]) is None


def test_a_record_that_begins_a_new_trace_is_linked_to_the_old_one(spans: Spans) -> None:
    """No parent, one link; the baggage goes on, the old trace's state does not."""
    span = publish_span(
        "shop.tasks.high", task="charge", task_id="o-18", key=None, link=INCOMING, name="replay"
    )
    span.acknowledged(3, 42)
    sent = spans.one("replay shop.tasks.high")
    assert sent.parent is None
    assert [trace.format_trace_id(link.context.trace_id) for link in sent.links] == [TRACE_ID]
    headers = dict(span.headers)
    assert TRACE_ID.encode() not in (headers["traceparent"] or b"")
    assert headers["baggage"] == b"tenant=acme"
    assert "tracestate" not in headers


def test_without_an_old_trace_there_is_no_link(spans: Spans) -> None:
    """A record that came without one begins a trace like any other."""
    publish_span(
        "shop.tasks.high", task="charge", task_id="o-18", key=None, link=(), name="replay"
    ).acknowledged(3, 42)
    assert spans.one("replay shop.tasks.high").links == ()


def test_without_an_sdk_no_old_trace_becomes_the_parent(untraced: None) -> None:
    """Nothing but the baggage passes on, for the attempts to come are not part of that trace."""
    span = publish_span("t", task="charge", task_id="o-18", key=None, link=INCOMING, name="replay")
    assert dict(span.headers) == {"baggage": b"tenant=acme"}
