"""Whether an earlier owner still runs what the commit says it holds.

The workers' heartbeats tell: each lists what its worker runs beyond its own partitions, whole. A record
is free again once its holder has said goodbye, or has written a heartbeat at or after the hold that does
not list it, or has been silent for so long that it must have stopped by itself (`Fence.silence`).

`Beats` is pure. The topic is read only once anything is held here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskstream.broker.follow import Follower
from taskstream.broker.offsets import Held
from taskstream.broker.records import Record
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.clock import Clock
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
        clock: the time.
    """

    def __init__(
        self,
        settings: Settings,
        names: Names,
        records: Records,
        *,
        silence: float,
        tell: Callable[[HoldersHeard], None],
        clock: Clock,
    ) -> None:
        self._clock = clock
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
        self._beats.hear(
            event.heartbeats,
            event.complete,
            now=self._clock.now(),
            monotonic=self._clock.monotonic(),
        )

    def holds(self, entry: Entry, now: float) -> bool:
        """Whether the entry's holder runs it still, for all that anybody knows; `now` is monotonic."""
        return entry.held is not None and self._beats.hold(entry.place, entry.held, now)

    def close(self, timeout: float) -> None:
        """Ends the reading, within so many seconds."""
        self._follower.close(timeout)


@dataclass(frozen=True, slots=True)
class _Beat:
    at_us: int
    heard: float
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
        self._complete = False

    def hear(
        self, heartbeats: Iterable[Record], complete: bool, *, now: float, monotonic: float
    ) -> None:
        """Takes heartbeats in.

        Args:
            heartbeats: in the topic's order.
            complete: whether this and what came before is all that stood there at the start.
            now: seconds since 1970.
            monotonic: the same instant in monotonic seconds.
        """
        for record in heartbeats:
            worker = (record.key or b"").decode(errors="replace")
            if record.value is None:
                self._beats.pop(worker, None)
                continue
            try:
                fields = self._records.decode(record.value)[1]
            except Undecodable:
                continue  # a worker of another version: its silence will tell
            heard = monotonic - max(0.0, now - record.timestamp)
            self._beats[worker] = _Beat(fields["at"], heard, _running(fields["running"]))
        self._complete = self._complete or complete

    def hold(self, place: Place, held: Held, monotonic: float) -> bool:
        """Whether the record's holder runs it still.

        Args:
            place: the record's partition.
            held: what the commit said.
            monotonic: now, in monotonic seconds.
        """
        if not self._complete:
            return True
        beat = self._beats.get(held.worker)
        if beat is None or monotonic - beat.heard > self._silence:
            return False
        return beat.at_us < held.since_us or (place, held.offset) in beat.running


def _running(tasks: Iterable[Mapping[str, object]]) -> frozenset[tuple[Place, int]]:
    return frozenset(
        (Place(str(task["topic"]), int(str(task["partition"]))), int(str(task["offset"])))
        for task in tasks
    )
