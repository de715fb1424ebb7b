"""When a waiting record moves, and where to: pure.

A record waits in a tier until what is left of its time fits a smaller one, or until it is due.
Within a tier the wait is a place in a heap, not a paused partition: pausing and resuming was
measured to be late by up to 400 ms, a heap by less than one.
"""

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count

from taskstream.broker.records import Record
from taskstream.core.envelope import Envelope, Place
from taskstream.core.names import Names
from taskstream.core.tiers import leaves_tier_at, tier_for


@dataclass(frozen=True, slots=True)
class Move:
    """Where a record goes next.

    Args:
        topic: the next topic.
        partition: its partition; None where the key decides.
        home: whether it is due, and goes to its task topic.
    """

    topic: str
    partition: int | None
    home: bool


def next_move(envelope: Envelope, names: Names, now: float) -> Move:
    """The next stop of a record that leaves its tier.

    Args:
        envelope: its metadata; `home` must be known.
        names: the app's topics.
        now: seconds since 1970.
    """
    assert envelope.home is not None
    due = envelope.due or 0.0
    if due <= now:
        return Move(envelope.home.topic, envelope.home.partition, home=True)
    return Move(names.delay(tier_for(due - now)), None, home=False)


@dataclass(order=True, slots=True)
class Waiting:
    """A record in the heap; ordered by when it moves.

    Args:
        moves_at: seconds since 1970.
        number: the order of arrival, for equal times.
        record: as it was delivered.
        envelope: its metadata; None where it can't be read, so that it has no home to go to.
        epoch: the assignment of its partition; fences what an earlier one left behind.
        refused: why it can't be moved on, and goes to the dead letters instead; empty where it can.
    """

    moves_at: float
    number: int
    record: Record = field(compare=False)
    envelope: Envelope | None = field(compare=False)
    epoch: int = field(compare=False)
    refused: str = field(default="", compare=False)


class Heap:
    """The records that wait here, the next one first. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, record: Record, envelope: Envelope, *, span: float, epoch: int) -> None:
        """Lets a record wait in a tier of `span` seconds."""
        moves_at = leaves_tier_at(span, record.timestamp, envelope.due or 0.0)
        self._push(Waiting(moves_at, next(self._numbers), record, envelope, epoch))

    def push_refused(self, record: Record, why: str, *, epoch: int) -> None:
        """Lets a record that has no way home move to the dead letters at once."""
        self._push(Waiting(0.0, next(self._numbers), record, None, epoch, why))

    def _push(self, waiting: Waiting) -> None:
        heapq.heappush(self._waiting, waiting)

    def pop_due(self, now: float) -> list[Waiting]:
        """Takes out what moves now, the longest-due first."""
        due = []
        while self._waiting and self._waiting[0].moves_at <= now:
            due.append(heapq.heappop(self._waiting))
        return due

    @property
    def next_at(self) -> float | None:
        """When the next record moves, seconds since 1970; None if none waits."""
        return self._waiting[0].moves_at if self._waiting else None

    def drop(self, places: Collection[Place]) -> None:
        """Forgets what waits in partitions that are not ours any more."""
        self._waiting = [
            waiting
            for waiting in self._waiting
            if Place(waiting.record.topic, waiting.record.partition) not in places
        ]
        heapq.heapify(self._waiting)
