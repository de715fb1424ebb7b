"""Events of all partitions in the order in which they happened.

Broken on purpose once, and seen to fail: with each event told as soon as it was read.
"""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.events import by_time, happened
from taskstream.core.audit import Action

moments = st.lists(st.floats(0, 2e9), max_size=40)


def actions(times: list[float]) -> list[Action]:
    """An action at each of these times."""
    return [Action(verb="pause", target="queue:tasks", at=at, who="ann") for at in times]


@given(moments)
def test_few_events_come_in_order(times: list[float]) -> None:
    """Whatever the order of their partitions, and those of one moment as they were read."""
    assert list(by_time(actions(times))) == sorted(actions(times), key=happened)


@given(moments, st.integers(1, 10))
def test_none_is_lost_where_there_are_more(times: list[float], within: int) -> None:
    """Beyond the bound the order may be rough, but each event comes once."""
    told = [happened(event) for event in by_time(actions(times), within)]
    assert sorted(told) == sorted(times)


def test_what_is_out_of_order_by_less_than_the_bound_is_mended() -> None:
    """A stream of any length needs no more memory than the bound."""
    times = [float(number ^ 1) for number in range(100)]
    assert [event.at for event in by_time(actions(times), within=2)] == sorted(times)  # type: ignore[union-attr]
