"""A handle: what a publisher keeps of a task, to ask how it ended."""

from typing import TYPE_CHECKING, Generic, TypeVar

from taskstream.app.blocking import refuse_on_loop
from taskstream.app.steps import run, run_async
from taskstream.core.errors import PublishError
from taskstream.core.states import State

if TYPE_CHECKING:
    from taskstream.app.outcomes import Outcomes
    from taskstream.app.publishing import Target
    from taskstream.producer.delivery import Delivery

R = TypeVar("R")


class Handle(Generic[R]):
    """One task: of one's own publish, or, from `app.handle(id)`, of anybody's.

    Attributes:
        id: the task's id.
        published: when it was published here, seconds since 1970; None for a handle by id alone.
        due: when it may run, seconds since 1970; None for at once, and for a handle by id alone.
    """

    __slots__ = ("_delivery", "_outcomes", "due", "id", "published", "target")

    def __init__(
        self,
        task_id: str,
        outcomes: "Outcomes",
        *,
        target: "Target[..., R] | None" = None,
        delivery: "Delivery | None" = None,
        published: float | None = None,
        due: float | None = None,
    ) -> None:
        self.id = task_id
        self.published = published
        self.due = due
        self.target = target
        self._outcomes = outcomes
        self._delivery = delivery

    @property
    def is_own(self) -> bool:
        """Whether it was published through this handle."""
        return self._delivery is not None

    @property
    def delivery(self) -> "Delivery":
        """What becomes of the record on its way to Kafka.

        Raises:
            PublishError: it was not published through this handle.
        """
        if self._delivery is None:
            raise PublishError(
                f"task {self.id} was not published through this handle, so only its state() and "
                "result() can be asked for"
            )
        return self._delivery

    @property
    def delay(self) -> float | None:
        """Seconds between its publish and its due time; None where either isn't known."""
        if self.due is None or self.published is None:
            return None
        return self.due - self.published

    def acknowledged(self, timeout: float | None = None) -> None:
        """Waits until Kafka has acknowledged the task; at once where it has.

        Args:
            timeout: seconds; None leaves it to `publish_timeout`.

        Raises:
            PublishTimeout: not in time. It may still be acknowledged.
            PublishError: Kafka refused the record, or it was not published through this handle.
            BlockingCall: called on a running event loop; use `acknowledged_async`.
        """
        refuse_on_loop("handle.acknowledged")
        self.delivery.wait(timeout)

    async def acknowledged_async(self) -> None:
        """`acknowledged` for a running event loop; bound it with `asyncio.timeout`."""
        await self.delivery

    def result(self, timeout: float | None = None) -> R:
        """The task's result, as soon as it has one.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TaskFailed: it ended as `dead`; carries type, message and traceback of its error.
            TaskCancelled: it was cancelled.
            TaskExpired: it was too old to run.
            ResultTimeout: no final state in time; carries the last known one.
            ResultGone: it is older than results are kept.
            MissingExtra: only a result store can tell, and its driver is not installed.
            BlockingCall: called on a running event loop; use `result_async`.
        """
        refuse_on_loop("handle.result")
        return run(self._outcomes.result(self, timeout))

    async def result_async(self, timeout: float | None = None) -> R:
        """`result` for a running event loop."""
        return await run_async(self._outcomes.result(self, timeout))

    def state(self) -> State:
        """Where the task is now; `unknown` where there is no trace of it.

        Raises:
            StoreError: the result store did not answer.
            BrokerError: the workers' heartbeats can't be read.
            MissingExtra: the result store's driver is not installed.
            BlockingCall: called on a running event loop; use `state_async`.
        """
        refuse_on_loop("handle.state")
        return run(self._outcomes.state(self))

    async def state_async(self) -> State:
        """`state` for a running event loop."""
        return await run_async(self._outcomes.state(self))

    def cancel(self, reason: str = "") -> State:
        """Asks for the task's end: back when the request is durable, in force within a second.

        A task that waits, is delayed or is to be tried again never starts. One that runs is told:
        a coroutine is cancelled, a function in a process is interrupted, one in a thread can look at
        `current().cancelled`. What finished first stays: a task that returns all the same has succeeded;
        after whatever else it is `cancelled`.

        Args:
            reason: why, for whoever reads the request.

        Returns:
            The final state of a task that has ended: then nothing was asked for. Else where it was, by
            the result store and this handle; whether it runs is not looked for.

        Raises:
            BrokerError: Kafka did not take the request.
            PublishError: Kafka did not take the task.
            StoreError: the result store did not answer.
            BlockingCall: called on a running event loop; use `cancel_async`.
        """
        refuse_on_loop("handle.cancel")
        return run(self._outcomes.cancel(self, reason))

    async def cancel_async(self, reason: str = "") -> State:
        """`cancel` for a running event loop."""
        return await run_async(self._outcomes.cancel(self, reason))

    def __repr__(self) -> str:
        name = f" of {self.target.name}" if self.target is not None else ""
        return f"<Handle {self.id}{name}>"
