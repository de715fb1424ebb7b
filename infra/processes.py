"""Servers as plain processes of this machine: Java from jars that Maven fetched, Jaeger built by Go.

Two invariants. A server is nobody's child, so it outlives whoever started it and leaves no
zombie. And no signal is sent to a pid whose process is not the one that was started.
"""

import base64
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import VERSIONS, Server, WayName, host_of
from taskstream.infra.launch import plan
from taskstream.infra.pids import birth_of
from taskstream.infra.progress import Listener, Progress, Stage
from taskstream.infra.settings import ServerSettings
from taskstream.infra.software import java, provide
from taskstream.infra.state import Record

_GRACE = 30.0
"""Seconds that a server has to stop by itself: Cassandra writes out its tables, which takes five."""

_LOOK_EVERY = 0.02


class Processes:
    """The way without containers."""

    name = WayName.PROCESSES

    def start(
        self, server: Server, settings: ServerSettings, listen: Listener, *, node: int = 1
    ) -> Record:
        """Starts it and returns at once; whether it is well is another question.

        Raises:
            ServerError: a port is taken, a tool is missing, or its program can't be fetched.
        """
        require_free_ports(server, settings.ports(server), host_of(node))
        runtime = "" if server is Server.JAEGER else java()
        software = provide(server, settings.cache_dir, listen)
        listen(Progress(server, Stage.STARTING, f"on {settings.address(server, node)}"))
        return _start(server, settings, node=node, software=software, runtime=runtime)

    def stop(self, records: Sequence[Record], settings: ServerSettings, listen: Listener) -> None:
        """Stops all of them at once and returns when they are gone; by force after a grace."""
        del settings
        alive = [record for record in records if record.alive()]
        for record in alive:
            listen(Progress(record.server, Stage.STOPPING))
            send(record, signal.SIGTERM)
            # One that was stopped by SIGSTOP would see the other signal only when it goes on.
            send(record, signal.SIGCONT)
        left = wait_until_gone(alive)
        for record in left:
            send(record, signal.SIGKILL)
        wait_until_gone(left)
        for record in records:
            listen(Progress(record.server, Stage.STOPPED))

    def wipe(self, settings: ServerSettings) -> None:
        """Deletes the servers' folders, and nothing else that may lie in the data directory."""
        for server in Server:
            for folder in (settings.data_dir / server, *settings.data_dir.glob(f"{server}-of-*")):
                shutil.rmtree(folder, ignore_errors=True)


def send(record: Record, number: signal.Signals) -> bool:
    """Sends the signal if the process is still the one that was started; says whether it was."""
    if record.pid is None or not record.alive():
        return False
    try:
        os.kill(record.pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_until_halted(record: Record, timeout: float = 5.0) -> None:
    """Waits up to so many seconds for the effect of a SIGSTOP."""
    deadline = time.monotonic() + timeout
    with suppress(psutil.Error):  # it has gone meanwhile
        while psutil.Process(record.pid).status() != psutil.STATUS_STOPPED:
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)


def wait_until_gone(records: Sequence[Record], timeout: float = _GRACE) -> list[Record]:
    """Waits up to so many seconds for the processes to end; returns those that are still there."""
    deadline = time.monotonic() + timeout
    # They are not our children, so nobody tells us: look.
    while (
        left := [record for record in records if record.alive()]
    ) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
    return left


def memory_of(record: Record) -> int | None:
    """The resident memory of its process in bytes; None when it is gone or out of sight."""
    if record.pid is None or not record.alive():
        return None
    try:
        return int(psutil.Process(record.pid).memory_info().rss)
    except psutil.Error:
        return None


def require_free_ports(server: Server, ports: Mapping[str, int], host: str) -> None:
    """Raises ServerError, which names the port, its holder and the option, when one is taken.

    Args:
        server: who needs them.
        ports: by the names of their settings.
        host: the address that it listens on.
    """
    for name, port in ports.items():
        with socket.socket() as probe:
            # As servers do: a port whose last connection is only lingering counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ServerError(
                        f"this machine has no address {host}, which {server} needs: add it to the "
                        f"loopback interface (on macOS, `sudo ifconfig lo0 alias {host}`)"
                    ) from error
                option = f"--{name.replace('_', '-')}"
                raise ServerError(
                    f"port {port}, which {server} needs, is taken{_holder(port)}: "
                    f"stop what holds it, or choose another one with {option}"
                ) from error


def last_words(log: Path) -> str:
    """The line of a log that most likely tells why its server died; empty when it says nothing."""
    try:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        ]
    except OSError:
        return ""
    lines = [line for line in lines if line]
    telling = [line for line in lines if re.search(r"\b(ERROR|FATAL)\b|Error:|Exception", line)]
    return (telling or lines or [""])[-1][:300]


def _start(
    server: Server, settings: ServerSettings, *, node: int, software: Path, runtime: str
) -> Record:
    folder = settings.folder(server, node)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    if log.exists():
        # Why the last one died stands in its log: one is kept.
        log.replace(folder / "server.log.1")
    launch = plan(
        server,
        settings,
        software=software,
        java=runtime,
        cluster_id=_new_cluster_id(),
        node=node,
    )
    for path, text in launch.files.items():
        path.write_text(text, encoding="utf-8")
    if launch.preparation and not launch.preparation.done.exists():
        _prepare(server, launch.preparation.command, log)
    pid = _detach(launch.command, log=log, environment={**os.environ, **launch.environment})
    return Record(
        server, VERSIONS[server], settings, pid=pid, birth=birth_of(pid), log=str(log), node=node
    )


def _prepare(server: Server, command: Sequence[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as output:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if ended.returncode:
        raise ServerError(f"{server} could not be prepared: {last_words(log)}; read {log}")


def _detach(command: Sequence[str], *, log: Path, environment: dict[str, str]) -> int:
    """Starts a program in a session of its own, through a shell that ends at once; returns its pid."""
    script = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
    started = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(log), *command],
        env=environment,
        cwd=log.parent,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(started.stdout)


def _holder(port: int) -> str:
    """Who listens there, in words that follow "is taken"; empty where the system doesn't say."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def _new_cluster_id() -> str:
    """A random id in the form that Kafka wants: 16 bytes in 22 characters, no dash in front."""
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not name.startswith("-"):
            return name
