"""`current()`: what a running task can ask about itself.

Broken on purpose once, and seen to fail: a context whose fields could be set.
"""

import asyncio
import logging
from threading import Thread

import pytest

from taskstream.app.current import Context, Stop, activate, current, running
from taskstream.core.errors import TaskstreamError


def context(task_id: str = "id-1", report: list[tuple[float, str]] | None = None) -> Context:
    heard = [] if report is None else report
    return Context(
        id=task_id,
        task="charge",
        run=0,
        attempt=1,
        key=None,
        fence=7,
        root="id-0",
        deadline=None,
        resources={"pool": 1},
        stop=Stop(),
        report=lambda fraction, note: heard.append((fraction, note)),
    )


def test_outside_a_task_there_is_no_context() -> None:
    """Asked outside a task, `current()` says so and tells what a test does instead."""
    assert running() is None
    with pytest.raises(TaskstreamError, match="only inside a task"):
        current()


def test_a_context_is_current_inside_its_block_only() -> None:
    """Blocks nest, and the end of one brings back the outer."""
    outer, inner = context("outer"), context("inner")
    with activate(outer):
        with activate(inner):
            assert current() is inner
        assert current() is outer
    assert running() is None


def test_a_context_stays_as_it_was_given() -> None:
    """What one part of a task holds, no other part can change, nor add to."""
    it = context()
    for name in ("id", "fence", "cancelled", "note"):
        with pytest.raises(AttributeError):
            setattr(it, name, "another")


def test_each_asyncio_task_has_its_own() -> None:
    """Attempts that share an event loop never see each other's context."""

    async def attempt(task_id: str, turn: asyncio.Barrier) -> str:
        with activate(context(task_id)):
            await turn.wait()
            return current().id

    async def both() -> list[str]:
        turn = asyncio.Barrier(2)
        return list(await asyncio.gather(attempt("a", turn), attempt("b", turn)))

    assert asyncio.run(both()) == ["a", "b"]


def test_a_thread_starts_without_one() -> None:
    """A thread that user code starts is not an attempt until it is made one."""
    seen: list[Context | None] = []
    with activate(context()):
        thread = Thread(target=lambda: seen.append(running()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_cancelled_follows_the_stop_signal() -> None:
    """The flag turns when the worker says so, without a call into the task."""
    it = context()
    assert not it.cancelled
    it.stop.set()
    assert it.cancelled


def test_a_task_may_wait_for_the_stop_signal() -> None:
    """However many wait, before or after it is set, all go on once it is."""
    stop = Stop()
    assert not stop.wait(0.0)
    woken: list[bool] = []
    waiting = [Thread(target=lambda: woken.append(stop.wait(10.0))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    stop.set()
    for thread in waiting:
        thread.join()
    assert woken == [True] * 3
    late = Stop()
    late.set()
    assert late.wait(0.0)


def test_progress_is_a_fraction() -> None:
    """Progress goes to whoever listens, cut to 0 to 1."""
    heard: list[tuple[float, str]] = []
    it = context(report=heard)
    for fraction in (-1, 0.5, 7):
        it.progress(fraction, "packing")
    assert heard == [(0.0, "packing"), (0.5, "packing"), (1.0, "packing")]


def test_the_log_is_named_after_the_task() -> None:
    """Log lines of a task can be found and set by its name."""
    assert context().log is logging.getLogger("taskstream.task.charge")
