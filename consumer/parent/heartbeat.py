"""What a worker says of itself every few seconds, in the compacted topic `{app}.workers`.

From it others learn which tasks are running, and that their worker is still there. Owners of partitions
that this worker has given up wait for what it still runs of them, so each heartbeat tells of all of
those (`owed`), whatever it leaves out else.
"""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from taskstream._version import __version__
from taskstream.broker.sender import Ack, Report, Sender, unheard
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.clock import Clock
from taskstream.core.envelope import Envelope, read
from taskstream.core.errors import BrokerError, Undecodable
from taskstream.core.names import Names
from taskstream.schemas.records import Records

EVERY = 2.0
"""Seconds between heartbeats."""

TOLD_AFTER = 1.0
"""Seconds that a task has been running before a heartbeat tells of it."""

TOLD_MOST = 1000
"""How many running tasks one heartbeat tells of beside those that it owes: the longest-running ones."""


class Heartbeat:
    """Writes the heartbeats of one worker. Not thread-safe: it belongs to the loop.

    Args:
        sender: the worker's producer.
        names: the app's topics.
        records: our own schemas.
        worker: the worker's name.
        queues: the queues it serves.
        clock: the time.
    """

    def __init__(
        self,
        sender: Sender,
        names: Names,
        records: Records,
        *,
        worker: str,
        queues: tuple[str, ...],
        clock: Clock,
    ) -> None:
        self.worker = worker
        self._sender = sender
        self._names = names
        self._records = records
        self._queues = queues
        self._clock = clock
        self._started = clock.now()
        self._acknowledged = (0, clock.monotonic())

    def beat(
        self,
        held: Iterable[Entry],
        owed: Iterable[Entry],
        *,
        children: int,
        pids: Mapping[int, int],
        halted: Sequence[str],
        paused: Sequence[str],
    ) -> int:
        """Sends one; a lost one is followed by the next.

        Args:
            held: the tasks that children hold.
            owed: those of them that were given up with their partition.
            children: how many children are alive.
            pids: the child that holds each task, by the task's number.
            halted: the lanes that are halted because too many of their tasks died.
            paused: the targets of the orders by which tasks are held back.

        Returns:
            When it was written, microseconds since 1970: what `acknowledged_us` reaches with it.
        """
        now = self._clock.now()
        at_us = _micros(now)
        fields = {
            "worker": self.worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "queues": list(self._queues),
            "started": _micros(self._started),
            "at": at_us,
            "children": children,
            "halted": list(halted),
            "paused": list(paused),
            "running": running(held, owed, pids, now),
        }
        sent = self._clock.monotonic()

        def done(ack: Ack | None, _error: BrokerError | None) -> None:
            if ack is not None:
                self._acknowledged = (at_us, sent)

        self._send(self._records.encode("heartbeat", fields), done)
        return at_us

    @property
    def acknowledged_us(self) -> int:
        """When the last one was written that Kafka has, microseconds since 1970."""
        return self._acknowledged[0]

    @property
    def silent_since(self) -> float:
        """Since when nobody has heard of this worker, in monotonic seconds."""
        return self._acknowledged[1]

    def leave(self) -> None:
        """Takes the worker out of the topic; call when nothing runs any more."""
        self._send(None, unheard)

    def _send(self, value: bytes | None, on_done: Report) -> None:
        with suppress(BrokerError):
            self._sender.send(
                self._names.workers,
                value,
                key=self.worker.encode(),
                headers=[],
                on_done=on_done,
                timeout=0,
            )


def running(
    held: Iterable[Entry], owed: Iterable[Entry], pids: Mapping[int, int], now: float
) -> list[Mapping[str, object]]:
    """The running tasks that a heartbeat tells of: what it owes, then the longest-running ones."""
    entries = {entry.number: entry for entry in owed}
    others = sorted(
        (entry for entry in held if entry.given_at and now - entry.given_at >= TOLD_AFTER),
        key=lambda entry: entry.given_at,
    )
    entries.update((entry.number, entry) for entry in others[:TOLD_MOST])
    return [_told(entry, pids.get(entry.number, 0)) for entry in entries.values()]


def _told(entry: Entry, pid: int) -> Mapping[str, object]:
    try:
        envelope = read(entry.record.headers)
    except Undecodable:
        envelope = Envelope(task="")
    return {
        "task_id": envelope.id,
        "run": envelope.run,
        "attempt": envelope.attempt,
        "topic": entry.record.topic,
        "partition": entry.record.partition,
        "offset": entry.record.offset,
        "since": _micros(entry.given_at),
        "task": entry.task,
        "child": pid,
    }


def _micros(seconds: float) -> int:
    return int(seconds * 1e6)
