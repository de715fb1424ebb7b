"""Attempts that pass their hard limit: in which order what is said of them; and those taken back.

Broken on purpose once, and seen to fail: a claim without the look at `recalled`, and a recall without the
look at `claimed`.
"""

from threading import Barrier, Event, Thread
from types import SimpleNamespace
from typing import Any, cast

from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.child.runners import Running
from taskstream.core.clock import SYSTEM_CLOCK, ManualClock
from taskstream.core.envelope import Envelope


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


def test_an_attempt_has_begun_or_was_taken_back_and_never_both() -> None:
    """Whichever thread comes first: what the parent has back may run in another child by now."""
    running = Running(
        lambda *_outcome: None, lambda _attempt: None, cast("Any", None), SYSTEM_CLOCK
    )
    attempts = [Attempt(cast("Any", None), Envelope("charge")) for _ in range(2000)]
    together = Barrier(2)
    back: list[Attempt] = []
    begun: list[Attempt] = []

    def recall() -> None:
        together.wait()
        back.extend(running.recall(reversed(attempts)))

    def begin() -> None:
        together.wait()
        begun.extend(attempt for attempt in attempts if running.claim(attempt))

    threads = [Thread(target=recall), Thread(target=begin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(back) + len(begun) == len(attempts)
    assert not set(map(id, back)) & set(map(id, begun))
    assert running.recall(attempts) == []


def test_what_was_taken_back_does_not_begin() -> None:
    """Its runner passes it over, and says nothing of it."""
    running = Running(
        lambda *_outcome: None, lambda _attempt: None, cast("Any", None), SYSTEM_CLOCK
    )
    attempt = Attempt(cast("Any", None), Envelope("charge"))
    assert running.recall([attempt, attempt]) == [attempt]
    assert not running.claim(attempt)
    assert running.recall([attempt]) == []
