"""Taking records in: one thread and one Kafka consumer for each priority.

One consumer over several topics is no priority queue (a high record was measured to come after
19,991 low ones that had been fetched before it), so each priority has its own, and its own bound on
what it may hold. The thread always polls, so a task may run for hours; when its room is full it first
just waits, because pausing throws away what the client has fetched, and pauses only when that lasts.

Everything that happens is told to the loop as an event; only a revocation waits for the loop's
answer, and the other intakes go on meanwhile.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from taskstream.broker.cluster import Cluster
from taskstream.broker.group import Assigned, GroupConsumer, Offsets
from taskstream.broker.records import Record
from taskstream.core.clock import Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.observability.metrics import Metrics

ROOM_RECORDS = 500
"""How many records of one priority may wait to be given out."""

SPARE_RECORDS = 50
"""How many of these places are kept for records that come along while commits are sent."""

ROOM_BYTES = 32 * 1024 * 1024
"""How many bytes they may hold; a single larger record still passes, alone."""

TAKE_RECORDS = 250
"""How many records one `take` brings at most."""

PATIENCE = 1.0
"""Seconds that a full intake waits before it pauses its partitions."""

ANSWER = 0.005
"""Seconds that a full intake leaves Kafka to answer a commit, for each record that it takes beyond its room:
the client sends commits and hears answers only while it is asked for records."""

POLL = 0.1
"""Seconds that one poll waits for the first record; it returns at once when one comes."""

IDLE_POLL = 0.5
"""The same where nothing else can be waited for: no record of ours is to be given out, none is held."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Records have come."""

    intake: "Intake"
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    """Partitions are ours; their records come after this."""

    intake: "Intake"
    partitions: Sequence[Assigned]


@dataclass(slots=True)
class PartitionsRevoked:
    """Partitions are about to go. The loop sets `offsets`, then `answered`; the intake waits for it."""

    intake: "Intake"
    places: Sequence[Place]
    offsets: Offsets = field(default_factory=dict)
    answered: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class PartitionsLost:
    """Partitions have gone: nothing may be committed for them."""

    intake: "Intake"
    places: Sequence[Place]


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit was acknowledged, or refused."""

    intake: "Intake"
    error: BrokerError | None
    offsets: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class EndsTold:
    """The brokers have said where our partitions end."""

    intake: "Intake"
    ends: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class IntakeFailed:
    """The consumer reports trouble; after a fatal one the intake has ended."""

    intake: "Intake"
    error: BrokerError
    fatal: bool


Event = (
    Arrived
    | PartitionsAssigned
    | PartitionsRevoked
    | PartitionsLost
    | Committed
    | EndsTold
    | IntakeFailed
)


class Intake:
    """One priority's consumer and the thread that polls it.

    Args:
        settings: where Kafka is.
        lane: the priority.
        topic: what is read.
        group: the consumer group.
        client_id: how the broker's logs call it.
        instance: its name in the group, for static membership; None for none.
        cluster: what the brokers have said of themselves; None where they are still to be asked.
        tell: takes an event, from any thread, without blocking.
        revoke_wait: seconds that a revocation waits for the loop at most.
        metrics: where the consumer counts.
        clock: for the consumer.

    Attributes:
        turns: how often its thread has come round.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lane: str,
        topic: str,
        group: str,
        client_id: str,
        instance: str | None,
        cluster: Cluster | None,
        tell: Callable[[Event], None],
        revoke_wait: float,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.lane = lane
        self.topic = topic
        self.group = group
        self.turns = 0
        self._tell = tell
        self._revoke_wait = revoke_wait
        self._condition = threading.Condition()
        self._records = 0
        self._bytes = 0
        self._full: frozenset[Place] = frozenset()
        self._pause_at: float | None = None
        self._clock = clock
        self._stopping = False
        self._ends_wanted = False
        self._closed = threading.Event()
        self._revocation: PartitionsRevoked | None = None
        self._consumer = GroupConsumer(
            settings,
            group=group,
            topics=[topic],
            client_id=client_id,
            listener=self,
            instance_id=instance,
            cluster=cluster,
            metrics=metrics,
            role=lane,
            clock=clock,
        )
        self._thread = threading.Thread(
            target=self._run, name=f"taskstream-intake-{lane}", daemon=True
        )

    def start(self) -> None:
        """Joins the group and begins to take records in."""
        self._thread.start()

    def release(self, records: int, size_bytes: int) -> None:
        """Tells that records were given out, or dropped: there is room again."""
        with self._condition:
            self._records -= records
            self._bytes -= size_bytes
            self._condition.notify()

    def hold(self, full: frozenset[Place]) -> None:
        """Takes nothing from these partitions until told otherwise: too much of them is unfinished."""
        self._full = full

    def commit(self, offsets: Offsets) -> None:
        """Starts a commit; the outcome comes as `Committed`.

        Raises:
            BrokerError: it can't be started.
        """
        self._consumer.commit(offsets)
        with self._condition:
            self._condition.notify()

    def ends(self) -> dict[Place, int]:
        """The end of each partition of ours, as of its last fetch."""
        return {place: high for place, (_, high) in self._consumer.watermarks().items()}

    def ask_ends(self) -> None:
        """Asks the brokers where our partitions end; the answer comes as `EndsTold`."""
        self._ends_wanted = True

    def stop_taking(self) -> None:
        """Takes no more records, but goes on polling."""
        self._stopping = True
        with self._condition:
            self._condition.notify()

    def close(self, offsets: Offsets, timeout: float) -> BrokerError | None:
        """Commits and leaves the group; call once everything is drained.

        Returns:
            Why the last commit failed, if it did; the group is left in any case.
        """
        failure = None
        self._closed.set()
        if self._revocation is not None:  # the loop has ended: nobody else will answer it
            self._revocation.answered.set()
        with self._condition:
            self._condition.notify()
        try:
            self._consumer.commit_now(offsets, timeout)
        except BrokerError as error:
            failure = error
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._consumer.close(timeout)
        return failure

    # What the consumer tells, in the polling thread.

    def assigned(self, partitions: Sequence[Assigned]) -> None:
        """Passes on; see `GroupConsumer`."""
        self._tell(PartitionsAssigned(self, partitions))

    def revoked(self, places: Sequence[Place]) -> None:
        """Waits for the loop to let running tasks end, then commits what they reached."""
        event = self._revocation = PartitionsRevoked(self, places)
        if self._closed.is_set():
            return
        self._tell(event)
        answered = event.answered.wait(self._revoke_wait)
        self._revocation = None
        if answered:
            try:
                self._consumer.commit_now(event.offsets, self._revoke_wait)
            except BrokerError as error:
                self._tell(IntakeFailed(self, error, fatal=False))
            else:
                return
        # No commit names what goes on here, or the loop was stuck: the next owner looks up what we gave
        # out, and waits for nothing.
        self._tell(PartitionsLost(self, places))

    def lost(self, places: Sequence[Place]) -> None:
        """Passes on; see `GroupConsumer`."""
        self._tell(PartitionsLost(self, places))

    def committed(self, error: BrokerError | None, offsets: Mapping[Place, int]) -> None:
        """Passes on; see `GroupConsumer`."""
        self._tell(Committed(self, error, offsets))

    def failed(self, error: BrokerError, fatal: bool) -> None:
        """Passes on; see `GroupConsumer`."""
        self._tell(IntakeFailed(self, error, fatal))

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._turn()
        except BrokerError as error:
            self._tell(IntakeFailed(self, error, fatal=True))
        except Exception as error:  # noqa: BLE001 - a thread that ends in silence stops its priority
            failure = BrokerError(f"reading {self.topic}: {type(error).__name__}: {error}")
            self._tell(IntakeFailed(self, failure, fatal=True))

    def _turn(self) -> None:
        self.turns += 1
        self._apply_pauses(everything=not self._wait_for_room())
        room = ROOM_RECORDS - SPARE_RECORDS - self._records
        patience = POLL if self._records or self._full else IDLE_POLL
        records = self._consumer.take(max(1, min(TAKE_RECORDS, room)), patience)
        if records:
            with self._condition:
                self._records += len(records)
                self._bytes += sum(record.size_bytes for record in records)
            self._tell(Arrived(self, records))
        elif self._ends_wanted:
            with contextlib.suppress(BrokerError):  # asked again in the next turn
                ends = self._consumer.ask_ends()
                self._ends_wanted = False
                self._tell(EndsTold(self, ends))

    def _wait_for_room(self) -> bool:
        """Whether to go on taking: there is room, or was a moment ago and there is a commit to send.

        What is here may wait for that very commit: nothing is given out beyond what one has reserved.
        """
        with self._condition:
            if self._goes_on():
                self._pause_at = None
                return True
            if self._stopping:  # everything is paused: polling is what is left to do
                return False
            now = self._clock.monotonic()
            if self._pause_at is None:
                self._pause_at = now + PATIENCE
            self._condition.wait_for(
                lambda: self._goes_on() or self._consumer.owes_commits,
                self._pause_at - now if now < self._pause_at else PATIENCE,
            )
            if not self._goes_on() and self._consumer.owes_commits:
                self._condition.wait(ANSWER)
            return self._goes_on() or (
                self._has_room(spare=0) and self._clock.monotonic() < self._pause_at
            )

    def _goes_on(self) -> bool:
        return self._closed.is_set() or (not self._stopping and self._has_room(SPARE_RECORDS))

    def _has_room(self, spare: int) -> bool:
        return self._records < ROOM_RECORDS - spare and self._bytes < ROOM_BYTES

    def _apply_pauses(self, *, everything: bool) -> None:
        ours = frozenset(self._consumer.assignment)
        wanted = ours if everything else self._full & ours
        self._consumer.pause(wanted)
        self._consumer.resume(self._consumer.paused - wanted)
