"""A child's end when its parent gives no sign of life."""

import os
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskstream.consumer.child import vitals
from taskstream.consumer.child.vitals import Vitals
from taskstream.consumer.pipe import BLAMELESS
from taskstream.core.clock import ManualClock
from taskstream.observability.metrics import Metrics


def test_a_parent_that_does_not_read_is_missed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pulse that a frozen parent's full socket does not take holds up nothing but itself."""
    answering, ended, abandoned = Event(), Event(), Event()
    statuses: list[int] = []

    def send(_frame: bytes) -> None:
        answering.set()
        ended.wait(30.0)

    def leave(status: int) -> None:
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(vitals, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(vitals, "LAST_WORDS", 0.0)
    monkeypatch.setattr(os, "_exit", leave)
    service = SimpleNamespace(
        rows_pending=0, store_healthy=True, loop_turns=lambda: 0, abandon=abandoned.set
    )
    clock = ManualClock()
    link = SimpleNamespace(send=send)
    pulse = Vitals(cast("Any", link), cast("Any", service), Metrics(), clock)
    pulse.start()
    pulse.hear(1.0)
    assert answering.wait(10.0)
    clock.advance(2.0)
    assert ended.wait(10.0)
    assert abandoned.is_set()
    assert statuses == [BLAMELESS]
