"""When something recurs: a cron line in a time zone, or every so many seconds. Pure.

Cron lines are read by cronsim, which does as Debian's cron does when the clocks change. A line that names both its
minute and its hour is about times of day: what would have come in the hour that is skipped comes right after it,
and what stands in the hour that is doubled comes once, at the first of the two. A line whose minute or hour
begins with a star, or one with seconds, just follows the clock.

An instant is told by seconds since 1970 alone, so all schedulers agree on it, whatever their own zone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from taskstream.core.errors import ConfigError, MissingExtra

SHORTEST = 1.0
"""The least number of seconds between two firings of `every`."""

LONGEST = 366 * 86400.0
"""The largest one: a year."""

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Words that cron has for lines that everybody needs."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line.

    Args:
        line: minute, hour, day of month, month, day of week; with a sixth field the first one is seconds.
        tz: the time zone that it is meant in, as "Europe/Berlin".
    """

    line: str
    tz: str = "UTC"

    def __str__(self) -> str:
        return f"{self.line} {self.tz}"


@dataclass(frozen=True, slots=True)
class Every:
    """A period, counted from the start of 1970: of 60 seconds, it is each full minute.

    Args:
        seconds: 1 second to a year, in whole milliseconds.

    Raises:
        ConfigError: it is not within these.
    """

    seconds: float

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float):
            raise ConfigError(f"every({self.seconds!r}): must be a number of seconds")
        if not SHORTEST <= self.seconds <= LONGEST:
            raise ConfigError(f"every({self.seconds:g}): must be from 1 second to a year")
        if abs(self.seconds * 1000 - self.milliseconds) > 1e-6:  # 1.001 * 1000 is not 1001
            raise ConfigError(f"every({self.seconds}): must be whole milliseconds")

    @property
    def milliseconds(self) -> int:
        """The period."""
        return round(self.seconds * 1000)

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"


When = Cron | Every
"""What decides when a schedule fires."""


def every(seconds: float) -> Every:
    """Every so many seconds, counted from the start of 1970, so that all schedulers agree.

    Raises:
        ConfigError: below a second, above a year, or no whole number of milliseconds.
    """
    return Every(seconds)


def check(when: When) -> None:
    """Refuses a line that can't be read, a zone that nobody knows, and what never comes.

    Raises:
        ConfigError: says what is wrong.
        MissingExtra: the library for cron lines is not installed.
    """
    # A leap year's start, so that the 29th of February is found soon.
    if next(instants(when, 1_704_067_200.0), None) is None:
        raise ConfigError(f"cron line {_told(when)} never comes")


def instants(when: When, after: float) -> Iterator[float]:
    """Each instant after that one, in order and once; without end, unless a line has one.

    Args:
        when: what recurs.
        after: seconds since 1970.

    Raises:
        ConfigError: a line can't be read, or its zone is not known.
        MissingExtra: the library for cron lines is not installed.
    """
    if isinstance(when, Every):
        return _periods(when.milliseconds, after)
    # Whole seconds are all that a line can name, so the fraction of `after` decides nothing.
    start = datetime.fromtimestamp(math.floor(after), _zone(when))
    return _rising(_moments(when, start), after)


def _periods(period: int, after: float) -> Iterator[float]:
    number = math.floor(after * 1000 / period)
    while True:
        if number * period / 1000 > after:
            yield number * period / 1000
        number += 1


def _rising(moments: Iterator[datetime], after: float) -> Iterator[float]:
    """Instants that are later than all before them.

    Around a change of the clocks the library tells one instant several times (all that was skipped comes
    at once), or, begun within the doubled hour, one that is over.
    """
    for moment in moments:
        instant = moment.timestamp()
        if instant > after:
            yield instant
            after = instant


def _moments(when: Cron, start: datetime) -> Iterator[datetime]:
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only who schedules has it
    except ModuleNotFoundError as error:
        raise MissingExtra("schedules by cron lines", "worker") from error
    line = NICKNAMES.get(when.line.strip().lower(), when.line)
    try:
        return CronSim(line, start)
    except (CronSimError, AssertionError, TypeError, ValueError) as error:
        raise ConfigError(
            f"cron line {_told(when)}: {str(error) or 'not a line that can be read'}; it has five fields: "
            "minute, hour, day of month, month, day of week"
        ) from error


def _zone(when: Cron) -> tzinfo:
    if when.tz == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only who schedules needs it

    try:
        return ZoneInfo(when.tz)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(
            f"cron line {_told(when)}: no time zone {when.tz!r} is known here; use a name like "
            "Europe/Berlin (the package tzdata has them where the system does not)"
        ) from error


def _told(when: When) -> str:
    return repr(when.line) if isinstance(when, Cron) else str(when)
