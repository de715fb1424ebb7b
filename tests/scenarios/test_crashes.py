"""The rules on crashes: who kills its process dies of it, nobody else does, whatever is killed meanwhile.

Broken on purpose once, and seen to fail: suspects not sent into quarantine; strikes not written before
the run; all that a dead child held taken for suspects; a partition given up without a word that it was
in order; a blocked event loop that stays; a child's own end by the rules counted as a crash.
"""

import os
import re
import signal
from collections import Counter

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Run, Stage

from taskstream import Handle, State, TaskFailed


def _runs(stage: Stage, handle: Handle[object]) -> list[Run]:
    return [run for run in stage.journal if run.id == handle.id]


def _strikes(stage: Stage, handle: Handle[object]) -> tuple[State, int] | None:
    rows = stage.rows(handle)
    return (rows[-1].state, rows[-1].strikes) if rows else None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("reads_nowhere", {}), ("leaves", {}), ("aborts", {}), ("kills_its_process", {"n": 1})],
    ids=["segfault", "exit", "abort", "kill -9"],
)
def test_who_kills_its_process_dies_of_it_alone(
    stage: Stage, name: str, arguments: dict[str, int]
) -> None:
    """Three runs, the last one alone, then WorkerLost; what ran beside it succeeds each time."""
    stage.worker()
    naps = stage.task("naps").publish_many({"seconds": 1.0} for _ in range(40))
    others = stage.task("add").publish_many({"n": n} for n in range(200))
    poison = stage.task(name).publish(**arguments)
    others += stage.task("add").publish_many({"n": n} for n in range(200))
    with pytest.raises(TaskFailed, match="WorkerLost"):
        poison.result(timeout=60)
    stage.wait_for(naps + others, {State.SUCCEEDED: 440})
    assert [run.attempt for run in _runs(stage, poison)] == [1, 1, 1]
    assert _strikes(stage, poison) == (State.DEAD, 3)
    assert len(eventually(stage.dead_letters)) == 1


def test_many_poisons_cost_no_innocent(stage: Stage) -> None:
    """Ten of them among naps, all in company at first: ten dead letters, and every nap succeeds."""
    handles, poisons = [], []
    for n in range(10):
        handles += stage.task("naps").publish_many({"seconds": 0.3} for _ in range(20))
        poisons.append(stage.task("kills_its_process").publish(n))
    stage.worker()
    stage.wait_for(poisons, {State.DEAD: 10}, timeout=90)
    stage.wait_for(handles, {State.SUCCEEDED: 200}, timeout=90)
    assert max(len(_runs(stage, poison)) for poison in poisons) <= 4


def test_a_process_task_has_its_three_runs(stage: Stage) -> None:
    """It always runs alone, and is not buried at the first crash."""
    stage.worker()
    poison = stage.task("leaves_in_process").publish()
    with pytest.raises(TaskFailed, match="WorkerLost"):
        poison.result(timeout=60)
    assert len(_runs(stage, poison)) == 3


def test_counts_survive_the_worker(stage: Stage) -> None:
    """Kill -9 of the parent twice: the first makes a suspect, the second quarantines it; it still ends."""
    gate = stage.directory / "gate"
    slow = stage.task("waits_for").publish(str(gate))
    for number, expected in enumerate([None, (State.RUNNING, 1), (State.RUNNING, 2)], start=1):
        worker = stage.worker("--children", "1")
        eventually(lambda number=number: len(_runs(stage, slow)) == number, timeout=60)  # type: ignore[misc]
        assert _strikes(stage, slow) == expected
        if number < 3:
            worker.kill()
    others = stage.task("add").publish_many({"n": n} for n in range(50))
    stage.wait_for(others, {State.SUCCEEDED: 50})
    added = {run.pid for run in stage.journal if run.task == "add"}
    assert _runs(stage, slow)[-1].pid not in added, "it runs alone by now"
    gate.touch()
    assert slow.result(timeout=30) == "done"
    assert _strikes(stage, slow) == (State.SUCCEEDED, 2)


def test_a_quarantined_task_keeps_its_key_and_gives_it_back(stage: Stage) -> None:
    """While a key's poison is tried, other keys go on; what is behind it runs after its death."""
    poison = stage.task("kills_its_process").options(key="k", unordered=True).publish(1)
    behind = stage.task("add").options(key="k", unordered=True).publish(1)
    others = stage.task("add").publish_many({"n": n} for n in range(50))
    stage.worker()
    assert behind.result(timeout=60) == 2
    stage.wait_for(others, {State.SUCCEEDED: 50})
    assert _runs(stage, behind)[0].at > _runs(stage, poison)[-1].at
    assert len(_runs(stage, poison)) == 3


def test_a_stop_in_order_is_no_strike(stage: Stage) -> None:
    """A task that outlives the drain again and again runs each time as if for the first time."""
    gate = stage.directory / "gate"
    slow = stage.task("waits_for").publish(str(gate))
    for number in (1, 2, 3, 4):
        worker = stage.worker("--drain", "0.1")
        eventually(lambda number=number: len(_runs(stage, slow)) == number, timeout=60)  # type: ignore[misc]
        assert _strikes(stage, slow) is None
        if number < 4:
            assert worker.stop() == 0
    gate.touch()
    assert slow.result(timeout=30) == "done"
    assert _strikes(stage, slow) == (State.SUCCEEDED, 0)


def test_what_a_dead_child_had_not_begun_is_no_suspect(stage: Stage) -> None:
    """Only what ran at the kill gets a strike; what waited in the child's queue gets none."""
    gate = stage.directory / "gate"
    worker = stage.worker("--children", "1", "--concurrency", "2", "--reserved", "0")
    # A child that has been quick is fed ahead.
    quick = stage.task("add").publish_many({"n": n} for n in range(1_000))
    stage.wait_for(quick, {State.SUCCEEDED: 1_000})
    handles = stage.task("waits_for").publish_many({"path": str(gate)} for _ in range(2))
    eventually(lambda: len(stage.journal) == 1_002, timeout=30)
    waiting = stage.task("add").publish_many({"n": n} for n in range(100))
    eventually(lambda: stage.left_over() >= 100, timeout=30)
    (child,) = worker.children
    os.kill(child, signal.SIGKILL)
    eventually(lambda: {len(_runs(stage, handle)) for handle in handles} == {2}, timeout=30)
    gate.touch()
    stage.wait_for(handles + waiting, {State.SUCCEEDED: 102})
    assert [_strikes(stage, handle) for handle in handles] == [(State.SUCCEEDED, 1)] * 2
    assert Counter(_strikes(stage, handle) for handle in waiting) == {(State.SUCCEEDED, 0): 100}
    told = re.search(r"a child died.* held=(\d+) .*suspects=(\d+)", stage.logs())
    assert told is not None
    assert int(told[1]) > int(told[2]) == 2, "what it had not begun was there to be suspected"


def test_a_held_up_loop_costs_only_who_holds_it_up(stage: Stage) -> None:
    """A coroutine that blocks past its limit ends as Timeout; the others of its loop run again, unblamed."""
    gate = stage.directory / "gate"
    worker = stage.worker("--children", "1")
    stage.task("add").publish(1).result(timeout=30)
    (child,) = worker.children
    beside = stage.task("waits_for").publish(str(gate))
    eventually(lambda: len(_runs(stage, beside)) == 1, timeout=30)
    blocker = stage.task("holds_the_loop").publish(str(stage.directory / "never"))
    with pytest.raises(TaskFailed, match="Timeout"):
        blocker.result(timeout=30)
    eventually(lambda: len(_runs(stage, beside)) == 2, timeout=30)
    assert _runs(stage, beside)[1].pid != child
    gate.touch()
    assert beside.result(timeout=30) == "done"
    assert _strikes(stage, beside) == (State.SUCCEEDED, 0)
