"""Which task is given out next: pure, values in and values out.

A lane holds the tasks of one priority. Lanes share what the children can take by rounds: in each one a
lane may give as many tasks as its weight says, the heaviest lane first, and a round ends when no lane
that could give has anything left of its weight. (It is deficit round robin with every task costing one:
M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit Round Robin", 1995.) So under load
each lane gets its weight's share, and one that has nothing, or may not give, leaves its share to the
others.

A queue's heaviest lane is urgent: some slots of each child are for such lanes alone, so that a
task of theirs finds one whatever else runs.

Inside a lane tasks go in the order they came, but for those whose key is held by an earlier task of
the same partition: they wait behind it, and nothing else does. A task without a key of the user's is
keyed by its id, so two copies of one task, which a crash can leave behind, never run side by side;
the second one finds the row of the first.
"""

import math
from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping
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
        task: its task's name; empty where the record doesn't tell.
        lookup: whether the store must be asked before it runs.
        held: who goes on running it since an earlier assignment; None for nobody.
        suspicion: whether a process may have died of it.
        alone: whether it needs a child of its own.
        abandoned: whether the child that holds it was told to end it, unrecorded.
        takes_room: whether it still counts among the records that its intake may hold.
        takes_bytes: whether it still counts for the bytes that its intake may hold.
        given_at: when a child got it, seconds since 1970; 0 before.
        entered: when its run entered, seconds since 1970; None before anybody has asked.
    """

    number: int
    record: Record
    place: Place
    epoch: int
    lane: str
    task: str
    lookup: bool
    held: Held | None = None
    suspicion: Suspicion = Suspicion.NONE
    alone: bool = False
    abandoned: bool = False
    takes_room: bool = True
    takes_bytes: bool = True
    given_at: float = 0.0
    entered: float | None = None

    @property
    def told(self) -> dict[str, object]:
        """What a log line says of it."""
        return self.record.told

    @property
    def lock(self) -> Lock | None:
        """The key it needs; None for a foreign record without one."""
        return None if self.record.key is None else (self.place, self.record.key)


@dataclass(slots=True)
class _Lane:
    weight: int
    urgent: bool
    ready: deque[Entry] = field(default_factory=deque)
    left: int = 0
    """How many it may still give in this round."""
    room: float = math.inf
    """How many tasks may be taken, whatever is ready."""


def urgent_lanes(weights: Mapping[str, int]) -> frozenset[str]:
    """The heaviest lane of each queue that has lighter ones beside it.

    Args:
        weights: by lane, `queue.priority`, its share.
    """
    of_queue: dict[str, list[int]] = {}
    for lane, weight in weights.items():
        of_queue.setdefault(lane.rpartition(".")[0], []).append(weight)
    return frozenset(
        lane
        for lane, weight in weights.items()
        if min(of_queue[lane.rpartition(".")[0]]) < weight == max(of_queue[lane.rpartition(".")[0]])
    )


class Lanes:
    """The tasks that wait to be given out. Not thread-safe.

    Args:
        weights: each lane's share, 1 or more.

    Attributes:
        urgent: the urgent lanes; empty where no lane comes before another of its queue.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.urgent = urgent_lanes(weights)
        self._lanes = {
            name: _Lane(weights[name], name in self.urgent)
            for name in sorted(weights, key=lambda name: -weights[name])
        }
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

    def take(self, limit: int, common: int | None = None) -> list[Entry]:
        """The tasks whose turn it is; they hold their keys until `release`.

        Args:
            limit: how many at most.
            common: how many of them at most may come from lanes that are not urgent; None for all.
        """
        taken: list[Entry] = []
        common = limit if common is None else min(common, limit)
        while limit > 0:
            able = [
                lane
                for lane in self._lanes.values()
                if lane.ready and lane.room >= 1 and (lane.urgent or common > 0)
            ]
            if not able:
                break
            if not any(lane.left for lane in able):
                for lane in self._lanes.values():
                    lane.left = lane.weight
            for lane in able:
                most = limit if lane.urgent else min(limit, common)
                most = int(min(most, len(lane.ready), lane.room))
                # One that has nobody to share with need not come back for each part of its share.
                count = most if len(able) == 1 else min(most, lane.left)
                taken += [lane.ready.popleft() for _ in range(count)]
                lane.left = max(0, lane.left - count)
                lane.room -= count
                limit -= count
                common -= 0 if lane.urgent else count
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

    def entries(self) -> Iterable[Entry]:
        """All tasks that wait here: for their turn, or for their key."""
        for lane in self._lanes.values():
            yield from lane.ready
        for waiting in self._locks.values():
            yield from waiting or ()

    def withdraw(self, numbers: Container[int]) -> list[tuple[Entry, bool]]:
        """Takes these tasks out, each with whether it holds its key: that stays locked until `release`."""
        gone: list[tuple[Entry, bool]] = []
        for lane in self._lanes.values():
            gone += ((entry, True) for entry in lane.ready if entry.number in numbers)
            lane.ready = deque(entry for entry in lane.ready if entry.number not in numbers)
        for lock, waiting in self._locks.items():
            if waiting:
                gone += ((entry, False) for entry in waiting if entry.number in numbers)
                self._locks[lock] = deque(entry for entry in waiting if entry.number not in numbers)
        return gone

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

    def is_urgent(self, entry: Entry) -> bool:
        """Whether its lane is urgent."""
        return entry.lane in self.urgent

    def waiting(self) -> Iterable[tuple[str, int]]:
        """Each lane and how many tasks it has ready, for metrics."""
        return [(name, len(lane.ready)) for name, lane in self._lanes.items()]
