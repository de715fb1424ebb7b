"""What an intake tells of a revocation whose last commit did not come about."""

from collections.abc import Callable
from typing import Any

import pytest

from taskstream.consumer.parent import intake
from taskstream.consumer.parent.intake import (
    Event,
    Intake,
    IntakeFailed,
    PartitionsLost,
    PartitionsRevoked,
)
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.observability.metrics import Metrics

PLACE = Place("shop.tasks.high", 0)


class Consumer:
    """A member whose commits are refused, or not."""

    refuses = False

    def __init__(self, *_: object, **_more: object) -> None:
        """Needs no Kafka."""

    def commit_now(self, _offsets: object, _timeout: float) -> None:
        if self.refuses:
            raise BrokerError("no")


def told(
    monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False, answers: bool = True
) -> list[type[Any]]:
    """The kinds of what the loop hears of one revocation."""
    monkeypatch.setattr(intake, "GroupConsumer", Consumer)
    monkeypatch.setattr(Consumer, "refuses", refuses)
    heard: list[Event] = []

    def tell(event: Event) -> None:
        heard.append(event)
        if answers and isinstance(event, PartitionsRevoked):
            event.answered.set()

    make: Callable[..., Intake] = Intake
    one = make(
        Settings(), lane="tasks.high", topic=PLACE.topic, group="shop", client_id="w1",
        instance=None, cluster=None, tell=tell, revoke_wait=0.01, metrics=Metrics(),
        clock=ManualClock(),
    )  # fmt: skip
    one.revoked([PLACE])
    return [type(event) for event in heard]


def test_what_goes_on_is_cancelled_where_no_commit_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its next owner does not wait for it, so it counts as lost; also where the loop did not answer."""
    assert told(monkeypatch) == [PartitionsRevoked]
    assert told(monkeypatch, refuses=True) == [PartitionsRevoked, IntakeFailed, PartitionsLost]
    assert told(monkeypatch, answers=False) == [PartitionsRevoked, PartitionsLost]
