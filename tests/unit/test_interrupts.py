"""What the main thread runs is interrupted for its own sake, once, and never anything else."""

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.child.runners import Interrupts
from taskstream.consumer.verdict import Cancelled, Timeout


def attempt(timeout: float | None = None) -> Attempt:
    """An attempt of a task with that limit."""
    task = SimpleNamespace(soft_timeout=None, timeout=timeout)
    return Attempt(cast("Any", None), cast("Any", None), task=cast("Any", task))


def run(interrupts: Interrupts, one: Attempt, seconds: float = 5.0) -> None:
    """What the main thread does with it."""
    with interrupts.within(one):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.001)


def test_a_cancel_from_another_thread_is_raised_where_it_runs() -> None:
    """At once, and only because this attempt is the one that was cancelled."""
    interrupts, one = Interrupts(), attempt()
    interrupts.install()

    def cancel() -> None:
        interrupts.look()  # of nobody's interest yet
        one.cancelled = True
        interrupts.look()

    timer = threading.Timer(0.05, cancel)
    timer.start()
    with pytest.raises(Cancelled):
        run(interrupts, one)
    timer.join()


def test_a_word_before_there_was_anything_to_interrupt_is_heard() -> None:
    """It was cancelled between its start and its function's."""
    one = attempt()
    one.cancelled = True
    with pytest.raises(Cancelled):
        run(Interrupts(), one)


def test_outside_of_the_block_nothing_is_raised() -> None:
    """A late word must not end the loop that runs the next attempt, nor that attempt."""
    interrupts, one = Interrupts(), attempt()
    run(interrupts, one, 0.0)
    one.cancelled = True
    interrupts.look()
    run(interrupts, attempt(), 0.01)


def test_a_limit_is_raised_once() -> None:
    """Whoever cleans up after it is not interrupted again, not even by a cancel."""
    interrupts, one = Interrupts(), attempt(timeout=0.05)
    cleaned = False
    with pytest.raises(Timeout), interrupts.within(one):  # noqa: PT012 - what it does on the way is the point
        try:
            while True:
                time.sleep(0.001)
        finally:
            one.cancelled = True
            interrupts.look()
            time.sleep(0.01)
            cleaned = True
    assert cleaned
