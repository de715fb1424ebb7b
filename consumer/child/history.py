"""What the events topic is told of attempts that are recorded, as few records as possible: pure."""

from collections.abc import Sequence

from taskstream.consumer.child.answers import parts
from taskstream.results.history import columns
from taskstream.results.row import Row
from taskstream.schemas.records import Records


def events(rows: Sequence[Row], records: Records) -> list[bytes]:
    """The values of the records that tell of these rows.

    Args:
        rows: as they are in the store, at least one.
        records: encodes them.
    """
    return [records.encode("attempts", columns(part)) for part in parts(rows)]
