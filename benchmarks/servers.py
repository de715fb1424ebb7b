"""The servers of a run: Kafka and Cassandra as `taskstream up` has them, Redis and RabbitMQ our own.

Ours listen on 127.0.0.1 and ports that were free, keep their data in the run's temporary folder, and
are stopped with it. Both are Debian's packages (`redis-server`, `rabbitmq-server`); without one of
them the contenders that need it are reported as missing.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from benchmarks.processes import Processes, Started, free_port

PATIENCE = 60.0

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The script behind Debian's wrapper, which would change to another user and the system's folders."""


class MissingServer(Exception):
    """A server that a contender needs can't be had here."""


class Servers:
    """Servers that are started when the first contender asks for them, and stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[str, list[Started]] = {}
        self._ports: dict[str, int] = {}
        self._given = {server["server"]: server for server in _up() if server["healthy"]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for processes in reversed(self._started.values()):
            for process in reversed(processes):
                process.stop()

    def require(self, names: Iterable[str]) -> None:
        """Starts those that are missing.

        Raises:
            MissingServer: says which, and how it can be had.
        """
        for name in names:
            if name in self._given or name in self._started:
                continue
            if name == "redis":
                self._start_redis()
            elif name == "rabbitmq":
                self._start_rabbitmq()
            else:
                raise MissingServer(f"{name} is not up: start it with `taskstream up`")

    def processes(self, names: Iterable[str]) -> Processes:
        """Those of these servers whose process is on this machine and can be looked at."""
        pids = []
        for name in names:
            if name in self._started:
                pids += [process.pid for process in self._started[name]]
            elif (pid := self._given.get(name, {}).get("pid")) is not None:
                pids.append(pid)
        return Processes(pids)

    @property
    def environment(self) -> dict[str, str]:
        """Where they are, as the sides are told."""
        found = {f"BENCH_{name.upper()}": str(port) for name, port in self._ports.items()}
        for name in ("kafka", "cassandra"):
            if name in self._given:
                found[f"BENCH_{name.upper()}"] = self._given[name]["address"]
        return found

    @property
    def versions(self) -> dict[str, str]:
        """By name, of those that were used."""
        found = {name: str(one["version"]) for name, one in self._given.items()}
        if "redis" in self._started:
            said = _said("redis-server", "--version")
            found["redis"] = said.partition("v=")[2].partition(" ")[0]
        if "rabbitmq" in self._started:
            found["rabbitmq"] = _said(
                "dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server"
            )
        return found

    def _start_redis(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise MissingServer("redis-server is not installed: apt-get install redis-server")
        folder, port = self._room("redis")
        # Without snapshots and log, as the peers' own benches run it: nothing it does is for later.
        command = [
            program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder),
            "--save", "", "--appendonly", "no", "--databases", "16",
        ]  # fmt: skip
        process = Started(command, environment={}, directory=folder, log=folder / "log")
        self._started["redis"] = [process]
        _await_port(port, process)

    def _start_rabbitmq(self) -> None:
        epmd = shutil.which("epmd")
        if epmd is None or not RABBITMQ.exists():
            raise MissingServer("rabbitmq-server is not installed: apt-get install rabbitmq-server")
        folder, port = self._room("rabbitmq")
        names_port = free_port()
        (folder / "plugins").write_text("[].\n")
        environment = {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names_port),
            "RABBITMQ_NODENAME": f"bench{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        names = Started(
            [epmd, "-port", str(names_port), "-address", "127.0.0.1"],
            environment=environment, directory=folder, log=folder / "epmd.log",
        )  # fmt: skip
        self._started["rabbitmq"] = [names]
        _await_port(names_port, names)
        server = Started(
            [str(RABBITMQ)], environment=environment, directory=folder, log=folder / "log"
        )
        self._started["rabbitmq"].append(server)
        _await_port(port, server)

    def _room(self, name: str) -> tuple[Path, int]:
        folder = self._folder / name
        folder.mkdir()
        self._ports[name] = free_port()
        return folder, self._ports[name]


def _up() -> list[dict[str, Any]]:
    """What `taskstream up` has started, as `taskstream status` tells it."""
    command = [sys.executable, "-m", "taskstream", "status", "--json"]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    servers: list[dict[str, Any]] = json.loads(said) if said else []
    return servers


def _said(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def _await_port(port: int, process: Started) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while True:
        process.check()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > give_up_at:
                raise MissingServer(
                    f"{process.command[0]} did not listen in {PATIENCE:g} s: {process.last_words}"
                ) from error
            time.sleep(0.05)
        else:
            return
