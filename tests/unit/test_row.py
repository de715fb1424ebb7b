"""Rows: where they live, which one is current, and how they become columns."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.ids import derived_id, time_of
from taskstream.core.states import State
from taskstream.results.columns import cells, due_cell, row_of, text_cell, time_cell
from taskstream.results.row import SHARD_MS, SHARDS, Row, current, partition_of

times = st.floats(min_value=0, max_value=4e9, allow_nan=False)


def row(task_id: str = "own", run: int = 0, attempt: int = 1) -> Row:
    return Row(
        task_id=task_id,
        run=run,
        attempt=attempt,
        state=State.DEAD,
        task="charge",
        written_us=7_000_000,
    )


@given(st.text(max_size=200))
def test_partition_is_stable_and_in_range(task_id: str) -> None:
    """Every id has one partition, whose numbers fit their columns."""
    partition = partition_of(task_id)
    assert partition == partition_of(task_id)
    assert 0 <= partition.shard < SHARDS
    assert -(2**31) <= partition.bucket < 2**31


@given(times)
def test_bucket_of_a_uuid7_is_its_minute(seconds: float) -> None:
    """Tasks published in the same minute share a bucket, whoever publishes them."""
    task_id = derived_id(seconds, "fact")
    assert partition_of(task_id).bucket == int(time_of(task_id)) // 60


@given(st.text(max_size=50).filter(lambda text: "-7" not in text))
def test_own_ids_never_share_a_bucket_with_a_minute(task_id: str) -> None:
    """A caller's own id lives in a range of its own."""
    assert partition_of(task_id).bucket < 0


def test_ids_of_one_minute_use_every_shard() -> None:
    """The shards of a minute are all in use, so that its rows don't meet on one node."""
    moments = [derived_id(60.0 + step * SHARD_MS / 1000, step) for step in range(SHARDS)]
    assert {partition_of(task_id).shard for task_id in moments} == set(range(SHARDS))
    together = {partition_of(derived_id(60.0, number)) for number in range(100)}
    assert len(together) == 1, "what is published in one moment is stored in one batch"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), unique=True))
def test_current_row_is_the_highest_run_then_attempt(numbers: list[tuple[int, int]]) -> None:
    """Of any rows in any order the last attempt of the last run tells the state."""
    found = current([row(run=run, attempt=attempt) for run, attempt in numbers])
    assert (found and (found.run, found.attempt)) == max(numbers, default=None)


def test_birth_is_told_by_the_id_else_by_the_publish_time_else_by_the_write() -> None:
    """Every row has a place among the newest tasks."""
    assert row(derived_id(1_700_000_000.5)).born == 1_700_000_000.5
    assert row()._replace(published=12.5).born == 12.5
    assert row().born == 7.0


@given(times)
def test_due_time_is_never_kept_early(due: float) -> None:
    """A due time read back is the first whole millisecond that is not before it."""
    kept = int.from_bytes(due_cell(due), "big") / 1000
    assert kept >= due - 1e-6
    assert kept - due <= 0.001 + 1e-6


@pytest.mark.parametrize("milliseconds", [1, 1_700_000_000_001, 1_700_000_000_999])
def test_whole_milliseconds_are_kept_exactly(milliseconds: int) -> None:
    """Rounding up doesn't push a due time that is whole already."""
    assert int.from_bytes(due_cell(milliseconds / 1000), "big") == milliseconds
    assert int.from_bytes(time_cell(milliseconds / 1000), "big") == milliseconds


@given(st.text(alphabet=st.characters(categories=["Cs", "L"])))
def test_any_text_has_a_cell(text: str) -> None:
    """What Python can hold in an error's text can be stored, lone surrogates too."""
    text_cell(text).decode()


def test_columns_come_back_as_the_row() -> None:
    """What the driver returns for a row's columns is that row."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000)  # noqa: DTZ001 - the driver's are naive
    seconds = moment.replace(tzinfo=UTC).timestamp()
    values = (1, 2, "id", 0, 3, "retrying", "charge", "", "high", "", None, moment, None, moment,
              moment, True, b"", "", "boom", "", "", "t/0/1", 2, 99)  # fmt: skip
    assert row_of(values) == Row(
        task_id="id", run=0, attempt=3, state=State.RETRYING, task="charge", written_us=99,
        priority="high", published=seconds, finished=seconds, due=seconds, error="boom", source="t/0/1",
        strikes=2,
    )  # fmt: skip


def test_missing_values_become_empty_cells() -> None:
    """None is never bound: it would leave a tombstone, and an older value behind an unset one."""
    (written,) = cells(partition_of("own"), [row()])
    assert all(isinstance(cell, bytes) for cell in written)
    assert written.count(b"") == 14


def test_weight_counts_the_value_and_the_texts() -> None:
    """A heavy result or traceback weighs what it is."""
    heavy = row()._replace(value=b"x" * 1000, traceback="y" * 500)
    assert math.isclose(heavy.size_bytes - row().size_bytes, 1500)
