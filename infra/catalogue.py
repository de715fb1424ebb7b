"""Which servers there are, in which versions. Everything else about one is in `launch` and `probes`."""

from enum import StrEnum
from types import MappingProxyType

from taskstream.core.errors import ConfigError

HOST = "127.0.0.1"
"""Every server listens here and nowhere else; only further nodes of Cassandra don't (`host_of`)."""


def host_of(node: int) -> str:
    """Where a server's node listens, 1 being the first: 127.0.0.1, 127.0.0.2 and so on.

    Addresses of this machine alone, so that all nodes can have the same ports.
    """
    return f"{HOST.rpartition('.')[0]}.{node}"


class Server(StrEnum):
    """A server that `taskstream up` can start."""

    KAFKA = "kafka"
    CASSANDRA = "cassandra"
    JAEGER = "jaeger"
    REGISTRY = "registry"


class WayName(StrEnum):
    """How servers are started."""

    CONTAINERS = "containers"
    PROCESSES = "processes"


DEFAULT_SERVERS = (Server.KAFKA, Server.CASSANDRA, Server.JAEGER)
"""What `taskstream up` starts when it is told nothing; the registry only on request."""

VERSIONS = MappingProxyType(
    {
        Server.KAFKA: "4.4.0",
        Server.CASSANDRA: "5.0.6",
        Server.JAEGER: "1.76.0",
        Server.REGISTRY: "2.6.13.Final",
    }
)
"""The pinned versions. The poms and the compose file repeat them; a unit test compares.

Jaeger's Go module 1.76.0 is the same release as its image 2.13.0, which is Jaeger v2.
"""


def parse_servers(text: str) -> tuple[Server, ...]:
    """The servers named in a list such as "kafka,cassandra", in the order of `Server`.

    Raises:
        ConfigError: a name is unknown, or there is none.
    """
    names = {name.strip().lower() for name in text.split(",") if name.strip()}
    unknown = sorted(names - set(Server))
    if unknown or not names:
        wrong = f"unknown server {unknown[0]!r}" if unknown else "no server is named"
        raise ConfigError(f"{wrong}; known are: {', '.join(Server)}")
    return tuple(server for server in Server if server in names)
