"""Children come and go while the worker works: nothing is run twice, and no partition moves for it.

Broken on purpose once, and seen to fail: children that should leave and don't. (Leaving before the
successor is ready fails in `tests/unit/test_staffing.py`.)
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from tests.support.eventually import eventually
from tests.support.stage import ROOT, Stage, Worker

from taskstream import Handle, State
from taskstream.broker.group import Assigned
from taskstream.consumer.parent.intake import Intake
from taskstream.consumer.parent.loop import Parent
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.parent.ownership import Ownership


def _each_ran_once(stage: Stage, handles: Sequence[Handle[object]]) -> None:
    runs = Counter(run.id for run in stage.journal)
    assert {runs[handle.id] for handle in handles} == {1}


def _replaced(worker: Worker, before: list[int]) -> list[int]:
    """The pids of its children, once none of those from before is left and none is on its way."""

    def look() -> list[int]:
        now = worker.children
        assert len(now) == len(before)
        assert not set(now) & set(before)
        return now

    return eventually(look, timeout=60)


@contextmanager
def _parent(stage: Stage, monkeypatch: pytest.MonkeyPatch, children: int) -> Iterator[Parent]:
    """A worker's parent in a thread of this process, so that it can be told things."""
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    command = ("--worker", "staffed", "--directory", str(ROOT), "tests.support.jobs:app")
    parent = Parent(
        ParentOptions(
            name="staffed", children=children, concurrency=4, drain=5.0, child_command=command
        )
    )
    thread = threading.Thread(target=parent.run)
    thread.start()
    try:
        yield parent
    finally:
        parent.stop()
        thread.join(60)


def test_a_command_changes_the_number_and_moves_no_partition(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One child, then three, then one again, under load: each task runs once, the group stands still."""
    moves: list[object] = []
    assign = Ownership.assign

    def noted(self: Ownership, intake: Intake, assigned: Sequence[Assigned]) -> None:
        moves.append(assigned)
        assign(self, intake, assigned)

    monkeypatch.setattr(Ownership, "assign", noted)
    first = stage.task("naps").publish_many({"seconds": 0.2} for _ in range(100))
    with _parent(stage, monkeypatch, 1) as parent:
        eventually(lambda: len(stage.journal) >= 4, timeout=60)
        eventually(lambda: len(moves) == 3, timeout=30)
        parent.scale(3)
        eventually(lambda: len({run.pid for run in stage.journal}) == 3, timeout=60)
        parent.scale(1)
        stage.wait_for(first, {State.SUCCEEDED: 100})
        before = len(stage.journal)
        more = stage.task("naps").publish_many({"seconds": 0.01} for _ in range(60))
        stage.wait_for(more, {State.SUCCEEDED: 60})
        late = {run.pid for run in stage.journal[before + 40 :]}
        assert len(late) == 1
        assert len(moves) == 3
    _each_ran_once(stage, first + more)


def test_the_load_brings_more_children(stage: Stage) -> None:
    """With all slots taken and more waiting, for coroutines and process tasks alike, more are started."""
    stage.worker("--autoscale", "1,3", "--concurrency", "2")
    naps = stage.task("naps").publish_many({"seconds": 0.5} for _ in range(80))
    alone = stage.task("naps_in_process").publish_many({"seconds": 0.5} for _ in range(30))
    for name in ("naps", "naps_in_process"):
        eventually(
            lambda name=name: len({run.pid for run in stage.journal if run.task == name}) == 3,  # type: ignore[misc]
            timeout=60,
        )
    stage.wait_for(naps + alone, {State.SUCCEEDED: 110})
    _each_ran_once(stage, naps + alone)


def test_a_child_is_replaced_after_so_many_tasks(stage: Stage) -> None:
    """Wave after wave there is another child, and nobody notices: each task runs once, none is suspected."""
    worker = stage.worker("--children", "1", "--max-tasks-per-child", "20")
    handles: list[Handle[object]] = []
    before: list[int] = []
    for _ in range(3):
        handles += stage.task("add").publish_many({"n": n} for n in range(30))
        stage.wait_for(handles, {State.SUCCEEDED: len(handles)})
        before = before or [stage.journal[0].pid]
        before = _replaced(worker, before)
    _each_ran_once(stage, handles)
    assert "a child died" not in stage.logs()


def test_a_child_that_has_grown_is_replaced(stage: Stage) -> None:
    """Half a gigabyte of leak brings a new child in, with the tasks beside it unharmed."""
    worker = stage.worker("--children", "1", "--max-memory-per-child", "400M")
    leak = stage.task("keeps").publish(512 * 1024 * 1024)
    assert leak.result(timeout=60) == 1
    _replaced(worker, [stage.journal[0].pid])
    assert stage.task("keeps").publish(1).result(timeout=30) == 1
    assert "a child died" not in stage.logs()


def test_a_child_with_a_stuck_thread_is_replaced(stage: Stage) -> None:
    """A thread past its limit costs its child its place, not the other tasks theirs."""
    gate = stage.directory / "gate"
    worker = stage.worker("--children", "1")
    beside = stage.task("waits_for").publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    (old,) = worker.children
    stage.task("sleeps_too_long_in_thread").publish()
    eventually(lambda: len(worker.children) == 2, timeout=30)
    others = stage.task("add").publish_many({"n": n} for n in range(50))
    stage.wait_for(others, {State.SUCCEEDED: 50})
    gate.touch()
    assert beside.result(timeout=30) == "done"
    eventually(lambda: old not in worker.children, timeout=30)
    _each_ran_once(stage, [beside, *others])
