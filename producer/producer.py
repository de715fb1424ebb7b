"""Tasks on their way into Kafka: routed, traced, sent, and each with a delivery to wait for.

Deals in bytes; what they mean is encoded above. Importing this loads no Kafka client: the first
publish does.
"""

from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from taskstream.broker.failures import QueueFull
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Header, write
from taskstream.core.errors import BrokerError
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.core.states import State
from taskstream.observability.metrics import Metrics
from taskstream.observability.tracing import Attributes, PublishSpan, publish_span, task_attributes
from taskstream.producer.delivery import Delivery, name_of, publish_error
from taskstream.producer.routing import PublishRequest, route

if TYPE_CHECKING:
    from taskstream.broker.sender import Sender


class Publisher:
    """Publishes tasks. Any thread may call any method; a forked child gets a client of its own.

    Args:
        settings: where Kafka is and how long a publish may take.
        names: the app's topics.
        client_id: how the broker's logs call this client.
        metrics: where it is counted what is sent; None for nowhere.
        role: how the metrics call its client.
        clock: tells what is due later.
    """

    def __init__(
        self,
        settings: Settings,
        names: Names,
        *,
        client_id: str = "taskstream-publisher",
        metrics: Metrics | None = None,
        role: str = "publish",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._names = names
        self._client_id = client_id
        self._metrics = metrics
        self._role = role
        self._clock = clock
        self._lock = Lock()
        self._opened: Sender | None = None

    def publish(self, request: PublishRequest) -> Delivery:
        """Starts to publish; wait for the delivery to know that Kafka has it.

        Blocks only where something must be asked or waited for first: where a topic is new to this
        process, or the local queue is full. At most `publish_timeout` seconds.

        Raises:
            TooLarge: the record would not fit the topic; nothing was sent.
            PublishTimeout: Kafka can't be reached.
            PublishError: it was refused, or the local queue stayed full; nothing was sent.
            ConfigError: no broker is configured, or an option is wrong.
        """
        parcel = self._pack(request)
        try:
            self._send(parcel, None)
        except BrokerError as error:
            raise self._failed(parcel, error) from error
        return parcel.delivery

    async def publish_async(self, request: PublishRequest) -> Delivery:
        """`publish` for an event loop: what would block goes to a thread."""
        import asyncio  # noqa: PLC0415 - a large import that who awaits has made already

        if not self._needs_no_answer(request):
            return await asyncio.to_thread(self.publish, request)
        parcel = self._pack(request)
        try:
            try:
                self._send(parcel, 0.0)
            except QueueFull:
                await asyncio.to_thread(self._send, parcel, None)
        except BrokerError as error:
            raise self._failed(parcel, error) from error
        return parcel.delivery

    @property
    def limit_bytes(self) -> int:
        """The largest record it takes: key, value and headers with their overhead."""
        return (self._opened or self._sender()).limit_bytes

    @property
    def pending(self) -> int:
        """How many records have no outcome yet."""
        return 0 if self._opened is None else self._opened.pending

    def flush(self, timeout: float) -> int:
        """Waits until every record has its outcome.

        Returns:
            How many have none after `timeout` seconds.
        """
        return 0 if self._opened is None else self._opened.flush(timeout)

    def close(self, timeout: float) -> int:
        """Flushes, and publishes nothing more; safe to call again.

        Returns:
            How many records had no outcome after `timeout` seconds; their deliveries raise.
        """
        return 0 if self._opened is None else self._opened.close(timeout)

    def _sender(self) -> "Sender":
        if self._opened is None:
            # Here, because it loads the Kafka client.
            from taskstream.broker.sender import Sender  # noqa: PLC0415

            with self._lock:
                if self._opened is None:
                    self._opened = Sender(
                        self._settings,
                        client_id=self._client_id,
                        metrics=self._metrics,
                        role=self._role,
                        clock=self._clock,
                    )
        return self._opened

    def _pack(self, request: PublishRequest) -> "_Parcel":
        """The record as it will be sent, its span started."""
        topic, envelope, headers = request.topic, request.envelope, request.headers
        if envelope.due is not None:
            try:
                routed = route(
                    request,
                    names=self._names,
                    now=self._clock.now(),
                    partitions=self._sender().partitions,
                )
            except BrokerError as error:
                name = name_of(envelope.task, envelope.id)
                raise publish_error(name, request.topic, len(request.value), error) from error
            topic, envelope, headers = routed.topic, routed.envelope, None
        span = _span(topic, request, self._clock)
        if headers is None:
            headers = write(envelope._replace(trace=()) if envelope.trace else envelope)
        headers += span.headers
        return _Parcel(topic, request, headers, Delivery(request, span, self._lock))

    def _send(self, parcel: "_Parcel", timeout: float | None) -> None:
        topic, request, headers, delivery = parcel
        (self._opened or self._sender()).send(
            topic,
            request.value,
            key=request.key_bytes,
            headers=headers,
            on_done=delivery.settle,
            timeout=timeout,
        )

    def _failed(self, parcel: "_Parcel", error: BrokerError) -> Exception:
        parcel.delivery.settle(None, error)
        return parcel.delivery.failure(error)

    def _needs_no_answer(self, request: PublishRequest) -> bool:
        sender, due = self._sender(), request.envelope.due
        return sender.knows(request.topic) and (due is None or due <= self._clock.now())


def _span(topic: str, request: PublishRequest, clock: Clock) -> PublishSpan:
    envelope, fired = request.envelope, request.fired
    about = None if topic == request.topic and fired is None else partial(_told, request, clock)
    return publish_span(
        topic,
        task=envelope.task,
        task_id=envelope.id,
        key=request.key,
        link=None if fired is None else fired.last,
        name="send" if fired is None else "fire",
        about=about,
    )


def _told(request: PublishRequest, clock: Clock) -> Attributes:
    """What the span says of a task that is delayed, or fired."""
    due, fired = request.envelope.due, request.fired
    return task_attributes(
        State.WAITING if due is None else State.DELAYED,
        delay=None if due is None else due - clock.now(),
        schedule=None if fired is None else fired.schedule,
    )


class _Parcel(NamedTuple):
    topic: str
    request: PublishRequest
    headers: list[Header]
    delivery: Delivery
