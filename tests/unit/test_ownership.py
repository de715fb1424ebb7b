"""When a worker looks for something to commit."""

from unittest.mock import MagicMock

import pytest

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import encode
from taskstream.broker.offsets import Progress
from taskstream.consumer.parent.ownership import COMMIT_EVERY, Ownership
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.observability import table
from taskstream.observability.metrics import Metrics

PLACE = Place("shop.tasks.high", 0)


@pytest.fixture
def intake() -> MagicMock:
    """Who reads the partition, and sends its commits."""
    return MagicMock(lane="tasks.high")


@pytest.fixture
def metrics() -> Metrics:
    """Where failures are counted."""
    return Metrics()


@pytest.fixture
def ownership(intake: MagicMock, metrics: Metrics) -> Ownership:
    """One partition, its horizon reserved by an acknowledged commit."""
    ownership = Ownership(metrics, ManualClock())
    start = Assigned(PLACE, 0, encode(Progress.at(0)), 0, 0)
    ownership.assign(intake, [start])
    ownership.commit(0.0)
    intake.commit.assert_called_once()
    ownership.committed(None, {PLACE: 0})
    return ownership


def test_where_nothing_happens_it_does_not_look(ownership: Ownership, intake: MagicMock) -> None:
    """An idle worker wakes up for its next full commit, not four times a second."""
    ownership.commit(COMMIT_EVERY)
    assert ownership.next_at(COMMIT_EVERY) == ownership.commit_again
    ownership.commit(ownership.commit_again)
    assert intake.commit.call_count == 2


def test_after_a_turn_in_between_it_looks_again(ownership: Ownership, intake: MagicMock) -> None:
    """What woke the loop up may have finished a task: that is committed when the next commit is due."""
    ownership.commit(COMMIT_EVERY)
    partition = ownership.find(PLACE)
    assert partition is not None
    partition.tracker.deliver(0)
    partition.tracker.finish(0)
    ownership.commit(1.5 * COMMIT_EVERY)
    assert ownership.next_at(1.5 * COMMIT_EVERY) == 2 * COMMIT_EVERY
    ownership.commit(2 * COMMIT_EVERY)
    assert intake.commit.call_args.args[0][PLACE][0] == 1


def test_a_commit_without_an_answer_is_looked_after(ownership: Ownership, metrics: Metrics) -> None:
    """A refused one is repeated a moment later, and counted."""
    ownership.commit(ownership.commit_again)
    ownership.committed(MagicMock(), {PLACE: 0})
    assert ownership.next_at(ownership.commit_again) == ownership.commit_again + COMMIT_EVERY
    assert metrics.series(table.COMMIT_FAILURES) == {("tasks", "high"): 1}
