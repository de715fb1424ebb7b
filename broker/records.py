"""A Kafka record as plain data, so that nothing above this package sees the client's classes."""

from typing import NamedTuple

from taskstream.core.envelope import Header, identity, peek
from taskstream.core.ids import derived_id
from taskstream.observability.table import LOG_ID, LOG_RUN, LOG_TASK


class Record(NamedTuple):
    """One record as it was read.

    Args:
        topic: its topic.
        partition: its partition.
        offset: its offset.
        key: key bytes, None where there are none.
        value: value bytes, None for a tombstone.
        headers: in order, repeated names possible.
        timestamp: seconds since 1970; the broker's append time on our topics.
        size_bytes: about how much memory it holds; 0 for one that was not read but made.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: float
    size_bytes: int = 0

    @property
    def identity(self) -> tuple[str, int]:
        """The task's id and run. Whoever meets a record without an id derives the same from it."""
        task_id, run = identity(self.headers)
        return task_id or derived_id(self.timestamp, self.topic, self.partition, self.offset), run

    @property
    def told(self) -> dict[str, object]:
        """What a log line says of its task; never anything of its value, or its key."""
        task_id, run = self.identity
        task = peek(self.headers).task
        return {
            LOG_TASK.name: task, LOG_ID.name: task_id, LOG_RUN.name: run, "source": self.source,
        }  # fmt: skip

    @property
    def source(self) -> str:
        """`topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"
