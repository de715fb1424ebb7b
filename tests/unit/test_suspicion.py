"""Which task is blamed for the death of a process, and what that costs it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.suspicion import (
    ALONE_FROM,
    LOST_FOR_GOOD,
    LOST_UNSEEN,
    Ruling,
    Suspicion,
    rule,
)


def test_the_way_of_a_poison() -> None:
    """Run; run in company under a strike; run alone under two; caught, and dead."""
    assert rule(Suspicion.NONE, 0) == Ruling(0, record=False, alone=False, dead=False)
    assert rule(Suspicion.SUSPECT, 0) == Ruling(1, record=True, alone=False, dead=False)
    assert rule(Suspicion.SUSPECT, 1) == Ruling(2, record=True, alone=True, dead=False)
    assert rule(Suspicion.CAUGHT, 2) == Ruling(3, record=False, alone=True, dead=True)


def test_a_task_that_always_runs_alone_has_its_three_deaths_too() -> None:
    """A process task is caught at its first death; only the third one is its last."""
    strikes = 0
    for _ in range(LOST_FOR_GOOD - 1):
        ruling = rule(Suspicion.CAUGHT, strikes)
        assert not ruling.dead
        strikes = ruling.strikes
    assert rule(Suspicion.CAUGHT, strikes).dead


def test_unseen_deaths_convict_only_in_numbers() -> None:
    """A worker that is killed with the task in it, again and again, makes it dead in the end."""
    strikes, runs = 0, 1
    while not (ruling := rule(Suspicion.SUSPECT, strikes)).dead:
        strikes, runs = ruling.strikes, runs + 1
    assert runs == LOST_UNSEEN


@given(st.integers(0, LOST_UNSEEN - 1))
def test_without_suspicion_nothing_is_added(recorded: int) -> None:
    """A worker that was stopped in order costs no strike, and frees nobody from quarantine."""
    ruling = rule(Suspicion.NONE, recorded)
    assert ruling == Ruling(recorded, record=False, alone=recorded >= ALONE_FROM, dead=False)


@given(st.sampled_from(Suspicion), st.integers(0, 20))
def test_only_a_new_strike_is_written_and_only_of_what_runs(
    suspicion: Suspicion, recorded: int
) -> None:
    """What is dead gets its outcome's row at once; what has no new strike has its row already."""
    ruling = rule(suspicion, recorded)
    assert ruling.record == (ruling.strikes > recorded and not ruling.dead)


@pytest.mark.parametrize("suspicion", Suspicion)
def test_a_suspicion_is_a_plain_number_on_the_wire(suspicion: Suspicion) -> None:
    """What a frame carries can be read back."""
    assert Suspicion(int(suspicion)) is suspicion
