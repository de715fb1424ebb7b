"""Tasks that people's orders hold back: which of them wait here, and which are deferred: pure.

A task that is held back waits in its partition's window and takes no place of others: the rest of its
partition goes on past it. But the window is bounded, so only so many of a partition stay (`ASIDE_RECORDS`,
`ASIDE_BYTES`). What comes beyond is **deferred**: it goes through the delay topics and comes home when no
order holds it back any more, or later, to be weighed again. That is a move like the scheduler's, with no
row and no attempt: its identity stays, and a copy that a crash leaves behind is recognised at home.

Where a whole priority is paused nothing is deferred. There is nobody to go on past it: its intake fills
up and waits.

Never deferred is what would lose by it: a task in strict order, whose key's later tasks would overtake it;
a suspect, of which nobody would know at home that a process may have died of it; and what can't be read,
for its end is near anyway.
"""

from collections.abc import Callable, Collection, Iterable

from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.partitions import Partition
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.envelope import Place, read, standing
from taskstream.core.errors import Undecodable
from taskstream.core.queue_orders import NO_ORDERS, QueueOrder, QueueOrders

ASIDE_RECORDS = 100
"""How many held-back tasks of a partition may stay in its window."""

ASIDE_BYTES = 1024 * 1024
"""How many bytes they may hold together; a single larger one still stays, alone."""


class Aside:
    """The orders about queues and tasks, and the tasks that wait because of them. Not thread-safe.

    Args:
        strict: names of the tasks whose retries hold their key.

    Attributes:
        orders: those that hold.
        any: whether there are any: the look that spares all others, nearly always.
    """

    def __init__(self, strict: Collection[str]) -> None:
        self.orders: QueueOrders = NO_ORDERS
        self.any = False
        self._strict = strict
        self._entries: dict[int, Entry] = {}
        self._staying: dict[Place, dict[int, int]] = {}
        """Of each partition, the offsets of those that stay, and their bytes."""

    def obey(self, orders: QueueOrders) -> None:
        """Heeds these orders from now on; who stays is to be counted anew by `leaves`."""
        self.orders, self.any = orders, orders.any
        self._staying.clear()

    def purge_of(self, entry: Entry) -> QueueOrder | None:
        """The purge by which a task ends; None where it goes on."""
        if not self.any:
            return None
        return self.orders.purge_of(entry.lane, entry.task, _entered(entry))

    def holds_back(self, entry: Entry) -> bool:
        """Whether a task must not start now, unless it is to end."""
        return self.any and self.orders.holds_back(entry.lane, entry.task, _entered(entry))

    def keeps_room(self, entry: Entry) -> bool:
        """Whether a held-back task goes on counting as one that its intake has brought."""
        return self.orders.pauses(entry.lane)

    def leaves(self, entry: Entry, partition: Partition) -> bool:
        """Whether a held-back task is to be deferred; else it is counted among those that stay."""
        if not self._may_leave(entry):
            return False
        staying = self._staying.setdefault(entry.place, {})
        if entry.record.offset in staying:
            return False
        if _is_full(staying):
            # Some may be finished since: purged, cancelled.
            for offset in staying.keys() - partition.entries.keys():
                del staying[offset]
            if _is_full(staying):
                return True
        staying[entry.record.offset] = entry.record.size_bytes
        return False

    def _may_leave(self, entry: Entry) -> bool:
        if self.orders.pauses(entry.lane):
            return False
        if entry.task in self._strict or entry.suspicion is not Suspicion.NONE:
            return False
        try:
            read(entry.record.headers)
        except Undecodable:
            return False
        return True

    # Those whose turn has come

    def put(self, entry: Entry) -> None:
        """Keeps a task whose turn came while it is held back; it keeps its key."""
        self._entries[entry.number] = entry

    def waiting(self) -> Iterable[Entry]:
        """The tasks that are kept here."""
        return self._entries.values()

    def withdraw(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Takes out those of them that are wanted, in the order of their delivery."""
        gone = sorted(number for number, entry in self._entries.items() if wanted(entry))
        return [self._entries.pop(number) for number in gone]

    def drop(self, places: Collection[Place]) -> list[Entry]:
        """Takes out those of partitions that are not ours any more."""
        for place in places:
            self._staying.pop(place, None)
        return self.withdraw(lambda entry: entry.place in places)


def _is_full(staying: dict[int, int]) -> bool:
    return len(staying) >= ASIDE_RECORDS or sum(staying.values()) >= ASIDE_BYTES


def _entered(entry: Entry) -> float:
    """When its run entered; read from its record once, for it is asked again and again."""
    if entry.entered is None:
        record = entry.record
        entry.entered = standing(record.headers, record.timestamp).entered
    return entry.entered
