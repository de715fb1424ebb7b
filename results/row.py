"""One row per attempt, and the partition it lives in.

The state of a task is the row with the highest (run, attempt). Rows commute: each write sets all
columns of its row under one timestamp, so any order of writes and repeats ends the same.
"""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

from taskstream.core.ids import is_uuid7, milliseconds_of, time_of
from taskstream.core.states import State

SHARDS = 8
"""Partitions per minute; fixed for a store's life."""

_USUAL_BYTES = 300
"""About what all columns weigh that are names and numbers."""

SHARD_MS = 16
"""Milliseconds of tasks that share a shard: rows that are written together fit one batch, and yet the
next moment's go elsewhere. Fixed for a store's life."""


class Row(NamedTuple):
    """What is known of one attempt. Times are seconds since 1970 in UTC, None where there is none.

    Args:
        task_id: the task's id.
        run: 0 for the first publish, +1 for each redrive or replay.
        attempt: 1 for the first try.
        state: a judged state (`retrying` or a final one), `waiting` for a redrive, or `running` for an
            attempt that a process may have died of before.
        task: the task's name; empty where the record didn't say.
        written_us: the write timestamp in microseconds since 1970; the highest one wins whole.
        queue: the queue it came from.
        priority: the priority it came with.
        key: the ordering key.
        worker: who ran it.
        published: when it was first published.
        started: when this attempt started.
        finished: when it was judged.
        due: for `retrying`, when the next attempt may start.
        counts: whether this attempt counts for the retry policy.
        value: the result, framed Avro; None where there is none.
        error_type: class name of the error, or our reason.
        error: its text.
        traceback: its traceback as text.
        trace_id: 32 hex digits.
        source: topic, partition and offset of the record, `topic/partition/offset`.
        strikes: how often this attempt was under suspicion when it was given out: the process that had it
            before died, or may have.
    """

    task_id: str
    run: int
    attempt: int
    state: State
    task: str
    written_us: int
    queue: str = ""
    priority: str = ""
    key: str | None = None
    worker: str = ""
    published: float | None = None
    started: float | None = None
    finished: float | None = None
    due: float | None = None
    counts: bool = True
    value: bytes | None = None
    error_type: str | None = None
    error: str | None = None
    traceback: str | None = None
    trace_id: str | None = None
    source: str = ""
    strikes: int = 0

    @property
    def size_bytes(self) -> int:
        """About how much a write of this row weighs: what has no bound, and as much again for the rest."""
        size_bytes = _USUAL_BYTES + len(self.task_id)
        # Told one by one, for it is asked of every row.
        if self.value:
            size_bytes += len(self.value)
        if self.key:
            size_bytes += len(self.key)
        if self.error:
            size_bytes += len(self.error)
        if self.traceback:
            size_bytes += len(self.traceback)
        return size_bytes

    @property
    def born(self) -> float:
        """When the task came into being: what "the latest tasks" are sorted by.

        A UUIDv7 tells it; for a caller's own id it is the publish time, else that of the write.
        """
        if is_uuid7(self.task_id):
            return time_of(self.task_id)
        return self.written_us / 1e6 if self.published is None else self.published


class Partition(NamedTuple):
    """Where a task's rows live: a minute and one of its shards."""

    bucket: int
    shard: int


def partition_of(task_id: str) -> Partition:
    """The partition of a task's rows, computed from its id alone.

    A UUIDv7 tells its minute and its moment; a caller's own id has a bucket from its hash instead, in
    a range of negative numbers that no minute has.
    """
    if is_uuid7(task_id):
        milliseconds = milliseconds_of(task_id)
        return Partition(milliseconds // 60_000, milliseconds // SHARD_MS % SHARDS)
    digest = zlib.crc32(task_id.encode())
    return Partition(-1 - (digest >> 8) % 65536, digest % SHARDS)


def current(rows: Iterable[Row]) -> Row | None:
    """The row that tells the task's state: that with the highest (run, attempt)."""
    return max(rows, key=lambda row: (row.run, row.attempt), default=None)
