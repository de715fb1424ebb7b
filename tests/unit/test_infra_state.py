"""What the state file says is believed only as far as the processes bear it out."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import Server, WayName
from taskstream.infra.pids import birth_of, is_alive
from taskstream.infra.settings import ServerSettings
from taskstream.infra.state import LocalState, Record, read_state, running, state_file, write_state


def _record(server: Server, data_dir: Path, pid: int | None = None) -> Record:
    """That server, played by this very process unless another pid is given."""
    settings = ServerSettings(data_dir=data_dir, cache_dir=data_dir)
    pid = pid or os.getpid()
    return Record(server, "1.0", settings, pid=pid, birth=birth_of(pid), log="server.log")


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is lost on the way through the file, and no draft of it is left behind."""
    state = LocalState(WayName.PROCESSES, (_record(Server.KAFKA, tmp_path),))
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert list(tmp_path.iterdir()) == [state_file(tmp_path)]


def test_a_record_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    """There is one record for a server, in the order of the catalogue."""
    kafka, jaeger = _record(Server.KAFKA, tmp_path), _record(Server.JAEGER, tmp_path)
    newer = replace(jaeger, version="2.0")
    state = LocalState().with_record(jaeger).with_record(kafka).with_record(newer)
    assert state.records == (kafka, newer)


def test_running_gives_the_settings_of_what_lives(tmp_path: Path) -> None:
    """Clients are told where the living servers are, by the names of our settings."""
    assert running(tmp_path) is None
    servers = tuple(_record(server, tmp_path) for server in Server)
    write_state(tmp_path, LocalState(WayName.PROCESSES, servers))
    assert running(tmp_path) == {
        "bootstrap_servers": "127.0.0.1:9092",
        "cassandra_hosts": "127.0.0.1:9042",
        "otlp_endpoint": "http://127.0.0.1:4317",
        "jaeger_url": "http://127.0.0.1:16686",
        "schema_registry_url": "http://127.0.0.1:8081/apis/ccompat/v7",
    }


def test_nodes_of_a_server_are_told_apart(tmp_path: Path) -> None:
    """Each has its own record and address; clients are told all that live, in one setting."""
    settings = ServerSettings(data_dir=tmp_path, cache_dir=tmp_path, nodes=3)
    state = LocalState(WayName.PROCESSES)
    for node in (3, 1, 2):
        record = replace(_record(Server.CASSANDRA, tmp_path), settings=settings, node=node)
        state = state.with_record(record)
    write_state(tmp_path, state)

    assert read_state(tmp_path) == state
    assert [record.name for record in state.records] == [
        f"cassandra node {node}" for node in (1, 2, 3)
    ]
    assert running(tmp_path) == {"cassandra_hosts": "127.0.0.1:9042,127.0.0.2:9042,127.0.0.3:9042"}
    second = state.find(Server.CASSANDRA, 2)
    assert second is not None
    write_state(tmp_path, state.with_record(replace(second, birth="another process's")))
    assert running(tmp_path) == {"cassandra_hosts": "127.0.0.1:9042,127.0.0.3:9042"}


def test_nodes_that_no_longer_belong_are_forgotten(tmp_path: Path) -> None:
    """A cluster that died leaves records behind; those of other servers stay."""
    kafka, node = _record(Server.KAFKA, tmp_path), _record(Server.CASSANDRA, tmp_path)
    state = LocalState(None, (kafka, node, replace(node, node=2)))

    assert state.without_other_nodes(Server.CASSANDRA, [1]).records == (kafka, node)


def test_running_leaves_out_what_died(tmp_path: Path) -> None:
    """A pid that now belongs to another process is no server of ours."""
    dead = replace(_record(Server.KAFKA, tmp_path), birth="another process's")
    write_state(tmp_path, LocalState(WayName.PROCESSES, (dead,)))
    assert running(tmp_path) is None
    write_state(
        tmp_path, LocalState(WayName.PROCESSES, (dead, _record(Server.CASSANDRA, tmp_path)))
    )
    assert running(tmp_path) == {"cassandra_hosts": "127.0.0.1:9042"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99, "way": null, "servers": []}'])
def test_an_unreadable_state_is_told_and_stands_for_nothing_running(
    tmp_path: Path, text: str
) -> None:
    """Commands say which file is broken; programs that only ask go on without."""
    state_file(tmp_path).write_text(text)
    with pytest.raises(ServerError, match=r"state\.json can't be read"):
        read_state(tmp_path)
    assert running(tmp_path) is None


def test_a_process_is_told_from_later_ones_with_its_pid() -> None:
    """Alive means: the same pid and the same birth, and not a zombie."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = birth_of(child.pid)
    assert is_alive(child.pid, birth)
    assert not is_alive(child.pid, "another birth")
    assert birth != birth_of(os.getpid())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid, birth), "a zombie counts as dead"
    child.communicate()
    assert birth_of(child.pid) is None


def test_state_needs_nothing_that_a_publisher_has_not(tmp_path: Path) -> None:
    """`running` can be asked with the base extras alone: no psutil, no httpx, no rich, no docker."""
    code = (
        "import sys\n"
        "for name in ('psutil', 'httpx', 'rich', 'typer', 'docker', 'testcontainers'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from taskstream.infra.state import running\n"
        f"assert running(Path({str(tmp_path)!r})) is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
