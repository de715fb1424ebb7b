"""Coroutines on the child's event loop: each in context variables of its own, and each told of once.

Broken on purpose once, and seen to fail: the next coroutine was created without a context, so in that of the one
whose end made room for it; and coroutines that had not come to their first step were known by their number.
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


class World:
    """A runner with so many slots, and what it told of its attempts.

    Args:
        slots: how many run at once.
        expected: after so many outcomes `all_told` is set.
    """

    def __init__(self, slots: int, expected: int) -> None:
        self.told: list[tuple[Attempt, Any]] = []
        self.all_told = Event()
        self._expected = expected
        begun = cast("Any", SimpleNamespace(begin=lambda _number: None))
        self.running = Running(self._ended, lambda _attempt: None, begun, SYSTEM_CLOCK)
        self.runner = AsyncRunner(
            cast("Any", SimpleNamespace(lifespans=[], arounds=[])), self.running, Line(slots, 0)
        )
        self.runner.open()

    def _ended(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        self.told.append((attempt, value if error is None else error))
        if len(self.told) == self._expected:
            self.all_told.set()


def test_what_one_sets_the_next_one_does_not_see() -> None:
    """A coroutine begins where the one before it ended, and must not find that one's tenant."""

    async def tenant() -> str:
        found = TENANT.get()
        TENANT.set("the last one's")
        return found

    world = World(slots=1, expected=2)
    world.runner.submit([(_attempt(number, tenant), _context(number)) for number in (1, 2)])
    assert world.all_told.wait(10.0)
    world.runner.close()
    assert [value for _, value in world.told] == ["nobody's", "nobody's"]


def test_a_recalled_one_takes_nothing_from_the_one_that_has_its_number_now() -> None:
    """The parent may give a task again to the child that it has recalled it from, while the first copy waits."""

    async def noop() -> str:
        return "done"

    world = World(slots=2, expected=1)
    recalled, again = _attempt(1, noop), _attempt(1, noop)
    assert world.running.recall([recalled]) == [recalled]
    world.runner.submit([(recalled, _context(1)), (again, _context(1))])
    assert world.all_told.wait(10.0)
    world.runner.close()
    assert world.told == [(again, "done")]
