"""What is said of a topic that can't be followed.

Broken on purpose once, and seen to fail: with one advice for all troubles.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Self

import pytest

from taskstream.broker import follow
from taskstream.broker.failures import UnknownTopic
from taskstream.broker.follow import Follower
from taskstream.broker.records import Record
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings

REFUSALS = ["no such topic", "no such topic", "no such topic", "no leader"]


def test_the_same_trouble_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again and again, and said again only when it is another trouble."""
    left, done = iter(REFUSALS), threading.Event()

    def refuse(*_args: object, **_options: object) -> None:
        refusal = next(left, None)
        if refusal is None:
            done.set()
        raise BrokerError(refusal or REFUSALS[-1])

    monkeypatch.setattr(follow, "Tail", refuse)
    monkeypatch.setattr(follow, "AGAIN_AFTER", 0.0)
    follower = Follower(Settings(), "t", lambda _records, _caught_up: None, client_id="c")
    follower.start()
    assert done.wait(10.0)
    follower.close(10.0)

    assert len(caplog.messages) == 2
    assert "no such topic" in caplog.messages[0]
    assert "no leader" in caplog.messages[1]


def test_a_missing_topic_is_for_init(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who starts a worker first is told what to type, and not to look after Kafka."""
    asked = threading.Event()

    def refuse(*_args: object, **_options: object) -> None:
        asked.set()
        raise UnknownTopic("no such topic")

    monkeypatch.setattr(follow, "Tail", refuse)
    follower = Follower(Settings(), "t", lambda _records, _caught_up: None, client_id="c")
    follower.start()
    assert asked.wait(10.0)
    follower.close(10.0)
    assert "taskstream init" in caplog.text


class Empty:
    """A tail of a topic without records."""

    reached_end = True
    position: Mapping[int, int] = {0: 0}

    def __init__(self, looked: list[int]) -> None:
        self._looked = looked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def take(self, limit: int, _timeout: float) -> list[Record]:
        """Nothing, ever."""
        self._looked.append(limit)
        return []


def test_an_empty_topic_is_known_before_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gives nothing out until it has caught up: the wait of a first look would be its own."""
    looked: list[int] = []
    heard: list[tuple[int, bool, int]] = []
    done = threading.Event()

    def hear(records: Sequence[Record], caught_up: bool) -> None:
        heard.append((len(records), caught_up, len(looked)))
        done.set()

    monkeypatch.setattr(follow, "Tail", lambda *_args, **_options: Empty(looked))
    follower = Follower(Settings(), "t", hear, client_id="c")
    follower.start()
    assert done.wait(10.0)
    follower.close(10.0)

    assert heard == [(0, True, 0)]
