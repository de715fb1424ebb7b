"""Which children come and go: by model, until nothing changes any more."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.parent.staffing import (
    Changes,
    Limits,
    Member,
    changes,
    size_bytes,
    solo_wanted,
)
from taskstream.core.errors import ConfigError

members = st.lists(
    st.builds(
        Member, number=st.just(0), ready=st.booleans(), worn=st.booleans(), held=st.integers(0, 9)
    ),
    max_size=8,
).map(lambda found: [replace(one, number=number) for number, one in enumerate(found)])


def member(number: int, *, ready: bool = True, worn: bool = False, held: int = 0) -> Member:
    return Member(number, ready, worn, held)


def test_more_are_started_at_once() -> None:
    """What is missing is started together, those on their way counted."""
    assert changes([], 3) == Changes(3, ())
    assert changes([member(1), member(2, ready=False)], 4) == Changes(2, ())


def test_the_least_busy_ones_leave() -> None:
    """Fewer wanted: those with the least to finish go."""
    here = [member(1, held=5), member(2, held=0), member(3, held=9), member(4, held=1)]
    assert changes(here, 2) == Changes(0, (2, 4))


def test_a_worn_child_leaves_when_its_successor_is_ready() -> None:
    """First the new one starts, then it gets ready, and only then the old one goes."""
    worn = member(1, worn=True, held=3)
    assert changes([worn, member(2)], 2) == Changes(1, ())
    assert changes([worn, member(2), member(3, ready=False)], 2) == Changes(0, ())
    assert changes([worn, member(2), member(3)], 2) == Changes(0, (1,))


@given(members, st.integers(1, 6))
def test_capacity_never_dips_and_the_end_is_what_was_wanted(
    here: list[Member], wanted: int
) -> None:
    """Never more than one above the number, never too few ready, and in the end exactly that number."""
    numbers = iter(range(100, 200))
    for _ in range(50):
        step = changes(here, wanted)
        assert len(here) + step.start <= max(len(here), wanted + 1)
        if step.leave:
            assert sum(one.ready for one in here) - len(step.leave) >= wanted
        if step == Changes(0, ()) and all(one.ready for one in here):
            break
        here = [replace(one, ready=True) for one in here if one.number not in step.leave]
        here += [member(next(numbers), ready=False) for _ in range(step.start)]
    assert len(here) == wanted
    assert not any(one.worn for one in here)


def test_a_child_wears_out_by_tasks_or_by_memory() -> None:
    """Each limit by itself; without limits never."""
    assert not Limits().worn(10**9, 10**12)
    assert not Limits(tasks=100).worn(99, None)
    assert Limits(tasks=100).worn(100, None)
    assert Limits(memory_bytes=1000).worn(1, 1001)
    assert not Limits(memory_bytes=1000).worn(1, 1000)
    assert not Limits(memory_bytes=1000).worn(1, None)


def test_a_limit_below_the_apps_own_size_still_lets_tasks_run() -> None:
    """A child that has finished nothing stays, however large it is."""
    assert not Limits(memory_bytes=1).worn(0, 10**9)


def test_solo_children_come_with_the_work_and_stay_warm() -> None:
    """As many as have or wait for work, not beyond the most; those used lately stay."""
    assert solo_wanted(waiting=0, busy=0, warm=0, most=4) == 0
    assert solo_wanted(waiting=9, busy=1, warm=1, most=4) == 4
    assert solo_wanted(waiting=0, busy=1, warm=3, most=4) == 3


def test_a_size_is_read_or_refused() -> None:
    """Plain bytes, or a number with its unit; anything else says what to write."""
    assert [size_bytes(text) for text in ("1000", "64k", " 512M", "2G")] == [
        1000,
        64 * 1024,
        512 * 1024**2,
        2 * 1024**3,
    ]
    for text in ("", "M", "0", "-5", "1.5G", "2T"):
        with pytest.raises(ConfigError, match="like 512M"):
            size_bytes(text)
