"""Where the local servers listen, how much memory they may take and where they keep what.

One field here is one option of `taskstream up` and one variable of the environment:
`kafka_port`, `--kafka-port`, `TASKSTREAM_KAFKA_PORT`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from taskstream.core.errors import ConfigError
from taskstream.infra.catalogue import Server, WayName, host_of

PORTS = MappingProxyType(
    {
        Server.KAFKA: ("kafka_port", "kafka_controller_port"),
        Server.CASSANDRA: ("cassandra_port", "cassandra_storage_port"),
        Server.JAEGER: ("jaeger_port", "otlp_port", "otlp_http_port"),
        Server.REGISTRY: ("registry_port",),
    }
)
"""The names of each server's port settings; the first is the one it is known by."""

INNER_PORTS = frozenset({"kafka_controller_port", "cassandra_storage_port"})
"""Ports that servers use among themselves; those of containers never leave Docker's network."""

MOST_NODES = 9
"""How many nodes of one server there may be: a laptop has no room for more."""

STORAGES = ("memory", "cassandra")
"""Where Jaeger can keep traces."""

_HEAP = re.compile(r"[1-9][0-9]*[mg]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything about the local servers that can be set from outside.

    Args:
        data_dir: their data, configuration, logs and the state file.
        cache_dir: downloads and builds by version; any number of data directories share it.
        kafka_port: Kafka's clients.
        kafka_controller_port: Kafka's controller; no client needs it.
        cassandra_port: CQL clients.
        cassandra_storage_port: Cassandra's nodes among themselves.
        jaeger_port: Jaeger's pages and query API.
        otlp_port: spans over gRPC.
        otlp_http_port: spans over HTTP.
        registry_port: the schema registry.
        kafka_heap: Kafka's Java heap, "512m" or "2g".
        cassandra_heap: Cassandra's Java heap.
        registry_heap: the registry's Java heap.
        nodes: of Cassandra, on 127.0.0.1, 127.0.0.2 and so on; more than one only as plain
            processes, each with that heap, and with data of their own.
        jaeger_storage: where Jaeger keeps traces: "memory", whose traces go with it, or "cassandra", in
            the keyspace `jaeger` of the Cassandra beside it, for two days.
        jaeger_config: a file that is laid over Jaeger's configuration; only for plain processes.
        kafka_properties: more of Kafka's configuration, `name=value` with semicolons between; only
            for plain processes.
        way: "containers" or "processes"; empty means containers where a Docker daemon answers.

    Raises:
        ConfigError: a port is out of range or given twice, a heap is not a size, there are too many
            nodes, a property has no value, a way or a storage is unknown.
    """

    data_dir: Path
    cache_dir: Path
    kafka_port: int = 9092
    kafka_controller_port: int = 9093
    cassandra_port: int = 9042
    cassandra_storage_port: int = 7000
    jaeger_port: int = 16686
    otlp_port: int = 4317
    otlp_http_port: int = 4318
    registry_port: int = 8081
    kafka_heap: str = "512m"
    cassandra_heap: str = "1g"
    registry_heap: str = "384m"
    nodes: int = 1
    jaeger_storage: str = "memory"
    jaeger_config: str = ""
    kafka_properties: str = ""
    way: str = ""

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for name in (name for names in PORTS.values() for name in names):
            port = getattr(self, name)
            if not 0 < port < 65536:
                raise ConfigError(f"{name} must be a port from 1 to 65535, not {port}")
            if port in taken:
                raise ConfigError(
                    f"{name} and {taken[port]} are both {port}: give one of them another port"
                )
            taken[port] = name
        for name in ("kafka_heap", "cassandra_heap", "registry_heap"):
            if not _HEAP.fullmatch(getattr(self, name)):
                raise ConfigError(
                    f"{name} must be a size such as 512m or 2g, not {getattr(self, name)!r}"
                )
        if not 1 <= self.nodes <= MOST_NODES:
            raise ConfigError(f"nodes must be from 1 to {MOST_NODES}, not {self.nodes}")
        if any("=" not in line for line in self.kafka_lines):
            raise ConfigError(
                f"kafka_properties must be name=value;name=value, not {self.kafka_properties!r}"
            )
        if self.jaeger_storage not in STORAGES:
            raise ConfigError(
                f"jaeger_storage must be one of {', '.join(STORAGES)}, not {self.jaeger_storage!r}"
            )
        if self.way not in ("", *WayName):
            raise ConfigError(f"way must be one of {', '.join(WayName)}, not {self.way!r}")

    @property
    def kafka_lines(self) -> list[str]:
        """`kafka_properties` as lines of a properties file."""
        return [line.strip() for line in self.kafka_properties.split(";") if line.strip()]

    def nodes_of(self, server: Server) -> range:
        """The numbers of that server's nodes, from 1."""
        return range(1, (self.nodes if server is Server.CASSANDRA else 1) + 1)

    def folder(self, server: Server, node: int = 1) -> Path:
        """Where that node of a server keeps its data, configuration and log.

        A cluster has folders of its own: a node that joined one would hide the rows that another
        number of nodes had shared out differently.
        """
        if len(self.nodes_of(server)) == 1:
            return self.data_dir / server
        return self.data_dir / f"{server}-of-{self.nodes}" / str(node)

    def ports(self, server: Server) -> Mapping[str, int]:
        """That server's ports by the names of their settings."""
        return {name: getattr(self, name) for name in PORTS[server]}

    def address(self, server: Server, node: int = 1) -> str:
        """Where clients reach that node of a server, `host:port`."""
        return f"{host_of(node)}:{getattr(self, PORTS[server][0])}"

    def as_json(self) -> dict[str, Any]:
        """The settings as values that JSON knows; `from_json` is the way back."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ServerSettings":
        """The settings that `as_json` gave."""
        typed: dict[str, Any] = {
            name: Path(value) if name in _PATHS else value for name, value in values.items()
        }
        return cls(**typed)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **given: Any) -> "ServerSettings":
        """Settings from what was given, else from `TASKSTREAM_*`, else the defaults.

        Args:
            environment: usually `os.environ`.
            given: settings by name; None stands for not given.

        Raises:
            ConfigError: a value is not what its setting needs; names the variable.
        """
        values: dict[str, Any] = {
            "data_dir": data_home(environment),
            "cache_dir": cache_home(environment),
        }
        for name in (field.name for field in fields(cls)):
            text = environment.get(variable(name), "")
            if given.get(name) is not None:
                values[name] = given[name]
            elif text and (name.endswith("_port") or name == "nodes"):
                values[name] = _number(text, variable(name))
            elif text and name not in _PATHS:
                values[name] = text
        for name in _PATHS:
            values[name] = Path(values[name]).expanduser().absolute()
        return cls(**values)


_PATHS = ("data_dir", "cache_dir")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"TASKSTREAM_{name.upper()}"


def data_home(environment: Mapping[str, str]) -> Path:
    """Where data lies unless an option says otherwise."""
    return _home(environment, variable("data_dir"), "XDG_STATE_HOME", ".local/state")


def cache_home(environment: Mapping[str, str]) -> Path:
    """Where downloads and builds are kept unless an option says otherwise."""
    return _home(environment, variable("cache_dir"), "XDG_CACHE_HOME", ".cache")


def _home(environment: Mapping[str, str], own: str, base: str, fallback: str) -> Path:
    if environment.get(own):
        return Path(environment[own]).expanduser().absolute()
    home = Path(environment[base]) if environment.get(base) else Path.home() / fallback
    return home / "taskstream"


def _number(text: str, source: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"{source} must be a number, not {text!r}") from error
