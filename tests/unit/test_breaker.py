"""The breaker of dead letters against what it promises, with a clock that moves only when told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.parent.breaker import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    REGAINED_WITHIN,
    Breaker,
    Change,
)
from taskstream.consumer.verdict import Again, Dead, Done, Verdict
from taskstream.core.clock import ManualClock
from taskstream.core.errors import ConfigError
from taskstream.core.states import State

SUCCESS, DEATH, RETRY = Done(), Dead("ValueError", "no"), Again(1.0)
PUT_OFF, EXPIRED = Again(1.0, counts=False), Done(State.EXPIRED)

SHARES = st.sampled_from([0.2, 0.5, 0.75])
"""Whose credit, a quarter, one and three, a float holds exactly."""


class Children:
    """Children that run what the breaker lets through, a task at a time, and a clock."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.clock = ManualClock()
        self.given = 0
        self.held: list[int] = []

    def give(self, most: int) -> int:
        """Gives out so many tasks, or as many as there is room for."""
        count = int(min(most, self.breaker.room(self.clock.monotonic())))
        for _ in range(count):
            self.given += 1
            self.held.append(self.given)
            self.breaker.gave(self.given, self.clock.monotonic())
        return count

    def judge(self, verdict: Verdict) -> Change | None:
        """The verdict on the task that was given out first."""
        return self.breaker.judged(self.held.pop(0), verdict, self.clock.monotonic())

    def run(self, verdict: Verdict) -> Change | None:
        """Gives one out, which must be possible, and judges it."""
        assert self.give(1) == 1
        return self.judge(verdict)

    def wait(self) -> None:
        """Until the next task is tried."""
        self.clock.advance(self.breaker.try_at - self.clock.monotonic())


def opened(limit: int = 10, share: float = 0.5) -> Children:
    """Children whose priority has just been halted."""
    children = Children(Breaker(limit, share))
    changes = [children.run(DEATH) for _ in range(limit)]
    assert changes == [None] * (limit - 1) + [Change.HALTED]
    return children


@given(
    limit=st.integers(1, 8),
    share=SHARES,
    verdicts=st.lists(st.sampled_from([SUCCESS, DEATH, RETRY, PUT_OFF, EXPIRED]), max_size=80),
)
def test_it_opens_where_a_stretch_of_verdicts_says_so(
    limit: int, share: float, verdicts: list[Verdict]
) -> None:
    """At the first verdict that ends a stretch with `limit` deaths more than its share allows."""
    credit = share / (1 - share)
    breaker = Breaker(limit, share)
    balances: list[float] = []  # of the stretches that end here, one for each beginning
    for number, verdict in enumerate(verdicts):
        worth = {SUCCESS: credit, DEATH: -1.0}.get(verdict, 0.0)
        balances = [balance + worth for balance in [*balances, 0.0]]
        change = breaker.judged(number, verdict, 0.0)
        is_over = min(balances) <= -limit
        assert (change is Change.HALTED) == is_over
        if is_over:
            return


@given(limit=st.integers(1, 50), held=st.integers(0, 30), pauses=st.integers(0, 8))
def test_a_bounded_number_dies(limit: int, held: int, pauses: int) -> None:
    """With an endless line of tasks that die: the limit, what was given out, and one a pause."""
    children = Children(Breaker(limit, 0.5))
    children.give(limit + held)
    assert len(children.held) == limit + held
    while children.held:
        children.judge(DEATH)
    for _ in range(pauses):
        assert children.give(1000) == 0
        children.wait()
        assert children.give(1000) == 1
        assert children.judge(DEATH) is Change.STILL_HALTED
    assert children.given == limit + held + pauses


@given(share=SHARES, fates=st.lists(st.sampled_from([SUCCESS, DEATH, RETRY, PUT_OFF, None])))
def test_it_tries_for_ever(share: float, fates: list[Verdict | None]) -> None:
    """Whatever became of what was tried, or nothing, there is room within the longest pause."""
    children = opened(share=share)
    for fate in fates:
        children.give(3)
        if fate is None:
            children.held.clear()  # lost: nobody will ever judge them
        elif children.held:
            children.judge(fate)
    children.clock.advance(LONGEST_PAUSE)
    assert children.give(1) == 1


def test_the_pause_doubles_to_its_bound_and_starts_again() -> None:
    """5, 10, 20 … 300 seconds between tries; once the budget is whole, 5 again."""
    children = opened(limit=2)
    pauses = []
    for _ in range(9):
        pauses.append(children.breaker.try_at - children.clock.monotonic())
        children.wait()
        children.run(DEATH)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    children.wait()
    assert [children.run(SUCCESS), children.run(SUCCESS)] == [Change.EASED, Change.CLOSED]
    assert children.breaker.pause == FIRST_PAUSE


def test_a_mended_queue_speeds_up_until_nothing_is_halted() -> None:
    """After the first success rounds of 2, 4, 8 …; when the budget is whole there is no bound."""
    children = opened(limit=100)
    children.wait()
    rounds = []
    while children.breaker.is_open:
        rounds.append(children.give(1000))
        changes = [children.judge(SUCCESS) for _ in range(rounds[-1])]
    assert rounds == [1, 2, 4, 8, 16, 32, 64]
    assert changes.count(Change.CLOSED) == 1
    assert children.breaker.room(children.clock.monotonic()) == math.inf


def test_what_was_given_out_before_tells_nothing_new() -> None:
    """Tasks that ran when the priority was halted and die later neither lengthen nor repeat the pause."""
    children = Children(Breaker(5, 0.5))
    children.give(9)
    changes = [children.judge(DEATH) for _ in range(9)]
    assert changes == [None, None, None, None, Change.HALTED, None, None, None, None]
    assert children.breaker.pause == FIRST_PAUSE


def test_a_task_that_is_put_off_or_too_old_is_no_answer() -> None:
    """It neither prolongs the halt nor eases it: another one is tried."""
    children = opened()
    for verdict in (PUT_OFF, EXPIRED):
        children.wait()
        assert children.run(verdict) is None
        assert children.breaker.halts
    children.wait()
    assert children.run(RETRY) is Change.STILL_HALTED


def test_what_is_repeated_from_the_store_is_no_answer() -> None:
    """It frees the place of what was tried, and nothing else."""
    children = opened()
    children.wait()
    children.give(1)
    children.breaker.forget(children.held.pop())
    assert children.breaker.halts
    children.wait()
    assert children.run(SUCCESS) is Change.EASED


def test_rare_deaths_never_add_up() -> None:
    """Half the limit each half hour, with no success at all, for a week."""
    children = Children(Breaker(100, 0.5))
    for _ in range(2 * 24 * 7):
        for _ in range(50):
            assert children.run(DEATH) is None
        children.clock.advance(REGAINED_WITHIN / 2)


def test_time_alone_closes_nothing() -> None:
    """After a night a halted priority is tried with one task, not with a whole budget of them."""
    children = opened()
    children.clock.advance(8 * 3600)
    assert children.give(1000) == 1


def test_a_limit_of_zero_halts_nothing() -> None:
    """The off switch."""
    children = Children(Breaker(0, 0.5))
    assert {children.run(DEATH) for _ in range(10_000)} == {None}


@pytest.mark.parametrize(("limit", "share"), [(-1, 0.5), (1, 0.0), (1, 1.0)])
def test_what_can_not_be_is_refused(limit: int, share: float) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=r"dead_(limit|share) is"):
        Breaker(limit, share)
