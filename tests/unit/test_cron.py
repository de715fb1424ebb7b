"""When schedules fire: cron lines over both changes of the clocks, and periods.

Broken on purpose once, and seen to fail: instants that are not later than the last one let through; the
fraction of a second rounded up; a zone taken for UTC.
"""

from datetime import UTC, datetime
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from taskstream import ConfigError, every
from taskstream.core.cron import Cron, Every, check, instants

YEAR = 2026
BEGIN = datetime(YEAR, 1, 1, tzinfo=UTC).timestamp()
END = datetime(YEAR + 1, 1, 1, tzinfo=UTC).timestamp()
LINES = (
    Cron("30 2 * * *", "Europe/Berlin"),
    Cron("*/15 * * * *", "Europe/Berlin"),
    Cron("0,30 1-3 * * *", "America/New_York"),
    Cron("15 */6 * * 1-5", "Europe/Berlin"),
    Cron("0 12 L * *", "Australia/Lord_Howe"),
)
"""Five lines of a year: at a given time, all the time, around the changes, by steps, and by a word."""


def at(text: str) -> float:
    """Seconds since 1970 of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def told(when: Cron, begin: str, end: str) -> list[str]:
    """The instants after one time up to another, in UTC."""
    found = takewhile(lambda instant: instant <= at(end), instants(when, at(begin)))
    return [
        datetime.fromtimestamp(instant, UTC).isoformat(timespec="minutes")[5:16]
        for instant in found
    ]


def a_year_of(when: Cron) -> list[float]:
    return list(takewhile(lambda instant: instant < END, instants(when, BEGIN - 1)))


@pytest.mark.parametrize("when", LINES, ids=str)
def test_a_year_is_what_the_library_says(when: Cron) -> None:
    """Each instant that the library's own iteration names, once, in order, over both changes."""
    zone = ZoneInfo(when.tz)
    moments = CronSim(when.line, datetime.fromtimestamp(BEGIN - 1, zone))
    theirs = {
        moment.timestamp() for moment in takewhile(lambda one: one.timestamp() < END, moments)
    }
    assert a_year_of(when) == sorted(theirs)


@pytest.mark.parametrize(
    ("when", "count"),
    [
        (LINES[0], 365),
        (LINES[1], 365 * 96),
        # New York skips 02:00 and 02:30, which come at 03:00 with that of 03:00 itself.
        (LINES[2], 365 * 6 - 2),
        (LINES[3], 261 * 4),
        (LINES[4], 12),
    ],
    ids=str,
)
def test_a_year_has_as_many_as_one_counts_by_hand(when: Cron, count: int) -> None:
    """Nothing is lost and nothing doubled by the skipped and the doubled hour."""
    assert len(a_year_of(when)) == count


YEARS = {when: a_year_of(when) for when in LINES}


@given(st.sampled_from(LINES), st.floats(BEGIN, END - 32 * 86400, allow_nan=False))
def test_whoever_begins_anywhere_goes_on_alike(when: Cron, after: float) -> None:
    """A scheduler that takes over at any moment, in a doubled hour too, sees what the last one saw."""
    expected = [instant for instant in YEARS[when] if instant > after][:5]
    assert list(islice(instants(when, after), len(expected))) == expected


CHANGES = [
    at("2026-03-29T01:00"),
    at("2026-10-25T01:00"),
    at("2026-03-08T07:00"),
    at("2026-11-01T06:00"),
]


@given(
    st.sampled_from(LINES),
    st.sampled_from(CHANGES),
    st.integers(-3 * 3600, 3 * 3600),
)
def test_whoever_begins_near_a_change_goes_on_alike(when: Cron, change: float, off: int) -> None:
    """The same within three hours of each change of the clocks."""
    after = change + off
    expected = [instant for instant in YEARS[when] if instant > after][:5]
    assert list(islice(instants(when, after), len(expected))) == expected


@pytest.mark.parametrize(
    ("line", "begin", "end", "expected"),
    [
        # 02:30 does not exist on 29 March: it comes at 03:00, when the clocks have changed.
        ("30 2 * * *", "2026-03-28", "2026-03-31", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        # It exists twice on 25 October, and comes at the first of the two.
        ("30 2 * * *", "2026-10-24", "2026-10-27", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
        # All that is skipped comes at one instant, with what stands there anyway, once.
        ("0,30 2,3 * * *", "2026-03-29", "2026-03-29T12:00", ["03-29T01:00", "03-29T01:30"]),
        # What recurs within the hour just goes on: no instant in the skipped hour, …
        ("*/30 * * * *", "2026-03-29", "2026-03-29T02:00",
         ["03-29T00:30", "03-29T01:00", "03-29T01:30", "03-29T02:00"]),
        # … and all of them in both of the doubled ones.
        ("*/30 * * * *", "2026-10-24T23:45", "2026-10-25T02:00",
         ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]),
        # After the change the offset is the new one.
        ("0 3 * * *", "2026-03-28", "2026-03-30T12:00", ["03-28T02:00", "03-29T01:00", "03-30T01:00"]),
    ],
)  # fmt: skip
def test_the_clocks_change(line: str, begin: str, end: str, expected: list[str]) -> None:
    """By hand, in Berlin, where they change at 01:00 UTC."""
    assert told(Cron(line, "Europe/Berlin"), begin, end) == expected


def test_one_who_begins_in_the_doubled_hour_does_not_repeat_it() -> None:
    """At its second 02:15 the 02:30 of the first pass is over."""
    berlin = Cron("30 2 * * *", "Europe/Berlin")
    assert told(berlin, "2026-10-25T01:15", "2026-10-26T12:00") == ["10-26T01:30"]


@pytest.mark.parametrize(("line", "hours"), [("@hourly", 24), ("@daily", 1), (" @Midnight ", 1)])
def test_nicknames(line: str, hours: int) -> None:
    """Cron's own words are understood."""
    assert len(told(Cron(line), "2026-05-01T00:30", "2026-05-02T00:30")) == hours


def test_a_sixth_field_is_seconds() -> None:
    """It stands first, and schedules by the second."""
    found = list(islice(instants(Cron("*/20 * * * * *"), at("2026-05-01")), 3))
    assert [instant - at("2026-05-01") for instant in found] == [20, 40, 60]


@pytest.mark.parametrize(
    ("when", "told"),
    [
        (Cron("61 * * * *"), "'61 \\* \\* \\* \\*': Bad minute"),
        (Cron("* * *"), "five fields"),
        (Cron("nonsense"), "five fields"),
        (Cron("0 0 30 2 *"), "Bad day-of-month"),
        (Cron("* * */20 * 1L"), "never comes"),
        (Cron("* * * * *", "Mars/Olympus"), "no time zone 'Mars/Olympus'"),
        (Cron("* * * * *", "../etc/passwd"), "no time zone"),
        (Cron("* * * * *", ""), "no time zone"),
    ],
)
def test_what_can_not_be_is_refused(when: Cron, told: str) -> None:
    """A bad line, a line that never comes, an unknown zone: the error names it."""
    with pytest.raises(ConfigError, match=told):
        check(when)


@pytest.mark.parametrize("seconds", [0, 0.5, -1, float("nan"), float("inf"), 1.0005, 400 * 86400])
def test_periods_that_can_not_be_are_refused(seconds: float) -> None:
    """Below a second, above a year, and what has no whole milliseconds."""
    with pytest.raises(ConfigError, match="every"):
        every(seconds)
    with pytest.raises(ConfigError, match="every"):
        every("30")  # type: ignore[arg-type]


@given(st.integers(1000, 86_400_000), st.floats(0, 4e9, allow_nan=False))
def test_a_period_counts_from_1970(milliseconds: int, after: float) -> None:
    """All schedulers agree, whenever they begin: each instant is a multiple of the period, none is left out."""
    found = list(islice(instants(Every(milliseconds / 1000), after), 3))
    numbers = [round(instant * 1000 / milliseconds) for instant in found]
    assert found == [number * milliseconds / 1000 for number in numbers]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
    assert found[0] > after
    assert (numbers[0] - 1) * milliseconds / 1000 <= after


def test_a_fraction_of_a_second_decides_nothing() -> None:
    """What is just over is over, what is just to come is to come."""
    noon = at("2026-05-01T12:00")
    line = Cron("0 12 * * *")
    assert next(instants(line, noon - 1e-6)) == noon
    assert next(instants(line, noon)) == noon + 86400
    assert next(instants(line, noon + 1e-6)) == noon + 86400
