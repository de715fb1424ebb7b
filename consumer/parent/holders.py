"""Whether an earlier owner still runs what the commit says it holds.

The workers' heartbeats tell: each lists what its worker runs beyond its own partitions, whole. A record
is free again once its holder has said goodbye, or has written a heartbeat at or after the hold that does
not list it, or has been silent for so long that it must have stopped by itself (`Fence.silence`).

How long that is, the topic alone says, in which our own heartbeats stand, too: by our clock a holder would
fall silent when that clock is wrong, or when we are halted, or read nothing for a while.

`Beats` is pure. The topic is read only once anything is held here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskstream.broker.follow import Follower
from taskstream.broker.offsets import Held
from taskstream.broker.records import Record
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.envelope import Place
from taskstream.core.errors import Undecodable
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.schemas.records import Records


@dataclass(frozen=True, slots=True)
class HoldersHeard:
    """Heartbeats have come.

    Args:
        heartbeats: in the topic's order.
        complete: whether this and what came before is all that stood there at the start.
    """

    heartbeats: Sequence[Record]
    complete: bool


class Holders:
    """Asks the workers' topic. Not thread-safe: it belongs to the loop.

    Args:
        settings: where Kafka is.
        names: the app's topics.
        records: reads heartbeats.
        silence: after how many seconds without a heartbeat a worker is taken to be gone.
        tell: takes `HoldersHeard`, from any thread, without blocking.
    """

    def __init__(
        self,
        settings: Settings,
        names: Names,
        records: Records,
        *,
        silence: float,
        tell: Callable[[HoldersHeard], None],
    ) -> None:
        self._beats = Beats(records, silence)
        self._follower = Follower(
            settings,
            names.workers,
            lambda heard, complete: tell(HoldersHeard(heard, complete)),
            client_id="taskstream-holders",
        )
        self._follows = False

    def follow(self) -> None:
        """Begins to read, if it has not yet."""
        if not self._follows:
            self._follows = True
            self._follower.start()

    def hear(self, event: HoldersHeard) -> None:
        """Takes heartbeats in."""
        self._beats.hear(event.heartbeats, event.complete)

    def holds(self, entry: Entry) -> bool:
        """Whether the entry's holder runs it still, for all that anybody knows."""
        return entry.held is not None and self._beats.hold(entry.place, entry.held)

    def close(self, timeout: float) -> None:
        """Ends the reading, within so many seconds."""
        self._follower.close(timeout)


@dataclass(frozen=True, slots=True)
class _Beat:
    at_us: int
    appended: float
    running: frozenset[tuple[Place, int]]


class Beats:
    """What the workers said last.

    Args:
        records: reads heartbeats.
        silence: after how many seconds without a heartbeat a worker is taken to be gone.
    """

    def __init__(self, records: Records, silence: float) -> None:
        self._records = records
        self._silence = silence
        self._beats: dict[str, _Beat] = {}
        self._newest = 0.0
        self._complete = False

    def hear(self, heartbeats: Iterable[Record], complete: bool) -> None:
        """Takes heartbeats in.

        Args:
            heartbeats: in the topic's order.
            complete: whether this and what came before is all that stood there at the start.
        """
        for record in heartbeats:
            self._newest = max(self._newest, record.timestamp)
            worker = (record.key or b"").decode(errors="replace")
            if record.value is None:
                self._beats.pop(worker, None)
                continue
            try:
                fields = self._records.decode(record.value)[1]
            except Undecodable:
                continue  # a worker of another version: its silence will tell
            running = _running(fields["running"])
            self._beats[worker] = _Beat(fields["at"], record.timestamp, running)
        self._complete = self._complete or complete

    def hold(self, place: Place, held: Held) -> bool:
        """Whether the record's holder runs it still.

        Args:
            place: the record's partition.
            held: what the commit said.
        """
        if not self._complete:
            return True
        beat = self._beats.get(held.worker)
        if beat is None or self._newest - beat.appended > self._silence:
            return False
        return beat.at_us < held.since_us or (place, held.offset) in beat.running


def _running(tasks: Iterable[Mapping[str, object]]) -> frozenset[tuple[Place, int]]:
    return frozenset(
        (Place(str(task["topic"]), int(str(task["partition"]))), int(str(task["offset"])))
        for task in tasks
    )
