"""What is said of a topic that can't be followed."""

import threading

import pytest

from taskstream.broker import follow
from taskstream.broker.follow import Follower
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
