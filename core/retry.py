"""When a failed attempt is tried again: a frozen policy, and three words a task can raise.

Jitter is a function of (id, run, attempt), not of chance: a hand-off that a crash repeats is then
the same hand-off, due at the same instant.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from taskstream.core.errors import ConfigError
from taskstream.core.tiers import LONGEST_DELAY


class Fatal(Exception):
    """Raised inside a task: give up now, no further attempt."""


class RetryAfter(Exception):
    """Raised inside a task: try again in `seconds`; counts as an attempt."""

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"retry after {seconds:g} s")
        self.seconds = seconds


class Snooze(Exception):
    """Raised inside a task: run it again in `seconds`; doesn't count as an attempt."""

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"snooze for {seconds:g} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when a failed task is tried again.

    Full jitter: the wait before attempt n+1 is between 0 and `first * factor**(n-1)` seconds, at
    most `longest`. (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)

    Args:
        attempts: how many runs at most, the first included.
        first: seconds, the upper bound of the first wait.
        factor: by which the bound grows with each attempt.
        longest: seconds, where it stops growing.
        jitter: whether to spread the waits; without it the bound itself is waited.
        delays: exact waits in seconds instead of the three above; the last one repeats.
        on: exception class names to retry on; empty means all.
        never: exception class names that end the task at once.

    Exceptions are given by class or by name; a base class covers what derives from it.
    """

    attempts: int = 3
    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    jitter: bool = True
    delays: Sequence[float] = ()
    on: Sequence[type[BaseException] | str] = ()
    never: Sequence[type[BaseException] | str] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(
                f"Retry(attempts={self.attempts}): must be 1 or more (the first run counts)"
            )
        for field in ("first", "factor", "longest"):
            if not getattr(self, field) >= 0:
                raise ConfigError(f"Retry({field}={getattr(self, field)}): must not be negative")
        if self.longest > LONGEST_DELAY:
            raise ConfigError(
                f"Retry(longest={self.longest:g}): at most {LONGEST_DELAY:g} s, a year"
            )

    def wait(self, task_id: str, run: int, attempt: int, counted: int | None = None) -> float:
        """Seconds between a failed attempt and the next one.

        Args:
            task_id: of the attempt's identity, which its jitter follows from.
            run: likewise.
            attempt: likewise; 1 is the first.
            counted: which attempt it is in the eyes of the policy, 1 being the first; `attempt`
                unless given.
        """
        number = attempt if counted is None else counted
        if self.delays:
            return float(self.delays[min(number, len(self.delays)) - 1])
        try:
            bound = min(self.longest, self.first * self.factor ** (number - 1))
        except OverflowError:
            bound = self.longest
        return bound * _fraction(task_id, run, attempt) if self.jitter else bound

    def covers(self, error: BaseException) -> bool:
        """Whether this kind of error is tried again at all."""
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {_name(kind) for kind in self.never}:
            return False
        return not self.on or bool(names & {_name(kind) for kind in self.on})


NO_RETRY = Retry(attempts=1)
"""What `retry=None` means."""


def _fraction(task_id: str, run: int, attempt: int) -> float:
    digest = hashlib.blake2b(f"{task_id}/{run}/{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _name(kind: type[BaseException] | str) -> str:
    return kind if isinstance(kind, str) else kind.__name__
