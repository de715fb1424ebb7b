"""Cancelling tasks, wherever they are.

Broken on purpose once, and seen to fail: `Dispatch._give` without the look at the cancels (a waiting task
runs), `Heap.hurry` left out, and the look at a record that arrives in the mover (a delayed one waits),
`judge_outcome` without its look at `attempt.cancelled` (a running one is tried again), processes that are
not ended after the grace, cancels that are never taken back.
"""

from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import Handle, State, TaskCancelled
from taskstream.broker.tail import read_to_end
from taskstream.core.control import CANCEL, cancel_key, run_of


def _orders(stage: Stage) -> dict[bytes | None, bytes | None]:
    """What compaction would leave of the control topic."""
    return {
        record.key: record.value
        for record in read_to_end(stage.app.settings, stage.app.names.control)
    }


def _is_taken_back(stage: Stage, handle: Handle[object]) -> None:
    """The order on that task has its tombstone."""
    assert _orders(stage)[cancel_key(handle.id, 0)] is None


def test_a_waiting_task_never_starts_and_frees_its_key(stage: Stage) -> None:
    """Cancelled before any worker is there, in the middle of a key: the next one of the key runs."""
    keyed = stage.task("keyed")
    handles = [keyed.publish("c-1", n=n) for n in range(3)]
    assert handles[1].cancel("a slip") is State.WAITING
    stage.worker()
    with pytest.raises(TaskCancelled):
        handles[1].result(timeout=30)
    assert handles[2].result(timeout=30) == 2
    assert [run.more["n"] for run in stage.journal] == ["0", "2"]
    (row,) = stage.rows(handles[1])
    assert (row.state, row.attempt, row.started, row.error_type) == (State.CANCELLED, 1, None, None)
    assert stage.dead_letters() == []
    eventually(lambda: _is_taken_back(stage, handles[1]))


def test_a_delayed_task_is_brought_home_and_never_fires(stage: Stage) -> None:
    """One that was cancelled while it waited, and one from before the worker was there; both at once."""
    early = stage.task("add").options(delay=3600).publish(1)
    assert early.cancel() is State.DELAYED
    stage.worker()
    with pytest.raises(TaskCancelled):
        early.result(timeout=30)
    late = stage.task("add").options(delay=3600).publish(2)
    assert stage.app.handle(late.id).cancel() is State.UNKNOWN
    with pytest.raises(TaskCancelled):
        late.result(timeout=30)
    assert stage.journal == []


def test_a_task_that_waits_for_its_retry_is_not_tried_again(stage: Stage) -> None:
    """Its first attempt stands as retrying, the second as cancelled, unrun."""
    stage.worker()
    handle = stage.task("tries_much_later").publish(1)
    stage.wait_for([handle], {State.RETRYING: 1})
    assert handle.cancel() is State.RETRYING
    with pytest.raises(TaskCancelled):
        handle.result(timeout=30)
    assert [(row.attempt, row.state) for row in stage.rows(handle)] == [
        (1, State.RETRYING),
        (2, State.CANCELLED),
    ]
    assert len(stage.journal) == 1


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("waits_for", "CancelledError"),
        ("waits_in_process", "Cancelled"),
        ("looks_around", "InterruptedError"),
    ],
)
def test_a_running_task_is_told_in_the_way_of_its_runner(
    stage: Stage, tmp_path: Path, task: str, error: str
) -> None:
    """A coroutine is cancelled, a process interrupted, a thread told; no retry, no dead letter."""
    stage.worker()
    handle = stage.task(task).publish(str(tmp_path / "never"))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(timeout=30)
    (row,) = stage.rows(handle)
    assert (row.state, row.attempt, row.error_type) == (State.CANCELLED, 1, error)
    assert row.traceback is not None
    other = stage.task("add").publish(1)
    assert other.result(timeout=30) == 2
    assert stage.dead_letters() == []


def test_a_task_that_returns_after_the_request_has_succeeded(stage: Stage, tmp_path: Path) -> None:
    """What finished first stays: here one whose interruption was caught, and that ended well."""
    gate = tmp_path / "gate"
    stage.worker()
    handle = stage.task("never_listens").publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    handle.cancel()
    eventually(lambda: len(stage.journal) == 2, timeout=30)
    gate.touch()
    assert handle.result(timeout=30) == "done"
    eventually(lambda: _is_taken_back(stage, handle))


def test_a_process_that_goes_on_is_ended_without_a_strike(stage: Stage, tmp_path: Path) -> None:
    """After the grace its child is killed on our order, and another one records it, unrun."""
    stage.worker()
    handle = stage.task("never_listens").publish(str(tmp_path / "never"))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(timeout=30)
    assert [run.more.get("began") for run in stage.journal] == ["True", None]
    assert "died" not in stage.logs()


def test_what_has_ended_is_told_and_nothing_is_asked(stage: Stage) -> None:
    """No order is written for a task that has its final state."""
    stage.worker()
    handle = stage.task("add").publish(1)
    assert handle.result(timeout=30) == 2
    assert handle.cancel() is State.SUCCEEDED
    assert stage.app.handle(handle.id).cancel() is State.SUCCEEDED
    assert _orders(stage) == {}


def test_the_next_owner_cancels_what_a_killed_worker_ran(stage: Stage, tmp_path: Path) -> None:
    """Kill -9 right after the request: whoever has the partition next records it, unrun."""
    worker = stage.worker()
    handle = stage.task("looks_around").publish(str(tmp_path / "never"))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    handle.cancel()
    worker.kill()
    stage.worker()
    with pytest.raises(TaskCancelled):
        handle.result(timeout=60)
    assert len(stage.journal) == 1
    eventually(lambda: _is_taken_back(stage, handle))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("many", [5_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_cancels_leave_nothing_behind(stage: Stage, many: int) -> None:
    """Thousands of cancels of tasks that end so: each has its tombstone, and none is outstanding."""
    from taskstream.core.control import Control, lifetime
    from taskstream.schemas.control import hear
    from taskstream.schemas.records import Records

    handles = stage.task("add").options(delay=3600).publish_many({"n": n} for n in range(many))
    orders = stage.app.orders()
    orders.give(orders.order(CANCEL, run_of(handle.id, 0)) for handle in handles)
    stage.worker("--children", "1")
    eventually(
        lambda: all(value is None for value in _orders(stage).values()), timeout=150, every=5.0
    )
    written = read_to_end(stage.app.settings, stage.app.names.control)
    assert len({record.key for record in written}) == many
    control = Control(lifetime(stage.app.settings.retention))
    hear(control, Records(), written)
    assert not control.cancels_any
    assert stage.states(handles) == {State.CANCELLED: many}
    assert stage.journal == []
