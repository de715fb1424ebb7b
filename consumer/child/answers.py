"""What those who wait for tasks are told, as few records as possible: pure.

Tasks that are recorded together were mostly published together, by one process, which waits for all of
them at one partition.
"""

from collections.abc import Iterable, Iterator

from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.pipe import Reply
from taskstream.core.envelope import Place
from taskstream.results.row import Row
from taskstream.schemas.records import Records

RECORD_BYTES = 256 * 1024
"""What the rows that one record tells of weigh at most, unless a single one weighs more."""


def replies(recorded: Iterable[tuple[Attempt, Row]], records: Records) -> list[Reply]:
    """The replies for each partition where somebody waits for one of these.

    Args:
        recorded: attempts and their rows, which are in the store; those that go on are passed over.
        records: encodes them.
    """
    waiting: dict[Place, list[Row]] = {}
    for attempt, row in recorded:
        if attempt.envelope.reply_to is not None and row.state.final:
            waiting.setdefault(attempt.envelope.reply_to, []).append(row)
    return [
        Reply(place, records.encode("replies", _fields(part)))
        for place, rows in waiting.items()
        for part in parts(rows)
    ]


def parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows, some for each record."""
    part: list[Row] = []
    size_bytes = 0
    for row in rows:
        size_bytes += row.size_bytes
        if part and size_bytes > RECORD_BYTES:
            yield part
            part, size_bytes = [], row.size_bytes
        part.append(row)
    yield part


def _fields(rows: list[Row]) -> dict[str, list[object]]:
    return {
        "task_id": [row.task_id for row in rows],
        "run": [row.run for row in rows],
        "attempt": [row.attempt for row in rows],
        "state": [row.state for row in rows],
        "value": [row.value or b"" for row in rows],
        "error_type": [row.error_type or "" for row in rows],
        "error": [row.error or "" for row in rows],
        "traceback": [row.traceback or "" for row in rows],
        "finished": [int((row.finished or row.written_us / 1e6) * 1e6) for row in rows],
    }
