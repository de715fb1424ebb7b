"""Rows as the events topic tells them."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.child.history import events
from taskstream.core.states import State
from taskstream.results.history import (
    CUT_CHARACTERS,
    LARGEST_ROW_BYTES,
    columns,
    newest,
    rows_in,
)
from taskstream.results.row import Row
from taskstream.schemas.records import Records

OURS = Records()

texts = st.text(st.characters(codec="utf-8"), max_size=20)
some_texts = st.none() | texts.filter(bool)
times = st.none() | st.integers(1, 4_000_000_000_000_000).map(lambda micros: micros / 1e6)
small = st.integers(0, 2**31 - 1)

rows = st.builds(
    Row,
    task_id=texts,
    run=small,
    attempt=small,
    state=st.sampled_from(State),
    task=texts,
    written_us=st.integers(0, 2**62),
    queue=texts,
    priority=texts,
    key=some_texts,
    worker=texts,
    published=times,
    started=times,
    finished=times,
    due=times,
    counts=st.booleans(),
    value=st.none() | st.binary(min_size=1, max_size=20),
    error_type=some_texts,
    error=some_texts,
    traceback=some_texts,
    trace_id=some_texts,
    source=texts,
    strikes=small,
)


def _told(values: list[bytes]) -> list[Row]:
    return [row for value in values for row in rows_in(OURS.decode(value)[1])]


@given(st.lists(rows, min_size=1, max_size=5))
def test_what_is_told_is_the_row(some: list[Row]) -> None:
    """Every row comes back from its event as it was, to the microsecond."""
    assert _told(events(some, OURS)) == some


def test_a_row_too_large_is_told_without_its_bulk_and_says_so() -> None:
    """What it was, and how it ended, is told all the same."""
    row = Row("id", 0, 1, State.DEAD, "t", 7, value=b"x", traceback="a" * LARGEST_ROW_BYTES + "end")
    told = columns([row._replace(traceback="short"), row])
    assert told["whole"] == [True, False]
    (small_one, large) = rows_in(told)
    assert small_one.value == b"x"
    assert (large.state, large.value) == (State.DEAD, None)
    assert large.traceback is not None
    assert large.traceback.endswith("end")
    assert len(large.traceback) == CUT_CHARACTERS


def test_many_rows_are_few_records() -> None:
    """A record holds what weighs a quarter of a megabyte, more only for a single row."""
    row = Row("id", 0, 1, State.SUCCEEDED, "t", 7, value=b"x" * 100_000)
    assert [len(_told([one])) for one in events([row] * 5, OURS)] == [2, 2, 1]


@given(st.lists(rows, max_size=5), st.randoms())
def test_of_rows_told_twice_the_last_written_counts(some: list[Row], chance: Random) -> None:
    """In whatever order they are read."""
    later = [row._replace(written_us=row.written_us + 1, error="later") for row in some]
    mixed = [*some, *later, *some]
    chance.shuffle(mixed)
    assert all(row.error == "later" for row in newest(mixed).values())
    assert set(newest(mixed)) == {(row.task_id, row.run, row.attempt) for row in some}
