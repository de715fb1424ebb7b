"""A crash between a hand-off's acknowledgement and the commit: the second copy is recognised.

The process dies at the very point, by a fault point; the next owner finds the offset open and does the
hand-off again. Each test sees that there are two copies, and that nothing has happened twice.

Broken on purpose once, and seen to fail: a child that recalls nothing (`steps.recall` returning the attempt
as it is), and `lanes()` counting every dead letter.
"""

from collections import Counter
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State
from taskstream.admin.queues import lanes
from taskstream.broker.tail import read_to_end
from taskstream.core import faultpoints
from taskstream.core.envelope import identity_of


@pytest.fixture
def faults(stage: Stage, tmp_path: Path) -> Path:
    """Where a test lays faults for the workers of its stage."""
    directory = tmp_path / "faults"
    directory.mkdir()
    stage.environment[faultpoints.VARIABLE] = str(directory)
    return directory


def _copies(stage: Stage, topic: str) -> list[int]:
    """How often each identity stands in a topic, the most frequent first."""
    found = Counter(identity_of(one.headers) for one in read_to_end(stage.app.settings, topic))
    return [count for _, count in found.most_common()]


def test_a_second_retry_is_dropped(stage: Stage, faults: Path) -> None:
    """The worker dies once Kafka has the retry: it is produced twice, and attempt 2 runs once."""
    (faults / faultpoints.AFTER_HANDOFF).write_text("kill")
    handle = stage.task("fails_twice").publish(1)
    stage.worker().wait()
    stage.worker()
    stage.wait_for([handle], {State.SUCCEEDED: 1}, timeout=90)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    # The second copy may repeat what attempt 2's row asks for, too: attempt 3's record, never its run.
    assert _copies(stage, stage.app.names.delay(0.0)) in ([2, 1], [2, 2])
    assert [run.attempt for run in stage.journal] == [1, 2, 3]


def test_a_second_move_is_dropped(stage: Stage, faults: Path) -> None:
    """The mover dies once the delayed task is home: it is moved twice, and runs once."""
    (faults / faultpoints.AFTER_MOVE).write_text("kill")
    stage.worker()
    handle = stage.task("add").options(delay=0.5).publish(1)
    home = stage.app.names.tasks("tasks", "normal")
    eventually(lambda: _copies(stage, home) == [2], timeout=90, every=0.5)
    stage.wait_for([handle], {State.SUCCEEDED: 1})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert len(stage.journal) == 1


def test_a_second_dead_letter_counts_once(stage: Stage, faults: Path) -> None:
    """The worker dies once Kafka has the dead letter: there are two of one identity, one dead task."""
    (faults / faultpoints.AFTER_HANDOFF).write_text("kill")
    handle = stage.task("gives_up").publish(1)
    stage.worker().wait()
    stage.worker()
    eventually(lambda: _copies(stage, stage.app.names.dead) == [2], timeout=90, every=0.5)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert stage.states([handle]) == {State.DEAD: 1}
    assert len(stage.journal) == 1
    assert sum(lane.dead for lane in lanes(stage.app)) == 1
