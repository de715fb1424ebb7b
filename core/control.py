"""What people order while tasks run, and what of it still holds: pure.

Orders stand in the compacted control topic, which workers and schedulers follow from its beginning.
The last order on a key counts, and a tombstone takes it back. So the same orders hold for everybody who
has read to the same place, however often he started over.

Cancels may be many, and every one of them ends: its task's owner takes it back at the task's final
state; one whose task nobody ever sees falls out by age, when no record of the task can be left. The
other orders are few, and hold until they are taken back: whoever they concern says them again before
they would fall out.
"""

from dataclasses import dataclass
from hashlib import blake2b

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
    """

    verb: str
    target: str
    number: float | None = None
    at: float
    who: str
    reason: str = ""

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
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._step = lifetime / _GENERATIONS
        self._cancelled: dict[int, Digests] = {}
        self._standing: dict[bytes, tuple[Order, float]] = {}

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

    def take_back(self, key: bytes) -> None:
        """Forgets the order on that key; harmless where there is none."""
        self._standing.pop(key, None)
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
        for key, (_, at) in list(self._standing.items()):
            if at < now - self._lifetime:
                del self._standing[key]

    @property
    def cancels_any(self) -> bool:
        """Whether any cancel is outstanding: the look that spares all others, nearly always."""
        return bool(self._cancelled)

    @property
    def cancels(self) -> int:
        """How many cancels are outstanding."""
        return sum(map(len, self._cancelled.values()))

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
        """The orders to that worker, or to all, that must be said again to stay in the topic."""
        said = {order.key: at for order, at in self._standing.values()}
        return [
            order for order in self.orders_to(worker) if said[order.key] < now - self._lifetime / 2
        ]

    def orders_to(self, worker: str) -> list[Order]:
        """What holds for that worker, or for all, beside cancels; oldest first."""
        return [
            order for order, _ in self._standing.values() if order.target in (worker, EVERYBODY)
        ]


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
