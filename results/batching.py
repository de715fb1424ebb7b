"""Groups rows by partition into batches, and sees each of them into the store.

Nothing waits for company: a row leaves at once while fewer than `EAGER` batches are under way; beyond
that rows gather, by partition, until one of those is answered. So a lone row is fast, and under load
the batches grow by themselves. Only where rows of many partitions wait, which no waiting would bring
together, are there as many requests under way as partitions, up to `in_flight`.

Invariant: each ticket that was added comes back exactly once, by `stored` or by `refused`. A write
of unknown outcome is repeated, with the same rows, until it is known; nothing is ever dropped.

One thread owns all state. Other threads, the store's callbacks among them, only put a message in
its inbox.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import StoreError, StoreUnavailable
from taskstream.observability import logs, table
from taskstream.observability.metrics import Metrics
from taskstream.results.row import Partition, Row, partition_of
from taskstream.results.store import ResultStore

T = TypeVar("T")

MAX_ROWS = 100
"""Rows of one batch at most: beyond this a larger batch saves next to nothing."""

MAX_BYTES = 1024 * 1024
"""What the rows of one batch weigh at most, unless a single one weighs more."""

EAGER = 3
"""How many batches are under way before rows gather. With more of them, batches stay small, and a
store works longer on each row."""

_log = logs.logger(__name__)


class Batcher(Generic[T]):
    """Writes rows; see the module.

    Args:
        store: where to.
        stored: called with the tickets of rows that are in the store; from the writer thread only.
        refused: called with the ticket of a row that the store refuses, and why; likewise.
        metrics: where batches are measured; None for nowhere.
        system: how the metrics call the store: cassandra or sqlite.
        clock: times the pauses between repeats.
        in_flight: how many batches are under way at once.
        max_rows: rows of one batch at most.
        max_bytes: their weight at most; a row that alone weighs more goes alone.
        first_pause: seconds before a write is repeated for the first time; doubles each time.
        longest_pause: seconds where that ends.

    The two callbacks must not raise: an exception there ends the writer thread, and from then on
    `add` and `close` raise it.
    """

    def __init__(
        self,
        store: ResultStore,
        *,
        stored: Callable[[list[T]], None],
        refused: Callable[[T, StoreError], None],
        metrics: Metrics | None = None,
        system: str = "cassandra",
        clock: Clock = SYSTEM_CLOCK,
        in_flight: int = 32,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        first_pause: float = 0.05,
        longest_pause: float = 2.0,
    ) -> None:
        self._store = store
        self._stored = stored
        self._refused = refused
        self._metrics = metrics
        self._system = system
        self._clock = clock
        self._in_flight = in_flight
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._first_pause = first_pause
        self._longest_pause = longest_pause

        self._inbox: SimpleQueue[Sequence[tuple[Row, T]] | _Answer[T] | _Stop] = SimpleQueue()
        # A condition enters by a function of Python, a lock does not: `add` is called for every row.
        self._count = threading.Lock()
        self._counting = threading.Condition(self._count)
        self._pending = 0
        self._failure: BaseException | None = None
        self._closed = False

        # From here on the writer thread's alone.
        self._gathered: dict[Partition, deque[tuple[Row, T]]] = {}
        self._halves: deque[_Batch[T]] = deque()
        self._repeats: list[tuple[float, int, _Batch[T]]] = []
        self._under_way = 0
        self._unconfirmed = 0
        self._repeats_made = 0

        self._thread = threading.Thread(target=self._run, name="taskstream-results", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many rows were added and are neither stored nor refused yet."""
        return self._pending

    @property
    def healthy(self) -> bool:
        """Whether the store answers: no write of unknown outcome is waiting to be repeated."""
        return self._unconfirmed == 0 and self._failure is None

    def add(self, rows: Sequence[tuple[Row, T]]) -> None:
        """Takes rows with the caller's ticket for each; returns at once, from any thread.

        It never waits: the caller bounds what it adds, by `pending`. Raises StoreError once closed.
        """
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise StoreError("this batcher is closed: rows added now would never be written")
        with self._count:
            self._pending += len(rows)
        self._inbox.put(rows)

    def await_pending(self, most: int) -> None:
        """Waits until no more than so many rows are pending: how a caller bounds what it adds."""
        with self._counting:
            self._counting.wait_for(lambda: self._pending <= most or self._failure is not None)

    def close(self, timeout: float) -> int:
        """Waits until all rows are seen to, `timeout` seconds at most, and ends the thread.

        Returns:
            How many rows are left over: their outcome is unknown. 0 is the good answer. Safe to
            call again.
        """
        give_up_at = time.monotonic() + timeout
        if not self._closed:
            self._closed = True
            with self._counting:
                self._counting.wait_for(
                    lambda: not self._pending or self._failure is not None, timeout
                )
            self._inbox.put(_Stop())
        self._thread.join(max(0.0, give_up_at - time.monotonic()))
        if self._failure is not None:
            raise self._failure
        return self._pending

    # The writer thread

    def _run(self) -> None:
        try:
            while self._take_messages():
                self._send_what_fits()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's threads
            with self._counting:
                self._failure = error
                self._counting.notify_all()

    def _take_messages(self) -> bool:
        """Waits for a message or the next repeat, then takes all there is; False to stop."""
        try:
            message = self._inbox.get(timeout=self._until_repeat())
            while True:
                if isinstance(message, _Answer):
                    self._measure(message)
                    self._answered(message.batch, message.error)
                elif isinstance(message, _Stop):
                    return False
                else:
                    self._gather(message)
                message = self._inbox.get_nowait()
        except Empty:
            return True

    def _until_repeat(self) -> float | None:
        """Seconds until a repeat can be sent; None where only a message can change anything."""
        if not self._repeats or self._under_way >= self._room:
            return None
        return max(0.0, self._repeats[0][0] - self._clock.monotonic())

    def _gather(self, rows: Sequence[tuple[Row, T]]) -> None:
        gathered = self._gathered
        for item in rows:
            partition = partition_of(item[0].task_id)
            group = gathered.get(partition)
            if group is None:
                gathered[partition] = group = deque()
            group.append(item)

    def _send_what_fits(self) -> None:
        while self._under_way < self._room:
            batch = self._next_batch()
            if batch is None:
                return
            self._under_way += 1
            answer = self._answer_to(batch, self._clock.monotonic())
            try:
                self._store.write(batch.partition, [row for row, _ in batch.items], answer)
            except Exception as error:  # noqa: BLE001 - a row that can't be bound: halving finds it
                answer(StoreError(f"a row can't be written: {type(error).__name__}: {error}"))

    def _answer_to(self, batch: "_Batch[T]", sent: float) -> Callable[[StoreError | None], None]:
        clock = self._clock
        return lambda error: self._inbox.put(_Answer(batch, error, clock.monotonic() - sent))

    @property
    def _room(self) -> int:
        """How many batches may be under way now."""
        return min(self._in_flight, max(EAGER, len(self._gathered)))

    def _next_batch(self) -> "_Batch[T] | None":
        """What to write next: a half, a repeat that is due, else the partition that waited longest.

        A write that waits to be repeated keeps its place in flight. So a store that is down gets
        no more than `in_flight` requests however long it lasts, while a single partition that is
        unavailable leaves the others their places.
        """
        if self._halves:
            return self._halves.popleft()
        if self._repeats and self._repeats[0][0] <= self._clock.monotonic():
            return heappop(self._repeats)[2]
        if not self._gathered or self._under_way + len(self._repeats) >= self._room:
            return None
        partition, group = next(iter(self._gathered.items()))
        del self._gathered[partition]
        items = self._cut(group)
        if group:
            # Back at the end of the line, so that a busy partition doesn't hold up the others.
            self._gathered[partition] = group
        return _Batch(partition, items)

    def _cut(self, group: "deque[tuple[Row, T]]") -> list[tuple[Row, T]]:
        """Takes from a group what makes one batch."""
        items = [group.popleft()]
        size = items[0][0].size_bytes
        while group and len(items) < self._max_rows:
            size += group[0][0].size_bytes
            if size > self._max_bytes:
                break
            items.append(group.popleft())
        return items

    def _measure(self, answer: "_Answer[T]") -> None:
        if self._metrics is None:
            return
        error, system = answer.error, self._system
        kind = "" if error is None else type(error).__name__
        labels = {table.STORE_SYSTEM.name: system, table.FAILURE.name: kind}
        self._metrics.histogram(table.STORE_DURATION, **labels).observe(answer.seconds)
        if error is None:
            self._metrics.histogram(table.ROWS_PER_BATCH).observe(len(answer.batch.items))
        else:
            self._metrics.counter(table.STORE_FAILURES, system=system, reason=kind).inc()

    def _answered(self, batch: "_Batch[T]", error: StoreError | None) -> None:
        self._under_way -= 1
        if isinstance(error, StoreUnavailable):
            self._repeat(batch, error)
            return
        if batch.repeats:
            self._unconfirmed -= 1
            if not self._unconfirmed:
                _log.info("the result store answers again")
        if error is None:
            self._stored([ticket for _, ticket in batch.items])
            self._settled(len(batch.items))
        elif len(batch.items) == 1:
            self._refused(batch.items[0][1], error)
            self._settled(1)
        else:
            half = len(batch.items) // 2
            self._halves.append(_Batch(batch.partition, batch.items[:half]))
            self._halves.append(_Batch(batch.partition, batch.items[half:]))

    def _repeat(self, batch: "_Batch[T]", error: StoreUnavailable) -> None:
        if not batch.repeats:
            if not self._unconfirmed:
                _log.warning(
                    "the result store does not answer: results wait, and offsets with them",
                    error=str(error),
                    advice=logs.LOOK_AT_STORE,
                )
            self._unconfirmed += 1
        pause = min(self._longest_pause, self._first_pause * 2 ** min(batch.repeats, 30))
        again = _Batch(batch.partition, batch.items, batch.repeats + 1)
        # The count keeps apart what is due at the same instant: batches themselves don't compare.
        self._repeats_made += 1
        heappush(self._repeats, (self._clock.monotonic() + pause, self._repeats_made, again))

    def _settled(self, count: int) -> None:
        with self._counting:
            self._pending -= count
            self._counting.notify_all()


@dataclass(frozen=True, slots=True)
class _Batch(Generic[T]):
    """Rows of one partition that are written together.

    Args:
        partition: where they live.
        items: each row and its ticket.
        repeats: how often this write was repeated; above 0 its outcome was unknown once.
    """

    partition: Partition
    items: list[tuple[Row, T]]
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    batch: _Batch[T]
    error: StoreError | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Stop:
    pass
