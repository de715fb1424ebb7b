"""How much of a task may run: two frozen limits, each with the scope that it holds for.

A plain value stands for the common case: `concurrency=10` and `rate="100/m"` hold across all workers
of the group.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from taskstream.core.errors import ConfigError
from taskstream.core.tiers import DAY, HOUR, MINUTE

ConcurrencyScope = Literal["group", "worker"]
RateScope = Literal["group", "worker", "key"]

LONGEST_PERIOD = DAY
"""Seconds: a rate over more than a day would forget itself at every deploy."""

_UNITS = {"s": 1.0, "m": MINUTE, "h": HOUR, "d": DAY}
_RATE = re.compile(r"^(\d+)/([smhd])$")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many of a task may run at once.

    Args:
        limit: how many, 1 or more.
        scope: "group": all workers of a consumer group together, each having the share of the
            partitions that it owns; "worker": each worker by itself.
    """

    limit: int
    scope: ConcurrencyScope = "group"

    def __post_init__(self) -> None:
        _check_limit(self, self.limit)
        if self.scope not in get_args(ConcurrencyScope):
            raise ConfigError(
                f'{self}: scope must be "group" or "worker"'
                " (tasks of one key run one at a time as it is)"
            )


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of a task may start in any `period`, spread over it.

    Args:
        limit: how many, 1 or more.
        period: seconds, up to a day.
        scope: "group" and "worker" as in `Concurrency`; "key": each ordering key by itself.
    """

    limit: int
    period: float = 1.0
    scope: RateScope = "group"

    def __post_init__(self) -> None:
        _check_limit(self, self.limit)
        if not 0 < self.period <= LONGEST_PERIOD:
            raise ConfigError(f"{self}: period must be above 0 and at most {LONGEST_PERIOD:g} s")
        if self.scope not in get_args(RateScope):
            raise ConfigError(f'{self}: scope must be "group", "worker" or "key"')

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """The rate that "100/m" means: so many a second, minute, hour or day (s, m, h, d).

        Raises:
            ConfigError: it means none.
        """
        found = _RATE.match(text)
        if found is None:
            raise ConfigError(
                f'rate {text!r}: write "100/m" (s, m, h or d), or Rate(100, period=60.0)'
            )
        return cls(int(found[1]), _UNITS[found[2]])


L = TypeVar("L")

ConcurrencyLike = int | Concurrency | Sequence[Concurrency] | None
"""What `@app.task(concurrency=...)` takes: a number for the whole group, or one limit, or several."""

RateLike = int | str | Rate | Sequence[Rate] | None
"""What `@app.task(rate=...)` takes: a number (a second) or "100/m" for the whole group, or limits."""


def concurrencies(given: ConcurrencyLike) -> tuple[Concurrency, ...]:
    """The limits that a definition's `concurrency=` means. Raises ConfigError."""
    return _limits(
        "concurrency", Concurrency(given) if isinstance(given, int) else given, Concurrency
    )


def rates(given: RateLike) -> tuple[Rate, ...]:
    """The limits that a definition's `rate=` means. Raises ConfigError."""
    if isinstance(given, str):
        return (Rate.parse(given),)
    return _limits("rate", Rate(given) if isinstance(given, int) else given, Rate)


def share(limit: int, partitions: Sequence[int], count: int) -> int:
    """What the owner of some partitions may use of a group's limit.

    The shares of all partitions add up to the limit exactly, so nobody has to be asked.

    Args:
        limit: the group's.
        partitions: those that are owned.
        count: how many the topic has. Where it is more than the limit, which is refused for a task's
            own queue, each has one: what a publish sent to another queue must not stand still.
    """
    each, left = divmod(limit, count)
    return sum(max(1, each + (partition < left)) for partition in partitions)


def refuse_unshareable(task: str, limits: Sequence[Concurrency | Rate], count: int) -> None:
    """Refuses group limits that leave one of `count` partitions without a share.

    Raises:
        ConfigError: names the task and the limit, and says what to do.
    """
    for limit in limits:
        if limit.scope == "group" and limit.limit < count:
            raise ConfigError(
                f"task {task}: {limit} can't be shared by {count} partitions, of which each needs 1 at "
                f"least. Move the task to a queue of {limit.limit} or fewer, "
                f'App(queues={{..., "few": Queue(partitions={limit.limit})}}), raise the limit, or give '
                "it another scope"
            )


def _limits(option: str, given: object, kind: type[L]) -> tuple[L, ...]:
    if given is None:
        return ()
    found = given if isinstance(given, Sequence) else (given,)
    for limit in found:
        if not isinstance(limit, kind):
            raise ConfigError(
                f"{option}={given!r}: give a whole number, a {kind.__name__}, or a list of these"
            )
    return tuple(found)


def _check_limit(which: Concurrency | Rate, limit: object) -> None:
    if type(limit) is not int or limit < 1:
        raise ConfigError(f"{which}: limit must be a whole number of 1 or more")
