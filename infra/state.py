"""What `taskstream up` started, in one small JSON file in the data directory.

The file is the only thing that `up`, `down`, `status` and our clients share. It is replaced as a
whole, so readers need no lock. It may be stale (a machine that lost its power stops no servers):
whoever reads it checks that a process is still the one that was started.
"""

import json
import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import HOST, Server, WayName, host_of
from taskstream.infra.pids import is_alive
from taskstream.infra.settings import ServerSettings, data_home

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One server that was started, or one node of it.

    Args:
        server: which one.
        version: its version.
        settings: what it was started with.
        pid: its process; None for a container whose process this machine can't see.
        birth: tells the process from a later one with the same pid.
        log: its log file, or the command that shows its log.
        node: which of its nodes, from 1.
    """

    server: Server
    version: str
    settings: ServerSettings
    pid: int | None
    birth: str | None
    log: str
    node: int = 1

    @property
    def name(self) -> str:
        """How messages call it: "kafka", or "cassandra node 2" where there are several."""
        several = len(self.settings.nodes_of(self.server)) > 1
        return f"{self.server} node {self.node}" if several else self.server.value

    @property
    def address(self) -> str:
        """Where clients reach it, `host:port`."""
        return self.settings.address(self.server, self.node)

    def alive(self) -> bool:
        """Whether it still runs; costs microseconds, and asks nothing of the server."""
        if self.pid is not None:
            return is_alive(self.pid, self.birth)
        # A container's process may be out of sight: an open port stands for it.
        port = int(self.address.rpartition(":")[2])
        try:
            socket.create_connection((host_of(self.node), port), timeout=0.5).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class LocalState:
    """All servers that were started in one data directory, and how."""

    way: WayName | None = None
    records: tuple[Record, ...] = ()

    def find(self, server: Server, node: int = 1) -> Record | None:
        """The record of that node of a server, alive or not."""
        wanted = (server, node)
        return next((one for one in self.records if (one.server, one.node) == wanted), None)

    def without_other_nodes(self, server: Server, nodes: Collection[int]) -> "LocalState":
        """The same without that server's nodes of other numbers."""
        return replace(
            self,
            records=tuple(
                one for one in self.records if one.server is not server or one.node in nodes
            ),
        )

    def with_record(self, record: Record) -> "LocalState":
        """The same with that record in the place of an older one."""
        records = {(other.server, other.node): other for other in (*self.records, record)}
        order = list(Server)
        return replace(
            self,
            records=tuple(
                sorted(records.values(), key=lambda one: (order.index(one.server), one.node))
            ),
        )


def running(data_dir: Path | None = None) -> dict[str, str] | None:
    """The settings with which clients reach the servers of a running `taskstream up`.

    Fast enough to be asked at every start of a program: it looks whether the processes live, not
    whether they are well.

    Args:
        data_dir: where `up` keeps its data; by default as `up` itself finds it.

    Returns:
        `bootstrap_servers`, `cassandra_hosts`, `otlp_endpoint` with `jaeger_url`, and
        `schema_registry_url`, each where that server runs; None when nothing is up, or what the
        file says can't be read.
    """
    try:
        state = read_state(data_dir or data_home(os.environ))
    except ServerError:
        return None
    found: dict[str, str] = {}
    for record in state.records:
        if record.alive():
            for name, value in client_settings(record).items():
                # Of a server with several nodes, clients are told all that live.
                found[name] = f"{found[name]},{value}" if name in found else value
    return found or None


def client_settings(record: Record) -> dict[str, str]:
    """What a client of that server has to be told."""
    settings = record.settings
    match record.server:
        case Server.KAFKA:
            return {"bootstrap_servers": record.address}
        case Server.CASSANDRA:
            return {"cassandra_hosts": record.address}
        case Server.JAEGER:
            return {
                "otlp_endpoint": f"http://{HOST}:{settings.otlp_port}",
                "jaeger_url": f"http://{HOST}:{settings.jaeger_port}",
            }
        case Server.REGISTRY:
            return {"schema_registry_url": f"http://{record.address}/apis/ccompat/v7"}


def state_file(data_dir: Path) -> Path:
    """Where the state of that data directory is written."""
    return data_dir / "state.json"


def read_state(data_dir: Path) -> LocalState:
    """What was started there; an empty state where nothing ever was.

    Raises:
        ServerError: the file is there but can't be understood.
    """
    path = state_file(data_dir)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _parse(document)
    except FileNotFoundError:
        return LocalState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServerError(
            f"the state file {path} can't be read ({error}): stop what runs by hand and delete the file"
        ) from error


def write_state(data_dir: Path, state: LocalState) -> None:
    """Replaces the state file as a whole: a reader sees the old one or the new one."""
    document = {
        "format": _FORMAT,
        "way": state.way,
        "servers": [
            {
                "server": record.server,
                "node": record.node,
                "version": record.version,
                "address": record.address,
                "pid": record.pid,
                "birth": record.birth,
                "log": record.log,
                "settings": record.settings.as_json(),
            }
            for record in state.records
        ],
    }
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=data_dir, prefix=".state-", delete=False
    ) as file:
        json.dump(document, file, indent=2)
        file.write("\n")
    Path(file.name).replace(state_file(data_dir))


def _parse(document: Mapping[str, object]) -> LocalState:
    if document["format"] != _FORMAT:
        raise ValueError(f"its format is {document['format']}, this version writes {_FORMAT}")
    servers = document["servers"]
    if not isinstance(servers, list):
        raise TypeError("it has no list of servers")
    way = document["way"]
    return LocalState(
        way=WayName(str(way)) if way else None,
        records=tuple(
            Record(
                server=Server(entry["server"]),
                version=entry["version"],
                settings=ServerSettings.from_json(entry["settings"]),
                pid=entry["pid"],
                birth=entry["birth"],
                log=entry["log"],
                node=entry.get("node", 1),
            )
            for entry in servers
        ),
    )
