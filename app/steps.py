"""One engine for blocking and async methods: a procedure written as a generator of steps.

The procedure says what it waits for and is told the answer; `run` does the waiting in the calling
thread, `run_async` on the event loop. So what is decided is written once, and tested without
either.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from taskstream.producer.delivery import Delivery
    from taskstream.producer.producer import Publisher
    from taskstream.producer.routing import PublishRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Call this; it may block. The answer is what it returns, or its error."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for this, at most so many seconds.

    The answer is its result; None when time is up, or nobody is going to give one any more.
    """

    future: Future[Any]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Send:
    """Hand this to the publisher, making room first where there is none. The answer is its delivery."""

    publisher: "Publisher"
    request: "PublishRequest"


@dataclass(frozen=True, slots=True)
class SendMany:
    """Hand all of these to the publisher, as `Send` does. The answer is their deliveries."""

    publisher: "Publisher"
    requests: Sequence["PublishRequest"]


@dataclass(frozen=True, slots=True)
class Arrive:
    """Wait for Kafka's answer on this delivery, as long as its publish may take; its error is raised."""

    delivery: "Delivery"


@dataclass(frozen=True, slots=True)
class Pause:
    """Let others have a turn: for long work on an event loop."""


Step = Call | Wait | Send | SendMany | Arrive | Pause
Steps = Generator[Step, Any, T]
"""A procedure that ends in a T."""


def run(steps: Steps[T]) -> T:
    """Runs the procedure here, blocking."""
    try:
        step = next(steps)
        while True:
            try:
                answer = _answer(step)
            except Exception as error:  # noqa: BLE001 - the procedure judges it
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def run_async(steps: Steps[T]) -> T:
    """Runs the procedure on the event loop; calls that may block go to a thread."""
    awaited: dict[Future[Any], Any] = {}  # each future is wrapped once, however often waited for
    try:
        step = next(steps)
        while True:
            try:
                answer = await _answer_async(step, awaited)
            except Exception as error:  # noqa: BLE001 - the procedure judges it
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def _answer(step: Step) -> Any:
    match step:
        case Call(function):
            return function()
        case Wait(future, seconds):
            try:
                return future.result(seconds)
            except (TimeoutError, CancelledError):
                return None
        case Send(publisher, request):
            return publisher.publish(request)
        case SendMany(publisher, requests):
            return [publisher.publish(request) for request in requests]
        case Arrive(delivery):
            return delivery.wait()
        case Pause():
            return None


async def _answer_async(step: Step, awaited: dict[Future[Any], Any]) -> Any:
    import asyncio  # noqa: PLC0415 - loading it takes half our import; here a loop runs already

    match step:
        case Call(function):
            return await asyncio.to_thread(function)
        case Wait(future, seconds):
            if future not in awaited:
                awaited[future] = asyncio.wrap_future(future)
            await asyncio.wait([awaited[future]], timeout=seconds)
            is_done = awaited[future].done() and not awaited[future].cancelled()
            return awaited[future].result() if is_done else None
        case Send(publisher, request):
            return await publisher.publish_async(request)
        case SendMany(publisher, requests):
            return [await publisher.publish_async(request) for request in requests]
        case Arrive(delivery):
            return await delivery
        case Pause():
            return await asyncio.sleep(0)
