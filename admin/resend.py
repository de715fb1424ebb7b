"""Records sent again, by redrives and replays: at a rate, and each with a word of its acknowledgement."""

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from taskstream.broker.sender import ANY_PARTITION, Ack, Sender
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import HEADER_ROOM_BYTES, Header
from taskstream.core.errors import BrokerError, ConfigError, MissingExtra
from taskstream.observability import tracing

if TYPE_CHECKING:
    from taskstream.app.app import App
    from taskstream.observability.tracing import PublishSpan

T = TypeVar("T")


def trace_resent(app: "App") -> None:
    """Sends the spans of what is sent again where the settings say, unless this process does so itself."""
    with suppress(MissingExtra):  # the endpoint may be just that of `taskstream up`
        tracing.setup(app.settings.otlp_endpoint, app.name)  # which flushes at the exit


class Resender(Generic[T]):
    """Sends records of tasks again. For one thread, as a context manager; leaving it waits for Kafka.

    Args:
        app: the app.
        rate: how many a second at most, evenly spread; None for as fast as Kafka takes them.
        client_id: how the broker's logs call this client.
        clock: measures the rate.

    Raises:
        ConfigError: the rate is not above 0.
    """

    def __init__(
        self,
        app: "App",
        *,
        rate: float | None = None,
        client_id: str = "taskstream-resend",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if rate is not None and not rate > 0:
            raise ConfigError(f"a rate of {rate:g} a second sends nothing: give one above 0")
        self._pause = 0.0 if rate is None else 1.0 / rate
        self._clock = clock
        self._next_at = clock.monotonic()
        self._patience = app.settings.publish_timeout
        self._acknowledged: deque[T] = deque()
        self._failures: deque[BrokerError] = deque()
        self._sender = Sender(app.settings, client_id=client_id, room_bytes=HEADER_ROOM_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close(self._patience)

    def send(
        self,
        topic: str,
        partition: int | None,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        ticket: T,
        span: "PublishSpan | None" = None,
    ) -> None:
        """Sends one when its turn has come.

        Args:
            topic: where to.
            partition: which one; None where the key decides.
            key: of the record.
            value: of the record.
            headers: of the record.
            ticket: given back by `acknowledged` once Kafka has it.
            span: of the record; it ends with what becomes of it.

        Raises:
            BrokerError: Kafka refused this one, or one before; what was acknowledged stands.
        """
        self._await_turn()
        self._raise_failure()

        def done(ack: Ack | None, error: BrokerError | None) -> None:
            if ack is not None:
                if span is not None:
                    span.acknowledged(ack.partition, ack.offset)
                self._acknowledged.append(ticket)
                return
            failure = error or BrokerError(f"{topic}: no acknowledgement")
            if span is not None:
                span.failed(failure)
            self._failures.append(failure)

        where = ANY_PARTITION if partition is None else partition
        try:
            self._sender.send(topic, value, key=key, headers=headers, on_done=done, partition=where)
        except BrokerError as error:
            if span is not None:
                span.failed(error)
            raise

    def acknowledged(self) -> list[T]:
        """The tickets of those that Kafka has acknowledged since the last call, in that order."""
        taken = []
        while self._acknowledged:
            taken.append(self._acknowledged.popleft())
        return taken

    def flush(self) -> None:
        """Waits until Kafka has acknowledged all.

        Raises:
            BrokerError: it refused one, or did not answer in `publish_timeout`.
        """
        left = self._sender.flush(self._patience)
        self._raise_failure()
        if left:
            raise BrokerError(f"{left} records were not acknowledged in {self._patience:g} s")

    def _await_turn(self) -> None:
        now = self._clock.monotonic()
        if self._pause and self._next_at > now:
            threading.Event().wait(self._next_at - now)
        self._next_at = max(now, self._next_at) + self._pause

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures[0]
