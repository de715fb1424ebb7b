"""A task that outlives a rebalance goes on where it is, and is not started beside itself.

Broken on purpose once, and seen to fail: `Partition.last_commit` without what is held.
"""

from collections import Counter
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.stage import Stage, Worker

from taskstream import State

KEYS = 24
"""So many that each partition has some."""


def _starts(stage: Stage, task: str) -> int:
    return sum(run.task == task for run in stage.journal)


def _long_ones(stage: Stage, gate: Path) -> Worker:
    """One worker that runs a long task for each of `KEYS`, in all four partitions."""
    worker = stage.worker()
    for key in range(KEYS):
        stage.task("waits_for").options(key=f"k{key}", unordered=True).publish(str(gate))
    eventually(lambda: _starts(stage, "waits_for") == KEYS, timeout=30)
    return worker


def test_a_long_task_goes_on_over_a_rebalance(stage: Stage, tmp_path: Path) -> None:
    """Half of the partitions move to a second worker, and no task starts again; what follows waits."""
    gate = tmp_path / "gate"
    first = _long_ones(stage, gate)
    second = stage.worker()
    eventually(lambda: "go on over a rebalance" in first.log.read_text(), timeout=60)
    behind = [
        stage.task("add").options(key=f"k{key}", unordered=True).publish(key) for key in range(KEYS)
    ]
    free = [
        stage.task("add").options(key=f"f{key}", unordered=True).publish(key) for key in range(40)
    ]
    stage.wait_for(free, {State.SUCCEEDED: 40})
    assert stage.states(behind) == {State.UNKNOWN: KEYS}, "they wait behind their keys"
    gate.touch()
    stage.wait_for(behind, {State.SUCCEEDED: KEYS})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert Counter(run.id for run in stage.journal).most_common(1)[0][1] == 1
    assert first.stop() == second.stop() == 0


def test_a_holder_that_dies_is_taken_over(stage: Stage, tmp_path: Path) -> None:
    """Kill -9 of the worker that holds tasks: the partitions' owner runs them again, once."""
    gate = tmp_path / "gate"
    first = _long_ones(stage, gate)
    stage.worker()
    eventually(lambda: "go on over a rebalance" in first.log.read_text(), timeout=60)
    first.kill()
    eventually(lambda: _starts(stage, "waits_for") == 2 * KEYS, timeout=60)
    gate.touch()
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert _starts(stage, "waits_for") == 2 * KEYS


def test_a_holder_that_drains_ends_what_it_holds(stage: Stage, tmp_path: Path) -> None:
    """SIGTERM of the holder: its tasks end there, their rows count, and nothing starts again."""
    gate = tmp_path / "gate"
    first = _long_ones(stage, gate)
    second = stage.worker()
    eventually(lambda: "go on over a rebalance" in first.log.read_text(), timeout=60)
    first.process.terminate()
    eventually(lambda: "draining" in first.log.read_text(), timeout=30)
    gate.touch()
    assert first.wait() == 0
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert _starts(stage, "waits_for") == KEYS
    assert second.stop() == 0
