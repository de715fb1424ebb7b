"""What `taskstream up` started, in one small JSON file in the data directory.

The file is the only thing that `up`, `down`, `status` and our clients share. It is replaced as a
whole, so readers need no lock. It may be stale (a machine that lost its power stops no servers):
whoever reads it checks that a process is still the one that was started.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import HOST, Server, WayName
from taskstream.infra.pids import is_alive
from taskstream.infra.settings import ServerSettings, data_home

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One server that was started.

    Args:
        server: which one.
        version: its version.
        settings: what it was started with.
        pid: its process; None for a container whose process this machine can't see.
        birth: tells the process from a later one with the same pid.
        log: its log file, or the command that shows its log.
    """

    server: Server
    version: str
    settings: ServerSettings
    pid: int | None
    birth: str | None
    log: str

    @property
    def address(self) -> str:
        """Where clients reach it, `host:port`."""
        return self.settings.address(self.server)

    def alive(self) -> bool:
        """Whether it still runs; costs microseconds, and asks nothing of the server."""
        if self.pid is not None:
            return is_alive(self.pid, self.birth)
        # A container's process may be out of sight: an open port stands for it.
        port = int(self.address.rpartition(":")[2])
        try:
            socket.create_connection((HOST, port), timeout=0.5).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class LocalState:
    """All servers that were started in one data directory, and how."""

    way: WayName | None = None
    records: tuple[Record, ...] = ()

    def find(self, server: Server) -> Record | None:
        """The record of that server, alive or not."""
        return next((record for record in self.records if record.server is server), None)

    def with_record(self, record: Record) -> "LocalState":
        """The same with that record in the place of an older one."""
        others = tuple(other for other in self.records if other.server is not record.server)
        return replace(
            self,
            records=tuple(sorted((*others, record), key=lambda r: list(Server).index(r.server))),
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
            found |= client_settings(record)
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
            )
            for entry in servers
        ),
    )
