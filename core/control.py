"""What people order while tasks run, and what of it still holds: pure.

Orders stand in the compacted control topic, which workers and schedulers follow from its beginning.
The last order on a key counts, and a tombstone takes it back. So the same orders hold for everybody who
has read to the same place, however often he started over.

Cancels may be many, and every one of them ends: its task's owner takes it back at the task's final
state; one whose task nobody ever sees falls out by age, when no record of the task can be left. The
other orders are few, and hold until they are taken back: whoever they concern says them again before
they would fall out. (But for a purge: like a cancel it has nothing left to do by then.)
"""

from collections import Counter
from dataclasses import dataclass, replace
from hashlib import blake2b

from taskstream.core.queue_orders import (
    DRAIN,
    HOLDING,
    NO_ORDERS,
    PAUSE,
    PURGE,
    QueueOrder,
    QueueOrders,
    is_queue_order,
)
from taskstream.core.tiers import TIERS

CANCEL = "cancel"
SCALE = "scale"

EVERYBODY = "*"
"""The target of an order to all workers."""

_GENERATIONS = 16
"""In how many steps a lifetime's cancels fall out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order. Who does not know its verb passes it over.

    Args:
        verb: what is wanted.
        target: of what or whom.
        number: how much of it; None where the verb needs none.
        at: when it was given, seconds since 1970.
        who: who gave it.
        reason: why; empty where nobody said.
        since: when it was first appended, where it is said again; None the first time.
    """

    verb: str
    target: str
    number: float | None = None
    at: float
    who: str
    reason: str = ""
    since: float | None = None

    @property
    def key(self) -> bytes:
        """The key of its record: a later order on the same replaces it."""
        return f"{self.verb}/{self.target}".encode()


def lifetime(retention: float) -> float:
    """For how many seconds an order stays in the topic, where nobody takes it back.

    A cancelled task can't be left by then: its record stays in the largest delay tier for its span and
    the retention where no scheduler runs, then at home for the retention again where no worker does.

    Args:
        retention: how long task topics keep records, in seconds.
    """
    return TIERS[-1] + 2 * retention


def run_of(task_id: str, run: int) -> str:
    """The target of a cancel: one run of a task, so that a later redrive is another matter."""
    return f"{task_id}/{run}"


def cancel_key(task_id: str, run: int) -> bytes:
    """The key of a cancel's record."""
    return f"{CANCEL}/{run_of(task_id, run)}".encode()


class Control:
    """The orders that hold. Not thread-safe.

    Args:
        lifetime: for how many seconds an order holds that nobody takes back or says again.

    Attributes:
        queues: those about queues and tasks; another value after each change of them.
    """

    def __init__(self, lifetime: float) -> None:
        self.queues = NO_ORDERS
        self._lifetime = lifetime
        self._step = lifetime / _GENERATIONS
        self._cancelled: dict[int, Digests] = {}
        self._standing: dict[bytes, tuple[Order, float]] = {}
        """By key, the order and when it was said last."""

    def give(self, order: Order, at: float) -> None:
        """Takes an order in.

        Args:
            order: the order.
            at: when its record was appended to the topic, seconds since 1970.
        """
        if order.verb == CANCEL:
            self.take_back(order.key)
            self._cancelled.setdefault(int(at / self._step), Digests()).add(_digest(order.key))
        else:
            # Taken out first: the order of a dict is that in which its keys came.
            self._standing.pop(order.key, None)
            self._standing[order.key] = (order, at)
            self._note_change(order)

    def take_back(self, key: bytes) -> None:
        """Forgets the order on that key; harmless where there is none."""
        gone = self._standing.pop(key, None)
        if gone is not None:
            self._note_change(gone[0])
        if not self._cancelled:
            return
        digest = _digest(key)
        for generation, digests in list(self._cancelled.items()):
            digests.discard(digest)
            if not digests:
                del self._cancelled[generation]

    def expire(self, now: float) -> None:
        """Forgets what is older than a lifetime, give or take a step; `now` in seconds since 1970."""
        oldest = int((now - self._lifetime) / self._step)
        for generation in [one for one in self._cancelled if one < oldest]:
            del self._cancelled[generation]
        for key, (order, at) in list(self._standing.items()):
            if at < now - self._lifetime:
                del self._standing[key]
                self._note_change(order)

    @property
    def cancels_any(self) -> bool:
        """Whether any cancel is outstanding: the look that spares all others, nearly always."""
        return bool(self._cancelled)

    @property
    def cancels(self) -> int:
        """How many cancels are outstanding."""
        return sum(map(len, self._cancelled.values()))

    @property
    def in_force(self) -> dict[str, int]:
        """How many orders hold, by verb; any thread may ask."""
        standing = Counter(order.verb for order, _ in list(self._standing.values()))
        cancels = sum(len(digests) for digests in list(self._cancelled.values()))
        return {**dict.fromkeys((PAUSE, DRAIN, PURGE, SCALE), 0), **standing, CANCEL: cancels}

    def is_cancelled(self, task_id: str, run: int) -> bool:
        """Whether that run of the task must not go on."""
        if not self._cancelled:
            return False
        digest = _digest(cancel_key(task_id, run))
        return any(digest in digests for digests in self._cancelled.values())

    def scale_of(self, worker: str) -> int | None:
        """How many children that worker is to have by the last order to it or to all; None by none."""
        numbers = [order.number for order in self.orders_to(worker) if order.verb == SCALE]
        return int(numbers[-1]) if numbers and numbers[-1] is not None else None

    def fading(self, worker: str, now: float) -> list[Order]:
        """The orders to that worker, or to all, that must be said again to stay in the topic.

        Those that hold queues and tasks back concern all. They keep the moment since which they hold.
        """
        old = [one for one in self._standing.values() if one[1] < now - self._lifetime / 2]
        return [
            replace(order, since=_since(order, at)) if _holds_back(order) else order
            for order, at in old
            if _holds_back(order) or order.target in (worker, EVERYBODY)
        ]

    def orders_to(self, worker: str) -> list[Order]:
        """What holds for that worker, or for all workers, beside cancels; oldest first."""
        return [
            order for order, _ in self._standing.values() if order.target in (worker, EVERYBODY)
        ]

    def _note_change(self, order: Order) -> None:
        """Makes `queues` anew after a change of such an order; they are few."""
        if is_queue_order(order.verb, order.target):
            self.queues = QueueOrders(
                QueueOrder(one.verb, one.target, _since(one, at), one.who, one.reason)
                for one, at in self._standing.values()
                if is_queue_order(one.verb, one.target)
            )


def _holds_back(order: Order) -> bool:
    return order.verb in HOLDING and is_queue_order(order.verb, order.target)


def _since(order: Order, said_at: float) -> float:
    """Since when an order holds: when it was appended the first time."""
    return said_at if order.since is None else order.since


class Digests:
    """A set of digests of 16 bytes, in some 20 bytes each, where a `set` takes 100.

    They stand packed on shelves by their first 12 bits; a shelf is searched as one piece of bytes.
    """

    def __init__(self) -> None:
        self._shelves: dict[int, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: bytes) -> bool:
        shelf = self._shelves.get(_shelf_of(digest))
        return shelf is not None and _place(shelf, digest) >= 0

    def add(self, digest: bytes) -> None:
        """Puts one in; harmless to repeat."""
        shelf = self._shelves.setdefault(_shelf_of(digest), bytearray())
        if _place(shelf, digest) < 0:
            shelf += digest
            self._count += 1

    def discard(self, digest: bytes) -> None:
        """Takes one out, if it is in."""
        number = _shelf_of(digest)
        shelf = self._shelves.get(number, bytearray())
        place = _place(shelf, digest)
        if place < 0:
            return
        del shelf[place : place + len(digest)]
        self._count -= 1
        if not shelf:
            del self._shelves[number]


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=16).digest()


def _shelf_of(digest: bytes) -> int:
    return digest[0] << 4 | digest[1] >> 4


def _place(shelf: bytearray, digest: bytes) -> int:
    """Where on the shelf a digest begins; -1 if it isn't there."""
    place = shelf.find(digest)
    while place > 0 and place % len(
        digest
    ):  # the end of one and the start of the next look like it
        place = shelf.find(digest, place + 1)
    return place
