"""What becomes of one published record: settled once, by the delivery report.

The same delivery serves who blocks and who awaits. One is made for every record, so it carries
nothing to wait with until somebody does.
"""

from collections.abc import Generator
from concurrent.futures import Future, InvalidStateError
from threading import Lock
from typing import TYPE_CHECKING, Any

from taskstream.broker.failures import QueueFull, RecordTooLarge, TimedOut
from taskstream.core.envelope import Header
from taskstream.core.errors import BrokerError, PublishError, PublishTimeout, TooLarge
from taskstream.observability.tracing import PublishSpan, publish_failed, trace_of
from taskstream.producer.routing import PublishRequest

if TYPE_CHECKING:
    from taskstream.broker.sender import Ack


class Delivery:
    """A record under way. Wait with `wait`, or `await` it: both give its `Ack`, or raise.

    Raises (from `wait`, `await` and `future`):
        PublishTimeout: Kafka did not acknowledge in time.
        TooLarge: the record does not fit the topic.
        PublishError: Kafka refused it.
    """

    __slots__ = (
        "_ack",
        "_error",
        "_future",
        "_lock",
        "_size_bytes",
        "_span",
        "_task",
        "_topic",
        "id",
    )

    def __init__(self, request: PublishRequest, span: PublishSpan, lock: Lock) -> None:
        # Not the request itself: of a hundred thousand at once, each object that stays is one more for
        # the garbage collector to visit, again and again.
        self.id = request.envelope.id
        self._task = request.envelope.task
        self._topic = request.topic
        self._size_bytes = len(request.value)
        self._span = span.pending
        self._lock = lock  # one for all deliveries of a publisher: taken only to begin waiting
        self._ack: Ack | None = None
        self._error: PublishError | None = None
        self._future: Future[Ack] | None = None

    @property
    def trace(self) -> tuple[Header, ...]:
        """The W3C headers of its trace, for a link to it; empty where there is none."""
        return trace_of(self._span)

    @property
    def arrived(self) -> bool:
        """Whether Kafka has it."""
        return self._ack is not None

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._ack is not None or self._error is not None

    def wait(self, timeout: float | None = None) -> "Ack":
        """Blocks until the outcome is known.

        Args:
            timeout: seconds; by default as long as it takes, which `publish_timeout` bounds.
        """
        if self._ack is not None:
            return self._ack
        try:
            return self.future.result(timeout)
        except TimeoutError as error:
            raise PublishTimeout(
                f"{self._name} was not acknowledged in {timeout:g} s; it may still arrive: "
                "publishing again with the same id is safe"
            ) from error

    def __await__(self) -> Generator[Any, None, "Ack"]:
        import asyncio  # noqa: PLC0415 - a large import that who awaits has made already

        return asyncio.wrap_future(self.future).__await__()

    @property
    def future(self) -> "Future[Ack]":
        """The outcome as a future, for those who wait for several things; can't be cancelled."""
        with self._lock:
            if self._future is None:
                future: Future[Ack] = Future()
                # As "running" it can't be cancelled: one waiter that leaves must not take the
                # outcome from the others.
                future.set_running_or_notify_cancel()
                # Set before the look at the outcome, and `settle` does it the other way round: so
                # between them one at least sees the other.
                self._future = future
                if self.done():
                    self._resolve(future)
            return self._future

    def settle(self, ack: "Ack | None", error: BrokerError | None) -> None:
        """Hears the sender's report; called once, from its thread."""
        if ack is not None:
            if isinstance(self._span, PublishSpan):
                self._span.acknowledged(*ack)
            self._ack = ack
        elif error is not None:
            self._error = self.failure(error)
            publish_failed(
                self._span, self._error, topic=self._topic, task=self._task, task_id=self.id
            )
        if self._future is not None:
            self._resolve(self._future)

    def _resolve(self, future: "Future[Ack]") -> None:
        try:
            if self._ack is not None:
                future.set_result(self._ack)
            else:
                future.set_exception(self._error)
        except InvalidStateError:
            pass  # the other thread was faster, with the same outcome

    def failure(self, error: BrokerError) -> PublishError:
        """What its publisher is told where Kafka did not accept it."""
        return publish_error(self._name, self._topic, self._size_bytes, error)

    @property
    def _name(self) -> str:
        return name_of(self._task, self.id)


def name_of(task: str, task_id: str) -> str:
    """How errors call a task."""
    return f"task {task} ({task_id})"


def publish_error(name: str, topic: str, size_bytes: int, error: BrokerError) -> PublishError:
    """What the publisher of a task is told where its record was not accepted.

    Args:
        name: of the task, by `name_of`.
        topic: where it was to go.
        size_bytes: of its arguments.
        error: why.
    """
    failure: PublishError
    if isinstance(error, TimedOut):
        failure = PublishTimeout(
            f"{name} was not acknowledged in time; it may still arrive: publishing again with the "
            f"same id is safe ({error})"
        )
    elif isinstance(error, RecordTooLarge):
        failure = TooLarge(
            f"{name} has {size_bytes:,} bytes of arguments, too large for topic {topic}: "
            f"store large data elsewhere and publish where it is ({error})"
        )
    elif isinstance(error, QueueFull):
        failure = PublishError(f"{name} was not sent, Kafka can't keep up: {error}")
    else:
        failure = PublishError(f"{name} was not accepted: {error}")
    failure.__cause__ = error
    return failure
