"""What is settled about a replay before it begins, and what is known of it after.

Broken on purpose once, and seen to fail: stretches that begin where was said, though nothing is there any more;
a notice that does not miss its parts.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream import App, ConfigError
from taskstream.admin.replay import _known, _seconds, _sources, _stretches
from taskstream.core.envelope import Place
from taskstream.core.replay import Notice, Plan, ReplayRequest, Stretch

TOPIC = "shop.tasks.normal"
NOW = 1_800_000_000.0


class Broker:
    """The ranges of a topic, and by time one offset for each second."""

    def __init__(self, ranges: Mapping[int, tuple[int, int]]) -> None:
        self._ranges = ranges

    def ranges(self, topic: str) -> dict[Place, tuple[int, int]]:
        """As `Topics.ranges`."""
        return {Place(topic, number): both for number, both in self._ranges.items()}

    def offsets_at(self, topic: str, seconds: float) -> dict[Place, int]:
        """As `Topics.offsets_at`."""
        return {
            Place(topic, number): min(max(low, int(seconds)), high)
            for number, (low, high) in self._ranges.items()
        }


def stretches(
    ranges: Mapping[int, tuple[int, int]],
    since: float | None = None,
    until: float | None = None,
    **told: Any,
) -> list[tuple[int, int, int]]:
    """Partition, first offset and end of what is read."""
    request = ReplayRequest(since=0, **told)
    broker: Any = Broker(ranges)
    found = _stretches(broker, TOPIC, request, since, until, embedded=False)
    return [(one.partition, one.first, one.end) for one in found]


def test_by_time_each_partition_has_its_own_offsets() -> None:
    """From the first record of the window to before the first one after it; empty parts are left out."""
    ranges = {0: (0, 100), 1: (50, 60), 2: (0, 10)}
    assert stretches(ranges, 20.0, 55.0) == [(0, 20, 55), (1, 50, 55)]
    assert stretches(ranges, None, 5.0) == [(0, 0, 5), (2, 0, 5)]


def test_by_offsets_and_partitions() -> None:
    """Only those that are named; what retention has deleted, or nobody has written, can't be read."""
    ranges = {0: (10, 100), 1: (0, 60), 2: (0, 10)}
    assert stretches(ranges, offsets={0: (0, 20)}) == [(0, 10, 20)]
    assert stretches(ranges, offsets={1: (50, None)}) == [(1, 50, 60)]
    assert stretches(ranges, offsets={1: (50, 900)}, partitions=[2]) == [(1, 50, 60), (2, 0, 10)]
    assert stretches(ranges, partitions=[0, 2]) == [(0, 10, 100), (2, 0, 10)]
    with pytest.raises(ConfigError, match="has 3 partitions, and none is 7"):
        stretches(ranges, partitions=[7])


@given(
    st.integers(0, 50), st.integers(0, 50), st.floats(0, 120), st.floats(0, 120),
    st.integers(0, 120), st.none() | st.integers(0, 120),
)  # fmt: skip
def test_no_stretch_leaves_its_partition(  # noqa: PLR0917 - hypothesis gives them in order
    low: int, length: int, since: float, until: float, first: int, end: int | None
) -> None:
    """Whatever was asked for."""
    for _, start, stop in stretches(
        {0: (low, low + length)}, since, until, offsets={0: (first, end)}
    ):
        assert low <= start < stop <= low + length
        assert first <= start
        assert end is None or stop <= end


@pytest.fixture
def app() -> App:
    """An app of two queues."""
    return App("shop", queues={"tasks": {"high": 2, "low": 1}, "mail": {"low": 1}})


@pytest.mark.parametrize(
    ("told", "topics"),
    [
        ({}, ["shop.tasks.high", "shop.tasks.low", "shop.mail.low"]),
        ({"queue": "tasks"}, ["shop.tasks.high", "shop.tasks.low"]),
        ({"priority": "low"}, ["shop.tasks.low", "shop.mail.low"]),
        ({"queue": "mail", "priority": "low", "offsets": {0: (1, 2)}}, ["shop.mail.low"]),
        ({"topics": ["orders", "shop.mail.low", "orders"]}, ["orders", "shop.mail.low"]),
    ],
)
def test_which_topics_are_read(app: App, told: dict[str, Any], topics: list[str]) -> None:
    """All task topics, some of them, or those that are named."""
    assert _sources(app, ReplayRequest(since=0, **told)) == topics


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"queue": "post"}, "no queue post"),
        ({"queue": "mail", "priority": "high"}, "no queue mail with priority high"),
        ({"topics": ["shop.dead"]}, "dead redrive"),
        ({"topics": ["shop.control"]}, "holds no tasks"),
        ({"offsets": {0: (1, 2)}}, "offsets are those of one topic"),
    ],
)
def test_what_holds_no_tasks_is_refused(app: App, told: dict[str, Any], why: str) -> None:
    """With what there is instead."""
    with pytest.raises(ConfigError, match=why):
        _sources(app, ReplayRequest(since=0, **told))


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (None, None),
        (17, 17.0),
        ("17.5", 17.5),
        ("now", NOW),
        ("2h ago", NOW - 7200),
        ("90s", NOW - 90),
        ("2026-01-31T12:00Z", 1769860800.0),
        ("2026-01-31T13:00+01:00", 1769860800.0),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), 1769860800.0),
    ],
)
def test_moments_are_told_in_many_ways(told: Any, seconds: float | None) -> None:
    """All of them mean seconds since 1970."""
    assert _seconds(told, NOW) == seconds


@pytest.mark.parametrize("told", ["yesterday", "", datetime(2026, 1, 31)])  # noqa: DTZ001 - that is it
def test_what_is_no_moment_is_refused(told: Any) -> None:
    """A datetime without a zone could be meant in many."""
    with pytest.raises(ConfigError):
        _seconds(told, NOW)


@given(st.integers(1, 6), st.text(max_size=4000), st.data())
def test_what_stands_beside_the_offsets_tells_the_whole_replay(
    partitions: int, where: str, data: st.DataObject
) -> None:
    """The notice comes back from its parts, or there was no room for it from the start."""
    stretches = tuple(Stretch(TOPIC, number, 5, 15) for number in range(partitions))
    notice = Notice(
        plan=Plan(name="a", stretches=stretches, where=where), at=NOW, who="me", reason="x"
    )
    try:
        notes = notice.notes()
    except ConfigError:
        assert len(where.encode("unicode_escape")) > 1000
        return
    assert all(len(note.encode()) <= 4096 for note in notes.values())
    read = data.draw(st.lists(st.integers(5, 15), min_size=partitions, max_size=partitions))
    commits = {
        one.place: (at, notes.get(one.place, "")) for one, at in zip(stretches, read, strict=True)
    }
    known = _known(commits)
    assert known.notice == notice
    assert known.read == sum(read) - 5 * partitions
    assert known.finished == (known.read == 10 * partitions)


def test_a_plan_that_is_half_forgotten_is_refused() -> None:
    """A replay must not go on with what is left of it."""
    stretches = tuple(Stretch(TOPIC, number, 0, 10) for number in range(4))
    notice = Notice(plan=Plan(name="a", stretches=stretches, where="x" * 5000), at=NOW, who="me")
    first, *rest = notice.notes().values()
    assert rest
    with pytest.raises(ConfigError, match="not whole"):
        Notice.from_notes([first])
    with pytest.raises(ConfigError, match="not whole"):
        Notice.from_notes(["", "17"])
