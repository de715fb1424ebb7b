"""One trace tells the whole story of a task, as Jaeger shows it."""

from collections import Counter

import pytest
from tests.support import commands
from tests.support.eventually import eventually
from tests.support.servers import Jaeger, Span
from tests.support.stage import Stage

from taskstream import State, TaskFailed
from taskstream.admin.letters import letters


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


def test_a_redriven_task_stays_in_its_trace(stage: Stage, jaeger: Jaeger) -> None:
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

    def whole(spans: list[Span]) -> bool:
        kinds = Counter(span.name.split()[0] for span in spans)
        return kinds == {"send": 4, "process": 4, "INSERT": 4, "redrive": 1}

    spans = jaeger.wait_for(trace_id, whole, timeout=30)
    _check(spans)
    (redrive,) = [span for span in spans if span.name.startswith("redrive")]
    (buried,) = [span for span in spans if span.name == f"send {stage.app.names.dead}"]
    processes = [span for span in spans if span.name.startswith("process")]
    assert redrive.name == f"redrive {stage.app.names.tasks('tasks', 'normal')}"
    assert redrive.tags["span.kind"] == "producer"
    assert redrive.parent_id == buried.span_id
    assert {"messaging.destination.partition.id", "messaging.kafka.offset"} <= redrive.tags.keys()
    assert processes[-1].parent_id == redrive.span_id
    runs = [(span.tags["taskstream.run"], span.tags["taskstream.attempt"]) for span in processes]
    assert runs == [(0, 1), (0, 2), (0, 3), (1, 1)]
    assert [span.tags["taskstream.state"] for span in processes] == [
        "retrying", "retrying", "dead", "succeeded",
    ]  # fmt: skip
