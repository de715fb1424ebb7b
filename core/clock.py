"""Time, passed in wherever it is read, so that tests can hold it still."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the code asks of time."""

    def now(self) -> float:
        """Seconds since 1970 in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since 1970 in UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told; for tests, ours and our users'."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since 1970 in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves both readings on."""
        self._now += seconds
        self._monotonic += seconds


SYSTEM_CLOCK = SystemClock()
"""The default wherever a clock can be passed in."""
