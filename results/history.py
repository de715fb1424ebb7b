"""Rows as the events topic tells them: many in one record, by the column. Pure, and its own inverse.

By the column, because a record for each would cost three times as much to encode and to send.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskstream.core.states import State
from taskstream.results.row import Row

LARGEST_ROW_BYTES = 512 * 1024
"""A row that weighs more is told without its result, and with so much less of its error."""

CUT_CHARACTERS = 8000

_TIMES = ("published", "started", "finished", "due")
_TEXTS = ("key", "error_type", "error", "traceback", "trace_id")
_NAMES = {"written_us": "written"}


def columns(rows: Sequence[Row]) -> dict[str, Any]:
    """The fields of the record that tells of these rows, in their order; at least one row."""
    cut = [row if row.size_bytes <= LARGEST_ROW_BYTES else _cut(row) for row in rows]
    told: dict[str, Any] = dict(zip(Row._fields, zip(*cut, strict=True), strict=True))
    for name in _TIMES:
        told[name] = [0 if at is None else round(at * 1e6) for at in told[name]]
    for name in _TEXTS:
        told[name] = [text or "" for text in told[name]]
    told["value"] = [value or b"" for value in told["value"]]
    told["written"] = told.pop("written_us")
    told["whole"] = [one is row for one, row in zip(cut, rows, strict=True)]
    return told


def rows_in(told: Mapping[str, Any]) -> list[Row]:
    """The rows that such a record tells of."""
    fields = [told[_NAMES.get(name, name)] for name in Row._fields]
    return [
        _row(dict(zip(Row._fields, values, strict=True))) for values in zip(*fields, strict=True)
    ]


def newest(told: Iterable[Row]) -> dict[tuple[str, int, int], Row]:
    """Of rows in any order, told once or often, what the store would have: by (id, run, attempt)."""
    found: dict[tuple[str, int, int], Row] = {}
    for row in told:
        identity = (row.task_id, row.run, row.attempt)
        known = found.get(identity)
        if known is None or row.written_us > known.written_us:
            found[identity] = row
    return found


def _row(values: dict[str, Any]) -> Row:
    for name in _TIMES:
        values[name] = values[name] / 1e6 if values[name] else None
    for name in (*_TEXTS, "value"):
        values[name] = values[name] or None
    values["state"] = State(values["state"])
    return Row(**values)


def _cut(row: Row) -> Row:
    return row._replace(
        value=None,
        error=row.error and row.error[:CUT_CHARACTERS],
        traceback=row.traceback and row.traceback[-CUT_CHARACTERS:],
    )
