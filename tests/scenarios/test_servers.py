"""Local servers: up twice is up once, a killed one is seen, data survive, errors say what to do.

On free ports in directories of their own, so that the servers of `taskstream up` are left alone.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.support.cql import drop_keyspace
from tests.support.servers import Jaeger, needs_program, settings_on_free_ports

from taskstream.core.errors import ServerError
from taskstream.infra import launch
from taskstream.infra.catalogue import HOST, Server
from taskstream.infra.containers import docker_answers
from taskstream.infra.faults import ServerHandle
from taskstream.infra.lifecycle import down, status, up
from taskstream.infra.settings import ServerSettings
from taskstream.infra.state import running

_COMMAND = """
import typer
from taskstream.admin.cli.servers import register
cli = typer.Typer()
register(cli)
cli()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[ServerSettings]:
    """Settings for processes beside all others; whatever is up at the end is stopped."""
    settings = settings_on_free_ports(tmp_path / "data", way="processes")
    yield settings
    down(settings, wipe=True)


def _taskstream(settings: ServerSettings, *arguments: str) -> str:
    """Runs `taskstream …` in a process of its own; returns its standard output."""
    environment = {
        f"TASKSTREAM_{name.upper()}": str(value) for name, value in settings.as_json().items()
    }
    ended = subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _topics(address: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": address}).list_topics(timeout=10).topics)


def test_servers_are_started_once_watched_and_keep_their_data(settings: ServerSettings) -> None:
    """Kafka and Jaeger outlive the command that started them, are not started twice, and keep topics."""
    needs_program(Server.KAFKA, settings)
    needs_program(Server.JAEGER, settings)

    first = json.loads(_taskstream(settings, "up", "--only", "kafka,jaeger", "--json"))
    assert [one["server"] for one in first] == ["kafka", "jaeger"]
    assert all(one["healthy"] and one["memory"] > 0 for one in first)
    assert running(settings.data_dir) == {
        "bootstrap_servers": f"{HOST}:{settings.kafka_port}",
        "otlp_endpoint": f"http://{HOST}:{settings.otlp_port}",
        "jaeger_url": f"http://{HOST}:{settings.jaeger_port}",
    }

    again = up(settings, [Server.KAFKA, Server.JAEGER])
    assert [one.pid for one in again] == [one["pid"] for one in first]

    kafka = settings.address(Server.KAFKA)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(10)

    handle = ServerHandle(Server.KAFKA, settings.data_dir)
    handle.kill()
    killed = {one.server: one for one in status(settings)}
    assert not killed[Server.KAFKA].healthy
    assert killed[Server.KAFKA].pid is None
    assert killed[Server.JAEGER].healthy

    handle.restart()
    assert "kept" in _topics(kafka)

    assert down(settings) == (Server.KAFKA, Server.JAEGER)
    assert running(settings.data_dir) is None
    assert status(settings) == ()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, settings.kafka_port))

    up(settings, [Server.KAFKA])
    assert "kept" in _topics(kafka)

    down(settings, wipe=True)
    assert not settings.folder(Server.KAFKA).exists()


def test_a_halted_server_is_unhealthy_until_it_goes_on(settings: ServerSettings) -> None:
    """SIGSTOP leaves the port open, and still the server counts as unhealthy; it can be stopped too."""
    needs_program(Server.JAEGER, settings)
    up(settings, [Server.JAEGER])
    handle = ServerHandle(Server.JAEGER, settings.data_dir)

    handle.stop()
    (halted,) = status(settings)
    assert (halted.healthy, halted.ailment) == (False, "no answer within 2 s")

    handle.cont()
    (well,) = status(settings)
    assert well.healthy

    handle.stop()
    assert down(settings) == (Server.JAEGER,)


def test_a_taken_port_is_named_with_its_option(settings: ServerSettings) -> None:
    """Where somebody holds the port, one line names it and the option, and nothing is started."""
    needs_program(Server.JAEGER, settings)
    with socket.socket() as other:
        other.bind((HOST, settings.otlp_port))
        other.listen()
        with pytest.raises(
            ServerError,
            match=rf"^port {settings.otlp_port}, which jaeger needs, is taken.*--otlp-port$",
        ):
            up(settings, [Server.JAEGER])
    assert status(settings) == ()


def test_a_missing_java_is_named(
    settings: ServerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Java on the PATH, one line says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ServerError, match=r"^java is missing on the PATH: install a JDK 17"):
        up(settings, [Server.KAFKA])


def test_a_server_that_dies_at_its_start_is_told_with_its_log(settings: ServerSettings) -> None:
    """A data directory of another node kills Kafka at its start: one line says why, and which log to read."""
    needs_program(Server.KAFKA, settings)
    data = settings.folder(Server.KAFKA) / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text(
        "version=1\nnode.id=7\ncluster.id=4L6g3nShT-eMCtK--X86sw\n"
    )
    with pytest.raises(
        ServerError, match=r"^kafka died while starting: .*; read .*server\.log$"
    ) as caught:
        up(settings, [Server.KAFKA, Server.JAEGER])
    assert "\n" not in str(caught.value)
    # The others stay up, and a dead one can be looked at.
    assert {one.server: one.healthy for one in status(settings)} == {
        Server.KAFKA: False,
        Server.JAEGER: True,
    }


@pytest.mark.skipif(
    not docker_answers(), reason="NO DOCKER DAEMON ANSWERS, containers are not tested"
)
def test_a_container_is_started_watched_and_stopped(tmp_path: Path) -> None:
    """The same commands work on containers, where there is a Docker daemon."""
    settings = settings_on_free_ports(tmp_path / "data", way="containers")
    try:
        (jaeger,) = up(settings, [Server.JAEGER])
        assert jaeger.healthy
        assert [one.pid for one in up(settings, [Server.JAEGER])] == [jaeger.pid]
        assert running(settings.data_dir)
    finally:
        down(settings, wipe=True)
    assert running(settings.data_dir) is None


_SPAN = """
import sys
from taskstream.observability.tracing import publish_span, setup

setup(sys.argv[1], "trial")
span = publish_span("shop.tasks.high", task="charge", task_id="o-17", key=None)
span.acknowledged(0, 1)
print(dict(span.headers)["traceparent"].decode().split("-")[1])
"""


def test_traces_in_cassandra_survive_jaeger(
    settings: ServerSettings, cassandra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that one Jaeger took is shown by the next one; its keyspace is made at the first start."""
    needs_program(Server.JAEGER, settings)
    keyspace = f"jaeger_{os.getpid()}"
    monkeypatch.setattr(launch, "JAEGER_KEYSPACE", keyspace)
    port = int(cassandra.split(",", maxsplit=1)[0].rpartition(":")[2])
    kept = replace(settings, jaeger_storage="cassandra", cassandra_port=port)
    try:
        up(kept, [Server.JAEGER])
        sent = subprocess.run(
            [sys.executable, "-c", _SPAN, f"{HOST}:{settings.otlp_port}"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        trace_id = sent.stdout.strip()
        reader = Jaeger(f"http://{HOST}:{settings.jaeger_port}")
        (span,) = reader.wait_for(trace_id, timeout=30)
        handle = ServerHandle(Server.JAEGER, settings.data_dir)
        handle.kill()
        handle.restart()
        assert reader.wait_for(trace_id, timeout=30) == [span]
    finally:
        down(settings, wipe=True)
        drop_keyspace(cassandra, keyspace)


_TRACES = """
import sys
from taskstream.core.states import State
from taskstream.observability import tracing
from taskstream.observability.tracing import Failure, publish_span, setup, task_attributes

setup(sys.argv[1], "trial")

def attempt(failure, about=None):
    sent = publish_span("shop.tasks.high", task="charge", task_id="o-17", key=None, about=about)
    sent.acknowledged(0, 1)
    span = tracing.process_span(
        tracing.current_maker(), topic="shop.tasks.high", headers=sent.headers, describe=dict
    )
    span.decide(failed=failure is not None)
    span.finish(State.SUCCEEDED if failure is None else State.DEAD, failure)
    print(span.trace_id)

attempt(None)
attempt(Failure("Undecodable", "no task"))
attempt(None, lambda: task_attributes(State.DELAYED, delay=3600.0))
attempt(None, lambda: task_attributes(State.WAITING, run=1))
"""


def test_a_tail_sampler_keeps_what_is_worth_it(settings: ServerSettings, tmp_path: Path) -> None:
    """The configuration that comes with us keeps failures, delays and redrives whole, and drops the rest."""
    needs_program(Server.JAEGER, settings)
    laid_over = tmp_path / "tail-sampling.yaml"
    text = (launch.TEMPLATES / "tail-sampling.yaml").read_text()
    for told, here in (
        ("decision_wait: 30s", "decision_wait: 1s"),
        ("percentage: 1", "percentage: 0"),
    ):
        assert told in text
        text = text.replace(told, here)
    laid_over.write_text(text)
    up(replace(settings, jaeger_config=str(laid_over)), [Server.JAEGER])
    sent = subprocess.run(
        [sys.executable, "-c", _TRACES, f"{HOST}:{settings.otlp_port}"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    quiet, *kept = sent.stdout.split()
    reader = Jaeger(f"http://{HOST}:{settings.jaeger_port}")
    for trace_id in kept:
        assert len(reader.wait_for(trace_id, timeout=30)) == 2
    assert reader.trace(quiet) == []
