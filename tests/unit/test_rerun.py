"""Further runs of tasks: their numbers hold over a crash of whoever asked for them.

Broken on purpose once, and seen to fail: `next_run` that does not look for its own marker.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.rerun import Announced, Asker, Further, announce, next_run
from taskstream.admin.stores import store_rows
from taskstream.core.errors import StoreError, StoreUnavailable
from taskstream.core.ids import new_id
from taskstream.core.states import State
from taskstream.results.row import Partition, Row
from taskstream.results.store import Written

MARKER = "replay/monday"
ASKER = Asker(MARKER, "ann@desk", "the bad deploy")


class Store:
    """Rows in memory, with what the announcements need of a store."""

    def __init__(self, error: StoreError | None = None) -> None:
        self.rows: dict[tuple[str, int, int], Row] = {}
        self.batches: list[tuple[Partition, int]] = []
        self._error = error

    def read_many(self, task_ids: Sequence[str]) -> dict[str, list[Row]]:
        """As `ResultStore.read_many`."""
        return {
            one: sorted((row for row in self.rows.values() if row.task_id == one), key=lambda row: row[1:3])
            for one in task_ids
        }  # fmt: skip

    def write(self, partition: Partition, rows: Sequence[Row], written: Written) -> None:
        """As `ResultStore.write`."""
        self.batches.append((partition, len(rows)))
        self.rows |= {(row.task_id, row.run, row.attempt): row for row in rows}
        written(self._error)


def row(run: int, attempt: int, *, source: str = "t/0/1", task_id: str = "a") -> Row:
    """A row of a task."""
    return Row(task_id, run, attempt, State.SUCCEEDED, "charge", 1, source=source)


def further(task_id: str = "a", run: int = 0) -> Further:
    """A task that is to run again."""
    return Further(task_id, "charge", run, "tasks", "normal", "c-1", 5.0)


@pytest.mark.parametrize(
    ("rows", "told", "run"),
    [
        ([], 0, 1),
        ([], -1, 0),
        ([row(0, 1)], 0, 1),
        ([row(0, 1), row(1, 0), row(1, 1)], 0, 2),
        ([row(0, 1)], 4, 5),
        ([row(0, 1), row(1, 0, source="replay/tuesday")], 0, 2),
    ],
)
def test_a_run_is_the_one_after_the_last(rows: list[Row], told: int, run: int) -> None:
    """By rows, by what the record knows, or the first of all in a store that has seen nothing."""
    assert next_run(rows, told, MARKER) == Announced(run, known=False)


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=6))
def test_who_asks_again_gets_the_same_run(told: int, others: list[tuple[int, int]]) -> None:
    """Whatever has happened to the task since."""
    store = Store()
    before = announce(store, [further(run=told)], asker=ASKER, now=1.0)  # type: ignore[arg-type]
    for run, attempt in others:
        store.rows.setdefault(("a", run, attempt), row(run, attempt))
    assert announce(store, [further(run=told)], asker=ASKER, now=9.0) == before  # type: ignore[arg-type]


def test_an_announced_run_waits_and_says_who_asked() -> None:
    """Its row has number 0, which no attempt has."""
    store = Store()
    assert announce(store, [further()], asker=ASKER, now=7.0) == {"a": 1}  # type: ignore[arg-type]
    ((key, told),) = store.rows.items()
    assert key == ("a", 1, 0)
    assert (told.state, told.source, told.task, told.queue, told.priority) == (
        State.WAITING, MARKER, "charge", "tasks", "normal",
    )  # fmt: skip
    assert (told.key, told.published, told.written_us) == ("c-1", 5.0, 7_000_000)
    assert (told.worker, told.error, told.error_type) == ("ann@desk", "the bad deploy", None)


def test_rows_of_one_partition_are_written_together() -> None:
    """And none of another with them, which a store would refuse."""
    store = Store()
    tasks = [further(new_id()) for _ in range(50)]
    runs = announce(store, tasks, asker=ASKER, now=1.0)  # type: ignore[arg-type]
    assert runs == dict.fromkeys([one.id for one in tasks], 1)
    assert sum(count for _, count in store.batches) == 50
    assert len({partition for partition, _ in store.batches}) == len(store.batches)


def test_a_row_that_is_not_stored_is_an_error() -> None:
    """Nothing may be sent whose run is not on record."""
    with pytest.raises(StoreUnavailable):
        store_rows(Store(StoreUnavailable("away")), [row(1, 0)], within=0.1)  # type: ignore[arg-type]
