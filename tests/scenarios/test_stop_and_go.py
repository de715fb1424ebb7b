"""Workers that come, stop and go."""

from collections import Counter
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State


def test_sigterm_drains_and_commits(stage: Stage, tmp_path: Path) -> None:
    """A stopped worker ends what runs, commits it, and leaves; the next one repeats nothing."""
    gate = tmp_path / "gate"
    worker = stage.worker()
    handles = [stage.task("waits_for").publish(str(gate)) for _ in range(5)]
    eventually(lambda: len(stage.journal) == 5, timeout=30)
    worker.process.terminate()
    gate.touch()
    assert worker.wait() == 0, stage.logs()
    assert stage.states(handles) == {State.SUCCEEDED: 5}
    assert stage.left_over() == 0
    stage.worker("--exit-when-empty").wait()
    assert Counter(run.id for run in stage.journal) == {handle.id: 1 for handle in handles}


def test_a_second_signal_stops_hard(stage: Stage, tmp_path: Path) -> None:
    """The second SIGTERM doesn't wait for what runs; another worker runs it again."""
    gate = tmp_path / "gate"
    worker = stage.worker()
    handle = stage.task("waits_for").publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    worker.process.terminate()
    eventually(lambda: "drain" in worker.log.read_text(), timeout=30)
    worker.process.terminate()
    worker.wait(20)
    assert stage.states([handle]) == {State.UNKNOWN: 1}
    gate.touch()
    stage.worker()
    stage.wait_for([handle], {State.SUCCEEDED: 1})


def test_children_end_with_a_killed_parent(stage: Stage, tmp_path: Path) -> None:
    """No child outlives its parent: what it would write belongs to the next owner."""
    worker = stage.worker()
    stage.task("waits_for").publish(str(tmp_path / "never"))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    children = worker.children
    assert len(children) == 2
    worker.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
