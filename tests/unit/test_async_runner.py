"""Coroutines on the child's event loop: each in context variables of its own.

Broken on purpose once, and seen to fail: the next coroutine was created without a context, so in that of the one
whose end made room for it.
"""

from contextvars import ContextVar
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

from taskstream.app.current import Context, Stop
from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.child.line import Line
from taskstream.consumer.child.runners import AsyncRunner, Running
from taskstream.consumer.pipe import Turn
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.envelope import Envelope
from taskstream.observability.tracing import process_span

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody's")


def _context(number: int) -> Context:
    return Context(
        id=str(number),
        task="charge",
        run=0,
        attempt=1,
        key=None,
        fence=1,
        root=str(number),
        deadline=None,
        resources=None,
        stop=Stop(),
        report=lambda _fraction, _note: None,
    )


def _attempt(number: int, function: Any) -> Attempt:
    given = SimpleNamespace(number=number, turn=Turn.COMMON)
    attempt = Attempt(cast("Any", given), Envelope("charge"))
    attempt.task = cast(
        "Any", SimpleNamespace(function=function, timeout=None, soft_timeout=None, runs="async")
    )
    attempt.span = process_span(None, topic="", headers=(), describe=dict)
    return attempt


def test_what_one_sets_the_next_one_does_not_see() -> None:
    """A coroutine begins where the one before it ended, and must not find that one's tenant."""
    seen: list[Any] = []
    both = Event()

    def ended(_attempt: Attempt, value: Any, error: BaseException | None) -> None:
        seen.append(value if error is None else error)
        if len(seen) == 2:
            both.set()

    async def tenant() -> str:
        found = TENANT.get()
        TENANT.set("the last one's")
        return found

    begun = cast("Any", SimpleNamespace(begin=lambda _number: None))
    running = Running(ended, lambda _attempt: None, begun, SYSTEM_CLOCK)
    runner = AsyncRunner(
        cast("Any", SimpleNamespace(lifespans=[], arounds=[])), running, Line(1, 0)
    )
    runner.open()
    runner.submit([(_attempt(number, tenant), _context(number)) for number in (1, 2)])
    assert both.wait(10.0)
    runner.close()
    assert seen == ["nobody's", "nobody's"]
