"""The batcher: every row comes back once, whatever the store does."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskstream.core.errors import StoreError, StoreUnavailable
from taskstream.core.ids import derived_id
from taskstream.core.states import State
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Spread
from taskstream.results.batching import Batcher
from taskstream.results.row import Partition, Row, partition_of
from taskstream.results.search import Found, Mark, Search
from taskstream.results.store import Written

PATIENCE = 10.0


class StubStore:
    """A store in memory that fails on demand; last write wins by `written_us`, as in the real ones.

    Args:
        unavailable: how many writes don't get through, and say so.
        unknown: how many writes get through and say that they are unknown.
        refuses: tells the rows that are refused, and their whole batch with them.
        held: answers wait for `answer_all`.
    """

    def __init__(
        self,
        *,
        unavailable: int = 0,
        unknown: int = 0,
        refuses: Callable[[Row], bool] = lambda _: False,
        held: bool = False,
    ) -> None:
        self.unavailable = unavailable
        self.unknown = unknown
        self.refuses = refuses
        self.held = held
        self.rows: dict[tuple[str, int, int], Row] = {}
        self.writes: list[tuple[Partition, list[Row]]] = []
        self.asked = threading.Semaphore(0)
        self._answers: list[tuple[Written, StoreError | None]] = []

    def write(self, partition: Partition, rows: Sequence[Row], written: Written) -> None:
        self.writes.append((partition, list(rows)))
        error = self._apply(rows)
        if self.held:
            self._answers.append((written, error))
        else:
            written(error)
        self.asked.release()

    def _apply(self, rows: Sequence[Row]) -> StoreError | None:
        if self.unavailable:
            self.unavailable -= 1
            return StoreUnavailable("down")
        if any(self.refuses(row) for row in rows):
            return StoreError("no")
        for row in rows:
            name = (row.task_id, row.run, row.attempt)
            if name not in self.rows or row.written_us >= self.rows[name].written_us:
                self.rows[name] = row
        if self.unknown:
            self.unknown -= 1
            return StoreUnavailable("timed out")
        return None

    def wait_for_writes(self, count: int) -> None:
        for _ in range(count):
            assert self.asked.acquire(timeout=PATIENCE)

    def answer_all(self) -> None:
        answers, self._answers = self._answers, []
        for written, error in answers:
            written(error)

    def create(self) -> None: ...
    def connect(self) -> None: ...
    def read(self, task_id: str) -> list[Row]:
        return [row for name, row in sorted(self.rows.items()) if name[0] == task_id]

    def read_many(self, task_ids: Sequence[str]) -> dict[str, list[Row]]:
        return {task_id: self.read(task_id) for task_id in task_ids}

    def latest(self, limit: int) -> list[Row]:
        return list(self.rows.values())[:limit]

    def search(
        self, search: Search, limit: int, *, after: Mark | None = None, seconds: float = 1.0
    ) -> Found:
        raise NotImplementedError

    def close(self) -> None: ...


class Outcomes:
    """What came back of what was added."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.refused: dict[int, StoreError] = {}

    def refuse(self, ticket: int, error: StoreError) -> None:
        self.refused[ticket] = error


@contextmanager
def batching(
    store: StubStore,
    *,
    in_flight: int = 8,
    max_rows: int = 100,
    max_bytes: int = 1 << 20,
    metrics: Metrics | None = None,
) -> Iterator[tuple[Batcher[int], Outcomes]]:
    outcomes = Outcomes()
    batcher: Batcher[int] = Batcher(
        store,
        stored=outcomes.stored.extend,
        refused=outcomes.refuse,
        metrics=metrics,
        system="sqlite",
        in_flight=in_flight,
        max_rows=max_rows,
        max_bytes=max_bytes,
        first_pause=0.001,
        longest_pause=0.002,
    )
    yield batcher, outcomes
    batcher.close(PATIENCE)


def row(number: int = 0, *, minute: int = 0, written_us: int = 1, value: bytes = b"") -> Row:
    """A row of task `number`, all of a minute in one shard."""
    return Row(
        task_id=derived_id(1_700_000_040.0 + 60 * minute, number),
        run=0,
        attempt=1,
        state=State.SUCCEEDED,
        task="t",
        written_us=written_us,
        value=value,
    )


def test_lone_row_leaves_at_once() -> None:
    """A row isn't held back for company."""
    store = StubStore(held=True)
    with batching(store) as (batcher, outcomes):
        batcher.add([(row(), 0)])
        store.wait_for_writes(1)
        assert batcher.pending == 1
        store.answer_all()
        assert batcher.close(PATIENCE) == 0
        assert outcomes.stored == [0]


def test_rows_gather_while_batches_are_in_flight() -> None:
    """Under load the rows of a partition leave as one batch as soon as there is room."""
    store = StubStore(held=True)
    with batching(store, in_flight=1) as (batcher, outcomes):
        batcher.add([(row(0), 0)])
        store.wait_for_writes(1)
        for number in range(1, 6):
            batcher.add([(row(number), number)])
        store.held = False
        store.answer_all()
        assert batcher.close(PATIENCE) == 0
        assert [len(rows) for _, rows in store.writes] == [1, 5]
        assert outcomes.stored == [0, 1, 2, 3, 4, 5]


def test_batches_hold_one_partition_and_no_more_than_allowed() -> None:
    """A batch never mixes partitions, and is cut by rows and by weight."""
    store = StubStore()
    with batching(store, max_rows=10, max_bytes=3000) as (batcher, outcomes):
        light = [(row(number, minute=number % 3), number) for number in range(90)]
        heavy = [(row(number, value=b"x" * 1200), number) for number in range(90, 100)]
        huge = [(row(100, value=b"x" * 9000), 100)]
        batcher.add(light + heavy + huge)
        assert batcher.close(PATIENCE) == 0
        assert sorted(outcomes.stored) == list(range(101))
    for partition, rows in store.writes:
        assert {partition_of(row.task_id) for row in rows} == {partition}
        assert len(rows) <= 10
        assert len(rows) == 1 or sum(row.size_bytes for row in rows) <= 3000


def test_busy_partition_lets_the_others_pass() -> None:
    """Partitions take turns: what doesn't fit one batch goes to the end of the line."""
    store = StubStore()
    with batching(store, in_flight=1, max_rows=2) as (batcher, _):
        batcher.add([(row(number), number) for number in range(6)] + [(row(9, minute=1), 9)])
        batcher.close(PATIENCE)
        assert [len(rows) for _, rows in store.writes] == [2, 1, 2, 2]


@pytest.mark.parametrize("fault", ["unavailable", "unknown"])
def test_write_of_unknown_outcome_is_repeated_until_it_is_stored(fault: str) -> None:
    """An outage loses nothing: the same rows are written again, and each comes back once."""
    store = StubStore(unavailable=20) if fault == "unavailable" else StubStore(unknown=20)
    with batching(store, in_flight=2) as (batcher, outcomes):
        batcher.add([(row(number, minute=number % 4), number) for number in range(40)])
        assert batcher.close(PATIENCE) == 0
        assert sorted(outcomes.stored) == list(range(40))
        assert len(store.rows) == 40
        assert batcher.healthy


def test_unhealthy_while_a_write_is_unconfirmed_and_no_more_than_in_flight_are_asked() -> None:
    """A store that is down is not flooded, says so, and gets everything when it is back."""
    store = StubStore(unavailable=2, held=True)
    with batching(store, in_flight=2) as (batcher, outcomes):
        batcher.add([(row(number, minute=number), number) for number in range(5)])
        store.wait_for_writes(2)
        store.answer_all()
        store.wait_for_writes(2)
        unhealthy = not batcher.healthy
        assert unhealthy
        first, again = store.writes[:2], store.writes[2:]
        assert sorted(first, key=lambda write: write[0]) == sorted(
            again, key=lambda write: write[0]
        )
        store.held = False
        store.answer_all()
        assert batcher.close(PATIENCE) == 0
        assert batcher.healthy
        assert sorted(outcomes.stored) == [0, 1, 2, 3, 4]


def test_unavailable_partition_leaves_the_others_their_places() -> None:
    """One partition without its replicas doesn't hold up the rows of the others."""

    class OnePartitionDown(StubStore):
        def _apply(self, rows: Sequence[Row]) -> StoreError | None:
            if partition_of(rows[0].task_id) == lost and len(self.rows) < 20:
                return StoreUnavailable("no replicas")
            return super()._apply(rows)

    store = OnePartitionDown()
    lost = partition_of(row(0).task_id)
    with batching(store, in_flight=2, max_rows=1) as (batcher, outcomes):
        batcher.add([(row(0), 0)] + [(row(number, minute=1), number) for number in range(1, 21)])
        assert batcher.close(PATIENCE) == 0
        assert outcomes.stored[-1] == 0


@given(bad=st.sets(st.integers(0, 29), max_size=6), unknown=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_refused_rows_are_found_and_the_others_stored(bad: set[int], unknown: int) -> None:
    """A refusal is traced to its rows by halving; their neighbours are stored."""
    rows = [row(number) for number in range(30)]
    refused = {rows[number].task_id for number in bad}
    store = StubStore(refuses=lambda row: row.task_id in refused, unknown=unknown)
    with batching(store) as (batcher, outcomes):
        batcher.add([(row, number) for number, row in enumerate(rows)])
        assert batcher.close(PATIENCE) == 0
        assert set(outcomes.refused) == bad
        assert sorted(outcomes.stored) == sorted(set(range(30)) - bad)


@given(
    seed=st.randoms(use_true_random=False),
    unavailable=st.integers(0, 5),
    unknown=st.integers(0, 5),
    in_flight=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_any_order_of_writes_converges(
    seed: Random, unavailable: int, unknown: int, in_flight: int
) -> None:
    """However writes of the same rows are ordered, repeated or lost on the way, the latest stands."""
    versions = [row(number, minute=number % 2, written_us=version, value=b"%d" % version)
                for number in range(4) for version in range(5)]  # fmt: skip
    seed.shuffle(versions)
    store = StubStore(unavailable=unavailable, unknown=unknown)
    with batching(store, in_flight=in_flight, max_rows=3) as (batcher, outcomes):
        for ticket, version in enumerate(versions):
            batcher.add([(version, ticket)])
        assert batcher.close(PATIENCE) == 0
        assert sorted(outcomes.stored) == list(range(20))
    assert sorted(row.value or b"" for row in store.rows.values()) == [b"4"] * 4


def test_rows_from_many_threads_all_come_back() -> None:
    """Any thread may add."""
    store = StubStore()
    with batching(store) as (batcher, outcomes):
        rows = [row(number, minute=number % 5) for number in range(400)]

        def add(first: int) -> None:
            for number in range(first, 400, 4):
                batcher.add([(rows[number], number)])

        threads = [threading.Thread(target=add, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert batcher.close(PATIENCE) == 0
        assert sorted(outcomes.stored) == list(range(400))


def test_batches_are_measured_and_failures_counted() -> None:
    """Each answer by what it says; of those that the store took, how many rows there were."""
    metrics = Metrics()
    store = StubStore(unavailable=2, refuses=lambda found: found.task_id == row(1).task_id)
    with batching(store, metrics=metrics) as (batcher, outcomes):
        batcher.add([(row(0), 0), (row(1), 1)])
        batcher.await_pending(0)
        assert outcomes.stored == [0]
    durations = metrics.series(table.STORE_DURATION)
    counts = {
        labels: sum(one.counts) for labels, one in durations.items() if isinstance(one, Spread)
    }
    failed = {("sqlite", "StoreUnavailable"): 2, ("sqlite", "StoreError"): 2}
    assert counts == {("sqlite", ""): 1, **failed}
    assert metrics.series(table.STORE_FAILURES) == failed
    rows = metrics.series(table.ROWS_PER_BATCH)[()]
    assert isinstance(rows, Spread)
    assert rows.total == 1


def test_close_tells_what_is_left() -> None:
    """A store that doesn't answer leaves a count behind, not a hang; then nothing more is taken."""
    store = StubStore(held=True)
    with batching(store) as (batcher, outcomes):
        batcher.add([(row(0), 0), (row(1), 1)])
        store.wait_for_writes(1)
        assert batcher.close(0.01) == 2
        assert outcomes.stored == []
        with pytest.raises(StoreError, match="closed"):
            batcher.add([(row(2), 2)])


def test_callback_that_raises_is_not_swallowed() -> None:
    """A broken caller is told so, instead of waiting for rows that never come back."""

    def broken(tickets: list[int]) -> None:
        raise ZeroDivisionError

    batcher: Batcher[int] = Batcher(StubStore(), stored=broken, refused=lambda ticket, error: None)
    batcher.add([(row(), 0)])
    with pytest.raises(ZeroDivisionError):
        batcher.close(PATIENCE)
    assert not batcher.healthy
