"""The thread that reports: it rests where nothing is under way, and wakes up for what comes."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from taskstream.broker import sender as module
from taskstream.broker.failures import TimedOut
from taskstream.broker.sender import Ack, Sender, unheard
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.observability import table
from taskstream.observability.metrics import Metrics

PATIENCE = 10.0


class Client:
    """A producer whose records are acknowledged by the next poll, which never waits."""

    def __init__(self, _options: dict[str, Any]) -> None:
        self._reports: list[Callable[[Any, Any], None]] = []

    def __len__(self) -> int:
        return len(self._reports)

    def list_topics(self, **_options: object) -> Any:
        """One topic of one partition."""
        return SimpleNamespace(topics={"t": SimpleNamespace(partitions={0: None})})

    def produce(self, *arguments: Any, headers: object) -> None:
        """Takes a record."""
        self._reports.append(arguments[-1])

    def poll(self, _timeout: float) -> int:
        """Reports; says on how many."""
        reports, self._reports = self._reports, []
        for report in reports:
            report(None, SimpleNamespace(partition=lambda: 0, offset=lambda: 7))
        return len(reports)

    def flush(self, _timeout: float) -> int:
        """Nothing is left."""
        return 0


def test_a_record_ends_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is reported, whether the thread rests or not; and it ends when it is to end."""
    monkeypatch.setattr(module, "Producer", Client)
    monkeypatch.setattr(module, "_REST", 1000.0)
    sender = Sender(Settings(bootstrap_servers="k:9092"), client_id="c")
    for _ in range(100):
        done = threading.Event()
        acks: list[Ack | None] = []

        def report(
            ack: Ack | None, _error: BrokerError | None, acks: list[Any] = acks, done: Any = done
        ) -> None:
            acks.append(ack)
            done.set()

        sender.send("t", b"", key=None, headers=[], on_done=report)
        assert done.wait(PATIENCE)
        assert acks == [Ack(0, 7)]
    assert sender.close(PATIENCE) == 0


def test_a_client_that_is_replaced_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is each record, whatever becomes of it."""

    class Refusing(Client):
        def produce(self, *_arguments: Any, headers: object) -> None:
            raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT))

    monkeypatch.setattr(module, "Producer", Refusing)
    metrics = Metrics()
    settings = Settings(bootstrap_servers="k:9092", publish_timeout=0.0)
    sender = Sender(settings, client_id="c", metrics=metrics, role="handoff")
    with pytest.raises(TimedOut):
        sender.send("t", b"", key=None, headers=[], on_done=unheard)
    assert metrics.series(table.SENT) == {("t", "TimedOut"): 1}
    sender._give_up(cast("Any", Client({})))
    assert metrics.series(table.CLIENTS_REPLACED) == {("handoff",): 1}
    sender.close(PATIENCE)
