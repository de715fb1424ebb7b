"""Soft and hard limits by runner: told, interrupted, cancelled, killed; and nobody else pays for it.

Broken on purpose once, and seen to fail: a watchdog that sets no flag at the soft limit; a stuck solo
child that stays.
"""

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State, TaskFailed


def test_hard_limits_end_attempts_by_runner(stage: Stage) -> None:
    """A coroutine is cancelled, a thread given up, a process killed; other tasks go on."""
    stage.worker()
    names = ["sleeps_too_long", "sleeps_too_long_in_thread", "sleeps_too_long_in_process"]
    handles = [stage.task(name).publish() for name in names]
    stage.wait_for(handles, {State.DEAD: 3})
    assert [[row.error_type for row in stage.rows(handle)] for handle in handles] == [
        ["Timeout"]
    ] * 3
    others = stage.task("add").publish_many({"n": n} for n in range(50))
    stage.wait_for(others, {State.SUCCEEDED: 50})


def test_soft_limits_tell_or_interrupt(stage: Stage) -> None:
    """Coroutines and threads see `current().cancelled`, a process task gets a TimeoutError; all may end well."""
    stage.worker()
    handles = {
        name: stage.task(name).publish()
        for name in ("minds_its_time", "minds_its_time_in_thread", "minds_its_time_in_process")
    }
    assert {name: handle.result(timeout=30) for name, handle in handles.items()} == {
        "minds_its_time": "told",
        "minds_its_time_in_thread": "told",
        "minds_its_time_in_process": "interrupted",
    }


def test_a_process_task_that_ignores_its_limit_is_killed(stage: Stage) -> None:
    """It ends as Timeout without a strike, and the process tasks behind it run in another process."""
    worker = stage.worker("--children", "1")
    stubborn = stage.task("ignores_its_limit_in_process").publish()
    behind = stage.task("add_in_process").publish_many({"n": n} for n in range(3))
    with pytest.raises(TaskFailed, match="Timeout"):
        stubborn.result(timeout=30)
    stage.wait_for(behind, {State.SUCCEEDED: 3})
    assert [[row.strikes for row in stage.rows(one)] for one in (stubborn, *behind)] == [[0]] * 4
    tried = next(run for run in stage.journal if run.id == stubborn.id and "ignored" in run.more)
    eventually(lambda: tried.pid not in worker.children, timeout=10)


def test_a_coroutine_that_ignores_its_limit_is_given_up(stage: Stage) -> None:
    """It ends as Timeout; what runs beside it goes on to its end, and its child is replaced."""
    gate, never = stage.directory / "gate", stage.directory / "never"
    worker = stage.worker("--children", "1")
    beside = stage.task("waits_for").publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    (old,) = worker.children
    stubborn = stage.task("ignores_its_limit").publish(str(never))
    with pytest.raises(TaskFailed, match="Timeout"):
        stubborn.result(timeout=30)
    assert stage.task("add").publish(1).result(timeout=30) == 2
    assert {run.pid for run in stage.journal if run.task == "add"} != {old}
    gate.touch()
    assert beside.result(timeout=30) == "done"
    assert len([run for run in stage.journal if run.id == beside.id]) == 1
    eventually(lambda: old not in worker.children, timeout=30)
