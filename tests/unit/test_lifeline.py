"""When a client counts as lost: it gets no answer, again and again, and a new one gets one."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from taskstream.broker.failures import TimedOut
from taskstream.broker.lifeline import ASK_AGAIN, MISSES, SILENCE, Lifeline
from taskstream.core.clock import ManualClock
from taskstream.core.settings import Settings


class Scene:
    """A client, brokers, and the time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.asked = 0
        self.client_answers = True
        self.brokers_answer = True
        self.lifeline = Lifeline(
            Settings(), self._ask, clock=self.clock, reach=lambda _settings, _timeout: self._reach()
        )

    def _ask(self, _timeout: float) -> None:
        self.asked += 1
        if not self.client_answers:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def _reach(self) -> None:
        if not self.brokers_answer:
            raise TimedOut("no answer")

    def looks(self, count: int) -> list[bool]:
        """What it says, once right after the silence, and then as often as it asks."""

        def each() -> Iterator[bool]:
            self.clock.advance(SILENCE)
            for _ in range(count):
                yield self.lifeline.lost()
                self.clock.advance(ASK_AGAIN)

        return list(each())


@pytest.fixture
def scene() -> Scene:
    """A client that has just been made, and brokers that are there."""
    return Scene()


def test_a_client_that_only_it_gets_no_answer_is_lost(scene: Scene) -> None:
    """Not at once: an answer may be on its way."""
    scene.client_answers = False
    assert scene.looks(MISSES) == [False] * (MISSES - 1) + [True]


def test_in_an_outage_no_client_is_lost(scene: Scene) -> None:
    """A new one would get no further; nor is it asked at every turn."""
    scene.client_answers = scene.brokers_answer = False
    assert scene.looks(4) == [False] * 4
    assert scene.asked == 1


def test_a_client_that_answers_is_not_lost(scene: Scene) -> None:
    """However long there is nothing to hear."""
    assert scene.looks(3) == [False] * 3


def test_who_hears_is_not_asked(scene: Scene) -> None:
    """A word begins the silence anew, and forgets what was missed."""
    scene.client_answers = False
    assert scene.looks(1) == [False]
    scene.lifeline.heard()
    assert scene.lifeline.lost() is False
    assert scene.asked == 1
    assert scene.looks(MISSES) == [False] * (MISSES - 1) + [True]
