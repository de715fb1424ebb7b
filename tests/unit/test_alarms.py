"""What is said of a partition that goes wrong in silence, and how often."""

import pytest
from tests.unit.test_partitions import PLACE, begin

from taskstream.broker.records import Record
from taskstream.consumer.parent.alarms import HELD_FOR, Alarms, ages, heads
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.partitions import WINDOW_FULL, Partition
from taskstream.core.envelope import Envelope, write

NOW = 1_700_000_000.0


def take(partition: Partition, offset: int, *, written: float = NOW) -> Entry:
    """A task that Kafka delivers."""
    headers = tuple(write(Envelope("charge", id=f"task-{offset}")))
    record = Record(PLACE.topic, PLACE.partition, offset, None, b"", headers, written)
    entry = Entry(offset, record, PLACE, 1, "high", "charge", lookup=False)
    assert partition.tracker.deliver(offset)
    partition.entries[offset] = entry
    return entry


def full() -> Partition:
    """A partition whose first task holds all others."""
    partition = begin()
    for offset in range(100, 100 + WINDOW_FULL):
        take(partition, offset)
    return partition


def test_the_head_is_the_lowest_unfinished_task() -> None:
    """Not the first that was delivered: that one may be finished."""
    partition = begin()
    first, second = take(partition, 100), take(partition, 101)
    assert partition.head is first
    partition.finish(first)
    assert partition.head is second
    partition.finish(second)
    assert partition.head is None


def test_only_a_full_partition_has_a_head_to_speak_of() -> None:
    """It names the task, its id and its place, and since when it runs."""
    partition = full()
    partition.entries[100].given_at = NOW - 60
    (head,) = heads({PLACE: partition}).values()
    assert (head.source, head.task, head.task_id, head.since) == (
        "shop.tasks.high/0/100", "charge", "task-100", NOW - 60,
    )  # fmt: skip
    partition.finish(partition.entries[800])
    assert heads({PLACE: partition}) == {}


def test_a_head_is_told_once_and_again_when_it_is_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a few seconds as the head, once; then the next one, and the end."""
    caplog.set_level("INFO")
    partition, alarms = full(), Alarms(old_after=1e9)
    for second in range(20):
        alarms.look({PLACE: partition}, NOW + second)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "task_id=task-100" in caplog.text
    partition.finish(partition.entries[100])
    take(partition, 100 + WINDOW_FULL)
    for second in range(20, 40):
        alarms.look({PLACE: partition}, NOW + second)
    partition.finish(partition.entries[101])
    for second in range(40, 60):
        alarms.look({PLACE: partition}, NOW + second)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


def test_a_busy_partition_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Full in every look, and each time by another task: nobody holds it."""
    partition, alarms = full(), Alarms(old_after=1e9)
    for second in range(60):
        alarms.look({PLACE: partition}, NOW + second * HELD_FOR)
        partition.finish(partition.entries[100 + second])
        take(partition, 100 + WINDOW_FULL + second)
    assert caplog.records == []


def test_a_task_that_is_half_as_old_as_records_get_is_an_error_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Raised when it passes half of the retention, and taken back when a younger one is the oldest."""
    caplog.set_level("INFO")
    partition, alarms = begin(), Alarms(old_after=500.0)
    old, young = take(partition, 100, written=NOW), take(partition, 101, written=NOW + 400)
    for second in range(0, 700, 100):
        alarms.look({PLACE: partition}, NOW + second)
    assert ages({PLACE: partition}, NOW + 700) == {PLACE: 700.0}
    partition.finish(old)
    alarms.look({PLACE: partition}, NOW + 700)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "age_s=600 half_s=500" in caplog.text
    partition.finish(young)
    assert ages({PLACE: partition}, NOW + 700) == {}
