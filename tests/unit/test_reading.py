"""Reading a topic to its end, without one: how it ends, and what it gives.

Broken on purpose once, and seen to fail: records from behind the end, a patience that counts what the taker of
the records needs, and none at all.
"""

from collections.abc import Sequence
from typing import Any, Self

import pytest

from taskstream.broker import tail
from taskstream.broker.failures import TimedOut
from taskstream.broker.records import Record
from taskstream.broker.tail import PATIENCE, read, read_to_end
from taskstream.core.clock import ManualClock
from taskstream.core.settings import Settings

SETTINGS = Settings(bootstrap_servers="nobody:1")


class Canned:
    """A tail that gives what it was told, a list for each look; a look for nothing takes a second."""

    def __init__(self, end: int, looks: Sequence[Sequence[int]], clock: ManualClock) -> None:
        self.ends = {0: end}
        self.closed = False
        self._looks = iter(looks)
        self._clock = clock
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    @property
    def reached_end(self) -> bool:
        """As the real one."""
        return self._position >= self.ends[0]

    def take(self, _limit: int, _timeout: float) -> list[Record]:
        """The next list."""
        offsets = next(self._looks, ())
        if not offsets:
            self._clock.advance(1.0)
        self._position = max([self._position, *(offset + 1 for offset in offsets)])
        return [Record("shop.dead", 0, offset, None, b"", (), 0.0) for offset in offsets]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves when it is told to."""
    return ManualClock()


def canned(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock, end: int, *looks: Sequence[int]
) -> Canned:
    """Whatever is read from here on."""
    found = Canned(end, looks, clock)

    def made(*_args: Any, **_options: Any) -> Canned:
        return found

    monkeypatch.setattr(tail, "Tail", made)
    return found


def test_it_ends_where_the_topic_ended(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """What came later is not given, though it came with the rest; and the connection is let go."""
    found = canned(monkeypatch, clock, 3, [0, 1], [], [2, 3, 4])
    assert [one.offset for one in read(SETTINGS, "shop.dead", clock=clock)] == [0, 1, 2]
    assert found.closed


def test_who_follows_gets_what_comes_and_has_patience(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """Silence is no error there; it ends when it is told to."""
    silence: list[Sequence[int]] = [[]] * (int(PATIENCE) + 5)
    canned(monkeypatch, clock, 1, [0], *silence, [1])
    ends = iter([False] * (len(silence) + 2))
    records = read(SETTINGS, "shop.dead", follow=True, over=lambda: next(ends, True), clock=clock)
    assert [one.offset for one in records] == [0, 1]


def test_silence_before_the_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """The time that whoever takes the records needs for them is none of it."""
    canned(monkeypatch, clock, 3, [0], [1])
    records = read(SETTINGS, "shop.dead", clock=clock)
    next(records)
    clock.advance(10 * PATIENCE)
    next(records)
    clock.advance(10 * PATIENCE)
    before = clock.monotonic()
    with pytest.raises(TimedOut, match=r"reading shop\.dead: nothing came for 30 s"):
        next(records)
    assert PATIENCE < clock.monotonic() - before <= PATIENCE + 2


def test_all_of_it_may_be_bounded(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """However much comes."""
    canned(monkeypatch, clock, 1000, *([n] for n in range(500)), [])
    records = read(SETTINGS, "shop.dead", within=5.0, clock=clock)
    for _ in range(6):
        next(records)
        clock.advance(1.0)
    with pytest.raises(TimedOut, match="took longer than 5 s"):
        next(records)
    canned(monkeypatch, clock, 1)
    with pytest.raises(TimedOut, match="took longer than 5 s"):
        read_to_end(SETTINGS, "shop.dead", timeout=5.0, clock=clock)


def test_it_can_be_ended_early(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """Between two looks."""
    canned(monkeypatch, clock, 9, [0, 1], [2])
    ends = iter([False])
    records = read(SETTINGS, "shop.dead", over=lambda: next(ends, True), clock=clock)
    assert [one.offset for one in records] == [0, 1]
