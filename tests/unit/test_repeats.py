"""Which of many like log lines are written.

Broken on purpose once, and seen to fail: counts that are lost when a kind is forgotten, a kind that begins anew
while it goes on, and numbers as a difference.
"""

import logging
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.observability.repeats import KINDS, WINDOW, Kind, Repeats, kind_of

CASSANDRA = "cassandra.cluster"
RECONNECT = "Error attempting to reconnect to 127.0.0.{}:9042, scheduling retry in {}.0 seconds: [Errno {}] no"


def like(logger: str, level: int, text: str) -> Kind | None:
    return kind_of(logger, level, lambda: text)


def test_of_a_library_one_line_of_a_kind_is_enough() -> None:
    """Lines that differ in numbers, and in what stands in brackets, are of one kind."""
    kinds = {like(CASSANDRA, logging.WARNING, RECONNECT.format(n, n, n)) for n in range(9)}
    (kind,) = kinds
    assert kind is not None
    assert kind.first == 1
    assert like(CASSANDRA, logging.WARNING, "something else") != kind
    assert like(CASSANDRA, logging.ERROR, RECONNECT.format(1, 1, 1)) != kind


@pytest.mark.parametrize(
    ("logger", "level"),
    [
        ("shop.tasks", logging.ERROR), ("taskstream.broker.group", logging.INFO),
        (CASSANDRA, logging.DEBUG), ("cassandrax", logging.ERROR), ("root", logging.ERROR),
    ],
)  # fmt: skip
def test_what_is_a_users_own_or_rare_is_always_written(logger: str, level: int) -> None:
    """Nobody may hold back what a task has to say."""
    assert like(logger, level, "x") is None


def test_a_few_of_our_warnings_are_written_for_each_may_name_another_task() -> None:
    """Then they are counted, too."""
    kind = like("taskstream.consumer.parent.settling", logging.WARNING, "Kafka did not take it")
    assert kind is not None
    repeats: Repeats[int] = Repeats()
    assert (
        [repeats.admits(kind, partial(int, n), 0.0) for n in range(8)].count(True)
        == kind.first
        == 5
    )


def test_what_goes_on_is_told_by_its_count_and_then_forgotten() -> None:
    """After each window: the last line, how often it came, and in how many seconds."""
    kind, repeats = Kind("cassandra", 30, "away", 1), Repeats[str]()
    assert repeats.admits(kind, lambda: "first", 0.0)
    assert not repeats.due(0.0)
    assert not repeats.admits(kind, lambda: "second", 1.0)
    assert not repeats.admits(kind, lambda: "third", WINDOW - 1)
    assert not repeats.due(WINDOW - 1)
    assert repeats.due(WINDOW) == [("third", 2, WINDOW)]
    assert not repeats.admits(kind, lambda: "fourth", WINDOW + 1)
    assert repeats.due(2 * WINDOW) == [("fourth", 1, WINDOW)]
    assert not repeats.due(3 * WINDOW)
    assert repeats.admits(kind, lambda: "after a quiet while", 3 * WINDOW + 1)


_KINDS = st.integers(0, KINDS + 20).map(lambda n: Kind("cassandra", 30, str(n), 1))


@given(st.lists(st.tuples(_KINDS, st.floats(0.0, 20.0)), max_size=200))
def test_no_line_is_lost_from_the_count(said: list[tuple[Kind, float]]) -> None:
    """Each is written or counted in a summary, and what is remembered stays bounded."""
    repeats: Repeats[int] = Repeats()
    now, written, told = 0.0, 0, 0
    for kind, pause in said:
        now += pause
        written += repeats.admits(kind, partial(id, kind), now)
        told += sum(summary.times for summary in repeats.due(now))
    told += sum(summary.times for summary in repeats.due(now + 2 * WINDOW))
    assert written + told == len(said)


def test_however_many_kinds_there_are_few_are_remembered() -> None:
    """A library whose every line is another one must not fill the memory."""
    repeats: Repeats[int] = Repeats()
    for n in range(3 * KINDS):
        kind = Kind("cassandra", 30, str(n), 1)
        assert repeats.admits(kind, partial(int, n), float(n) / 1000)
        repeats.admits(kind, partial(int, n), float(n) / 1000)
        told = [summary.times for summary in repeats.due(float(n) / 1000)]
        assert told == ([1] if n >= KINDS else [])


def test_the_end_tells_what_was_only_counted() -> None:
    """Each kind once, whether its window is over or not; then nothing is left."""
    repeats, kinds = Repeats[str](), [Kind("cassandra", 30, text, 1) for text in ("a", "b", "c")]
    for kind in (*kinds, *kinds[:2], kinds[0]):
        repeats.admits(kind, lambda: "again", 0.0)
    assert repeats.rest(5.0) == [("again", 2, 5.0), ("again", 1, 5.0)]
    assert repeats.rest(5.0) == repeats.due(2 * WINDOW) == []
