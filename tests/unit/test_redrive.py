"""Whether a dead letter may run again, and as what: by example, and for any order of steps and crashes.

Broken on purpose once, and seen to fail: a rule that counts the new run up from the newest row, one that
takes a begun redrive for a finished one, and one that goes by the letter alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.letters import Letter
from taskstream.admin.redrive import Again, Already, Refusal, home_of, rule
from taskstream.core.envelope import Envelope, Place
from taskstream.core.states import State
from taskstream.results.row import Row


def letter(run: int = 0, attempt: int = 3, origin: str = "shop.tasks.high/2/17") -> Letter:
    return Letter(
        id="a", run=run, attempt=attempt, task="charge", reason="Fatal", message="no",
        origin=origin, at=0.0, partition=0, offset=0, copies=(0,),
    )  # fmt: skip


def row(run: int, attempt: int, state: State) -> Row:
    return Row("a", run, attempt, state, "charge", 1)


DEAD = row(0, 3, State.DEAD)


@pytest.mark.parametrize(
    ("rows", "ruling"),
    [
        ([row(0, 1, State.RETRYING), row(0, 2, State.RETRYING), DEAD], Again(1)),
        # Rows are kept for a week, letters for a month.
        ([], Again(1)),
        # It could not be brought home, or its row was refused: the letter alone tells.
        ([row(0, 2, State.RETRYING)], Again(1)),
        # Somebody wrote the row and died.
        ([DEAD, row(1, 0, State.WAITING)], Again(1, begun=True)),
        ([DEAD, row(1, 0, State.WAITING), row(1, 1, State.RETRYING)], Already(1)),
        ([DEAD, row(1, 1, State.SUCCEEDED)], Already(1)),
        ([DEAD, row(1, 1, State.DEAD), row(2, 0, State.WAITING)], Already(1)),
    ],
)
def test_it_depends_on_the_last_row(rows: list[Row], ruling: Again | Already) -> None:
    """Only a run that died, and that nothing followed, runs again."""
    assert rule(letter(), rows) == ruling


def test_a_later_letter_follows_its_own_run() -> None:
    """A task that died again goes on as the run after that one, also where older rows have gone."""
    assert rule(letter(run=1, attempt=1), [DEAD, row(1, 1, State.DEAD)]) == Again(2)
    assert rule(letter(run=1, attempt=1), [row(1, 0, State.WAITING)]) == Again(2)
    assert rule(letter(run=1, attempt=1), [DEAD]) == Again(2)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELLED, State.EXPIRED])
def test_a_run_that_ended_otherwise_is_refused(state: State) -> None:
    """A letter that contradicts the store is no reason to run anything."""
    ruling = rule(letter(), [row(0, 3, state)])
    assert isinstance(ruling, Refusal)
    assert f"its run 0 is {state}" in ruling.why


def test_home_is_where_its_first_record_stood() -> None:
    """The header of its hand-offs says so; without one, what failed stood there itself."""
    home = Place("shop.tasks.low", 5)
    assert home_of(Envelope("charge", home=home), letter()) == home
    assert home_of(Envelope("charge"), letter()) == Place("shop.tasks.high", 2)
    assert home_of(Envelope("charge"), letter(origin="nowhere")) is None


@dataclass
class World:
    """A letter, the store, the home topic and its worker, and whether the letter is closed."""

    rows: dict[tuple[int, int], Row] = field(default_factory=lambda: {(0, 3): DEAD})
    sent: list[int] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)
    closed: bool = False
    taken: int = 0

    def work(self) -> None:
        """The worker takes the next record, and drops it if the store knows of its end."""
        if self.taken == len(self.sent):
            return
        run = self.sent[self.taken]
        self.taken += 1
        later = any(number > run or (number == run and attempt) for number, attempt in self.rows)
        if not later:
            self.ran.append(run)
            self.rows[run, 1] = row(run, 1, State.SUCCEEDED)


class Redriver:
    """Somebody who redrives, one step at a time, and may stop for ever after any of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps = iter(self._go())

    def step(self) -> bool:
        return next(self._steps, None) is not None

    def _go(self) -> Iterator[str]:
        world = self._world
        if world.closed:
            return
        yield "listed"
        ruling = rule(letter(), [world.rows[key] for key in sorted(world.rows)])
        yield "judged"
        if isinstance(ruling, Again):
            world.rows.setdefault((ruling.run, 0), row(ruling.run, 0, State.WAITING))
            yield "row"
            world.sent.append(ruling.run)
            yield "sent"
        world.closed = True
        yield "closed"


@given(st.lists(st.integers(0, 3), max_size=40))
def test_it_runs_once_whoever_redrives_and_dies(turns: list[int]) -> None:
    """Three redrive at once, each may die between any two steps, and the worker comes in between.

    Afterwards one more redrive brings all to its end.
    """
    world = World()
    redrivers = [Redriver(world) for _ in range(3)]
    for turn in turns:
        if turn == 3:
            world.work()
        else:
            redrivers[turn].step()
    last = Redriver(world)
    while last.step():
        pass
    for _ in world.sent:
        world.work()
    assert set(world.sent) == {1}
    assert world.ran == [1]
    assert world.closed
