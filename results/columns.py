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
_NO_STRIKES = int_cell(0)


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
    placed = [int_cell(partition.bucket), smallint_cell(partition.shard)]
    common: dict[str, bytes] = {}
    return [placed + _cells_of(row, common) for row in rows]


def _cells_of(row: Row, common: dict[str, bytes]) -> list[bytes]:
    """A row's cells behind those of its partition.

    Args:
        row: the row.
        common: the cells of texts that most rows of a batch have in common, as far as known.
    """
    (task_id, run, attempt, state, task, written_us, queue, priority, key, worker, published, started,
     finished, due, counts, value, error_type, error, traceback, trace_id, source, strikes) = row  # fmt: skip
    for text in (task, queue, priority, worker):
        if text not in common:
            common[text] = text_cell(text)
    # What is empty in nearly every row costs no call.
    return [
        text_cell(task_id),
        int_cell(run),
        int_cell(attempt),
        state.encode(),
        common[task],
        common[queue],
        common[priority],
        text_cell(key) if key else b"",
        common[worker],
        time_cell(published),
        time_cell(started),
        time_cell(finished),
        due_cell(due) if due is not None else b"",
        b"\x01" if counts else b"\x00",
        value or b"",
        text_cell(error_type) if error_type else b"",
        text_cell(error) if error else b"",
        text_cell(traceback) if traceback else b"",
        trace_id.encode() if trace_id else b"",
        text_cell(source),
        int_cell(strikes) if strikes else _NO_STRIKES,
        bigint_cell(written_us),
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
