"""Who runs next in a child."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.child.line import PATIENCE, Line
from taskstream.consumer.pipe import Turn

TURNS = st.sampled_from(list(Turn))


def line(slots: int, reserved: int) -> Line[tuple[Turn, int]]:
    """A line of items that know their turn."""
    return Line(slots, reserved)


def filled(slots: int, reserved: int, turns: list[Turn]) -> Line[tuple[Turn, int]]:
    """A line in which these wait, numbered in order."""
    made = line(slots, reserved)
    for number, turn in enumerate(turns):
        made.push((turn, number), turn)
    return made


def popped(made: Line[tuple[Turn, int]]) -> list[tuple[Turn, int]]:
    """All that have a slot now."""
    out = []
    while (item := made.pop()) is not None:
        out.append(item)
    return out


def test_an_urgent_one_finds_a_slot_whatever_else_runs() -> None:
    """Common ones fill all but the reserved slots, and urgent ones take those at once."""
    made = filled(10, 2, [Turn.COMMON] * 50 + [Turn.SOON] * 5)
    assert len(popped(made)) == 8
    made.push((Turn.URGENT, 99), Turn.URGENT)
    assert popped(made) == [(Turn.URGENT, 99)]
    made.push((Turn.URGENT, 100), Turn.URGENT)
    made.push((Turn.URGENT, 101), Turn.URGENT)
    assert popped(made) == [(Turn.URGENT, 100)]
    made.free(Turn.COMMON)
    assert popped(made) == [(Turn.URGENT, 101)], "before those that have waited longer"


def test_the_rest_moves_behind_any_number_of_urgent_ones() -> None:
    """With one slot and urgent ones always waiting, every fourth attempt is a common one."""
    made = filled(1, 0, [Turn.COMMON] * 100 + [Turn.URGENT] * 300)
    ran = []
    while (item := made.pop()) is not None:
        ran.append(item[0])
        made.free(item[0])
    assert ran[: 4 * 90].count(Turn.COMMON) == 90
    assert PATIENCE == 4


@given(
    slots=st.integers(1, 6),
    data=st.data(),
    steps=st.lists(TURNS | st.none(), max_size=60),
)
def test_slots_hold_and_nobody_waits_for_nothing(
    slots: int, data: st.DataObject, steps: list[Turn | None]
) -> None:
    """Never more than the slots, never a common one in a reserved slot, never a free slot for nothing.

    Of each turn the attempts run in the order they came. A step pushes one, or ends one that runs.
    """
    reserved = data.draw(st.integers(0, slots - 1))
    made = line(slots, reserved)
    running: list[Turn] = []
    waiting: dict[Turn, list[int]] = {turn: [] for turn in Turn}
    for number, step in enumerate(steps):
        if step is not None:
            made.push((step, number), step)
            waiting[step].append(number)
        elif running:
            made.free(running.pop(data.draw(st.integers(0, len(running) - 1))))
        for turn, which in popped(made):
            assert waiting[turn].pop(0) == which
            running.append(turn)
        common = sum(turn is not Turn.URGENT for turn in running)
        assert len(running) <= slots
        assert common <= slots - reserved
        if len(running) < slots:
            assert not waiting[Turn.URGENT]
            assert common == slots - reserved or not waiting[Turn.SOON] + waiting[Turn.COMMON]
        assert len(made) == sum(map(len, waiting.values()))
