"""How servers are started, as plain values; and what is read from what they leave behind."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskstream.infra.catalogue import DEFAULT_SERVERS, HOST, Server
from taskstream.infra.containers import TRACES_FILE
from taskstream.infra.launch import Launch, plan
from taskstream.infra.lifecycle import waves
from taskstream.infra.processes import last_words
from taskstream.infra.settings import ServerSettings

PORTS_OF = {
    Server.KAFKA: {"kafka_port": 11, "kafka_controller_port": 12},
    Server.CASSANDRA: {"cassandra_port": 21, "cassandra_storage_port": 22},
    Server.JAEGER: {"jaeger_port": 31, "otlp_port": 32, "otlp_http_port": 33},
    Server.REGISTRY: {"registry_port": 41},
}


def _plan(server: Server, data_dir: Path) -> Launch:
    ports = {name: port for names in PORTS_OF.values() for name, port in names.items()}
    settings = ServerSettings.from_environment(
        {}, data_dir=data_dir, kafka_heap="256m", cassandra_heap="2g", **ports
    )
    (data_dir / "registry-1-runner.jar").touch()
    return plan(server, settings, software=data_dir, java="java", cluster_id="an-id")


def _text(launch: Launch) -> str:
    return "\n".join([*launch.command, *launch.files.values()])


@pytest.mark.parametrize("server", Server)
def test_every_port_is_told_and_nothing_is_left_to_fill_in(server: Server, tmp_path: Path) -> None:
    """All ports of the settings reach the server, and no template keeps a blank."""
    text = _text(_plan(server, tmp_path))
    for port in PORTS_OF[server].values():
        assert re.search(rf"[:= ]{port}\b", text), f"port {port} is not in\n{text}"
    assert "${" not in text


def _plan_node(node: int, data_dir: Path) -> Launch:
    settings = ServerSettings.from_environment(
        {}, data_dir=data_dir, nodes=3, cassandra_storage_port=22
    )
    return plan(
        Server.CASSANDRA, settings, software=data_dir, java="java", cluster_id="", node=node
    )


def test_each_node_has_its_own_address_folder_and_share_of_the_ring(tmp_path: Path) -> None:
    """And knows all as seeds, so that each may start while the others are down."""
    texts = {node: _text(_plan_node(node, tmp_path)) for node in (1, 2, 3)}

    assert len({tuple(re.findall("initial_token.*", text)) for text in texts.values()}) == 3
    for node, text in texts.items():
        assert f"listen_address: 127.0.0.{node}\n" in text
        assert f"rpc_address: 127.0.0.{node}\n" in text
        assert f"{tmp_path}/cassandra-of-3/{node}/commitlog" in text
        assert 'seeds: "127.0.0.1:22,127.0.0.2:22,127.0.0.3:22"' in text


def test_a_single_node_waits_for_nobody(tmp_path: Path) -> None:
    """It chooses its own tokens, and its folder is what it has always been."""
    text = _text(_plan(Server.CASSANDRA, tmp_path))

    assert "initial_token" not in text
    assert f"{tmp_path}/cassandra/commitlog" in text
    assert 'seeds: "127.0.0.1:22"' in text


@pytest.mark.parametrize("server", Server)
def test_servers_listen_on_the_local_address_only(server: Server, tmp_path: Path) -> None:
    """No configuration names an address that other machines could reach."""
    text = _text(_plan(server, tmp_path))
    assert HOST in text
    assert "0.0.0.0" not in text
    assert "localhost" not in text
    assert not re.search(r"listeners=.*//:", text)


@pytest.mark.parametrize("server", Server)
def test_files_and_data_stay_in_the_server_s_folder(server: Server, tmp_path: Path) -> None:
    """`down --wipe` deletes a server's folder: everything it writes must be there."""
    launch = _plan(server, tmp_path)
    folder = tmp_path / server
    assert all(folder in path.parents for path in launch.files)
    if launch.preparation:
        assert folder in launch.preparation.done.parents


def test_heaps_are_those_of_the_settings(tmp_path: Path) -> None:
    """Each Java server gets its own heap."""
    assert "-Xmx256m" in _plan(Server.KAFKA, tmp_path).command
    assert "-Xmx2g" in _plan(Server.CASSANDRA, tmp_path).command
    assert "-Xmx384m" in _plan(Server.REGISTRY, tmp_path).command


def test_kafka_is_formatted_once_with_the_given_cluster_id(tmp_path: Path) -> None:
    """The format command carries the new id, and what it leaves tells that it has run."""
    preparation = _plan(Server.KAFKA, tmp_path).preparation
    assert preparation is not None
    assert "an-id" in preparation.command
    assert preparation.done.name == "meta.properties"


def test_more_properties_of_kafka_come_last(tmp_path: Path) -> None:
    """Of two lines with one name Kafka takes the last, so that any of ours can be replaced."""
    settings = ServerSettings.from_environment(
        {}, data_dir=tmp_path, kafka_properties="min.insync.replicas=2; a.b=c,d"
    )
    launch = plan(Server.KAFKA, settings, software=tmp_path, java="java", cluster_id="an-id")
    (text,) = launch.files.values()
    assert text.splitlines()[-2:] == ["min.insync.replicas=2", "a.b=c,d"]


def test_jaeger_does_not_trace_itself(tmp_path: Path) -> None:
    """Its own spans would stand among the user's."""
    assert _plan(Server.JAEGER, tmp_path).environment == {"OTEL_TRACES_SAMPLER": "always_off"}


def _jaeger_configuration(tmp_path: Path, **given: object) -> dict[str, Any]:
    settings = ServerSettings.from_environment({}, data_dir=tmp_path, **given)
    launch = plan(Server.JAEGER, settings, software=tmp_path, java="", cluster_id="")
    (text,) = launch.files.values()
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def test_jaeger_keeps_traces_where_it_is_told(tmp_path: Path) -> None:
    """In memory by default; else in the Cassandra beside it, with as many copies as there are nodes, up to 3."""
    backends = _jaeger_configuration(tmp_path)["extensions"]["jaeger_storage"]["backends"]
    assert backends["traces"].keys() == {"memory"}
    told = _jaeger_configuration(tmp_path, jaeger_storage="cassandra", nodes=4, cassandra_port=9999)
    cassandra = told["extensions"]["jaeger_storage"]["backends"]["traces"]["cassandra"]
    assert cassandra["connection"]["servers"] == [f"127.0.0.{node}" for node in range(1, 5)]
    assert cassandra["connection"]["port"] == 9999
    assert cassandra["schema"]["replication_factor"] == 3
    assert cassandra["schema"]["keyspace"] == "jaeger"


def test_more_of_jaegers_configuration_is_laid_over_ours(tmp_path: Path) -> None:
    """A later file counts; it is found from wherever Jaeger runs."""
    settings = ServerSettings.from_environment(
        {}, data_dir=tmp_path, jaeger_config=str(tmp_path / "tail.yaml")
    )
    launch = plan(Server.JAEGER, settings, software=tmp_path, java="", cluster_id="")
    assert launch.command[-2:] == ("--config", str(tmp_path / "tail.yaml"))


def test_in_containers_jaeger_keeps_traces_in_the_same_way(tmp_path: Path) -> None:
    """What is laid over the compose file has the configuration that plain processes get, but for addresses."""
    laid = yaml.safe_load(TRACES_FILE.read_text(encoding="utf-8"))
    inside = yaml.safe_load(laid["configs"]["jaeger-traces"]["content"])
    plain = _jaeger_configuration(
        tmp_path, jaeger_storage="cassandra", jaeger_port=16686, otlp_port=4317, otlp_http_port=4318
    )
    query = plain["extensions"]["jaeger_query"]
    assert query.pop("grpc") == {"endpoint": "127.0.0.1:0"}
    text = json.dumps(plain).replace("127.0.0.1:", "0.0.0.0:").replace("127.0.0.1", "cassandra")
    assert inside == json.loads(text)


def test_jaeger_starts_after_the_cassandra_that_keeps_its_traces() -> None:
    """It ends where it finds none; in any other case all servers start at once."""
    settings = ServerSettings.from_environment({})
    assert waves(DEFAULT_SERVERS, settings) == [list(DEFAULT_SERVERS)]
    kept = replace(settings, jaeger_storage="cassandra")
    assert waves(DEFAULT_SERVERS, kept) == [[Server.KAFKA, Server.CASSANDRA], [Server.JAEGER]]
    assert waves([Server.JAEGER], kept) == [[Server.JAEGER]]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("starting\nstill starting\n\n", "still starting"),
        ("ERROR disk is full\n  at Disk.java\nshutting down\n", "ERROR disk is full"),
        ("ERROR one\njava.io.IOException: two\nbye\n", "java.io.IOException: two"),
    ],
)
def test_the_last_words_of_a_server_are_its_last_error(
    log: str, words: str, tmp_path: Path
) -> None:
    """Of a log, the line is shown that most likely tells why the server died."""
    path = tmp_path / "server.log"
    path.write_text(log)
    assert last_words(path) == words


def test_a_missing_log_has_no_last_words(tmp_path: Path) -> None:
    """A server that died before it wrote anything is no second error."""
    assert last_words(tmp_path / "server.log") == ""
