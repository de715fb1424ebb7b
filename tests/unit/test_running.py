"""Attempts that pass their hard limit: in which order what is said of them."""

from threading import Event
from types import SimpleNamespace
from typing import Any, cast

from taskstream.consumer.child.runners import Running
from taskstream.core.clock import ManualClock


def test_a_stuck_child_says_so_before_the_verdict() -> None:
    """Else its parent may give it the next task in between, which would wait behind a stuck one."""
    said: list[str] = []
    over = Event()
    clock = ManualClock()

    def ended(*_outcome: object) -> None:
        said.append("ended")
        over.set()

    begun = SimpleNamespace(begin=lambda _number: None)
    running = Running(ended, lambda _attempt: said.append("stuck"), cast("Any", begun), clock)
    attempt = SimpleNamespace(
        given=SimpleNamespace(number=1),
        task=SimpleNamespace(timeout=1.0, soft_timeout=None, runs="thread"),
        stop=Event(),
        started=None,
        abandoned=False,
        cancelled=False,
    )
    running.begin(cast("Any", attempt))
    clock.advance(1.0)
    assert over.wait(10.0)
    assert said == ["stuck", "ended"]
