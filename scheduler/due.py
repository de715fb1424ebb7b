"""When a waiting record moves, and where to: pure.

A record waits in a tier until what is left of its time fits a smaller one, or until it is due.
Within a tier the wait is a place in a heap, not a paused partition: pausing and resuming was
measured to be late by up to 400 ms, a heap by less than one.

What is due goes first, whatever else there is to do: hops to smaller tiers, which nobody waits for, are made
some at a time in between, those that are due soonest first. One that is due before its hop was made needs
none.

The heap is bounded, whatever waits: each partition has a share of it, can borrow more while there is, and
is paused when both are used up. That makes nothing late in a tier with a span, whose records leave in the
order in which they came, but for half a second: those that are read are the next to leave, and half a share
is left of them when reading goes on. In the tier of span 0 they leave in any order, so its share is the
largest; with more waiting in it than that and the half that can be borrowed, some are late.
"""

import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import count
from sys import intern
from typing import Any, NamedTuple

from taskstream.broker.records import Record
from taskstream.core.control import run_of
from taskstream.core.envelope import COMMON_HEADERS, Header, Place, Stay, standing
from taskstream.core.names import Names
from taskstream.core.queue_orders import QueueOrders
from taskstream.core.tiers import SHORTEST_HOP, TIERS, leaves_tier_at, tier_for

HEAP_RECORDS = 100_000
"""How many records may wait in the heap; each takes some 1.5 KB beside what the task's arguments take."""

HEAP_BYTES = 64 * 1024 * 1024
"""How many bytes these records may have, but for those of one more read."""

TAKE_RECORDS = 250
"""How many records are read at once, at most."""

AHEAD = 3.0
"""Seconds that a partition needs to be read ahead, to the record that leaves it last."""

SHARED_HEADERS = 10_000
"""How many headers are kept to be shared, before the keeping begins anew."""

HOPS = 100
"""How many hops are made before what has become due meanwhile has its turn."""


class Move(NamedTuple):
    """Where a record goes next.

    Args:
        topic: the next topic.
        partition: its partition; None where the key decides.
        home: whether it is due, and goes to its task topic.
    """

    topic: str
    partition: int | None
    home: bool


def next_move(waiting: "Waiting", names: Names, now: float) -> Move:
    """The next stop of a record that leaves its tier.

    Args:
        waiting: the record; its `home` must be known.
        names: the app's topics.
        now: seconds since 1970.
    """
    assert waiting.home is not None
    if waiting.cancelled or waiting.due <= now:
        return Move(waiting.home.topic, waiting.home.partition, home=True)
    return Move(names.delay(tier_for(waiting.due - now)), None, home=False)


def is_free(record: Record, home: Place | None, orders: QueueOrders, names: Names) -> bool:
    """Whether a record need not wait for its time, by the orders about queues and tasks.

    A purged task is only to be recorded; and one that was deferred because an order held it back is free
    when none does any more.

    Args:
        record: the record as it waits.
        home: where it goes in the end; None where it doesn't say.
        orders: those that hold.
        names: the app's topics.
    """
    if home is None:
        return False
    told = standing(record.headers, record.timestamp)
    what = (names.lane(home.topic), told.task, told.entered)
    if orders.any and orders.purge_of(*what) is not None:
        return True
    return told.deferred and not orders.holds_back(*what)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record in the heap. Times are seconds since 1970.

    Args:
        number: the order of arrival, for equal times.
        record: as it was delivered.
        epoch: the assignment of its partition; fences what an earlier one left behind.
        home: where it goes in the end; None where its headers can't be read.
        due: not to be run before.
        cancelled: whether it goes home at once, to be recorded as cancelled.
        homeless: since when Kafka has known no such topic or partition as its next stop; 0 where it
            has not said so.
        refused: why it can't be moved on, and goes to the dead letters instead; empty where it can.
    """

    number: int
    record: Record
    epoch: int
    home: Place | None = None
    due: float = 0.0
    cancelled: bool = False
    homeless: float = 0.0
    refused: str = ""

    def may_leave(self, now: float) -> bool:
        """Whether its time in the delay topics is over."""
        return self.due <= now or self.cancelled


class Slim:
    """Lets records share what they have in common: names of headers, and values that many tasks have.

    Each record that is read brings its own copies, and half of what it takes in memory is these.
    """

    def __init__(self) -> None:
        self._known: dict[Header, Header] = {}

    def __call__(self, record: Record) -> Record:
        """The same record, with less of its own."""
        if len(self._known) > SHARED_HEADERS:
            self._known.clear()
        share = self._known.setdefault
        headers = tuple(
            share(header, header) if header[0] in COMMON_HEADERS else (intern(header[0]), header[1])
            for header in record.headers
        )
        return record._replace(topic=intern(record.topic), headers=headers)


class Heap:
    """The records that wait here, the next one first. Not thread-safe."""

    def __init__(self) -> None:
        # By when they leave their tier, and, of those whose tier is over and that have yet to hop, by
        # when they are due. Tuples, because a heap compares its items a dozen times for each.
        self._waiting: list[tuple[float, int, Waiting]] = []
        self._hopping: list[tuple[float, int, Waiting]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._hopping)

    def push(
        self,
        record: Record,
        stay: Stay,
        *,
        span: float,
        epoch: int,
        now: float,
        cancelled: bool = False,
    ) -> None:
        """Lets a record that was read `now` wait in a tier of `span` seconds; a cancelled one moves at once."""
        moves_at = 0.0 if cancelled else leaves_tier_at(span, record.timestamp, stay.due, now)
        waiting = Waiting(next(self._numbers), record, epoch, stay.home, stay.due, cancelled)
        heapq.heappush(self._waiting, (moves_at, waiting.number, waiting))

    def push_refused(self, record: Record, why: str, *, epoch: int) -> None:
        """Lets a record that has no way home move to the dead letters at once."""
        waiting = Waiting(next(self._numbers), record, epoch, refused=why)
        heapq.heappush(self._waiting, (0.0, waiting.number, waiting))

    def hurry(self, cancelled: Collection[str]) -> None:
        """Lets cancelled tasks move at once.

        Args:
            cancelled: the runs of tasks, as `core.control.run_of` names them.
        """
        self._let_go(lambda one: run_of(*one.record.identity) in cancelled, cancelled=True)

    def free(self, is_free: Callable[[Record, Place | None], bool]) -> None:
        """Lets those go home now that need not wait for their time; see `is_free`.

        Args:
            is_free: tells them, from the record and where it goes in the end.
        """
        self._let_go(lambda one: is_free(one.record, one.home), due=0.0)

    def _let_go(self, meant: Callable[[Waiting], bool], **change: Any) -> None:
        """Lets those that are meant move at once, with that change."""
        hurried = [item for item in (*self._waiting, *self._hopping) if meant(item[2])]
        if not hurried:
            return
        numbers = {number for _, number, _ in hurried}
        self._keep(lambda waiting: waiting.number not in numbers)
        for _, number, waiting in hurried:
            heapq.heappush(self._waiting, (0.0, number, replace(waiting, **change)))

    def pop_due(self, now: float, hops: int = HOPS) -> list[Waiting]:
        """Takes out what moves now: all that goes home, and then some that hop.

        Args:
            now: seconds since 1970.
            hops: how many hop at most; the others have their turn with the next call.
        """
        leaving: list[Waiting] = []
        while self._waiting and self._waiting[0][0] <= now:
            waiting = heapq.heappop(self._waiting)[2]
            if waiting.may_leave(now):
                leaving.append(waiting)
            else:
                heapq.heappush(self._hopping, (waiting.due, waiting.number, waiting))
        while self._hopping and hops:
            due, number, waiting = heapq.heappop(self._hopping)
            if waiting.may_leave(now):
                leaving.append(waiting)
            elif due - now < SHORTEST_HOP:
                heapq.heappush(self._waiting, (due, number, waiting))
            else:
                leaving.append(waiting)
                hops -= 1
        return leaving

    @property
    def next_at(self) -> float | None:
        """When something moves next, seconds since 1970, or 0 for now; None if nothing waits."""
        if self._hopping:
            return 0.0
        return self._waiting[0][0] if self._waiting else None

    def drop(self, places: Collection[Place]) -> None:
        """Forgets what waits in partitions that are not ours any more."""
        self._keep(
            lambda waiting: Place(waiting.record.topic, waiting.record.partition) not in places
        )

    def _keep(self, wanted: Callable[[Waiting], bool]) -> None:
        self._waiting = [item for item in self._waiting if wanted(item[2])]
        self._hopping = [item for item in self._hopping if wanted(item[2])]
        heapq.heapify(self._waiting)
        heapq.heapify(self._hopping)


@dataclass(frozen=True, slots=True)
class Load:
    """Records of one partition: those in hand, read and not yet moved, or how many may be.

    Args:
        records: how many.
        size_bytes: their bytes.
    """

    records: int
    size_bytes: int

    def beyond(self, own: "Load") -> "Load":
        """What of this is more than `own`."""
        return Load(max(0, self.records - own.records), max(0, self.size_bytes - own.size_bytes))

    def reaches(self, limit: "Load", *, part: float = 1.0) -> bool:
        """Whether in either respect this is so large a part of the limit."""
        return self.records >= limit.records * part or self.size_bytes >= limit.size_bytes * part


COMMON = Load(HEAP_RECORDS // 2, HEAP_BYTES // 2)
"""The half of the heap that is shared out to nobody: whoever has more to read than its own borrows it."""


def shares(spans: Mapping[Place, float]) -> dict[Place, Load]:
    """What of the heap is each partition's own, by the spans of their tiers.

    The shorter a tier's span, the more goes through it in a time: of each 25 parts those of span 0 have 9,
    the next two 6 and 3, the others one each. A share that shrinks, because partitions have come, holds for
    what is read from then on.
    """
    weights = {
        place: max(1, len(TIERS) - 1 - 3 * TIERS.index(span)) for place, span in spans.items()
    }
    whole = sum(weights.values())
    return {
        place: Load(
            max(1, (HEAP_RECORDS - COMMON.records) * weight // whole),
            max(1, (HEAP_BYTES - COMMON.size_bytes) * weight // whole),
        )
        for place, weight in weights.items()
    }


def take_limit(in_hand: Mapping[Place, Load], own: Mapping[Place, Load]) -> int:
    """How many records may be read at once: all of them may be of one partition, and be borrowed."""
    return max(1, min(TAKE_RECORDS, COMMON.records - _borrowed(in_hand, own).records))


def full(
    in_hand: Mapping[Place, Load],
    own: Mapping[Place, Load],
    paused: Collection[Place],
    far: Collection[Place] = (),
) -> set[Place]:
    """The partitions of which nothing more may be read.

    Each that has its own share in hand, while what all have borrowed is all there is to borrow, or half of it
    where what it would read next is not needed for some time. One that is paused goes on when half of either
    is free, because pausing throws away what was fetched.

    Args:
        in_hand: of each partition.
        own: its share.
        paused: of which nothing was read last.
        far: those that were read so far ahead that they leave the other half to who needs it sooner.
    """
    borrowed = _borrowed(in_hand, own)
    return {
        place
        for place, load in in_hand.items()
        if load.reaches(own[place], part=(part := 0.5 if place in paused else 1.0))
        and borrowed.reaches(COMMON, part=part / 2 if place in far else part)
    }


def _borrowed(in_hand: Mapping[Place, Load], own: Mapping[Place, Load]) -> Load:
    lent = [load.beyond(own[place]) for place, load in in_hand.items()]
    return Load(sum(one.records for one in lent), sum(one.size_bytes for one in lent))
