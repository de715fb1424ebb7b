"""Servers as containers, where a Docker daemon answers: the compose file, driven by `docker compose`.

The data lie in Docker's named volumes. Each data directory has a compose project of its own, so
that several can be up beside each other, as with plain processes.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import HOST, VERSIONS, Server, WayName
from taskstream.infra.pids import birth_of
from taskstream.infra.processes import require_free_ports
from taskstream.infra.progress import Listener, Progress, Stage
from taskstream.infra.settings import INNER_PORTS, ServerSettings, data_home, variable
from taskstream.infra.state import Record

COMPOSE_FILE = Path(__file__).parent / "compose.yaml"
TRACES_FILE = COMPOSE_FILE.with_name("compose.traces.yaml")
"""What is laid over it where Jaeger keeps its traces in Cassandra."""


def docker_answers() -> bool:
    """Whether a Docker daemon answers and has the compose plugin."""
    if shutil.which("docker") is None:
        return False
    for question in (("docker", "info"), ("docker", "compose", "version")):
        try:
            ended = subprocess.run(
                question,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if ended.returncode:
            return False
    return True


def compose_environment(settings: ServerSettings) -> dict[str, str]:
    """The variables that the compose file reads."""
    return {
        variable(name): str(value)
        for name, value in settings.as_json().items()
        if name.endswith(("_port", "_heap"))
    }


def project_of(settings: ServerSettings) -> str:
    """The compose project of a data directory.

    "taskstream" for the default one, so that people who use the compose file by hand and
    `taskstream up` mean the same containers.
    """
    if settings.data_dir == data_home({}):
        return "taskstream"
    return f"taskstream-{sha256(str(settings.data_dir).encode()).hexdigest()[:8]}"


class Containers:
    """The way with containers."""

    name = WayName.CONTAINERS

    def __init__(self) -> None:
        # Two `docker compose up` of one project at a time would both try to make its network.
        self._one_at_a_time = threading.Lock()

    def start(
        self, server: Server, settings: ServerSettings, listen: Listener, *, node: int = 1
    ) -> Record:
        """Starts it and returns at once; whether it is well is another question.

        Raises:
            ServerError: a port is taken, Docker refused, or the settings ask for what only plain
                processes can do.
        """
        _require_plain(server, settings)
        ports = settings.ports(server)
        require_free_ports(server, {name: ports[name] for name in ports.keys() - INNER_PORTS}, HOST)
        with self._one_at_a_time:
            listen(Progress(server, Stage.FETCHING, "its image, if it is not here yet"))
            _compose(settings, "pull", "--quiet", "--policy", "missing", server)
            listen(Progress(server, Stage.STARTING, f"on {settings.address(server)}"))
            _compose(settings, "up", "--detach", server)
        pid = _pid(settings, server)
        return Record(
            server,
            VERSIONS[server],
            settings,
            pid=pid,
            birth=birth_of(pid) if pid else None,
            log=f"docker compose -p {project_of(settings)} logs {server}",
            node=node,
        )

    def stop(self, records: Sequence[Record], settings: ServerSettings, listen: Listener) -> None:
        """Stops and removes the containers; their volumes stay."""
        for record in records:
            listen(Progress(record.server, Stage.STOPPING))
        _compose(settings, "--profile", "*", "down")
        for record in records:
            listen(Progress(record.server, Stage.STOPPED))

    def wipe(self, settings: ServerSettings) -> None:
        """Deletes the volumes, with whatever containers still use them."""
        _compose(settings, "--profile", "*", "down", "--volumes")


def _require_plain(server: Server, settings: ServerSettings) -> None:
    wanted = {
        "more than one node": len(settings.nodes_of(server)) > 1,
        "kafka_properties": server is Server.KAFKA and bool(settings.kafka_lines),
        "jaeger_config": server is Server.JAEGER and bool(settings.jaeger_config),
    }
    for what in (what for what, asked in wanted.items() if asked):
        raise ServerError(f"{server}: {what} can't be had in containers: add --way processes")


def _compose(settings: ServerSettings, *arguments: str) -> str:
    files = [COMPOSE_FILE, *([TRACES_FILE] if settings.jaeger_storage == "cassandra" else [])]
    named = [word for file in files for word in ("-f", str(file))]
    command = ("docker", "compose", "-p", project_of(settings), *named, *arguments)
    ended = subprocess.run(
        command,
        env={**os.environ, **compose_environment(settings)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["it said nothing"]
        raise ServerError(
            f"`docker compose {' '.join(arguments)}` failed: {lines[-1].strip()[:300]}"
        )
    return ended.stdout


def _pid(settings: ServerSettings, server: Server) -> int | None:
    """The container's process as this machine sees it; None where Docker runs in a machine of its own."""
    if sys.platform != "linux":
        return None
    container = _compose(settings, "ps", "--quiet", server).strip()
    asked = subprocess.run(
        ("docker", "inspect", "--format", "{{.State.Pid}}", container),
        capture_output=True,
        text=True,
        check=False,
    )
    pid = int(asked.stdout.strip() or 0) if asked.returncode == 0 else 0
    return pid if pid and birth_of(pid) else None
