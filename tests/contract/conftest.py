"""What the contract suites run against."""

import pytest
from tests.support.brokers import broker, embedded_settings

__all__ = ["broker", "embedded_settings"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of Kafka are looked at after half a second of silence."""
    monkeypatch.setattr("taskstream.broker.lifeline.SILENCE", 0.5)
    monkeypatch.setattr("taskstream.broker.lifeline.ASK_AGAIN", 0.1)
