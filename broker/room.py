"""How full the embedded broker is: it keeps about 5 MB a partition and drops the rest in silence.

So what this process has sent, and no consumer group has finished, is counted here: a sender waits
while a partition holds 3 MB of it, then raises. Topics that no group works through (replies,
events, heartbeats) aren't counted: there, to drop the oldest is right.
"""

import threading
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

from taskstream.broker.embedded import PARTITIONS
from taskstream.broker.failures import QueueFull, broker_error
from taskstream.broker.forks import abandon
from taskstream.core.clock import Clock
from taskstream.core.errors import BrokerError
from taskstream.core.names import RESERVED_QUEUES, Names

if TYPE_CHECKING:
    from taskstream.broker.sender import Ack, Report

LIMIT_BYTES = 3_000_000
"""Unfinished bytes that a partition may hold."""

_LOOK_AGAIN = 0.02  # seconds between two looks at what the groups have finished


class Room:
    """Counts unfinished bytes per partition of the embedded broker.

    Args:
        servers: address of the embedded broker.
        clock: measures waits.
        limit_bytes: unfinished bytes that a partition may hold.
    """

    def __init__(self, servers: str, clock: Clock, limit_bytes: int = LIMIT_BYTES) -> None:
        self._servers = servers
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._stored: defaultdict[str, list[_Partition]] = defaultdict(
            lambda: [_Partition() for _ in range(PARTITIONS)]
        )
        # Bytes without a report yet: they may land in any partition, so they count in each.
        self._on_the_way: defaultdict[str, int] = defaultdict(int)
        self._readers: dict[str, Consumer] = {}

    def admit(self, topic: str, size_bytes: int, on_done: "Report", patience: float) -> "Counted":
        """Waits until there is room for a record, and counts it as on its way.

        Returns:
            The report to use instead of `on_done`: it counts where the record lands, and passes on.

        Raises:
            QueueFull: there was none in `patience` seconds.
        """
        self._wait_for_room(topic, size_bytes, patience)
        return Counted(self, topic, size_bytes, on_done)

    def settle(self, topic: str, size_bytes: int, ack: "Ack | None") -> None:
        """Counts an admitted record where it has landed, or nowhere where it has not."""
        if group_of(topic) is None:
            return
        with self._lock:
            self._on_the_way[topic] -= size_bytes
            if ack is not None:
                self._stored[topic][ack.partition].add(ack.offset, size_bytes)

    def abandon(self) -> None:
        """Leaves the connections of the parent alone, in a forked child."""
        for reader in self._readers.values():
            abandon(reader)

    def _wait_for_room(self, topic: str, size_bytes: int, patience: float) -> None:
        group = group_of(topic)
        if group is None or self._reserve(topic, size_bytes):
            return
        give_up_at = self._clock.monotonic() + patience
        while True:
            self._forget_finished(topic, group)
            if self._reserve(topic, size_bytes):
                return
            if self._clock.monotonic() >= give_up_at:
                raise QueueFull(
                    f"the embedded broker is full: group {group} has {self._limit_bytes:,} bytes of "
                    f"{topic} to finish in one partition; start a worker, or use real servers"
                )
            time.sleep(_LOOK_AGAIN)

    def _reserve(self, topic: str, size_bytes: int) -> bool:
        with self._lock:
            fullest = max(partition.size_bytes for partition in self._stored[topic])
            if fullest + self._on_the_way[topic] + size_bytes > self._limit_bytes:
                return False
            self._on_the_way[topic] += size_bytes
            return True

    def _forget_finished(self, topic: str, group: str) -> None:
        with self._lock:
            reader = self._readers.get(group)
            if reader is None:
                options = {"bootstrap.servers": self._servers, "group.id": group, "log_level": 0}
                reader = self._readers[group] = Consumer(options)
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        try:
            committed = reader.committed(places, timeout=5.0)
        except KafkaException as error:
            raise broker_error(error, f"looking up offsets of group {group}") from error
        with self._lock:
            for place in committed:
                self._stored[topic][place.partition].forget_below(place.offset)


class Counted:
    """The report of a record that has been counted."""

    def __init__(self, room: Room, topic: str, size_bytes: int, on_done: "Report") -> None:
        self._room = room
        self._topic = topic
        self._size_bytes = size_bytes
        self._on_done = on_done

    def __call__(self, ack: "Ack | None", error: BrokerError | None) -> None:
        """Counts where the record has landed, then passes the report on."""
        self._room.settle(self._topic, self._size_bytes, ack)
        self._on_done(ack, error)

    def withdraw(self) -> None:
        """Says that the record was never sent, so no report comes."""
        self._room.settle(self._topic, self._size_bytes, None)


class _Partition:
    """Records of one partition that nobody has finished, lowest offset first."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._records: deque[tuple[int, int]] = deque()

    def add(self, offset: int, size_bytes: int) -> None:
        self._records.append((offset, size_bytes))
        self.size_bytes += size_bytes

    def forget_below(self, offset: int) -> None:
        while self._records and self._records[0][0] < offset:
            self.size_bytes -= self._records.popleft()[1]


def group_of(topic: str) -> str | None:
    """The consumer group that works through a topic; None where none does."""
    app, _, rest = topic.partition(".")
    second = rest.partition(".")[0]
    if second == "delay":
        return Names(app).scheduler_group
    return topic if rest and second not in RESERVED_QUEUES else None
