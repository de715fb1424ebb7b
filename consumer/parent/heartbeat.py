"""What a worker says of itself every few seconds, in the compacted topic `{app}.workers`.

From it others learn which tasks are running, and that their worker is still there.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from taskstream._version import __version__
from taskstream.broker.sender import Sender, unheard
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.envelope import read
from taskstream.core.errors import BrokerError, Undecodable
from taskstream.core.names import Names
from taskstream.schemas.records import Records

EVERY = 5.0
"""Seconds between heartbeats."""

TOLD_AFTER = 1.0
"""Seconds that a task has been running before a heartbeat tells of it."""

TOLD_MOST = 1000
"""How many running tasks one heartbeat tells of: the longest-running ones."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Writes the heartbeats of one worker.

    Args:
        sender: the worker's producer.
        names: the app's topics.
        records: our own schemas.
        worker: the worker's name.
        queues: the queues it serves.
        started: when it started, seconds since 1970.
    """

    sender: Sender
    names: Names
    records: Records
    worker: str
    queues: tuple[str, ...]
    started: float

    def beat(self, held: Iterable[Entry], children: int, now: float) -> None:
        """Sends one; a lost one is followed by the next.

        Args:
            held: the tasks that children hold.
            children: how many children are alive.
            now: seconds since 1970.
        """
        fields = {
            "worker": self.worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "queues": list(self.queues),
            "started": _micros(self.started),
            "at": _micros(now),
            "children": children,
            "running": running(held, now),
        }
        self._send(self.records.encode("heartbeat", fields))

    def leave(self) -> None:
        """Takes the worker out of the topic; call when nothing runs any more."""
        self._send(None)

    def _send(self, value: bytes | None) -> None:
        with suppress(BrokerError):
            self.sender.send(
                self.names.workers,
                value,
                key=self.worker.encode(),
                headers=[],
                on_done=unheard,
                timeout=0,
            )


def running(held: Iterable[Entry], now: float) -> list[Mapping[str, object]]:
    """The running tasks that a heartbeat tells of, the longest-running first."""
    entries = sorted(
        (entry for entry in held if entry.given_at and now - entry.given_at >= TOLD_AFTER),
        key=lambda entry: entry.given_at,
    )
    told: list[Mapping[str, object]] = []
    for entry in entries[:TOLD_MOST]:
        try:
            envelope = read(entry.record.headers)
        except Undecodable:
            continue
        told.append(
            {
                "task_id": envelope.id,
                "run": envelope.run,
                "attempt": envelope.attempt,
                "topic": entry.record.topic,
                "partition": entry.record.partition,
                "offset": entry.record.offset,
                "since": _micros(entry.given_at),
            }
        )
    return told


def _micros(seconds: float) -> int:
    return int(seconds * 1e6)
