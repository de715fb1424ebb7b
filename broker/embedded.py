"""The broker inside the process: librdkafka's mock cluster, shared through one small file.

The first process that asks owns the cluster for as long as it lives: it holds a lock on
`cluster.lock` and leaves the address in `cluster.json`. The kernel frees the lock however that
process ends, so a stale address is never believed and a dead owner never in the way. Everyone
else reads the address and joins.

Everything is in the owner's memory and gone with it, and a partition keeps about 5 MB and drops
the rest (see `broker.room`): for demos and tests, never for production.
"""

import atexit
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from taskstream.broker.forks import abandon
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings

PARTITIONS = 4
"""How many partitions every topic has here; the mock cluster knows no other number."""

_PATIENCE = 10.0


def address(settings: Settings) -> str:
    """Where the brokers are, `host:port,…`; starts or joins the embedded one where that is asked for.

    Raises:
        ConfigError: no broker is configured.
        BrokerError: another process owns the embedded broker and does not answer.
    """
    settings.require_broker()
    return _join(directory(settings)) if settings.embedded else settings.bootstrap_servers


def directory(settings: Settings) -> Path:
    """Where the embedded mode keeps its address and its SQLite files."""
    if settings.embedded_directory:
        return Path(settings.embedded_directory).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "taskstream" / "embedded"


class _Owner:
    """The cluster and the lock that makes this process its owner, until the process ends."""

    def __init__(self, lock: IO[str], note: Path) -> None:
        # Here, so that looking up an address loads no client.
        from confluent_kafka import Producer  # noqa: PLC0415

        self._lock = lock
        self._note = note
        self._pid = os.getpid()
        # Any client can carry a mock cluster. Nobody polls this one, so it must not log.
        self._cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._cluster.list_topics(timeout=_PATIENCE).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        fresh = note.with_suffix(".new")
        fresh.write_text(json.dumps({"address": self.address, "pid": self._pid}))
        fresh.replace(note)
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._disown)

    def close(self) -> None:
        if os.getpid() == self._pid:
            self._note.unlink(missing_ok=True)
            self._lock.close()

    def _disown(self) -> None:
        """A forked child has neither the cluster's threads nor a right to its lock."""
        abandon(self._cluster)
        self._lock.close()


def _join(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "cluster.json"
    give_up_at = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up_at:
        lock = _try_lock(folder / "cluster.lock")
        if lock is not None:
            return _Owner(lock, note).address
        known = _read(note)
        if known is not None and _answers(known["address"]):
            return str(known["address"])
        time.sleep(0.01)  # the owner has the lock and is about to write its address
    owner = (_read(note) or {}).get("pid", "unknown")
    raise BrokerError(
        f"the embedded broker in {folder} belongs to process {owner}, which does not answer: "
        "end that process, or set embedded_directory (TASKSTREAM_EMBEDDED_DIRECTORY) to another folder"
    )


def _try_lock(path: Path) -> IO[str] | None:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _read(note: Path) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return known


def _answers(brokers: str) -> bool:
    host, _, port = brokers.split(",", maxsplit=1)[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False
