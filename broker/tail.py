"""Reading a topic without a group: to its end once, or on and on from some position.

Every process that follows a topic sees every record: that is what control, schemas, heartbeats and
replies are for. Where reading starts is settled when the
`Tail` is made: nothing that comes after that moment is missed.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from taskstream.broker.embedded import address
from taskstream.broker.failures import (
    ClientLost,
    OffsetLost,
    TimedOut,
    broker_error,
    client_refused,
)
from taskstream.broker.lifeline import Lifeline
from taskstream.broker.messages import record_of
from taskstream.broker.records import Record
from taskstream.broker.settings import reader_options
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Place
from taskstream.core.settings import Settings

Start = Literal["begin", "end"] | float | Mapping[int, int]
"""Where to start: an end of the partitions, a time (seconds since 1970), or offsets by partition."""


PATIENCE = 30.0
"""Seconds without a record after which reading to an end is given up."""

TAKE = 1000
"""How many records come from the client at once, at most."""

POLL = 0.2
"""Seconds that one look waits for a record: how soon it is seen that reading is to end."""


def read_to_end(
    settings: Settings,
    topic: str,
    *,
    timeout: float = 30.0,
    client_id: str = "taskstream-read",
    clock: Clock = SYSTEM_CLOCK,
) -> list[Record]:
    """All records of a topic up to its end as it stood at the call; each partition in order.

    Raises:
        TimedOut: the end was not reached in `timeout` seconds.
        UnknownTopic: the topic does not exist.
        BrokerError: Kafka refused or can't be reached.
    """
    return list(read(settings, topic, within=timeout, client_id=client_id, clock=clock))


def read(
    settings: Settings,
    topic: str,
    start: "Start" = "begin",
    *,
    partitions: Sequence[int] | None = None,
    follow: bool = False,
    over: Callable[[], bool] = lambda: False,
    reached_end: Callable[[], None] = lambda: None,
    within: float = math.inf,
    client_id: str = "taskstream-read",
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Record]:
    """A topic's records one by one, however slowly they are taken; each partition in order.

    They end where the topic ended when the first was asked for.

    Args:
        settings: where Kafka is.
        topic: what to read.
        start: where to start.
        partitions: which ones; all those of now by default.
        follow: goes on behind that end, for ever, with what comes.
        over: ends it early; asked some times a second.
        reached_end: where it goes on behind that end: told, again and again, once all before it is read.
        within: seconds that all of it may take, what the taker of the records needs among them.
        client_id: how the broker's logs call this client.
        clock: measures how long it takes.

    Raises:
        TimedOut: it took longer than `within`; or the end is ahead, and nothing came for `PATIENCE` seconds.
        UnknownTopic: the topic does not exist.
        BrokerError: Kafka refused or can't be reached.
    """
    give_up_at = clock.monotonic() + within
    with Tail(settings, topic, start, partitions=partitions, client_id=client_id) as tail:
        heard = clock.monotonic()
        while not over() and (follow or not tail.reached_end):
            if clock.monotonic() > give_up_at:
                raise TimedOut(f"reading {topic} to its end took longer than {within:g} s")
            if tail.reached_end:
                reached_end()
            records = tail.take(TAKE, POLL)
            for record in records:
                if follow or record.offset < tail.ends[record.partition]:
                    yield record
            if records or follow:
                heard = clock.monotonic()  # only now: who takes them may have taken their time
            elif clock.monotonic() - heard > PATIENCE:
                raise TimedOut(f"reading {topic}: nothing came for {PATIENCE:g} s")


class Tail:
    """Follows a topic, or some of its partitions. For one thread.

    Args:
        settings: where Kafka is.
        topic: what to follow.
        start: where to start.
        partitions: which ones; all those of now by default.
        client_id: how the broker's logs call this client.

    Raises:
        UnknownTopic: the topic does not exist.
        BrokerError: Kafka refused or can't be reached.
        ConfigError: an option is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        start: Start = "end",
        *,
        partitions: Sequence[int] | None = None,
        client_id: str = "taskstream-tail",
    ) -> None:
        self.topic = topic
        ranges, starts = _settle(settings, topic, start, partitions, client_id)
        self.ends: dict[int, int] = {number: high for number, (_, high) in ranges.items()}
        self._position = starts
        # Only where the broker can't look a time up: then all is read, and the older passed over.
        self._not_before = start if isinstance(start, float | int) and settings.embedded else 0.0
        options = reader_options(settings, address(settings), client_id=client_id)
        try:
            self._consumer = Consumer(options)
        except (KafkaException, ValueError, TypeError) as error:
            raise client_refused(error, settings) from error
        self._lifeline = Lifeline(
            settings,
            lambda timeout: self._consumer.list_topics(topic, timeout=timeout),
            clock=SYSTEM_CLOCK,
        )
        self._consumer.assign(
            [TopicPartition(topic, number, offset) for number, offset in starts.items()]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, limit: int, timeout: float) -> list[Record]:
        """1 to `limit` records, or none after `timeout` seconds; waits for the first, not for more.

        Raises:
            OffsetLost: retention has deleted what was to be read next.
            ClientLost: this client is of no use any more; make a new one.
            BrokerError: Kafka refused. A broker that can't be reached for now is no error here.
        """
        try:
            first = self._consumer.poll(timeout)
            if first is None:
                if self._lifeline.lost():
                    raise ClientLost(f"reading {self.topic}: the client has lost all brokers")
                return []
            self._lifeline.heard()
            messages = [first, *(self._consumer.consume(limit - 1, 0) if limit > 1 else ())]
        except (KafkaException, RuntimeError) as error:
            raise broker_error(error, f"reading {self.topic}") from error
        records = []
        for message in messages:
            if message.error() is not None:
                self._hear(message)
                continue
            record = record_of(message)
            self._position[record.partition] = record.offset + 1
            if record.timestamp >= self._not_before:
                records.append(record)
        return records

    @property
    def position(self) -> dict[int, int]:
        """The offset to be read next in each partition."""
        return dict(self._position)

    @property
    def reached_end(self) -> bool:
        """Whether everything has been read that stood in the topic when this was made."""
        return all(self._position[number] >= end for number, end in self.ends.items())

    def leave(self, partitions: Sequence[int]) -> None:
        """Reads no further in these partitions; what was fetched of them already may still come.

        Raises:
            BrokerError: the client refused.
        """
        places = [TopicPartition(self.topic, number) for number in partitions]
        try:
            self._consumer.pause(places)
        except (KafkaException, RuntimeError) as error:
            raise broker_error(error, f"reading {self.topic}") from error

    def close(self) -> None:
        """Lets the connection go."""
        self._consumer.close()

    def _hear(self, message: Any) -> None:
        error = message.error()
        name = error.name()
        if name == "_PARTITION_EOF":
            # Its offset counts: compaction and transactions leave holes before the end.
            number = message.partition()
            self._position[number] = max(self._position[number], message.offset())
        elif name == "_AUTO_OFFSET_RESET":
            place = Place(self.topic, message.partition())
            raise OffsetLost(
                f"reading {place}: offset {message.offset()} is not there any more ({error.str()})"
            )
        elif not error.retriable() and name not in ("_TRANSPORT", "_ALL_BROKERS_DOWN"):
            raise broker_error(error, f"reading {self.topic}")


def _settle(
    settings: Settings,
    topic: str,
    start: Start,
    partitions: Sequence[int] | None,
    client_id: str,
) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Ranges as they stand, and the offset to start at, by partition."""
    with Topics(settings, client_id=client_id) as topics:
        ranges = {place.partition: both for place, both in topics.ranges(topic).items()}
        if partitions is not None:
            ranges = {number: ranges[number] for number in partitions}
        if isinstance(start, Mapping):
            return ranges, {number: start[number] for number in ranges}
        if start == "end":
            return ranges, {number: high for number, (_, high) in ranges.items()}
        if start == "begin" or settings.embedded:
            return ranges, {number: low for number, (low, _) in ranges.items()}
        at = topics.offsets_at(topic, float(start))
        return ranges, {number: at[Place(topic, number)] for number in ranges}
