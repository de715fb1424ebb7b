"""A row as the bytes of its Cassandra columns, and back. Pure; knows no driver.

Written by hand because it is the hottest code of the write path: the driver's own binding, one
type look-up per column, costs 15 to 25 µs of CPU a row where this costs 2 (measured).

What has no value becomes an empty value, not null: a write then replaces every column of an older
one, and leaves no tombstone. So an empty text and none are the same to the store.
"""

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from taskstream.core.states import State
from taskstream.results.row import Partition, Row

COLUMNS = (
    "bucket", "shard", "task_id", "run", "attempt", "state", "task", "queue", "priority", "key",
    "worker", "published", "started", "finished", "due", "counts", "value", "error_type", "error",
    "traceback", "trace_id", "source", "strikes",
)  # fmt: skip
"""The columns in the order in which `cells` gives and `row_of` takes them."""

LISTED = tuple(name for name in COLUMNS if name not in {"value", "traceback"})
"""Those of a list of tasks: without what may be large."""

int_cell = struct.Struct(">i").pack
smallint_cell = struct.Struct(">h").pack
bigint_cell = struct.Struct(">q").pack


def text_cell(text: str | None) -> bytes:
    """UTF-8; what has no UTF-8 (a lone surrogate in a file name's error, say) is escaped."""
    return text.encode("utf-8", "backslashreplace") if text else b""


def time_cell(seconds: float | None) -> bytes:
    """Whole milliseconds since 1970: what Cassandra's `timestamp` holds."""
    return b"" if seconds is None else bigint_cell(round(seconds * 1000))


def due_cell(seconds: float | None) -> bytes:
    """The first whole millisecond not before: nothing is ever early.

    Rounded to a microsecond first, because 0.001 * 1000 may come out a hair above 1.
    """
    return b"" if seconds is None else bigint_cell(math.ceil(round(seconds * 1000, 3)))


def cells(partition: Partition, rows: Sequence[Row]) -> list[list[bytes]]:
    """For each row the bytes of `COLUMNS`, then those of its write timestamp."""
    bucket, shard = int_cell(partition.bucket), smallint_cell(partition.shard)
    return [
        [
            bucket,
            shard,
            text_cell(row.task_id),
            int_cell(row.run),
            int_cell(row.attempt),
            row.state.encode(),
            text_cell(row.task),
            text_cell(row.queue),
            text_cell(row.priority),
            text_cell(row.key),
            text_cell(row.worker),
            time_cell(row.published),
            time_cell(row.started),
            time_cell(row.finished),
            due_cell(row.due),
            b"\x01" if row.counts else b"\x00",
            row.value or b"",
            text_cell(row.error_type),
            text_cell(row.error),
            text_cell(row.traceback),
            text_cell(row.trace_id),
            text_cell(row.source),
            int_cell(row.strikes),
            bigint_cell(row.written_us),
        ]
        for row in rows
    ]


def row_of(values: Sequence[Any]) -> Row:
    """The row in what the driver returns for `COLUMNS` and the write timestamp."""
    (_, _, task_id, run, attempt, state, task, queue, priority, key, worker, published, started,
     finished, due, counts, value, error_type, error, traceback, trace_id, source, strikes,
     written_us) = values  # fmt: skip
    return Row(
        task_id=task_id,
        run=run,
        attempt=attempt,
        state=State(state),
        task=task or "",
        written_us=written_us,
        queue=queue or "",
        priority=priority or "",
        key=key or None,
        worker=worker or "",
        published=seconds_of(published),
        started=seconds_of(started),
        finished=seconds_of(finished),
        due=seconds_of(due),
        counts=bool(counts),
        value=value or None,
        error_type=error_type or None,
        error=error or None,
        traceback=traceback or None,
        trace_id=trace_id or None,
        source=source or "",
        strikes=strikes or 0,
    )


def listed_row_of(values: Sequence[Any]) -> Row:
    """The row in what the driver returns for `LISTED` and the write timestamp."""
    named = dict(zip(LISTED, values, strict=False))
    return row_of([*(named.get(name) for name in COLUMNS), values[-1]])


def seconds_of(moment: datetime | None) -> float | None:
    """Seconds since 1970; the driver gives times without a zone, which are in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()
