"""From the client's message to our record. Hot: once for every record read."""

from typing import Any

from taskstream.broker.records import Record


def record_of(message: Any) -> Record:
    """The record in a message that carries no error."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        message.timestamp()[1] / 1000,
    )
