"""Which of many like log lines are written: the first ones, then now and then how often they came. Pure.

While a server is away, its client says so for each connection and each try. One such line tells as much as
a hundred; a hundred hide the one that says what to do.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

WINDOW = 30.0
"""Seconds from a line of a kind until it is told how many more of it came."""

KINDS = 500
"""How many kinds are remembered at most; with one more the oldest is told, and forgotten."""

_LIBRARIES = (
    "cassandra",
    "taskstream.kafka",
    "opentelemetry",
    "grpc",
    "httpx",
    "httpcore",
    "urllib3",
)
_FIRST_OF_LIBRARY = 1
_FIRST_OF_OURS = 5
_DIFFERS = re.compile(r"\[[^\]]*\]|\([^)]*\)|0x[0-9a-f]+|\d+")


class Kind(NamedTuple):
    """Lines that say the same.

    Args:
        logger: the logger's name.
        level: the level's number.
        text: what they say, without the numbers and the like in which they differ.
        first: how many are written before they are only counted.
    """

    logger: str
    level: int
    text: str
    first: int


def kind_of(logger: str, level: int, say: Callable[[], str]) -> Kind | None:
    """The kind of a line; None for one that is always written.

    Those are a user's own, debug lines, and what is rare by nature. Of libraries one line of a kind is
    enough. A warning of ours names the task it is about, so a few are written.

    Args:
        logger: the logger's name.
        level: the level's number.
        say: gives the line's text, which most lines are not asked for.
    """
    if level < logging.INFO:
        return None
    if _is_of(logger, _LIBRARIES):
        return Kind(logger, level, _DIFFERS.sub("", say())[:200], _FIRST_OF_LIBRARY)
    if level >= logging.WARNING and _is_of(logger, ("taskstream",)):
        return Kind(logger, level, say()[:200], _FIRST_OF_OURS)
    return None


def _is_of(logger: str, names: tuple[str, ...]) -> bool:
    return any(logger == name or logger.startswith(f"{name}.") for name in names)


class Summary(NamedTuple, Generic[T]):
    """What was not written of a kind.

    Args:
        last: the last line of it.
        times: how many there were.
        seconds: within how many seconds.
    """

    last: T
    times: int
    seconds: float


@dataclass(slots=True)
class _Seen(Generic[T]):
    since: float
    written: int = 0
    withheld: int = 0
    last: T | None = None


class Repeats(Generic[T]):
    """The kinds of lines seen lately. Not thread-safe: a handler holds its lock."""

    def __init__(self) -> None:
        self._seen: dict[Kind, _Seen[T]] = {}
        self._due_at = 0.0

    def admits(self, kind: Kind, keep: Callable[[], T], now: float) -> bool:
        """Whether a line is to be written now; else it is counted.

        Args:
            kind: its kind.
            keep: gives the line as it is to be kept, where it is counted.
            now: monotonic seconds.
        """
        seen = self._seen.get(kind)
        if seen is None:
            seen = self._seen[kind] = _Seen(now)
            self._due_at = min(self._due_at, now + WINDOW) if len(self._seen) > 1 else now + WINDOW
        if seen.written < kind.first:
            seen.written += 1
            return True
        seen.withheld += 1
        seen.last = keep()
        return False

    def rest(self, now: float) -> list[Summary[T]]:
        """What is left to be told of all kinds; all begin anew."""
        seen, self._seen = self._seen, {}
        return [
            Summary(one.last, one.withheld, now - one.since)
            for one in seen.values()
            if one.withheld and one.last is not None
        ]

    def due(self, now: float) -> list[Summary[T]]:
        """What is to be told by now of the kinds whose window is over; asked with every line.

        A kind of which nothing was withheld for a window begins anew.
        """
        if now < self._due_at and len(self._seen) <= KINDS:
            return []
        told: list[Summary[T]] = []
        for kind, seen in list(self._seen.items()):
            is_over = now - seen.since >= WINDOW
            if not is_over and len(self._seen) <= KINDS:
                continue
            del self._seen[kind]
            if seen.withheld and seen.last is not None:
                if is_over:  # it goes on: what comes next is only counted again
                    self._seen[kind] = _Seen(now, written=kind.first)
                told.append(Summary(seen.last, seen.withheld, now - seen.since))
        self._due_at = min((seen.since for seen in self._seen.values()), default=now) + WINDOW
        return told
