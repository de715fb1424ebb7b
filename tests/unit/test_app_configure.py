"""Where settings come from, and which source wins."""

from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest

from taskstream.app.app import App
from taskstream.app.configure import SettingArguments, configure
from taskstream.core.errors import ConfigError
from taskstream.core.settings import NAMES, Settings


class Sources:
    """All sources of settings, empty until a test fills them."""

    def __init__(self, directory: Path) -> None:
        self.flags: dict[str, Any] = {}
        self.arguments: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.directory = directory
        self.up: dict[str, Any] | None = None
        self.said: list[str] = []

    def settings(self) -> Settings:
        return configure(
            flags=self.flags,
            arguments=self.arguments,
            environment=self.environment,
            directory=self.directory,
            running=lambda: self.up,
            say=self.said.append,
        )


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def test_arguments_are_exactly_the_settings() -> None:
    """`App(...)` takes every setting by name and nothing else."""
    assert tuple(SettingArguments.__annotations__) == NAMES


def test_the_first_source_that_names_a_setting_wins(sources: Sources) -> None:
    """Flag, App, environment, file, in this order; each setting on its own."""
    sources.flags = {"keyspace": "flag", "partitions": None}
    sources.arguments = {"keyspace": "app", "bootstrap_servers": "app:9092"}
    sources.environment = {"TASKSTREAM_KEYSPACE": "env", "TASKSTREAM_PARTITIONS": "3"}
    (sources.directory / "taskstream.toml").write_text('keyspace = "file"\nreplication = 3\n')
    settings = sources.settings()
    assert settings.keyspace == "flag"
    assert settings.bootstrap_servers == "app:9092"
    assert settings.partitions == 3
    assert settings.replication == 3


def test_a_file_is_found_from_below_and_the_nearest_wins(sources: Sources) -> None:
    """The search goes upwards; a pyproject.toml without our table is passed by."""
    root = sources.directory
    (root / "pyproject.toml").write_text('[tool.taskstream]\nkeyspace = "top"\n')
    sources.directory = root / "service" / "src"
    sources.directory.mkdir(parents=True)
    (root / "service" / "pyproject.toml").write_text("[project]\n")
    assert sources.settings().keyspace == "top"
    (root / "service" / "taskstream.toml").write_text('keyspace = "near"\n')
    assert sources.settings().keyspace == "near"


def test_tables_of_options_pass_through(sources: Sources) -> None:
    """Client options come as a table in a file and as JSON in the environment."""
    (sources.directory / "taskstream.toml").write_text("[cassandra]\nprotocol_version = 5\n")
    sources.environment = {"TASKSTREAM_KAFKA": '{"security.protocol": "SSL"}'}
    settings = sources.settings()
    assert settings.kafka == {"security.protocol": "SSL"}
    assert settings.cassandra == {"protocol_version": 5}


def test_running_servers_are_used_and_said(sources: Sources) -> None:
    """With nothing else set, a running `taskstream up` is used, and a line says so."""
    sources.up = {"bootstrap_servers": "127.0.0.1:9092", "jaeger_url": "http://127.0.0.1:16686"}
    assert sources.settings().bootstrap_servers == "127.0.0.1:9092"
    assert sources.said == [
        "taskstream: using the servers of `taskstream up`: bootstrap_servers=127.0.0.1:9092"
    ]


def test_running_servers_never_mix_with_other_brokers(sources: Sources) -> None:
    """Where a broker is named, nothing of the local servers is taken, not even the result store."""
    sources.up = {"bootstrap_servers": "127.0.0.1:9092", "cassandra_hosts": "127.0.0.1:9042"}
    sources.environment = {"TASKSTREAM_BOOTSTRAP_SERVERS": "kafka.prod:9092"}
    settings = sources.settings()
    assert settings.bootstrap_servers == "kafka.prod:9092"
    assert settings.cassandra_hosts == ""
    assert sources.said == []


def test_variables_of_other_parts_are_not_settings(sources: Sources) -> None:
    """TASKSTREAM_APP and its like are read by others and refused by nobody."""
    sources.environment = {"TASKSTREAM_APP": "shop:app"}
    assert sources.settings() == Settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("keyspase = 1", "unknown setting 'keyspase'"),
        ("partitions = 'many'", "partitions"),
        ("= 1", "can't be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(sources: Sources, text: str, named: str) -> None:
    """The error names the setting and the file."""
    file = sources.directory / "taskstream.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        sources.settings()
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["acks=all", "[1]"])
def test_options_in_the_environment_must_be_a_json_object(sources: Sources, text: str) -> None:
    """Anything but a JSON object of options is refused."""
    sources.environment = {"TASKSTREAM_KAFKA": text}
    with pytest.raises(ConfigError, match=r"(?i)kafka"):
        sources.settings()


def test_threads_that_look_at_the_same_time_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The settings are merged once, so the line about running servers comes once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKSTREAM_BOOTSTRAP_SERVERS", raising=False)
    together = Barrier(4)
    asked = []

    def running() -> dict[str, Any]:
        asked.append(1)
        sleeping.wait(0.2)  # as long as files take that others may read meanwhile
        return {"bootstrap_servers": "127.0.0.1:9092"}

    sleeping = Event()
    monkeypatch.setattr("taskstream.app.app._running_servers", running)
    app = App("shop")

    def look() -> None:
        together.wait(10)
        _ = app.settings

    threads = [Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(asked) == 1
    assert capsys.readouterr().err.count("using the servers") == 1
