"""Who runs next in a child, and how many at once: pure, of one runner.

Some slots are reserved: only urgent attempts may take them. Urgent ones go first, then those that must
start close to when they were given out (their rate is kept by that), then the rest in their order. So
that the rest moves whatever comes before it, every `PATIENCE`th attempt is the rest's, where a slot
is free for it.
"""

from collections import deque
from typing import Generic, TypeVar

from taskstream.consumer.pipe import Turn

Item = TypeVar("Item")

PATIENCE = 4
"""Of so many attempts one is of those that wait behind all others. The parent shares by weight; this
only keeps what it has given out from waiting for ever."""


class Line(Generic[Item]):
    """Attempts that wait for a slot. Not thread-safe.

    Args:
        slots: how many run at once.
        reserved: how many of them only urgent ones may take; below `slots`.

    Attributes:
        running: how many slots are taken.
    """

    def __init__(self, slots: int, reserved: int) -> None:
        self.slots = slots
        self._reserved = reserved
        self._waiting: tuple[deque[Item], ...] = tuple(deque() for _ in Turn)
        self._running = [0 for _ in Turn]
        self.running = 0
        self._passed = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting))

    def push(self, item: Item, turn: Turn) -> None:
        """Adds one that waits."""
        self._waiting[turn].append(item)

    def pop(self) -> Item | None:
        """The next one, which has a slot from now on; None where nobody waits who may have one."""
        if self.running >= self.slots:
            return None
        common = self.running - self._running[Turn.URGENT]
        turn = self._next(common_free=common < self.slots - self._reserved)
        if turn is None:
            return None
        self._passed = 0 if turn is Turn.COMMON else self._passed + 1
        self._running[turn] += 1
        self.running += 1
        return self._waiting[turn].popleft()

    def free(self, turn: Turn) -> None:
        """One that ran doesn't any more."""
        self._running[turn] -= 1
        self.running -= 1

    def _next(self, *, common_free: bool) -> Turn | None:
        order = _ALL if common_free else _URGENT
        if self._passed >= PATIENCE - 1:
            order = order[::-1]
        for turn in order:
            if self._waiting[turn]:
                return turn
        return None


_ALL = tuple(Turn)
_URGENT = (Turn.URGENT,)
