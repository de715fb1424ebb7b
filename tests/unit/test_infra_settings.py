"""The settings of the local servers, and which versions they are."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from taskstream.core.errors import ConfigError, ServerError
from taskstream.infra.catalogue import VERSIONS, Server, parse_servers
from taskstream.infra.containers import COMPOSE_FILE, Containers, compose_environment, project_of
from taskstream.infra.progress import nobody
from taskstream.infra.settings import PORTS, ServerSettings
from taskstream.infra.software import POMS

HERE = ServerSettings(data_dir=Path("/data"), cache_dir=Path("/cache"))


def test_an_option_wins_over_the_environment_and_that_over_the_default() -> None:
    """Each setting is taken from the first source that has it."""
    settings = ServerSettings.from_environment(
        {"TASKSTREAM_KAFKA_PORT": "19092", "TASKSTREAM_CASSANDRA_PORT": "19042"},
        kafka_port=29092,
        cassandra_port=None,
    )
    assert (settings.kafka_port, settings.cassandra_port, settings.jaeger_port) == (
        29092,
        19042,
        16686,
    )


def test_folders_follow_the_desktop_conventions() -> None:
    """Data go to XDG_STATE_HOME, downloads to XDG_CACHE_HOME, unless our own variables say otherwise."""
    home = {"XDG_STATE_HOME": "/state", "XDG_CACHE_HOME": "/cache"}
    settings = ServerSettings.from_environment(home)
    assert (settings.data_dir, settings.cache_dir) == (
        Path("/state/taskstream"),
        Path("/cache/taskstream"),
    )
    settings = ServerSettings.from_environment({**home, "TASKSTREAM_DATA_DIR": "/else"})
    assert settings.data_dir == Path("/else")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kafka_port": 0}, "kafka_port must be a port"),
        ({"jaeger_storage": "disk"}, "jaeger_storage must be one of memory, cassandra, not 'disk'"),
        ({"jaeger_port": 70000}, "jaeger_port must be a port"),
        ({"kafka_port": 7, "registry_port": 7}, "registry_port and kafka_port are both 7"),
        ({"kafka_heap": "512"}, "kafka_heap must be a size"),
        ({"nodes": 0}, "nodes must be from 1 to 9"),
        ({"nodes": 10}, "nodes must be from 1 to 9"),
        ({"kafka_properties": "no.value"}, "kafka_properties must be name=value"),
        ({"way": "magic"}, "way must be one of containers, processes"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong: dict[str, int | str], message: str) -> None:
    """A value that no server could start with is refused before anything starts."""
    with pytest.raises(ConfigError, match=message):
        ServerSettings.from_environment({}, **wrong)


def test_a_wrong_variable_is_refused_by_its_name() -> None:
    """The environment's mistakes are told by the name of the variable."""
    with pytest.raises(ConfigError, match="TASKSTREAM_KAFKA_PORT must be a number, not 'x'"):
        ServerSettings.from_environment({"TASKSTREAM_KAFKA_PORT": "x"})


def test_only_cassandra_has_several_nodes() -> None:
    """One after the other in the addresses of this machine, at the same port."""
    settings = ServerSettings.from_environment({"TASKSTREAM_NODES": "3"})

    assert list(settings.nodes_of(Server.KAFKA)) == [1]
    assert [
        settings.address(Server.CASSANDRA, node) for node in settings.nodes_of(Server.CASSANDRA)
    ] == ["127.0.0.1:9042", "127.0.0.2:9042", "127.0.0.3:9042"]


def test_containers_have_one_node_and_no_properties() -> None:
    """What only plain processes can do is refused with the option that helps, before Docker is asked."""
    for server, asked in (
        (Server.CASSANDRA, {"nodes": 3}),
        (Server.KAFKA, {"kafka_properties": "a=b"}),
        (Server.JAEGER, {"jaeger_config": "tail.yaml"}),
    ):
        settings = ServerSettings.from_environment({}, **asked)
        with pytest.raises(ServerError, match="add --way processes"):
            Containers().start(server, settings, nobody)


def test_settings_come_back_from_json_as_they_were() -> None:
    """The state file keeps the settings that a server was started with."""
    assert ServerSettings.from_json(HERE.as_json()) == HERE


def test_a_list_of_servers_is_read_in_any_order_and_case() -> None:
    """`--only` takes names separated by commas."""
    assert parse_servers("Cassandra, kafka") == (Server.KAFKA, Server.CASSANDRA)


@pytest.mark.parametrize("text", ["kafka,zookeeper", "", ","])
def test_an_unknown_server_is_refused_with_the_known_ones(text: str) -> None:
    """A wrong `--only` lists what there is."""
    with pytest.raises(ConfigError, match="known are: kafka, cassandra, jaeger, registry"):
        parse_servers(text)


def _dependencies(server: Server) -> dict[str, str]:
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    pom = ET.parse(POMS / server / "pom.xml")
    return {
        one.findtext("m:artifactId", "", space): one.findtext("m:version", "", space)
        for one in pom.iterfind(".//m:dependencies/m:dependency", space)
    }


def test_the_poms_pin_the_versions_of_the_catalogue() -> None:
    """What Maven fetches is what `status` claims to run."""
    assert _dependencies(Server.KAFKA)["kafka_2.13"] == VERSIONS[Server.KAFKA]
    assert _dependencies(Server.KAFKA)["kafka-tools"] == VERSIONS[Server.KAFKA]
    assert _dependencies(Server.CASSANDRA)["cassandra-all"] == VERSIONS[Server.CASSANDRA]
    assert _dependencies(Server.REGISTRY)["apicurio-registry-app"] == VERSIONS[Server.REGISTRY]


def test_the_compose_file_pins_the_same_versions() -> None:
    """Containers and processes are the same servers; Jaeger's image counts in Jaeger v2's numbers."""
    images = set(re.findall(r"image: (\S+)", COMPOSE_FILE.read_text(encoding="utf-8")))
    assert images == {
        f"apache/kafka:{VERSIONS[Server.KAFKA]}",
        f"cassandra:{VERSIONS[Server.CASSANDRA]}",
        "jaegertracing/jaeger:2.13.0",
        f"apicurio/apicurio-registry-mem:{VERSIONS[Server.REGISTRY]}",
        "prom/prometheus:v3.13.5",  # these two are for people alone: `up` does not start them
        "grafana/grafana:12.2.0",
    }


def test_the_compose_file_reads_the_settings_and_repeats_their_defaults() -> None:
    """Every variable of the compose file has the default of `up`, where `up` sets it."""
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]+)\}", text))
    for_people = {"TASKSTREAM_PROMETHEUS_PORT": "9090", "TASKSTREAM_GRAFANA_PORT": "3000"}
    given = {**compose_environment(HERE), **for_people}
    assert defaults == {name: given[name] for name in defaults}
    published = {f"TASKSTREAM_{names[0].upper()}" for names in PORTS.values()}
    assert published <= set(defaults)
    assert re.findall(r'"(?!127\.0\.0\.1:)[^"]*:\d+"\]', text) == []


def test_each_data_directory_has_a_compose_project_of_its_own() -> None:
    """Servers of two data directories never share containers."""
    assert project_of(HERE).startswith("taskstream-")
    assert project_of(HERE) != project_of(
        ServerSettings(data_dir=Path("/x"), cache_dir=Path("/cache"))
    )
    assert project_of(ServerSettings.from_environment({})) == "taskstream"
