"""Which result store the settings ask for."""

import subprocess
import sys
from pathlib import Path

import pytest

from taskstream.core.errors import MissingExtra
from taskstream.core.settings import Settings
from taskstream.results.open import open_store
from taskstream.results.sqlite import SqliteStore


def test_nothing_configured_is_no_store() -> None:
    """A service that only publishes needs none."""
    assert open_store(Settings(bootstrap_servers="kafka:9092")) is None


def test_embedded_has_its_file_ready(tmp_path: Path) -> None:
    """Nobody runs `init` there: the store can be read at once."""
    settings = Settings(bootstrap_servers="embedded", embedded_directory=str(tmp_path))
    store = open_store(settings)
    assert isinstance(store, SqliteStore)
    assert store.latest(10) == []
    assert (tmp_path / "results.sqlite").exists()
    store.close()


def test_cassandra_is_asked_for_nothing_before_it_is_used() -> None:
    """Opening doesn't connect, so that a worker starts while Cassandra is away."""
    pytest.importorskip("cassandra")
    from taskstream.results.cassandra import CassandraStore

    store = open_store(Settings(cassandra_hosts="127.0.0.1:1"))
    assert isinstance(store, CassandraStore)
    store.close()


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the base install alone the error says what to install."""
    monkeypatch.delitem(sys.modules, "taskstream.results.cassandra", raising=False)
    monkeypatch.setitem(sys.modules, "cassandra", None)
    with pytest.raises(MissingExtra, match=r"taskstream\[cassandra\]"):
        open_store(Settings(cassandra_hosts="127.0.0.1:1"))


def test_importing_loads_no_driver() -> None:
    """What a publisher imports loads neither the Cassandra driver nor the Kafka client."""
    code = (
        "import sys, taskstream.results.open, taskstream.results.replies, taskstream.results.batching; "
        "print([name for name in ('cassandra', 'confluent_kafka', 'sqlite3') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
