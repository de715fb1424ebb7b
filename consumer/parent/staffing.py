"""How many children there should be, and which come and go for it: pure, values in and values out.

A worker gets more children or fewer while it runs, and replaces those that are worn: they have run as
many tasks, or grown as large, as they may. The rule that keeps its capacity: nobody leaves before enough
others are ready. A child that leaves finishes what it holds first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from taskstream.core.errors import ConfigError

WARM = 60.0
"""Seconds that a solo child without work stays, in case more comes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may do and be before it is replaced. None is no limit.

    Args:
        tasks: how many tasks it may finish.
        memory_bytes: how large its resident memory may be.
    """

    tasks: int | None = None
    memory_bytes: int | None = None

    def worn(self, finished: int, rss_bytes: int | None) -> bool:
        """Whether a child is to be replaced.

        One that has finished nothing yet never is, or a limit below the size of the app itself would
        start children for ever, and run nothing.

        Args:
            finished: tasks that it has finished.
            rss_bytes: its resident memory; None where it has not said.
        """
        if finished == 0:
            return False
        if self.tasks is not None and finished >= self.tasks:
            return True
        return (
            self.memory_bytes is not None
            and rss_bytes is not None
            and rss_bytes > self.memory_bytes
        )


UNLIMITED = Limits()


def size_bytes(text: str) -> int:
    """Reads a size: "512M", "2G", "64K", or plain bytes.

    Raises:
        ConfigError: it is none.
    """
    read = re.fullmatch(r"(\d+)([KMG]?)", text.strip().upper())
    if read is None or int(read[1]) == 0:
        raise ConfigError(
            f"{text!r} is no size: write bytes, or a number with K, M or G, like 512M"
        )
    return int(read[1]) << 10 * " KMG".index(read[2] or " ")


@dataclass(frozen=True, slots=True)
class Member:
    """A child that takes tasks, or is about to.

    Args:
        number: which one.
        ready: whether it has said hello.
        worn: whether it is to be replaced.
        held: how many tasks it holds.
    """

    number: int
    ready: bool
    worn: bool
    held: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do now.

    Args:
        start: how many children to start.
        leave: the numbers of those that take no more tasks, and go when they have none left.
    """

    start: int
    leave: tuple[int, ...]


def changes(members: Iterable[Member], wanted: int) -> Changes:
    """What leads from the children there are to those wanted.

    The worn are replaced one after the other, so that there is never more than one above the number
    wanted. Among the others the least busy ones leave.
    """
    here = list(members)
    start = max(0, wanted - len(here))
    if len(here) == wanted and any(member.worn for member in here):
        start = 1
    ready = [member for member in here if member.ready]
    ready.sort(key=lambda member: (not member.worn, member.held))
    spare = max(0, len(ready) - wanted)
    return Changes(start, tuple(member.number for member in ready[:spare]))


def solo_wanted(*, waiting: int, busy: int, warm: int, most: int, reserved: int = 0) -> int:
    """How many solo children are wanted: as many as there is work for, and those used lately.

    Args:
        waiting: tasks that wait for a child of their own.
        busy: solo children that have one.
        warm: solo children that had one within `WARM` seconds, the busy ones among them.
        most: how many there may be.
        reserved: how many more, as long as there are any: only urgent tasks get them.
    """
    wanted = min(most, max(waiting + busy, warm))
    return wanted + reserved if wanted else 0
