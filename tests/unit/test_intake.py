"""What an intake does while it is full, and what it tells of a revocation without its last commit.

Broken on purpose once, and seen to fail: a commit that wakes nobody.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from taskstream.broker.records import Record
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
    assignment = ()
    paused: frozenset[Place] = frozenset()

    def __init__(self, *_: object, **_more: object) -> None:
        self.owes_commits = False
        self.taken = threading.Semaphore(0)

    def take(self, _limit: int, _timeout: float) -> list[Record]:
        self.owes_commits = False
        self.taken.release()
        return []

    def pause(self, _places: object) -> None:
        """Has nothing to pause."""

    def resume(self, _places: object) -> None:
        """Has nothing to resume."""

    def commit(self, _offsets: object) -> None:
        self.owes_commits = True

    def close(self, _timeout: float) -> bool:
        return True

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

    made(tell).revoked([PLACE])
    return [type(event) for event in heard]


def made(tell: Callable[[Event], None]) -> Intake:
    """An intake without Kafka."""
    make: Callable[..., Intake] = Intake
    return make(
        Settings(), lane="tasks.high", topic=PLACE.topic, group="shop", client_id="w1",
        instance=None, cluster=None, tell=tell, revoke_wait=0.01, metrics=Metrics(),
        clock=ManualClock(),
    )  # fmt: skip


def test_a_commit_is_sent_while_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills the room may wait for that commit: nothing is given out beyond what one has reserved."""
    monkeypatch.setattr(intake, "GroupConsumer", Consumer)
    monkeypatch.setattr(intake, "PATIENCE", 1e6)
    one = made(lambda _event: None)
    consumer: Any = one._consumer
    one._records = intake.ROOM_RECORDS
    one.start()
    try:
        for _ in range(3):
            one.commit({PLACE: (7, "")})
            assert consumer.taken.acquire(timeout=20)
        assert not consumer.taken.acquire(blocking=False), "without a commit it only waits"
    finally:
        one.close({}, 20)


def test_what_goes_on_is_cancelled_where_no_commit_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its next owner does not wait for it, so it counts as lost; also where the loop did not answer."""
    assert told(monkeypatch) == [PartitionsRevoked]
    assert told(monkeypatch, refuses=True) == [PartitionsRevoked, IntakeFailed, PartitionsLost]
    assert told(monkeypatch, answers=False) == [PartitionsRevoked, PartitionsLost]
