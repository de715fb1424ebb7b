"""One procedure, run blocking and on an event loop, with the same end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from taskstream.app.steps import Call, Steps, Wait, run, run_async

Runner = Callable[[Steps[Any]], Any]


def run_on_loop(steps: Steps[Any]) -> Any:
    async def main() -> Any:
        return await run_async(steps)

    return asyncio.run(main())


both = pytest.mark.parametrize("runner", [run, run_on_loop])


def fail() -> None:
    raise ValueError("no")


@both
def test_calls_are_answered(runner: Runner) -> None:
    """A step's answer comes back where it was asked, and the end is the procedure's value."""

    def steps() -> Steps[int]:
        first: int = yield Call(lambda: 3)
        second: int = yield Call(lambda: first + 1)
        return second

    assert runner(steps()) == 4


@both
def test_a_failing_call_raises_where_it_was_asked(runner: Runner) -> None:
    """A procedure can catch what its call raised; what it doesn't catch reaches the caller."""

    def catches() -> Steps[str]:
        try:
            yield Call(fail)
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    def passes_on() -> Steps[None]:
        yield Call(fail)

    assert runner(catches()) == "caught no"
    with pytest.raises(ValueError, match="no"):
        runner(passes_on())


@both
def test_a_wait_ends_with_the_result_or_the_time(runner: Runner) -> None:
    """A future that is done answers at once, an open one gives None when time is up, again and again."""
    done: Future[str] = Future()
    done.set_result("here")
    never: Future[str] = Future()

    def steps() -> Steps[list[str | None]]:
        first = yield Wait(never, 0.001)
        second = yield Wait(done, 0.001)
        third = yield Wait(never, 0.001)
        return [first, second, third]

    assert runner(steps()) == [None, "here", None]


@both
def test_a_wait_for_what_was_given_up_ends(runner: Runner) -> None:
    """A future that its owner cancelled has no answer, and is no error of ours to be raised."""
    given_up: Future[str] = Future()
    given_up.cancel()

    def steps() -> Steps[str | None]:
        answer: str | None = yield Wait(given_up, 60)
        return answer

    assert runner(steps()) is None


@both
def test_the_procedure_is_closed_whatever_happens(runner: Runner) -> None:
    """What a procedure cleans up in `finally` is cleaned up also when it is interrupted."""
    cleaned: list[bool] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def steps() -> Steps[None]:
        try:
            yield Call(interrupt)
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        runner(steps())
    assert cleaned == [True]


def test_a_cancelled_coroutine_closes_its_procedure() -> None:
    """Cancelling who waits runs the clean-up and leaves the future to its other waiters."""
    cleaned: list[bool] = []
    future: Future[str] = Future()

    def steps() -> Steps[None]:
        try:
            yield Wait(future, 60)
        finally:
            cleaned.append(True)

    async def main() -> None:
        task = asyncio.create_task(run_async(steps()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert cleaned == [True]
    assert not future.cancelled()
