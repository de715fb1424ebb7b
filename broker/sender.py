"""Records on their way to Kafka: one client, one thread that hears its delivery reports.

Every record that `send` accepts gets exactly one report, whatever happens: the acknowledgement of
all in-sync replicas, or an error once `publish_timeout` is over. Nothing is dropped: a full local
queue makes the caller wait, then raises. Only `Producer.produce` is used, because the client's
batch call drops headers.
"""

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from taskstream.broker.embedded import address
from taskstream.broker.failures import (
    QueueFull,
    TimedOut,
    UnknownTopic,
    broker_error,
    client_refused,
)
from taskstream.broker.figures import Answers, Statistics
from taskstream.broker.forks import abandon
from taskstream.broker.lifeline import Lifeline
from taskstream.broker.room import Room
from taskstream.broker.settings import producer_options, record_limit_bytes
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Header
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.observability import logs
from taskstream.observability.metrics import Metrics

ANY_PARTITION = -1

_COUNT_HOLDS = 60.0  # seconds that a topic's partition count is believed
_LOOK_UP_TIMEOUT = 10.0
_RECORD_OVERHEAD_BYTES = 80
_POLL = 0.1  # how long the reporting thread may take to see that it is to end
_REST = 1.0  # how long it may rest where nothing is under way

_log = logs.logger(__name__)


class Ack(NamedTuple):
    """Where an acknowledged record stands; a tuple, since one is made for each record."""

    partition: int
    offset: int


Report = Callable[[Ack | None, BrokerError | None], None]
"""Called once per record, from the reporting thread, must not block: its place, or what went wrong."""


def unheard(_ack: Ack | None, _error: BrokerError | None) -> None:
    """A `Report` for records whose fate is nobody's concern: a lost one is followed by the next."""


class Sender:
    """A producer. Any thread may call any method; after a fork the child gets a client of its own.

    Args:
        settings: where Kafka is, `publish_timeout`, and options that pass through.
        client_id: how the broker's logs call this client.
        room_bytes: how much larger than a published record a record may be (hand-offs).
        metrics: where it is counted what is sent; None for nowhere.
        role: how the metrics call this client.
        clock: measures waits.

    Attributes:
        limit_bytes: the largest record it takes.
    """

    limit_bytes: int
    _client: Producer | None
    _thread: threading.Thread | None
    _room: Room | None

    def __init__(
        self,
        settings: Settings,
        *,
        client_id: str,
        room_bytes: int = 0,
        metrics: Metrics | None = None,
        role: str = "publish",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._room_bytes = room_bytes
        self._clock = clock
        self._metrics = metrics
        self._role = role
        self.limit_bytes = record_limit_bytes(settings) + room_bytes
        self._start_over()
        myself = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _after_fork(myself()))

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Sequence[Header],
        on_done: Report,
        partition: int = ANY_PARTITION,
        timeout: float | None = None,
    ) -> None:
        """Hands a record to the client, which sends it in the background.

        Args:
            topic: an existing topic.
            value: None for a tombstone.
            key: chooses the partition, as in Java; None for any.
            headers: in order.
            on_done: hears the outcome, unless this call raises.
            partition: overrides the choice by key.
            timeout: seconds to wait for room in the local queue, by default `publish_timeout`;
                0 doesn't wait.

        Raises:
            UnknownTopic: the topic does not exist.
            RecordTooLarge: it exceeds `limit_bytes`.
            QueueFull: there was no room in time.
            BrokerError: Kafka can't be reached, or this sender is closed.
            ConfigError: an option is wrong.
        """
        counted = None
        try:
            client = self._open() if self._client is None else self._client
            if topic not in self._counts:
                self.partitions(topic)
            if self._room is not None:
                size_bytes = _size_of(key, value, headers)
                counted = self._room.admit(topic, size_bytes, on_done, self._patience(timeout))
                on_done = counted
            report = partial(self._on_report, topic, on_done)
            listed = headers if isinstance(headers, list) else list(headers)  # the client insists
            try:
                client.produce(topic, value, key, partition, report, headers=listed)
            except BufferError:
                self._when_drained(
                    partial(client.produce, topic, value, key, partition, report, headers=listed),
                    self._patience(timeout),
                )
        except BaseException as error:
            if counted is not None:
                counted.withdraw()
            failure = self._failure(error, topic) if isinstance(error, KafkaException) else error
            self._answers.failed(topic, failure)
            if failure is error:
                raise
            raise failure from error
        if self._resting:
            self._work.set()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; asks the broker once a minute at most.

        Raises:
            UnknownTopic: it does not exist.
            BrokerError: Kafka can't be reached.
            ConfigError: an option is wrong.
        """
        known = self._counts.get(topic)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        client = self._open() if self._client is None else self._client
        count = self._count(client, topic)
        self._counts[topic] = (count, self._clock.monotonic() + _COUNT_HOLDS)
        return count

    def knows(self, topic: str) -> bool:
        """Whether `send` to this topic and `partitions` would go without asking the broker."""
        known = self._counts.get(topic)
        return known is not None and self._clock.monotonic() < known[1]

    @property
    def pending(self) -> int:
        """How many records have no report yet."""
        return 0 if self._client is None else len(self._client)

    def flush(self, timeout: float) -> int:
        """Waits until every record has its report.

        Returns:
            How many have none after `timeout` seconds.
        """
        return 0 if self._client is None else self._client.flush(timeout)

    def close(self, timeout: float) -> int:
        """Flushes, and takes nothing more; safe to call again.

        Returns:
            How many records had no report after `timeout` seconds; they are reported as failed.
        """
        remaining = self.flush(timeout)
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
            thread, self._thread = self._thread, None
        self._work.set()
        self._statistics.end()
        if client is not None and thread is not None:
            if remaining:
                client.purge()
                client.flush(_POLL)
            thread.join()
        return remaining

    def _start_over(self) -> None:
        """The state of a process that has sent nothing yet."""
        self._lock = threading.Lock()
        self._closed = False
        self._client = None
        self._thread = None
        self._room = None
        self._counts: dict[str, tuple[int, float]] = {}
        self._answers = Answers(self._metrics)
        self._statistics = Statistics(None, self._role, {})
        self._waiting = 0
        self._drained = threading.Event()
        self._trouble = ""
        # Whether a question was not answered: worth a look though nothing waits.
        self._doubted = False
        # Whether the reporting thread waits for something to report, and what wakes it up.
        self._resting = False
        self._work = threading.Event()

    def _open(self) -> Producer:
        with self._lock:
            if self._closed:
                raise BrokerError("this sender is closed: make a new one to send more")
            if self._client is None:
                servers = address(self._settings)
                options = producer_options(
                    self._settings, servers, client_id=self._client_id, room_bytes=self._room_bytes
                )
                self._statistics.end()
                self._statistics = Statistics(self._metrics, self._role, options)
                options = {**options, **self._statistics.options, "error_cb": self._on_error}
                try:
                    client = Producer(options)
                except (KafkaException, ValueError, TypeError) as error:
                    raise client_refused(error, self._settings, "a Kafka producer") from error
                if self._settings.embedded:
                    self._room = Room(servers, self._clock)
                self._thread = threading.Thread(
                    target=self._report, args=(client,), name="taskstream-send", daemon=True
                )
                self._thread.start()
                self._client = client
            return self._client

    def _report(self, client: Producer) -> None:
        """Delivery reports come out of `poll` and nowhere else; it waits in C, without the GIL."""
        lifeline = Lifeline(
            self._settings, lambda timeout: client.list_topics(timeout=timeout), clock=self._clock
        )
        while not self._closed:
            self._answers.new_round()
            reported = client.poll(_POLL)
            if not len(client) and not self._doubted:
                lifeline.heard()
                if not reported:
                    self._rest(client)
            elif lifeline.lost():
                self._give_up(client)
                break

    def _rest(self, client: Producer) -> None:
        """Waits for a record to report on, for a second at most: the client has other news as well."""
        self._work.clear()
        self._resting = True
        # In this order: a record of which `send` did not see that we rest is seen here.
        if not len(client) and not self._closed:
            self._work.wait(_REST)
        self._resting = False

    def _give_up(self, client: Producer) -> None:
        """Leaves a client that has lost all brokers; the next record gets a new one."""
        _log.warning(
            "a producer has lost all brokers; a new one follows",
            client=self._client_id,
            advice="nothing: what was not sent is reported as such, and a new client takes over",
        )
        with self._lock:
            self._client = self._thread = None
            self._doubted = False
            self._statistics.replaced()
        # Whoever took hold of it a moment ago may still give it something; but `close` waits for us.
        until = self._clock.monotonic() + self._settings.publish_timeout
        while len(client) or (not self._closed and self._clock.monotonic() < until):
            client.purge()
            client.poll(_POLL)

    def _on_report(
        self, topic: str, on_done: Report, error: KafkaError | None, message: Any
    ) -> None:
        if error is None:
            on_done(Ack(message.partition(), message.offset()), None)
            self._answers.acknowledged(topic, message)
        else:
            failure = self._failure(error, topic)
            on_done(None, failure)
            self._answers.failed(topic, failure)
        if self._waiting:
            self._drained.set()

    def _when_drained(self, produce: Callable[[], None], patience: float) -> None:
        give_up_at = self._clock.monotonic() + patience
        with self._lock:
            self._waiting += 1
        try:
            while True:
                # Cleared before the try: a report that comes after it ends the wait at once.
                self._drained.clear()
                try:
                    return produce()
                except BufferError as error:
                    left = give_up_at - self._clock.monotonic()
                    if left <= 0:
                        raise QueueFull(
                            f"{self.pending} records wait for Kafka, and none left in "
                            f"{patience:g} s: nothing was sent{self._trouble}"
                        ) from error
                    self._drained.wait(min(left, _POLL))
        finally:
            with self._lock:
                self._waiting -= 1

    def _count(self, client: Producer, topic: str) -> int:
        timeout = min(_LOOK_UP_TIMEOUT, self._settings.publish_timeout)
        try:
            if self._settings.embedded:  # to ask for it by name is how a topic is created there
                topics = client.list_topics(topic, timeout=timeout).topics
            else:  # where brokers create topics by themselves, asking by name would
                topics = client.list_topics(timeout=timeout).topics
        except KafkaException as error:
            self._doubted = True
            raise self._failure(error, topic) from error
        self._doubted = False
        if topic not in topics or not topics[topic].partitions:
            raise UnknownTopic(f"topic {topic} does not exist: `taskstream init` creates topics")
        return len(topics[topic].partitions)

    def _patience(self, timeout: float | None) -> float:
        return self._settings.publish_timeout if timeout is None else timeout

    def _failure(self, error: KafkaError | KafkaException, topic: str) -> BrokerError:
        failure = broker_error(error, f"sending to {topic}")
        if isinstance(failure, TimedOut) and self._trouble:
            return TimedOut(f"{failure}{self._trouble}")
        return failure

    def _on_error(self, error: KafkaError) -> None:
        # Tells a record that times out later why nothing was acknowledged.
        self._trouble = f"; the client's last trouble: {error.str()}"


def _after_fork(sender: Sender | None) -> None:
    """The child of a fork has the parent's client, but none of its threads: it gets its own."""
    if sender is None:
        return
    if sender._client is not None:  # noqa: SLF001
        abandon(sender._client)  # noqa: SLF001
    if sender._room is not None:  # noqa: SLF001
        sender._room.abandon()  # noqa: SLF001
    sender._start_over()  # noqa: SLF001


def _size_of(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    size = sum(len(name) + len(text or b"") for name, text in headers)
    return size + len(key or b"") + len(value or b"") + _RECORD_OVERHEAD_BYTES
