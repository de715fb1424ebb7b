"""Counters over the last minutes, in as much memory as the minutes ask for, whatever comes in. Pure.

Times are seconds since 1970, passed in. A moment that the window has left behind counts nowhere, and one
that is further ahead than a window belongs to a clock that is wrong, and counts nowhere either: else one
such record would wipe all others out.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

LEAST = 0.001
"""Seconds up to which durations are not told apart."""

STEPS = 4
"""Buckets for each doubling: a percentile is right to a fifth."""


def bucket_of(seconds: float) -> int:
    """The bucket of a duration; each holds what is up to a fifth longer than the one before."""
    return 0 if seconds <= LEAST else math.ceil(math.log2(seconds / LEAST) * STEPS - 1e-9)


def longest_in(bucket: int) -> float:
    """The longest duration that a bucket holds, in seconds."""
    return float(LEAST * 2 ** (bucket / STEPS))


def percentile(buckets: Counter[int], share: float) -> float | None:
    """The duration that this share of all is no longer than, rounded up to a bucket; None of nothing.

    Args:
        buckets: how many durations each bucket holds.
        share: from 0 to 1.
    """
    total = buckets.total()
    if not total:
        return None
    wanted = max(1, math.ceil(share * total - 1e-9))
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return longest_in(bucket)
    raise AssertionError("the last bucket holds the last one")


class Ring(Generic[T]):
    """What was counted in each of the last moments: `Counter`s that are forgotten one after the other.

    Args:
        slots: how many moments are kept.
        width: seconds in each.
    """

    def __init__(self, slots: int, width: float = 1.0) -> None:
        self.slots = slots
        self.width = width
        self._counts: list[Counter[T]] = [Counter() for _ in range(slots)]
        self._moments: list[int | None] = [None] * slots

    def add(self, at: float, what: T, now: float, count: int = 1) -> None:
        """Counts something that happened at `at`.

        Args:
            at: when.
            what: it.
            now: the time.
            count: how often.
        """
        moment, newest = int(at // self.width), int(now // self.width)
        if not newest - self.slots < moment <= newest + 1:
            return
        slot = moment % self.slots
        known = self._moments[slot]
        if known is not None and known > moment:
            return  # a clock that is ahead has the place
        if known != moment:
            self._moments[slot] = moment
            self._counts[slot] = Counter()
        self._counts[slot][what] += count

    def series(self, now: float) -> Iterator[tuple[float, Counter[T]]]:
        """Begin and counts of each moment, the oldest first; that of now, which is not over, is left out.

        Args:
            now: the time.
        """
        newest = int(now // self.width)
        for moment in range(newest - self.slots + 1, newest):
            slot = moment % self.slots
            known = self._moments[slot] == moment
            yield moment * self.width, self._counts[slot] if known else Counter()

    def total(self, now: float, seconds: float | None = None) -> Counter[T]:
        """The counts of the last seconds together, the present moment among them.

        Args:
            now: the time.
            seconds: how far back; None for all.
        """
        newest = int(now // self.width)
        kept = (
            self.slots
            if seconds is None
            else min(self.slots, max(1, math.ceil(seconds / self.width)))
        )
        summed: Counter[T] = Counter()
        for slot, moment in enumerate(self._moments):
            if moment is not None and newest - kept < moment <= newest + 1:
                summed.update(self._counts[slot])
        return summed
