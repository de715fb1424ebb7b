"""A priority whose tasks only die is halted, instead of becoming dead letters: pure, from verdicts.

A bad deploy would move a whole queue into the dead-letter topic within minutes. So each priority has
a budget of deaths: a death takes one of it, a success gives `share / (1 - share)` back, and time gives
all of it back within an hour. Where it is used up the priority is halted, and one task is tried after a
pause that doubles with each try. From the first success on a few may run beside each other, twice as
many with each round of successes, until the budget is whole again and nothing is halted.

The budget is a priority's, not a task's: what can be halted is a topic, where a task put aside would soon
stand in front of all others. One broken task among many is no reason to stop them, and does not,
until it is more than `share` of what runs.

Invariants (`tests/unit/test_breaker.py`):
- it opens only where, over some stretch of verdicts, `limit` more died than `share` allows;
- however long everything dies, there die no more than `limit`, what was with the children then, and
  one for each pause;
- an open one tries for ever, whatever becomes of the tasks that it tried: nobody need help it on.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.pipe import Judged
from taskstream.consumer.verdict import Again, Dead, Verdict
from taskstream.core.clock import Clock
from taskstream.core.errors import ConfigError
from taskstream.core.states import State
from taskstream.observability import logs

FIRST_PAUSE = 5.0
"""Seconds until the first task is tried."""

LONGEST_PAUSE = 300.0
"""Seconds where the pause stops doubling."""

REGAINED_WITHIN = 3600.0
"""Seconds in which time alone gives the whole budget back: rare deaths never add up."""


_log = logs.logger(__name__)


class Change(StrEnum):
    """What a verdict has changed."""

    HALTED = "halted"
    """The budget is used up: nothing is given out but what is tried."""

    STILL_HALTED = "still halted"
    """What was tried failed, too."""

    EASED = "eased"
    """The first task that was tried succeeded: some may run."""

    CLOSED = "closed"
    """The budget is whole again: nothing is halted."""


@dataclass(slots=True)
class Breaker:
    """The breaker of one priority in one worker. Not thread-safe; times are monotonic seconds.

    Args:
        limit: how many tasks may die beyond what successes and time make up for; 0: any number.
        share: which share of the tasks may die for ever; above 0, below 1.

    Raises:
        ConfigError: one of them is out of range.
    """

    limit: int
    share: float
    is_open: bool = field(default=False, init=False)
    """Whether it halts anything: all tasks, or those beyond a few."""
    pause: float = field(default=FIRST_PAUSE, init=False)
    """Seconds from one try to the next."""
    try_at: float = field(default=0.0, init=False)
    """When the next task is tried, while it is open."""
    _budget: float = field(default=0.0, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _tried: set[int] = field(default_factory=set, init=False)
    """What was given to children since it was halted, and not judged yet."""

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ConfigError(f"dead_limit is {self.limit}: must be 0 (no limit) or more")
        if not 0 < self.share < 1:
            raise ConfigError(f"dead_share is {self.share:g}: must lie between 0 and 1")
        self._budget = self.limit

    @property
    def at_rest(self) -> bool:
        """Whether a success changes nothing: it halts nothing, and its budget is whole."""
        return not self.is_open and self._budget == self.limit and not self._tried

    @property
    def halts(self) -> bool:
        """Whether it halts all tasks but those that are tried."""
        return self.is_open and self._budget <= 0

    @property
    def left(self) -> float:
        """Which part of the budget is left, as of the last verdict: 1 is all of it."""
        return max(0.0, self._budget / self.limit) if self.limit else 1.0

    def room(self, now: float) -> float:
        """How many more tasks may be given out now; infinite while nothing is halted."""
        if not self.is_open:
            return math.inf
        beside = 0 if self.halts else 1 + int(self._budget / self._credit)
        # One is tried whatever became of the earlier ones: some are never judged, for their
        # partition goes, and some only after hours.
        return max(beside - len(self._tried), 1 if now >= self.try_at else 0)

    def gave(self, number: int, now: float) -> None:
        """Notes that a task was given to a child."""
        if not self.is_open:
            return
        self._tried.add(number)
        if now >= self.try_at:
            self.pause = min(LONGEST_PAUSE, 2 * self.pause)
            self.try_at = now + self.pause

    def judged(self, number: int, verdict: Verdict, now: float) -> Change | None:
        """Notes the verdict on a task that was run here; returns what it changes."""
        if not self.limit:
            return None
        was_tried = number in self._tried
        self._tried.discard(number)
        if verdict.state is State.SUCCEEDED:
            return self._succeeded(now)
        if not self.is_open:
            return self._died(now) if isinstance(verdict, Dead) else None
        # What ran when it opened is of the same deploy, and tells nothing new.
        return self._failed(now) if was_tried and _is_failure(verdict) else None

    def forget(self, number: int) -> None:
        """Notes that a task is settled without having run here: nothing is known of it."""
        self._tried.discard(number)

    @property
    def _credit(self) -> float:
        return self.share / (1 - self.share)

    def _succeeded(self, now: float) -> Change | None:
        if not self.is_open and self._budget == self.limit:
            return None  # as nearly always: there is nothing to give back
        halted = self.halts
        self._budget = min(self.limit, self._regained(now) + self._credit)
        if not self.is_open:
            return None
        if self._budget < self.limit:
            return Change.EASED if halted else None
        self.is_open, self.pause = False, FIRST_PAUSE
        self._tried.clear()
        return Change.CLOSED

    def _died(self, now: float) -> Change | None:
        self._budget = self._regained(now) - 1
        if self._budget > 0:
            return None
        self.is_open = True
        self._halt(now)
        return Change.HALTED

    def _failed(self, now: float) -> Change | None:
        self._budget -= 1
        if self._budget > 0:
            return None
        self._halt(now)
        return Change.STILL_HALTED

    def _halt(self, now: float) -> None:
        self._budget = 0.0
        self.try_at = now + self.pause
        self._tried.clear()

    def _regained(self, now: float) -> float:
        """The budget with what time has given back; while it is open only successes do."""
        waited, self._looked_at = now - self._looked_at, now
        if self.is_open:
            return self._budget
        return min(self.limit, self._budget + self.limit * waited / REGAINED_WITHIN)


class Breakers:
    """The breakers of all lanes, and what is said of them. Not thread-safe, but any thread may look.

    Args:
        lanes: their names.
        limit: as in `Breaker`.
        share: as in `Breaker`.
        clock: the time.

    Raises:
        ConfigError: a limit or share is out of range.
    """

    def __init__(self, lanes: Iterable[str], *, limit: int, share: float, clock: Clock) -> None:
        self._breakers = {lane: Breaker(limit, share) for lane in lanes}
        self._clock = clock

    @property
    def lanes(self) -> list[str]:
        """All lanes."""
        return list(self._breakers)

    @property
    def halted(self) -> list[str]:
        """The lanes that are halted."""
        return [lane for lane, breaker in self._breakers.items() if breaker.halts]

    @property
    def budgets(self) -> list[tuple[str, float]]:
        """Each lane, and which part of its budget is left, by its last verdict; none where there is no limit."""
        return [
            (lane, breaker.left) for lane, breaker in self._breakers.items() if breaker.limit > 0
        ]

    def room(self, lane: str) -> float:
        """How many more tasks of a lane may be given out now."""
        return self._breakers[lane].room(self._clock.monotonic())

    def rooms(self) -> list[tuple[str, float]]:
        """Each lane, and how many more of its tasks may be given out now."""
        return [(lane, self.room(lane)) for lane in self._breakers]

    def gave(self, entry: Entry) -> None:
        """Notes that a task was given to a child."""
        breaker = self._breakers[entry.lane]
        if breaker.is_open:
            breaker.gave(entry.number, self._clock.monotonic())

    def judged(self, entry: Entry, judged: Judged) -> None:
        """Notes a verdict, and says what it changes."""
        breaker = self._breakers[entry.lane]
        if judged.recalled:
            breaker.forget(entry.number)
            return
        if breaker.at_rest and judged.verdict.state is State.SUCCEEDED:
            return  # as nearly always: there is nothing to give back
        now = self._clock.monotonic()
        change = breaker.judged(entry.number, judged.verdict, now)
        if change is not None:
            self._say(change, breaker, entry, judged, now)

    def _say(
        self, change: Change, breaker: Breaker, entry: Entry, judged: Judged, now: float
    ) -> None:
        match change:
            case Change.HALTED:
                _log.error(
                    "too many tasks die: their queue is halted, so that it does not drain into the dead "
                    "letters; this worker tries a task now and then",
                    lane=entry.lane, task=judged.task, task_id=judged.task_id,
                    verdict=str(judged.verdict), next_try_s=round(breaker.try_at - now),
                    advice="start workers with mended code, which go on at once; where so many deaths are "
                    "right, raise dead_limit or dead_share",
                )  # fmt: skip
            case Change.STILL_HALTED:
                _log.warning(
                    "a task was tried and failed: its queue stays halted",
                    lane=entry.lane,
                    task=judged.task,
                    task_id=judged.task_id,
                    verdict=str(judged.verdict),
                    next_try_s=round(breaker.try_at - now),
                    advice="start workers with mended code: they go on at once",
                )
            case Change.EASED:
                _log.info(
                    "a task was tried and succeeded: its queue goes on, slowly", lane=entry.lane
                )
            case Change.CLOSED:
                _log.info("tasks succeed again: nothing of their queue is halted", lane=entry.lane)


def _is_failure(verdict: Verdict) -> bool:
    """Whether an attempt failed, for good or not; one that was put off or is too old says nothing."""
    return isinstance(verdict, Dead) or (isinstance(verdict, Again) and verdict.counts)
