"""One trace tells the whole story of a task, as Jaeger shows it.

Broken on purpose once, and seen to fail: a dead letter of the mover without its trace; hand-offs that begin
traces of their own; a failed attempt of an unsampled trace that is not kept; a firing without its link.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from tests.support import commands
from tests.support.eventually import eventually
from tests.support.servers import Jaeger, Span
from tests.support.stage import Stage

from taskstream import State, TaskFailed
from taskstream.admin import schedules
from taskstream.admin.letters import letters
from taskstream.broker.records import Record
from taskstream.broker.sender import Sender
from taskstream.broker.tail import read_to_end
from taskstream.core.cron import Every
from taskstream.core.envelope import read
from taskstream.results.row import Row


def _whole(spans: list[Span], *, attempts: int, handoffs: int) -> bool:
    kinds = Counter(span.name.split()[0] for span in spans)
    return (
        kinds["process"] == attempts
        and kinds["INSERT"] == attempts
        and kinds["send"] == 1 + handoffs
    )


def _check(spans: list[Span]) -> None:
    """One trace id, one root, no orphan."""
    ids = {span.span_id for span in spans}
    assert len({span.trace_id for span in spans}) == 1
    roots = [span for span in spans if span.parent_id is None]
    assert [root.name.split()[0] for root in roots] == ["send"]
    orphans = [
        span.name for span in spans if span.parent_id is not None and span.parent_id not in ids
    ]
    assert orphans == []


def test_a_retried_task_is_one_trace(stage: Stage, jaeger: Jaeger) -> None:
    """Publish, three attempts, their rows and two hand-offs, all under one trace id."""
    stage.worker()
    handle = stage.task("fails_twice").publish(1)
    assert handle.result(timeout=30) == "1 at last"
    stage.app.flush()
    trace_id = stage.rows(handle)[-1].trace_id
    assert trace_id is not None
    spans = jaeger.wait_for(
        trace_id, lambda spans: _whole(spans, attempts=3, handoffs=2), timeout=30
    )
    _check(spans)
    processes = [span for span in spans if span.name.startswith("process")]
    assert [span.tags["taskstream.attempt"] for span in processes] == [1, 2, 3]
    assert [span.tags.get("error", False) for span in processes] == [True, True, False]
    assert {span.tags["span.kind"] for span in processes} == {"consumer"}
    sends = [span for span in spans if span.name.startswith("send")]
    assert {span.tags["span.kind"] for span in sends} == {"producer"}
    assert {"messaging.destination.partition.id", "messaging.kafka.offset"} <= sends[0].tags.keys()
    writes = [span for span in spans if span.name.startswith("INSERT")]
    assert {span.tags["db.system.name"] for span in writes} == {"cassandra"}
    assert {span.parent_id for span in writes} == {span.span_id for span in processes}


def test_a_dead_letter_ends_its_trace(stage: Stage, jaeger: Jaeger) -> None:
    """The hand-off to the dead letters is the last span of the trace that its publish began."""
    stage.worker()
    handle = stage.task("gives_up").publish(1)
    with pytest.raises(TaskFailed):
        handle.result(timeout=30)
    trace_id = stage.rows(handle)[-1].trace_id
    assert trace_id is not None
    spans = jaeger.wait_for(
        trace_id, lambda spans: _whole(spans, attempts=1, handoffs=1), timeout=30
    )
    _check(spans)
    assert (
        spans[-1].name == f"send {stage.app.names.dead}"
        or spans[-2].name == f"send {stage.app.names.dead}"
    )


def test_spans_of_the_task_nest_in_its_attempt(stage: Stage, jaeger: Jaeger) -> None:
    """A user's span, and the publish of another task, are children of the attempt."""
    stage.worker()
    handle = stage.task("opens_a_span").publish()
    assert handle.result(timeout=30) == "traced"
    trace_id = stage.rows(handle)[-1].trace_id
    assert trace_id is not None
    spans = jaeger.wait_for(trace_id, lambda spans: len(spans) >= 4, timeout=30)
    _check(spans)
    (inner,) = [span for span in spans if span.name == "inside the task"]
    (process,) = [span for span in spans if span.name.startswith("process")]
    assert inner.parent_id == process.span_id

    outer = stage.task("publishes_another").publish(1)
    inner_id = outer.result(timeout=30)
    assert stage.app.handle(inner_id).result(timeout=30) == 2
    stage.wait_for([outer, stage.app.handle(inner_id)], {State.SUCCEEDED: 2})
    (row,) = stage.rows(stage.app.handle(inner_id))
    assert row.trace_id == stage.rows(outer)[-1].trace_id


def outline(spans: list[Span]) -> str:
    """The tree of spans as indented lines: what each is, of which attempt, and how it ended."""

    def lines(parent: str | None, depth: int) -> list[str]:
        return [
            line
            for span in spans
            if span.parent_id == parent
            for line in ["  " * depth + _told(span), *lines(span.span_id, depth + 1)]
        ]

    return "\n".join(lines(None, 0))


def _told(span: Span) -> str:
    what = span.name.split()[0]
    facts = [f"{span.tags.get(f'taskstream.{name}', '')}" for name in ("run", "attempt", "state")]
    return " ".join([what, *facts, str(span.tags.get("error.type", ""))]).strip()


ONE_STORY = """\
send
  process 0 1 retrying ValueError
    INSERT
    send 0 2 retrying
      process 0 2 retrying ValueError
        INSERT
        send 0 3 retrying
          process 0 3 dead ValueError
            INSERT
            send 0 3 dead
              redrive 1 1 waiting
                process 1 1 succeeded
                  INSERT"""


def test_one_story_is_one_trace(stage: Stage, jaeger: Jaeger) -> None:
    """Fail, retry, dead, redrive with corrected arguments, success: one page of Jaeger tells it all.

    The redrive hangs under the span that sent the dead letter, the new run under the redrive.
    """
    stage.worker()
    handle = stage.task("pays").publish("o-17", cents=-5)
    with pytest.raises(TaskFailed):
        handle.result(timeout=30)
    eventually(lambda: len(letters(stage.app).letters) == 1)
    done = commands.run(
        stage, "dead", "redrive", commands.APP, "--set", "cents=5", "--yes", "--json"
    )
    assert done.json["redriven"] == 1
    assert handle.result(timeout=30) == 5
    stage.app.flush()
    rows = stage.rows(handle)
    (trace_id,) = {row.trace_id for row in rows}
    assert trace_id is not None
    spans = jaeger.wait_for(trace_id, lambda spans: len(spans) == 13, timeout=30)
    _check(spans)
    assert outline(spans) == ONE_STORY

    names = stage.app.names
    home = names.tasks("tasks", "normal")
    sends = [span for span in spans if span.name.split()[0] in {"send", "redrive"}]
    assert [span.name for span in sends] == [
        f"send {home}", f"send {names.delay(0)}", f"send {names.delay(0)}", f"send {names.dead}",
        f"redrive {home}",
    ]  # fmt: skip
    assert {span.tags["span.kind"] for span in sends} == {"producer"}
    for send in sends:
        assert {"messaging.destination.partition.id", "messaging.kafka.offset"} <= send.tags.keys()
    assert [span.tags.get("taskstream.reason") for span in sends] == [
        None, None, None, "ValueError", None,
    ]  # fmt: skip
    processes = [span for span in spans if span.name.startswith("process")]
    assert [span.tags["taskstream.final"] for span in processes] == [False, False, True, True]
    assert {span.service for span in processes} == {f"{stage.app.name}-worker"}


def test_waiting_is_seen(stage: Stage, jaeger: Jaeger) -> None:
    """A delayed task's record says for how long it is to wait, its attempt how long it waited beyond that.

    Between the two there is nothing in the trace but time.
    """
    stage.worker()
    handle = stage.task("add").options(delay=1.0).publish(1)
    assert handle.result(timeout=30) == 2
    stage.app.flush()
    trace_id = stage.rows(handle)[-1].trace_id
    assert trace_id is not None
    send, process, _ = jaeger.wait_for(trace_id, lambda spans: len(spans) == 3, timeout=30)
    assert send.name == f"send {stage.app.names.delay(0)}"
    assert send.tags["taskstream.state"] == "delayed"
    assert 0 <= send.tags["taskstream.delay"] <= 1
    due = handle.due
    assert due is not None
    assert process.started >= due
    assert process.tags["taskstream.waited"] == pytest.approx(process.started - due, abs=0.01)


@contextmanager
def inside(traceparent: str, **carried: str) -> Iterator[None]:
    """Publishes in this block are children of that span, with that baggage."""
    _, trace_id, span_id, flags = traceparent.split("-")
    span = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    surrounding = set_span_in_context(NonRecordingSpan(span), Context())
    for name, value in carried.items():
        surrounding = baggage.set_baggage(name, value, surrounding)
    token = attach(surrounding)
    try:
        yield
    finally:
        detach(token)


def test_of_an_unsampled_trace_only_what_failed_and_what_follows_is_kept(
    stage: Stage, jaeger: Jaeger
) -> None:
    """Successes leave nothing; a failure its span, under the trace id that its log has, and all after it."""
    trace_id, span_id = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
    worker = stage.worker("--children", "1")
    with inside(f"00-{trace_id}-{span_id}-00"):
        quiet = stage.task("carries_baggage").publish(0)
        assert quiet.result(timeout=30) == "{}"
        handle = stage.task("fails_twice").publish(1)
    assert handle.result(timeout=30) == "1 at last"
    stage.wait_for([handle, quiet], {State.SUCCEEDED: 2})
    spans = jaeger.wait_for(trace_id, lambda spans: len(spans) == 8, timeout=30)
    assert outline_below(spans, span_id) == (
        """\
process 0 1 retrying ConnectionError
  INSERT
  send 0 2 retrying
    process 0 2 retrying ConnectionError
      INSERT
      send 0 3 retrying
        process 0 3 succeeded
          INSERT"""
    )
    kept = [span.tags.get("taskstream.kept") for span in spans if span.name.startswith("process")]
    assert kept == [True, None, None]
    assert [row.trace_id for row in stage.rows(quiet)] == [None]
    assert {row.trace_id for row in stage.rows(handle)} == {trace_id}
    (line,) = [line for line in worker.log.read_text().splitlines() if "baggage is here" in line]
    assert f"trace_id={trace_id}" in line
    assert f"task_id={quiet.id}" in line


def outline_below(spans: list[Span], span_id: str) -> str:
    """`outline` of what hangs under a span that nobody recorded; Jaeger shows it as roots."""
    return outline(
        [replace(span, parent_id=None) if span.parent_id == span_id else span for span in spans]
    )


def test_baggage_reaches_the_task_and_those_that_it_publishes(stage: Stage) -> None:
    """From the publisher through two tasks into a third; the log of each names trace and task."""
    worker = stage.worker("--children", "1")
    trace_id = f"{random.getrandbits(128):032x}"
    with inside(f"00-{trace_id}-{'1' * 16}-01", tenant="acme", step="1"):
        first = stage.task("carries_baggage").publish(2)
    second = stage.app.handle(first.result(timeout=30))
    third = stage.app.handle(second.result(timeout=30))
    assert third.result(timeout=30) == str({"tenant": "acme", "step": "1"})
    lines = [line for line in worker.log.read_text().splitlines() if "baggage is here" in line]
    for handle, line in zip((first, second, third), lines, strict=True):
        assert f"task_id={handle.id}" in line
        assert f"trace_id={trace_id}" in line
        assert re.search(r"span_id=[0-9a-f]{16}\b", line)


def test_a_foreign_publisher_takes_part(stage: Stage, jaeger: Jaeger) -> None:
    """Any client's record with W3C headers: the attempts are in its trace; without them they begin one."""
    task, app = stage.task("carries_baggage"), stage.app
    frame = app.schema_store().put(task.schema.arguments)
    topic = app.names.tasks("tasks", "normal")
    trace_id, span_id = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
    traced = [
        ("traceparent", f"00-{trace_id}-{span_id}-01".encode()),
        ("tracestate", b"shop=7"),
        ("baggage", b"tenant=acme"),
    ]
    sender = Sender(app.settings, client_id="a-go-service")
    for headers in (traced, []):
        value = frame + task.arguments.encode((0,), {})
        sender.send(
            topic, value, key=None, headers=[("ts-task", b"carries_baggage"), *headers],
            on_done=lambda _ack, _error: None,
        )  # fmt: skip
    assert sender.close(10.0) == 0
    stage.worker()
    spans = jaeger.wait_for(trace_id, lambda spans: len(spans) == 2, timeout=30)
    assert outline_below(spans, span_id) == "process 0 1 succeeded\n  INSERT"
    task_id = spans[0].tags["messaging.message.id"]
    (row,) = stage.rows(app.handle(task_id))
    assert row.trace_id == trace_id
    assert app.handle(task_id).result(timeout=10) == str({"tenant": "acme"})

    def found() -> Row:
        (other,) = {run.id for run in stage.journal} - {task_id}
        (row,) = stage.rows(app.handle(other))
        return row

    other = eventually(found, 30)
    assert other.trace_id is not None
    spans = jaeger.wait_for(other.trace_id, lambda spans: len(spans) == 2, timeout=30)
    assert outline(spans) == "process 0 1 succeeded\n  INSERT"


def test_each_firing_of_a_schedule_is_a_trace_that_leads_to_the_last(
    stage: Stage, jaeger: Jaeger
) -> None:
    """A root of its own that names the schedule, linked to the firing before it."""
    added = schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse")
    stage.worker()

    def fired() -> list[str]:
        found = read_to_end(stage.app.settings, stage.app.names.tasks("tasks", "normal"))
        assert len(found) >= 2
        return sorted(
            read(one.headers).id for one in found
        )  # by their instants, which they begin with

    assert added.name == "pulse"
    first, second = (stage.app.handle(task_id) for task_id in eventually(fired, 30)[:2])
    assert first.result(timeout=30) == second.result(timeout=30) == 2
    one, two = (stage.rows(handle)[-1].trace_id for handle in (first, second))
    assert one is not None
    assert two is not None
    assert one != two
    spans = jaeger.wait_for(two, lambda spans: len(spans) == 3, timeout=30)
    assert outline(spans) == "fire 0 1 waiting\n  process 0 1 succeeded\n    INSERT"
    assert spans[0].tags["taskstream.schedule"] == "pulse"
    assert [trace_id for trace_id, _ in spans[0].links] == [one]


def test_what_the_mover_gives_up_stays_in_its_trace(stage: Stage, jaeger: Jaeger) -> None:
    """A delayed record that says no home is a dead letter under the span that sent it, sampled or not."""
    app = stage.app
    trace_id, span_id = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
    sender = Sender(app.settings, client_id="a-go-service")
    sender.send(
        app.names.delay(0), b"x", key=b"k", on_done=lambda _ack, _error: None,
        headers=[("ts-task", b"add"), ("traceparent", f"00-{trace_id}-{span_id}-00".encode())],
    )  # fmt: skip
    assert sender.close(10.0) == 0
    stage.worker()
    (letter,) = eventually(lambda: some(read_to_end(app.settings, app.names.dead)), 30)
    parent = dict(letter.headers)["traceparent"]
    assert parent is not None
    assert parent.startswith(f"00-{trace_id}-".encode())
    spans = jaeger.wait_for(trace_id, lambda spans: len(spans) == 1, timeout=30)
    assert outline_below(spans, span_id) == "send 0 1 dead"
    assert spans[0].tags["taskstream.reason"] == "Undecodable"


def some(records: list[Record]) -> list[Record]:
    assert records
    return records
