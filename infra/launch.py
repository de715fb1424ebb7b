"""How each server is started as a process: its configuration and its command, as plain values.

Nothing here touches the disk beyond our own templates in `files/`: what comes out is carried out
by `processes`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from textwrap import indent

from taskstream.infra.catalogue import HOST, Server, host_of
from taskstream.infra.settings import ServerSettings

JAEGER_KEYSPACE = "jaeger"
"""Where Jaeger keeps its traces in Cassandra, if it does."""

TEMPLATES = Path(__file__).parent / "files"

_ONE_OF_SEVERAL = (
    # After this long without a word from it, a node that is just joining is forgotten.
    "-Dcassandra.ring_delay_ms=3000",
    "-Dcassandra.skip_wait_for_gossip_to_settle=-1",
    "-Dcassandra.gossip_settle_min_wait_ms=1000",
    "-Dcassandra.gossip_settle_interval_ms=500",
)
"""What replaces the haste of a single node: it answers clients once it knows which others are up."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """A command that must have run once before a server's first start.

    Args:
        command: what to run.
        done: exists when it has run.
    """

    command: tuple[str, ...]
    done: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """All it takes to start a server.

    Args:
        command: the program and its arguments.
        files: what must be written first, by path.
        environment: variables beside those that we have ourselves.
        preparation: what must have run once; None for nothing.
    """

    command: tuple[str, ...]
    files: Mapping[Path, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    preparation: Preparation | None = None


def plan(
    server: Server,
    settings: ServerSettings,
    *,
    software: Path,
    java: str,
    cluster_id: str,
    node: int = 1,
) -> Launch:
    """How to start that server.

    Args:
        server: which one.
        settings: ports, heap and folder.
        software: the folder with its program.
        java: the Java to run it with; Jaeger needs none.
        cluster_id: names a new Kafka cluster; one that has its data already keeps its own.
        node: which node of it.
    """
    match server:
        case Server.KAFKA:
            return _kafka(settings, software, java, cluster_id)
        case Server.CASSANDRA:
            return _cassandra(settings, software, java, node)
        case Server.JAEGER:
            return _jaeger(settings, software)
        case Server.REGISTRY:
            return _registry(settings, software, java)


def _kafka(settings: ServerSettings, software: Path, java: str, cluster_id: str) -> Launch:
    folder = settings.folder(Server.KAFKA)
    properties = folder / "kafka.properties"
    options = (
        "-XX:+ExitOnOutOfMemoryError",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS",
        # It prints all of its several hundred settings at every start, several times.
        "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
    )
    run = (java, *_heap(settings.kafka_heap), *options, "-cp", f"{software}/*")
    # Of two lines with one name, the last counts.
    text = "\n".join([_filled("kafka.properties", settings, Server.KAFKA), *settings.kafka_lines])
    return Launch(
        command=(*run, "kafka.Kafka", str(properties)),
        files={properties: f"{text}\n"},
        preparation=Preparation(
            (*run, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)),
            done=folder / "data" / "meta.properties",
        ),
    )


def _cassandra(settings: ServerSettings, software: Path, java: str, node: int) -> Launch:
    folder = settings.folder(Server.CASSANDRA, node)
    yaml, logback = folder / "cassandra.yaml", folder / "logback.xml"
    return Launch(
        command=(
            java,
            f"@{TEMPLATES / 'cassandra.options'}",
            *_heap(settings.cassandra_heap),
            # Of two options with one name, the last counts.
            *(_ONE_OF_SEVERAL if settings.nodes > 1 else ()),
            f"-Dcassandra.config={yaml.as_uri()}",
            f"-Dcassandra.storagedir={folder}",
            f"-Dcassandra.logdir={folder}",
            f"-Dlogback.configurationFile={logback}",
            "-cp",
            f"{software}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ),
        files={
            yaml: _cassandra_yaml(settings, node),
            logback: (TEMPLATES / "cassandra-logback.xml").read_text(encoding="utf-8"),
        },
    )


def _cassandra_yaml(settings: ServerSettings, node: int) -> str:
    nodes = settings.nodes_of(Server.CASSANDRA)
    if len(nodes) == 1:
        return _filled("cassandra.yaml", settings, Server.CASSANDRA, seeds=[1])
    text = _filled("cassandra.yaml", settings, Server.CASSANDRA, seeds=nodes, node=node)
    # The nodes share the ring equally, and a node whose data were lost comes back to its own place.
    token = -(2**63) + (node - 1) * 2**64 // len(nodes)
    return f'{text}\ninitial_token: "{token}"\n'


def _jaeger(settings: ServerSettings, software: Path) -> Launch:
    yaml = settings.folder(Server.JAEGER) / "jaeger.yaml"
    laid_over = settings.jaeger_config and Path(settings.jaeger_config).expanduser().absolute()
    more = ("--config", str(laid_over)) if laid_over else ()
    return Launch(
        command=(str(software / "jaeger"), "--config", str(yaml), *more),
        files={yaml: _jaeger_yaml(settings)},
        # Jaeger traces itself, to port 4317 whatever we configure: its spans would stand among the
        # user's, or, where that port is another's, keep it from stopping for ten seconds.
        environment={"OTEL_TRACES_SAMPLER": "always_off"},
    )


def _jaeger_yaml(settings: ServerSettings) -> str:
    name = f"jaeger-{settings.jaeger_storage}.yaml"
    nodes = [host_of(node) for node in settings.nodes_of(Server.CASSANDRA)]
    backend = Template((TEMPLATES / name).read_text(encoding="utf-8")).substitute(
        nodes=", ".join(nodes), port=settings.cassandra_port, copies=min(3, len(nodes)),
        keyspace=JAEGER_KEYSPACE,
    )  # fmt: skip
    # The template has the place for it; what a backend needs stands in a file of its own.
    return _filled("jaeger.yaml", settings, Server.JAEGER, storage=indent(backend, " " * 8).strip())


def _registry(settings: ServerSettings, software: Path, java: str) -> Launch:
    folder = settings.folder(Server.REGISTRY)
    (runner,) = software.glob("*-runner.jar")
    return Launch(
        command=(
            java,
            *_heap(settings.registry_heap),
            f"-Dquarkus.http.host={HOST}",
            f"-Dquarkus.http.port={settings.registry_port}",
            # By default its database is in memory; in a file, the schemas survive a restart.
            f"-DREGISTRY_DATASOURCE_URL=jdbc:h2:file:{folder / 'data' / 'registry'}",
            "-jar",
            str(runner),
        ),
        files={},
    )


def _heap(size: str) -> tuple[str, str]:
    # Starting small keeps the memory of servers that have little to do small.
    return f"-Xmx{size}", "-Xms64m"


def _filled(
    template: str,
    settings: ServerSettings,
    server: Server,
    *,
    node: int = 1,
    seeds: Iterable[int] = (),
    storage: str = "",
) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    storage_port = settings.cassandra_storage_port
    return Template(text).substitute(
        host=host_of(node),
        folder=settings.folder(server, node),
        storage=storage,
        seeds=",".join(f"{host_of(seed)}:{storage_port}" for seed in seeds),
        **{name: str(port) for name, port in settings.ports(server).items()},
    )
