"""When a failed attempt is tried again: a frozen policy, and three words a task can raise.

Jitter is a function of (id, run, attempt), not of chance: a hand-off that a crash repeats is then
the same hand-off, due at the same instant. A policy is plain data, exceptions are known by name, so it
can be written into a header and read by a worker that has other code.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from taskstream.core.errors import ConfigError
from taskstream.core.tiers import LONGEST_DELAY

LONGEST_TEXT_BYTES = 1024
"""What a policy may take in a header."""

MOST_ATTEMPTS = 2**31 - 1
"""The largest number of attempts that rows and headers can hold."""


class Fatal(Exception):
    """Raised inside a task: give up now, no further attempt."""


class _Later(Exception):
    """What `RetryAfter` and `Snooze` have in common: when the task is to run again."""

    def __init__(self, seconds: float | datetime | str, message: str = "") -> None:
        super().__init__(seconds, message)
        self._moment = _moment(seconds)
        self.message = message

    def due(self, now: float) -> float:
        """When the task is to run again, seconds since 1970, within what a delay can be.

        Args:
            now: when it asked for it.
        """
        moment = self._moment
        wait = moment.timestamp() - now if isinstance(moment, datetime) else moment
        return now + (min(LONGEST_DELAY, max(0.0, wait)) if not math.isnan(wait) else 0.0)

    def __str__(self) -> str:
        moment = self._moment
        when = f"at {moment}" if isinstance(moment, datetime) else f"{self._word} {moment:g} s"
        return self.message or f"{self._verb} {when}"

    _verb = ""
    _word = ""


class RetryAfter(_Later):
    """Raised inside a task: it failed, and is tried again then; counts as an attempt.

    Args:
        seconds: how long from now, or an aware datetime, or what an HTTP `Retry-After` header says,
            in either of its forms.
        message: why; shown as the attempt's error.

    Raises:
        ValueError: a datetime without a time zone, or a text that is neither.
    """

    _verb = "retry"
    _word = "after"


class Snooze(_Later):
    """Raised inside a task: it can't be done yet, and is run again then; doesn't count as an attempt.

    Args:
        seconds: as in `RetryAfter`.
        message: why.

    Raises:
        ValueError: as in `RetryAfter`.
    """

    _verb = "snooze"
    _word = "for"


def _moment(when: float | datetime | str) -> float | datetime:
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(f"{when.isoformat()}: a datetime needs a time zone")
        return when
    if not isinstance(when, str):
        return float(when)
    try:
        return float(when)
    except ValueError:
        pass
    # Here, for it loads half of the email package, which most tasks do without.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        at = parsedate_to_datetime(when)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"{when!r} is neither seconds nor a date as HTTP's Retry-After has them"
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)  # HTTP's dates are in GMT


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
        on: exceptions to retry on; empty means all.
        never: exceptions that end the task at once; they come before `on`.
        within: seconds after which no further attempt begins; None is no limit. They count from the
            publish, or from the due time of a delayed task, and anew from the end of a snooze.

    Exceptions are given by class or by name, and kept as names: the class's own, without its module. A
    base class covers what derives from it.

    Raises:
        ConfigError: a value that can't be meant; names the field.
    """

    attempts: int = 3
    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    jitter: bool = True
    delays: Sequence[float] = ()
    on: Sequence[type[BaseException] | str] = ()
    never: Sequence[type[BaseException] | str] = ()
    within: float | None = None

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if not isinstance(attempts, int) or not 1 <= attempts <= MOST_ATTEMPTS:
            raise ConfigError(
                f"Retry(attempts={self.attempts}): must be a whole number from 1 (the first run "
                f"counts) to {MOST_ATTEMPTS}"
            )
        for field in ("first", "factor", "longest"):
            _check_number(field, getattr(self, field))
        if self.longest > LONGEST_DELAY:
            raise ConfigError(
                f"Retry(longest={self.longest:g}): at most {LONGEST_DELAY:g} s, a year"
            )
        if self.within is not None:
            _check_number("within", self.within)
            if not self.within:
                raise ConfigError(
                    "Retry(within=0): must be above 0; attempts=1 is a single attempt"
                )
        object.__setattr__(self, "delays", _waits(self.delays))
        for field in ("on", "never"):
            object.__setattr__(self, field, _names(field, getattr(self, field)))

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
            return self.delays[min(number, len(self.delays)) - 1]
        try:
            bound = min(self.longest, self.first * self.factor ** (number - 1))
        except OverflowError:
            bound = self.longest
        return bound * _fraction(task_id, run, attempt) if self.jitter else bound

    def covers(self, error: BaseException) -> bool:
        """Whether this kind of error is tried again at all."""
        names = {kind.__name__ for kind in type(error).__mro__}
        if not names.isdisjoint(self.never):
            return False
        return not self.on or not names.isdisjoint(self.on)

    @property
    def text(self) -> str:
        """The policy as a header says it: `attempts=5; delays=1,5,30`. What is the default is left out."""
        return "; ".join(
            f"{field.name}={_TEXTS[field.name][0](value)}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        )

    @classmethod
    def parse(cls, text: str) -> "Retry":
        """The inverse of `text`; whatever it does not name has its default.

        Raises:
            ValueError: it has another form, an unknown word, or a value that can't be meant.
        """
        return _parsed(text)


@lru_cache(maxsize=1024)  # a publisher says the same in all its tasks
def _parsed(text: str) -> Retry:
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > LONGEST_TEXT_BYTES:
        raise ValueError(f"{size_bytes} bytes, and at most {LONGEST_TEXT_BYTES} are read")
    told: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in _TEXTS:
            raise ValueError(f"{part!r} is none of {', '.join(_TEXTS)}, each with = and a value")
        told[name] = _TEXTS[name][1](value)
    try:
        return Retry(**told)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _fraction(task_id: str, run: int, attempt: int) -> float:
    digest = hashlib.blake2b(f"{task_id}/{run}/{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _check_number(field: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(f"Retry({field}={value}): must be a number, and not negative")


def _waits(delays: Sequence[float]) -> tuple[float, ...]:
    if isinstance(delays, (int, float, str)):
        raise ConfigError(f"Retry(delays={delays!r}): give a list of waits in seconds")
    for wait in delays:
        _check_number("delays", wait)
        if wait > LONGEST_DELAY:
            raise ConfigError(f"Retry(delays={wait:g}): at most {LONGEST_DELAY:g} s, a year")
    return tuple(map(float, delays))


def _names(field: str, kinds: Sequence[type[BaseException] | str]) -> tuple[str, ...]:
    if isinstance(kinds, (str, type)):
        raise ConfigError(f"Retry({field}={_shown(kinds)}): give a list of exceptions")
    names = tuple(map(_name, kinds))
    for kind, name in zip(kinds, names, strict=True):
        if not name.isidentifier():
            raise ConfigError(
                f"Retry({field}={_shown(kind)}): must be an exception class or its name, which is told "
                "without its module"
            )
    return names


def _name(kind: object) -> str:
    """The name of an exception; empty where it is none."""
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind.__name__
    return kind if isinstance(kind, str) else ""


def _shown(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else repr(kind)


def _tell_number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _tell_list(values: Sequence[object]) -> str:
    return ",".join(
        _tell_number(value) if isinstance(value, float) else str(value) for value in values
    )


def _read_flag(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError(f"jitter={text!r}: must be 0 or 1")
    return text == "1"


def _read_list(text: str) -> list[str]:
    return [one.strip() for one in text.split(",")] if text else []


# How each field is told in a header, and read from there, in their order.
_TEXTS: dict[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "attempts": (str, int),
    "first": (_tell_number, float),
    "factor": (_tell_number, float),
    "longest": (_tell_number, float),
    "jitter": (lambda value: "1" if value else "0", _read_flag),
    "delays": (_tell_list, lambda text: [float(one) for one in _read_list(text)]),
    "on": (_tell_list, _read_list),
    "never": (_tell_list, _read_list),
    "within": (_tell_number, float),
}


NO_RETRY = Retry(attempts=1)
"""What `retry=None` means."""
