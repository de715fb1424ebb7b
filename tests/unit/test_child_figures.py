"""What a child counts of its attempts: when they could have run, ran and ended.

Broken on purpose once, and seen to fail: a wait that begins at the first publish for a redrive; an exception
in the counting that ends the child.
"""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskstream.consumer.child.figures import Figures, due_from
from taskstream.core.envelope import Envelope
from taskstream.core.states import State
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Spread
from taskstream.observability.table import Metric

APPENDED = 1_000.0


def test_a_wait_begins_where_the_task_could_have_run() -> None:
    """Its append; its due time for what was delayed or is a retry; its first append for what an order held."""
    assert due_from(Envelope(task="charge", published=900.0), APPENDED) == APPENDED
    assert due_from(Envelope(task="charge", due=1_010.0), APPENDED) == 1_010.0
    held = Envelope(task="charge", due=2_000.0, deferred=True, entered=950.0)
    assert due_from(held, APPENDED) == 950.0
    redriven = Envelope(task="charge", run=1, published=1.0, entered=1.0)
    assert due_from(redriven, APPENDED) == APPENDED


def recorded(
    state: State = State.SUCCEEDED, *, started: float | None = 1_002.0, **more: Any
) -> tuple[Any, Any]:
    """An attempt that was appended at 1,000, begun at 1,002 and finished at 1,005, with its row."""
    ids = ("ab" * 16, "cd" * 8)
    attempt = SimpleNamespace(
        envelope=Envelope(task="charge"),
        given=SimpleNamespace(record=SimpleNamespace(timestamp=APPENDED)),
        task=SimpleNamespace(name="charge"),
        found=None,
        span=SimpleNamespace(ids=ids),
    )
    row = SimpleNamespace(
        state=state, task="charge", queue="tasks", priority="high", started=started, finished=1_005.0,
        trace_id=ids[0], error_type=None,
    )  # fmt: skip
    for name, it in more.items():
        setattr(attempt if hasattr(attempt, name) else row, name, it)
    return attempt, row


def spread(metrics: Metrics, metric: Metric, *labels: str) -> Spread:
    found = metrics.series(metric)[labels]
    assert isinstance(found, Spread)
    return found


def test_attempts_of_a_frame_are_counted_by_task_and_end() -> None:
    """How long they ran and waited, with the trace of one that is recorded."""
    metrics = Metrics()
    Figures(metrics).note([recorded(), recorded(), recorded(State.DEAD)])
    ran = spread(metrics, table.PROCESS_DURATION, "charge", "succeeded")
    assert (sum(ran.counts), ran.total) == (2, 6.0)
    assert {one.trace_id for one in ran.exemplars.values()} == {"ab" * 16}
    waited = spread(metrics, table.WAIT_DURATION, "tasks", "high")
    assert (sum(waited.counts), waited.total) == (3, 6.0)


def test_what_did_not_run_here_is_not_timed() -> None:
    """A row that was found, and an end without a start, say nothing of how long anything took."""
    metrics = Metrics()
    Figures(metrics).note([recorded(found=object()), recorded(State.EXPIRED, started=None)])
    assert metrics.series(table.PROCESS_DURATION) == {}
    assert metrics.series(table.WAIT_DURATION) == {}


def test_a_wait_is_never_below_zero() -> None:
    """The broker's clock may run ahead of this one."""
    metrics = Metrics()
    Figures(metrics).note([recorded(started=APPENDED - 1)])
    assert spread(metrics, table.WAIT_DURATION, "tasks", "high").total == 0


def test_an_attempt_that_no_trace_tells_of_is_no_exemplar() -> None:
    """An exemplar that leads nowhere would be worse than none."""
    metrics = Metrics()
    Figures(metrics).note([recorded(trace_id=None)])
    assert spread(metrics, table.WAIT_DURATION, "tasks", "high").exemplars == {}


def test_retries_are_counted_by_error() -> None:
    """Under the task's own name, or as unknown: any name could stand in a record."""
    metrics = Metrics()
    figures = Figures(metrics)
    figures.note([recorded(State.RETRYING, error_type="ConnectionError")])
    figures.note([recorded(State.RETRYING, error_type="UnknownTask", task=None, started=None)])
    assert metrics.series(table.RETRIES) == {
        ("charge", "ConnectionError"): 1,
        ("unknown", "UnknownTask"): 1,
    }


def test_what_can_not_be_counted_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An exception here would end the child, for it comes from where verdicts are reported."""
    Figures(Metrics()).note([(cast("Any", None), cast("Any", None))])
    assert "could not be counted" in caplog.text
