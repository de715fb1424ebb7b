"""What goes wrong with a partition in silence: said when it begins and when it ends, and not between.

Two things: a partition whose intake waits because one task at its head keeps it from being committed,
and one whose oldest task has waited for half of the time that Kafka keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.partitions import Partition
from taskstream.core.envelope import Place, peek, read
from taskstream.core.errors import Undecodable
from taskstream.observability import logs

HELD_FOR = 5.0
"""Seconds that the same task must have held a full partition before it is said."""

_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The unfinished task with the lowest offset: no commit of its partition passes it.

    Args:
        source: topic, partition and offset.
        task: its name; empty where the record can't be read.
        task_id: its id; empty where the record has none.
        since: when a child got it, seconds since 1970; 0 while it waits.
    """

    source: str
    task: str
    task_id: str
    since: float


def head_of(entry: Entry) -> Head:
    """What people want to know of a task that holds up others."""
    try:
        task_id = read(entry.record.headers).id
    except Undecodable:
        task_id = ""
    task = peek(entry.record.headers).task
    return Head(entry.record.source, task, task_id, entry.given_at)


def heads(partitions: Mapping[Place, Partition]) -> dict[Place, Head]:
    """The heads of the partitions that are full; one that is not in hand yet is left out."""
    return {
        place: head_of(partition.head)
        for place, partition in partitions.items()
        if partition.full and partition.head is not None
    }


def ages(partitions: Mapping[Place, Partition], now: float) -> dict[Place, float]:
    """How many seconds ago the oldest unfinished record was written, where one is in hand."""
    return {
        place: max(0.0, now - partition.head.record.timestamp)
        for place, partition in partitions.items()
        if partition.head is not None
    }


class Alarms:
    """Says what has changed. Not thread-safe: it belongs to the loop.

    Args:
        old_after: how many seconds a task may wait; as `Settings.alarming_age`.
    """

    def __init__(self, old_after: float) -> None:
        self._old_after = old_after
        self._heads: dict[Place, tuple[Head, float]] = {}
        self._told: dict[Place, Head] = {}
        self._old: set[Place] = set()

    def look(self, partitions: Mapping[Place, Partition], now: float) -> None:
        """Looks at all partitions of ours, and logs what was not so the last time.

        Args:
            partitions: those of ours.
            now: seconds since 1970.
        """
        self._look_at_heads(heads(partitions), now)
        self._look_at_ages(ages(partitions, now))

    def _look_at_heads(self, found: dict[Place, Head], now: float) -> None:
        before = self._heads
        self._heads = {
            place: before[place] if place in before and before[place][0] == head else (head, now)
            for place, head in found.items()
        }
        for place, (head, seen) in self._heads.items():
            # Under load a partition is full for a moment now and then, by no task's fault.
            if now - seen >= HELD_FOR and self._told.get(place) != head:
                self._told[place] = head
                _log.warning(
                    "a partition takes in no more until the task at its head is finished; others go on",
                    source=head.source,
                    task=head.task,
                    task_id=head.task_id,
                    running_s=round(now - head.since) if head.since else "not running",
                    advice="see what the task does: `taskstream workers list APP`; a timeout= "
                    "would end it",
                )
        for place in self._told.keys() - found.keys():
            del self._told[place]
            _log.info("a partition takes in again", place=place)

    def _look_at_ages(self, found: dict[Place, float]) -> None:
        before = self._old
        self._old = {place for place, age in found.items() if age > self._old_after}
        for place in self._old - before:
            _log.error(
                "the oldest task of a partition has waited for half of its topic's retention; Kafka "
                "deletes it unfinished after as long again",
                place=place, age_s=round(found[place]), half_s=round(self._old_after),
                advice="add workers, or raise the retention first",
            )  # fmt: skip
        for place in before - self._old:
            _log.info("the oldest task of a partition is young enough again", place=place)
