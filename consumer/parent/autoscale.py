"""How many children the load asks for: pure, from what is busy and what waits.

Up quickly and by much, down slowly and by little: a child too many costs some memory, one too few costs
everybody's time. Two things keep the number from going to and fro: nothing is decided before the last
change has taken effect, and the way down asks what the highest load of the whole time before would need,
with room to spare.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from taskstream.core.errors import ConfigError

UP_AFTER = 2.0
"""Seconds that tasks must have waited for busy children before there are more of them."""

DOWN_AFTER = 30.0
"""Seconds that fewer children must have been enough before there are fewer."""

FILL = 0.7
"""The share of their slots that fewer children may fill at most."""


@dataclass(frozen=True, slots=True)
class Range:
    """How many children there may be.

    Args:
        least: 1 or more.
        most: at least `least`.
    """

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Reads "2,16".

        Raises:
            ConfigError: it is no such range.
        """
        least, comma, most = text.partition(",")
        if not (comma and least.strip().isdecimal() and most.strip().isdecimal()):
            raise ConfigError(f"--autoscale {text}: write LEAST,MOST, like 2,16")
        found = cls(int(least), int(most))
        if not 1 <= found.least <= found.most:
            raise ConfigError(f"--autoscale {text}: LEAST must be 1 or more, MOST not below it")
        return found

    def clamp(self, count: int) -> int:
        """The nearest number within."""
        return min(self.most, max(self.least, count))


@dataclass(frozen=True, slots=True)
class Load:
    """What one kind of children has to do.

    Args:
        slots: how many tasks they run at once, all together.
        busy: how many of these are taken.
        waiting: tasks that could run at once if there were slots.
    """

    slots: int
    busy: int
    waiting: int

    @property
    def pressed(self) -> bool:
        """Whether tasks wait because all slots are taken."""
        return self.waiting > 0 and self.busy >= self.slots

    @property
    def share(self) -> float:
        """The share of the slots that is asked for."""
        return (self.busy + self.waiting) / self.slots if self.slots else 0.0


class Autoscale:
    """Decides; holds the number that is wanted. Times are monotonic seconds.

    Args:
        allowed: how many there may be; it begins with the least.
    """

    def __init__(self, allowed: Range) -> None:
        self._allowed = allowed
        self._pressed_since: float | None = None
        self._eased_since: float | None = None
        self._peak = 0.0
        self.wanted = allowed.least

    def observe(self, loads: Iterable[Load], *, settled: bool, now: float) -> int:
        """Takes a look at the load, about once a second; returns how many children are wanted.

        Args:
            loads: one for each kind of children.
            settled: whether there are as many children ready as are wanted.
            now: the time.
        """
        if not settled:
            self._pressed_since = self._eased_since = None
            return self.wanted
        listed = list(loads)
        self._up(any(load.pressed for load in listed), now)
        self._down(max((load.share for load in listed), default=0.0), now)
        return self.wanted

    def _up(self, pressed: bool, now: float) -> None:
        if not pressed:
            self._pressed_since = None
        elif self._pressed_since is None:
            self._pressed_since = now
        elif now - self._pressed_since >= UP_AFTER:
            self._change(self.wanted + max(1, self.wanted // 2))

    def _down(self, share: float, now: float) -> None:
        if self._needed(share) >= self.wanted:
            self._eased_since = None
            return
        if self._eased_since is None:
            self._eased_since, self._peak = now, 0.0
        self._peak = max(self._peak, share)
        if now - self._eased_since >= DOWN_AFTER:
            self._change(max(self._needed(self._peak), self.wanted - max(1, self.wanted // 4)))

    def _needed(self, share: float) -> int:
        """How many children would carry that share of the present slots with room to spare."""
        return self._allowed.clamp(math.ceil(round(share * self.wanted / FILL, 6)))

    def _change(self, wanted: int) -> None:
        self.wanted = self._allowed.clamp(wanted)
        self._pressed_since = self._eased_since = None
