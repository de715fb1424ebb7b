"""Which task is given out next: pure, values in and values out.

A lane holds the tasks of one priority. Lanes share what the children can take by weighted deficit
round robin (M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit Round Robin", 1995),
every task costing one: under load each lane gets its weight's share, and a lane that has nothing
leaves its share to the others.

Inside a lane tasks go in the order they came, but for those whose key is held by an earlier task of
the same partition: they wait behind it, and nothing else does. A task without a key of the user's is
keyed by its id, so two copies of one task, which a crash can leave behind, never run side by side;
the second one finds the row of the first.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from taskstream.broker.offsets import Held
from taskstream.broker.records import Record
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.envelope import Place

Lock = tuple[Place, bytes]
"""A key within one partition: what only one task may hold at a time."""


@dataclass(slots=True, eq=False)
class Entry:
    """A task that the parent holds, from its delivery to its verdict.

    Args:
        number: unique while the parent lives.
        record: what Kafka delivered.
        place: its partition.
        epoch: which assignment of the partition it belongs to; fences late verdicts.
        lane: its priority's lane.
        lookup: whether the store must be asked before it runs.
        held: who goes on running it since an earlier assignment; None for nobody.
        suspicion: whether a process may have died of it.
        alone: whether it needs a child of its own.
        abandoned: whether the child that holds it was told to end it, unrecorded.
        takes_room: whether it still counts among the records that its intake may hold.
        takes_bytes: whether it still counts for the bytes that its intake may hold.
        given_at: when a child got it, seconds since 1970; 0 before.
    """

    number: int
    record: Record
    place: Place
    epoch: int
    lane: str
    lookup: bool
    held: Held | None = None
    suspicion: Suspicion = Suspicion.NONE
    alone: bool = False
    abandoned: bool = False
    takes_room: bool = True
    takes_bytes: bool = True
    given_at: float = 0.0

    @property
    def lock(self) -> Lock | None:
        """The key it needs; None for a foreign record without one."""
        return None if self.record.key is None else (self.place, self.record.key)


@dataclass(slots=True)
class _Lane:
    weight: int
    ready: deque[Entry] = field(default_factory=deque)
    deficit: int = 0
    room: float = math.inf
    """How many tasks may be taken, whatever is ready."""


class Lanes:
    """The tasks that wait to be given out. Not thread-safe.

    Args:
        weights: each lane's share, 1 or more.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._lanes = {name: _Lane(weight) for name, weight in weights.items()}
        self._turns = deque(self._lanes.values())
        self._locks: dict[Lock, deque[Entry] | None] = {}

    def push(self, entry: Entry) -> bool:
        """Adds a task; whether it is ready at once, or waits behind a held key."""
        lock = entry.lock
        if lock is not None:
            if lock in self._locks:
                waiting = self._locks[lock]
                if waiting is None:
                    waiting = self._locks[lock] = deque()
                waiting.append(entry)
                return False
            self._locks[lock] = None
        self._lanes[entry.lane].ready.append(entry)
        return True

    def bound(self, name: str, room: float) -> None:
        """Lets no more than so many tasks of a lane be taken, until told otherwise."""
        self._lanes[name].room = room

    def push_again(self, entry: Entry) -> None:
        """Puts a task that was taken and came back (its child died) at the head; it keeps its key."""
        self._lanes[entry.lane].ready.appendleft(entry)

    def take(self, limit: int) -> list[Entry]:
        """Up to `limit` tasks, each lane by its weight; they hold their keys until `release`."""
        taken: list[Entry] = []
        passed_over = 0
        while len(taken) < limit and passed_over < len(self._turns):
            lane = self._turns[0]
            lane.deficit = lane.deficit or lane.weight
            before = len(taken)
            while lane.ready and lane.room >= 1 and lane.deficit and len(taken) < limit:
                taken.append(lane.ready.popleft())
                lane.deficit -= 1
                lane.room -= 1
            if lane.ready and lane.room >= 1 and lane.deficit:
                break  # the limit came in the middle of its turn: it goes on there
            passed_over = 0 if len(taken) > before else passed_over + 1
            lane.deficit = 0
            self._turns.rotate(-1)
        return taken

    def release(self, entry: Entry) -> None:
        """Frees the key of a task that needs nothing more; the next one behind it gets ready."""
        lock = entry.lock
        if lock is None or lock not in self._locks:
            return
        waiting = self._locks[lock]
        if waiting:
            following = waiting.popleft()
            self._lanes[following.lane].ready.append(following)
        else:
            del self._locks[lock]

    def drop(self, places: Collection[Place]) -> list[Entry]:
        """Forgets every task and key of partitions that are not ours any more; returns the tasks."""
        dropped: list[Entry] = []
        for lane in self._lanes.values():
            dropped += (entry for entry in lane.ready if entry.place in places)
            lane.ready = deque(entry for entry in lane.ready if entry.place not in places)
        for lock in [lock for lock in self._locks if lock[0] in places]:
            dropped += self._locks.pop(lock) or ()
        return dropped

    @property
    def ready(self) -> int:
        """How many tasks could be given out now."""
        return sum(int(min(len(lane.ready), lane.room)) for lane in self._lanes.values())

    def waiting(self) -> Iterable[tuple[str, int]]:
        """Each lane and how many tasks it has ready, for metrics."""
        return [(name, len(lane.ready)) for name, lane in self._lanes.items()]
