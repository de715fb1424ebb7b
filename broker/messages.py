"""From the client's message to our record. Hot: once for every record read."""

from typing import Any

from taskstream.broker.records import Record


def record_of(message: Any) -> Record:
    """The record in a message that carries no error."""
    key, value, headers = message.key(), message.value(), tuple(message.headers() or ())
    size_bytes = len(key or b"") + len(value or b"")
    for name, text in headers:
        size_bytes += len(name) + len(text or b"")
    return Record(
        message.topic(), message.partition(), message.offset(), key, value, headers,
        message.timestamp()[1] / 1000, size_bytes,
    )  # fmt: skip
