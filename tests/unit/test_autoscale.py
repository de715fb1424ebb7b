"""How many children the load asks for, over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.parent.autoscale import DOWN_AFTER, UP_AFTER, Autoscale, Load, Range
from taskstream.core.clock import ManualClock
from taskstream.core.errors import ConfigError

CONCURRENCY = 10


class Site:
    """An autoscale under a steady number of tasks, looked at once a second."""

    def __init__(self, least: int, most: int) -> None:
        self.clock = ManualClock(1_000.0)
        self.autoscale = Autoscale(Range(least, most))

    def bear(self, tasks: int, seconds: float) -> list[int]:
        """The numbers wanted while so many tasks want to run at any time."""
        seen = []
        for _ in range(int(seconds)):
            slots = self.autoscale.wanted * CONCURRENCY
            busy = min(tasks, slots)
            load = Load(slots, busy, tasks - busy)
            seen.append(self.autoscale.observe([load], settled=True, now=self.clock.monotonic()))
            self.clock.advance(1.0)
        return seen


def test_it_begins_with_the_least() -> None:
    """Nothing to do is done by the fewest."""
    assert Site(2, 16).bear(0, 100) == [2] * 100


def test_a_backlog_brings_all_of_them_soon() -> None:
    """With a million waiting the most are there within half a minute, each step larger."""
    seen = Site(2, 16).bear(1_000_000, 30)
    assert seen[int(UP_AFTER) - 1] == 2
    assert seen[-1] == 16
    assert sorted(seen) == seen


def test_a_short_burst_changes_nothing() -> None:
    """What waits for less than `UP_AFTER` starts no process."""
    site = Site(2, 16)
    for _ in range(10):
        assert set(site.bear(50, UP_AFTER) + site.bear(5, 2)) == {2}


def test_it_goes_down_step_by_step_to_what_is_needed() -> None:
    """Six children can bear 40 tasks with room to spare: there it stays."""
    site = Site(2, 16)
    site.bear(1_000, 60)
    seen = site.bear(40, 10 * DOWN_AFTER)
    assert sorted(seen, reverse=True) == seen
    assert (seen[0], seen[-1]) == (16, 6)


def test_a_peak_in_between_keeps_what_it_needs() -> None:
    """The way down asks for the highest load of the whole time before."""
    site = Site(2, 16)
    site.bear(1_000, 60)
    for _ in range(10):
        seen = site.bear(20, DOWN_AFTER / 2) + site.bear(100, 1)
    assert seen[-1] == 15


@given(st.integers(0, 400))
def test_under_a_steady_load_it_comes_to_rest(tasks: int) -> None:
    """No load makes it go to and fro: up or down first, then it stays."""
    site = Site(2, 16)
    site.bear(200, 60)
    site.bear(tasks, 20 * DOWN_AFTER)
    assert len(set(site.bear(tasks, 5 * DOWN_AFTER))) == 1


def test_nothing_is_decided_before_the_last_change_has_taken_effect() -> None:
    """While children are starting, the time of waiting does not count."""
    autoscale = Autoscale(Range(2, 16))
    load = Load(20, 20, 500)
    for second in range(60):
        assert autoscale.observe([load], settled=False, now=float(second)) == 2


def test_process_tasks_alone_ask_for_more() -> None:
    """One kind of children with all slots taken is enough, though the other has nothing to do."""
    autoscale = Autoscale(Range(2, 16))
    loads = [Load(20, 0, 0), Load(2, 2, 7)]
    for second in range(4):
        autoscale.observe(loads, settled=True, now=float(second))
    assert autoscale.wanted == 3


def test_a_range_is_read_or_refused() -> None:
    """The error says what to write."""
    assert Range.parse("2,16") == Range(2, 16)
    for text in ("", "2", "2,", "a,b", "0,4", "5,4", "2,-1"):
        with pytest.raises(ConfigError, match="autoscale"):
            Range.parse(text)
