"""One member of a consumer group: a thin shell around the client, without any policy.

What to take, when to pause and what to commit is decided above; here stand the rules of the
client that are easy to get wrong:

- Everything the listener hears, it hears from inside `take`, in the thread that called it.
- A member joins no group that was never initialised; it waits until it is.
- A partition starts at its committed offset or not at all: without one, or where retention has
  passed it, the listener is told, and nothing is skipped or repeated in silence.
- After `revoked` or `lost` no record of that partition comes out of `take`.
- Offsets are looked up between two polls, never in the callback of the assignment: while that one
  waits, the member can neither follow its group nor have its client replaced.
- A client that has lost its brokers for good is replaced (see `lifeline`).
- Pausing acts on edges: resuming a partition that is not paused has been seen to rewind it.
- Inside a callback only those methods of the client may be called that don't let Python go on with a
  state of their own: `list_topics` there was measured to abort the process at the next callback.
- The client lets one thread in at a time: a commit from another one was measured to wait until
  `poll` came back (1.7 s of a poll of 2 s), and one that `revoked` waits for, for ever. So other
  threads leave their commits here, and `take` sends them; those of a partition that has gone
  meanwhile are dropped, since Kafka would take them from any member.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from taskstream.broker.cluster import Cluster
from taskstream.broker.embedded import address
from taskstream.broker.failures import (
    NotOwner,
    NotReady,
    OffsetLost,
    TimedOut,
    UnknownTopic,
    broker_error,
    client_refused,
    root_name,
)
from taskstream.broker.figures import Commits, Statistics
from taskstream.broker.joining import Joining
from taskstream.broker.lifeline import Lifeline
from taskstream.broker.messages import record_of
from taskstream.broker.records import Record
from taskstream.broker.settings import FETCH_WAIT, consumer_options
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.observability import logs
from taskstream.observability.metrics import Metrics

Offsets = Mapping[Place, tuple[int, str]]
"""What a commit says of each partition: the next offset to read, and metadata (4,096 bytes at most)."""

_WATERMARKS_HOLD = 1.0  # seconds
_COUNT_TIMEOUT = 5.0
_LOOK_AGAIN = 0.2
_LOOK_FOR_INIT = 1.0  # seconds between two looks at whether the group has starting offsets by now

# The client's poll comes back for a record only: an assignment that it tells of on the way would be
# acted on when its wait is over, and so would the first commit, which follows from the assignment.
_SHORT_POLL = 0.01
_JOINING = 5.0  # seconds from joining on that its polls are short, unless partitions come
_STARTING = 0.25  # the same from the start of partitions on

_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition that is ours from now on.

    Args:
        place: the partition.
        committed: the group's committed offset, where reading starts; None where there is none.
        metadata: what stands beside it; empty where there is nothing.
        low: the first offset that the broker still has.
        high: the end of the partition at the assignment.
        count: how many partitions its topic has.
    """

    place: Place
    committed: int | None
    metadata: str
    low: int
    high: int
    count: int = 1


class Listener(Protocol):
    """Who is told what happens to the partitions; always from inside `take`.

    An exception raised here comes out of `take` as it is, after the client's callback is over.
    """

    def assigned(self, partitions: Sequence[Assigned]) -> None:
        """These partitions are ours; their records come after this call.

        One that could not be started is not among them: nothing may be committed for it.
        """

    def revoked(self, places: Sequence[Place]) -> None:
        """These partitions are about to go; may block and commit, their new owner waits for it."""

    def lost(self, places: Sequence[Place]) -> None:
        """These partitions have gone already; a commit would be refused."""

    def committed(self, error: BrokerError | None, offsets: Mapping[Place, int]) -> None:
        """The outcome of a `commit` for these partitions."""

    def failed(self, error: BrokerError, fatal: bool) -> None:
        """The client reports trouble; after a fatal one it must be closed and made anew.

        `OffsetLost` names a partition that has stopped, or was not started (see `start`).
        """


class GroupConsumer:
    """A member of a consumer group.

    `take`, `pause`, `resume` and `start` belong to one thread; the others may be called from any.

    Args:
        settings: where Kafka is, and options that pass through.
        group: the consumer group.
        topics: what the group reads.
        client_id: how the broker's logs call this member.
        listener: who is told about partitions, commits and trouble.
        instance_id: for static membership; unique among the live members. Such a member keeps its
            partitions when it closes, until its session is over.
        cluster: what the brokers have said of themselves; None asks them.
        metrics: where commits and the client's own statistics are counted; None for nowhere.
        role: how the metrics call this client.
        fetch_wait: seconds; what a resumed partition waits for at most, see `broker.settings`.
        clock: measures patience.

    Raises:
        ConfigError: an option is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        topics: Sequence[str],
        client_id: str,
        listener: Listener,
        instance_id: str | None = None,
        cluster: Cluster | None = None,
        fetch_wait: float = FETCH_WAIT,
        metrics: Metrics | None = None,
        role: str = "member",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.group = group
        self.topics = tuple(topics)
        self._settings = settings
        self._embedded = settings.embedded
        self._client_id = client_id
        self._instance_id = instance_id
        self._fetch_wait = fetch_wait
        self._listener = listener
        self._metrics = metrics
        self._role = role
        self._commits = Commits(metrics)
        # When each commit was sent that is not answered: answers come in the same order.
        self._commits_sent: deque[float] = deque()
        self._statistics = Statistics(None, role, {})
        self._clock = clock
        self._owned: dict[Place, Assigned] = {}
        self._started: dict[Place, int] = {}
        self._paused: set[Place] = set()
        # Ours, and not told of yet, because their committed offsets are not known yet.
        self._waiting: set[Place] = set()
        self._look_up_at = 0.0
        # Partitions that went away during the current `take`, whose records it must not return.
        self._gone: set[Place] = set()
        self._raised: BaseException | None = None
        self._unusable: BrokerError | None = None
        self._closing = False
        # Appended to by any thread, taken from by the one that takes.
        self._to_commit: deque[Offsets] = deque()
        self._telling_in: int | None = None
        self._watermarks: dict[Place, tuple[int, int]] = {}
        self._watermarks_at = 0.0
        if settings.embedded:
            # Its groups never hear of a topic that comes into being after they subscribed.
            with Topics(settings, client_id=client_id) as known:
                for topic in self.topics:
                    known.partitions(topic)
        self._joining = Joining(settings, group=group, clock=clock, cluster=cluster)
        self._joined = False
        self._initialised = self._embedded
        self._hurry_until = 0.0
        self._counts: dict[str, int] = {}
        self._generation = 0
        # Wrong options must show here, so there is a client before its protocol is known.
        self._consumer = self._connect()
        self._lifeline = Lifeline(
            settings,
            lambda timeout: self._consumer.list_topics(self.topics[0], timeout=timeout),
            clock=clock,
        )

    def take(self, limit: int, timeout: float) -> list[Record]:
        """1 to `limit` records, or none after `timeout` seconds at most; waits for no more than the first.

        Call it often, also while everything is paused: it is what keeps the membership alive, and a
        partition that was assigned starts only after it.

        Raises:
            BrokerError: the member can't go on; close it and make a new one.
        """
        if self._unusable is not None:
            raise self._unusable
        self._gone.clear()
        if not self._joined and not self._join():
            time.sleep(timeout)
            self._look_after_client()
            self._raise_recorded([])
            return []
        self._send_commits()
        # consume(limit, timeout) would wait for all of them or the whole time-out.
        hurries = self._clock.monotonic() < self._hurry_until
        first = self._consumer.poll(min(timeout, _SHORT_POLL) if hurries else timeout)
        messages = [] if first is None else [first]
        if first is not None and limit > 1 and self._raised is None:
            messages += self._consumer.consume(limit - 1, 0)
        self._send_commits()
        records = self._records(messages)
        self._start_waiting()
        self._read_watermarks()
        self._raise_recorded(records)
        if records:
            self._lifeline.heard()
        else:
            self._look_after_client()
        return records

    def pause(self, places: Iterable[Place]) -> None:
        """Takes nothing more from these partitions; those that aren't ours are passed over."""
        edges = [place for place in places if place in self._started and place not in self._paused]
        if edges:
            self._consumer.pause(_partitions(edges))
            self._paused.update(edges)

    def resume(self, places: Iterable[Place]) -> None:
        """Takes from these partitions again, from where `pause` stopped."""
        edges = [place for place in places if place in self._paused]
        if edges:
            self._consumer.resume(_partitions(edges))
            self._paused.difference_update(edges)

    def start(self, place: Place, offset: int) -> None:
        """Reads a partition of ours from `offset`: what to do after `OffsetLost` once it is judged.

        Raises:
            BrokerError: the partition is not ours.
        """
        if place not in self._owned:
            raise NotOwner(f"starting {place} at {offset}: the partition is not ours")
        try:
            if place in self._started:
                self.resume([place])
                self._consumer.incremental_unassign(_partitions([place]))
            self._consumer.incremental_assign(
                [TopicPartition(place.topic, place.partition, offset)]
            )
        except KafkaException as error:
            raise broker_error(error, f"starting {place} at {offset}") from error
        self._started[place] = offset

    def commit(self, offsets: Offsets) -> None:
        """Commits with the next turn of `take`; the outcome comes to `Listener.committed`.

        Returns at once. Partitions that have gone by then are left out, without an outcome.
        """
        if offsets:
            self._to_commit.append(offsets)

    def commit_now(self, offsets: Offsets, timeout: float) -> None:
        """Commits and waits for the acknowledgement; allowed inside `Listener.revoked`.

        Inside a listener's method only the client's own time-outs end the wait, about a minute.

        Raises:
            TimedOut: no answer in `timeout` seconds: committed or not, nobody knows.
            NotOwner: a partition has another owner.
            BrokerError: it was refused.
        """
        if not offsets:
            return
        if threading.get_ident() == self._telling_in:
            failure = self._commit_blocking(offsets)
        else:
            # The client's call takes no time-out, so it blocks a thread that can be left behind.
            outcome: list[BrokerError | None] = []
            _run_with_deadline(lambda: outcome.append(self._commit_blocking(offsets)), timeout)
            if not outcome:
                raise TimedOut(f"committing for group {self.group}: no answer in {timeout:g} s")
            failure = outcome[0]
        if failure is not None:
            raise failure

    @property
    def assignment(self) -> Collection[Place]:
        """The partitions that are ours, those that could not be started included."""
        return tuple(self._owned)

    @property
    def owes_commits(self) -> bool:
        """Whether a commit waits for `take`, to be sent or to hear its answer. From any thread."""
        return bool(self._to_commit or self._commits_sent)

    @property
    def paused(self) -> frozenset[Place]:
        """The partitions that `pause` holds."""
        return frozenset(self._paused)

    def watermarks(self) -> dict[Place, tuple[int, int]]:
        """First and end offset of each partition of ours, as of its last fetch.

        At most a second older than that. A paused partition isn't fetched, so its end stands
        still; ask `broker.topics` where it must be fresh.
        """
        return dict(self._watermarks)

    def ask_ends(self) -> dict[Place, int]:
        """The ends of all partitions of ours, from the brokers; belongs to the thread that takes.

        Raises:
            BrokerError: they don't answer within seconds.
        """
        try:
            return {
                place: self._consumer.get_watermark_offsets(one, timeout=_COUNT_TIMEOUT)[1]
                for place, one in zip(self._owned, _partitions(self._owned), strict=True)
            }
        except KafkaException as error:
            raise broker_error(error, f"asking for the ends of group {self.group}") from error

    def close(self, timeout: float) -> bool:
        """Leaves the group; tells the listener nothing more, so drain and commit before.

        The client's own close has been seen to hang with an unreachable broker: after `timeout`
        seconds it is left behind in its thread.

        Returns:
            Whether it ended in time.
        """
        self._closing = True
        self._statistics.end()
        return _run_with_deadline(self._consumer.close, timeout)

    def _connect(self) -> Any:
        options = consumer_options(
            self._settings,
            address(self._settings),
            group=self.group,
            client_id=self._client_id,
            protocol=self._joining.protocol,
            instance_id=self._instance_id,
            fetch_wait=self._fetch_wait,
        )
        self._statistics.end()
        self._statistics = Statistics(self._metrics, self._role, options)
        options |= self._statistics.options
        options["on_commit"] = self._of_this_client(self._on_commit)
        options["error_cb"] = self._of_this_client(self._on_error)
        try:
            return Consumer(options)
        except (KafkaException, ValueError, TypeError) as error:
            what = f"a Kafka consumer of group {self.group}"
            raise client_refused(error, self._settings, what) from error

    def _join(self) -> bool:
        """Subscribes as soon as it may; says whether it has."""
        before = self._joining.protocol
        try:
            if not self._joining.ready():
                return False
        except BrokerError as error:
            self._tell(self._listener.failed, error, False)
            return False
        if self._joining.protocol != before:
            self._connect_again()
        if self._clock.monotonic() < self._look_up_at:
            return False
        try:
            self._counts = {topic: self._count(topic) for topic in self.topics}
            if not self._initialised and not self._has_offsets():
                return False
        except KafkaException as error:
            failure = broker_error(error, f"counting partitions for group {self.group}")
            self._tell(self._listener.failed, failure, False)
            return False
        self._consumer.subscribe(
            list(self.topics),
            on_assign=self._of_this_client(self._on_assign),
            on_revoke=self._of_this_client(self._on_revoke),
            on_lost=self._of_this_client(self._on_lost),
        )
        self._joined = True
        self._hurry_until = self._clock.monotonic() + _JOINING
        return True

    def _has_offsets(self) -> bool:
        """Whether the group has starting offsets; until then nobody joins.

        Kafka takes offsets from outside only for a group without members, so one that came too early
        would keep `init` from what it waits for. Where some offsets are missing, that is a loss.
        """
        places = [
            TopicPartition(topic, number)
            for topic, count in self._counts.items()
            for number in range(count)
        ]
        committed = self._consumer.committed(places, timeout=_COUNT_TIMEOUT) if places else ()
        self._initialised = any(one.offset >= 0 for one in committed)
        if not self._initialised:
            if not self._look_up_at:
                self._tell(self._listener.failed, _uninitialised(self.group), False)
            self._look_up_at = self._clock.monotonic() + _LOOK_FOR_INIT
        return self._initialised

    def _of_this_client(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, deaf from when this member closes, or has another client."""
        generation = self._generation

        def guarded(*facts: Any) -> None:
            if not self._closing and generation == self._generation:
                callback(*facts)

        return guarded

    def _count(self, topic: str) -> int:
        # Never from a callback: the client forgets there that it is inside one, and the next callback
        # of the same `poll` aborts the process.
        return len(
            self._consumer.list_topics(topic, timeout=_COUNT_TIMEOUT).topics[topic].partitions
        )

    def _connect_again(self) -> None:
        """A new client in place of this one, which must not own anything any more."""
        self._generation += 1
        self._commits_sent.clear()
        _run_with_deadline(self._consumer.close, 5.0)
        self._consumer = self._connect()
        self._lifeline.heard()
        self._joined = False

    def _look_after_client(self) -> None:
        """Replaces a client that has lost its brokers; whatever it owned counts as lost, too."""
        if not self._lifeline.lost():
            return
        _log.warning(
            "a client has lost all brokers; a new one joins",
            group=self.group,
            advice="nothing: a new client takes over",
        )
        self._statistics.replaced()
        places = list(self._owned)
        self._owned.clear()
        self._started.clear()
        self._paused.clear()
        self._waiting.clear()
        self._to_commit.clear()
        if places:
            self._tell(self._listener.lost, places)
        self._connect_again()

    def _send_commits(self) -> None:
        while self._to_commit:
            offsets = self._to_commit.popleft()
            ours = {place: offsets[place] for place in offsets if place in self._owned}
            if not ours:
                continue
            try:
                self._commits_sent.append(self._clock.monotonic())
                self._consumer.commit(offsets=_with_metadata(ours), asynchronous=True)
            except KafkaException as error:
                failure = broker_error(error, f"committing for group {self.group}")
                self._commits.answered(self._clock.monotonic() - self._commits_sent.pop(), failure)
                refused = {place: offset for place, (offset, _) in ours.items()}
                self._tell(self._listener.committed, failure, refused)

    def _read_watermarks(self) -> None:
        now = self._clock.monotonic()
        if (
            now < self._watermarks_at + _WATERMARKS_HOLD
            and self._watermarks.keys() == self._owned.keys()
        ):
            return
        self._watermarks_at = now
        known = {}
        for place, assigned in self._owned.items():
            low, high = self._consumer.get_watermark_offsets(_partitions([place])[0], cached=True)
            known[place] = (max(low, assigned.low), max(high, assigned.high))
        self._watermarks = known

    def _records(self, messages: list[Any]) -> list[Record]:
        records = []
        for message in messages:
            if message.error() is not None:
                self._on_message_error(message)
                continue
            records.append(record_of(message))
        return self._without_gone(records) if self._gone else records

    def _without_gone(self, records: list[Record]) -> list[Record]:
        """Drops what a rebalance took away between the first record and the last.

        One that came back within the same `take` is read again from where it was assigned, for
        what of it stood before the rebalance and what after can't be told apart.
        """
        for place in self._gone & self._started.keys():
            self.start(place, self._started[place])
        return [
            record for record in records if Place(record.topic, record.partition) not in self._gone
        ]

    def _raise_recorded(self, records: list[Record]) -> None:
        """Lets out what a callback raised, and puts the records back that came along with it."""
        raised, self._raised = self._raised, None
        if raised is None:
            return
        firsts: dict[Place, int] = {}
        for record in records:
            firsts.setdefault(Place(record.topic, record.partition), record.offset)
        for place, offset in firsts.items():
            if place in self._started:
                self.start(place, offset)
        raise raised

    # Callbacks of the client. None may raise: the client would carry it through C into `poll`.

    def _on_assign(self, _consumer: object, partitions: list[TopicPartition]) -> None:
        self._lifeline.heard()
        self._waiting.update(_places(partitions))
        self._look_up_at = 0.0
        # Left to itself the client would start reading what the listener never heard of.
        self._consumer.incremental_assign([])

    def _start_waiting(self) -> None:
        """Starts what was assigned, once it is known where; Kafka's outages are waited out."""
        if not self._waiting or self._clock.monotonic() < self._look_up_at:
            return
        try:
            assigned = self._look_up(sorted(self._waiting, key=str))
        except BrokerError as error:
            # The group gives away only what exists: unknown is what a broker that was away says.
            if isinstance(error, TimedOut | NotReady | UnknownTopic):
                if not self._look_up_at:
                    _log.warning(
                        "partitions wait to be started; it is tried again",
                        error=str(error),
                        advice=logs.LOOK_AT_KAFKA,
                    )
                self._look_up_at = self._clock.monotonic() + _LOOK_AGAIN
                return
            self._unusable = self._raised = error
            self._tell(self._listener.failed, error, True)
            return
        self._waiting.clear()
        self._begin(assigned)

    def _begin(self, assigned: list[Assigned]) -> None:
        self._hurry_until = self._clock.monotonic() + _STARTING
        starts: list[TopicPartition] = []
        failures: list[OffsetLost] = []
        for one in assigned:
            self._owned[one.place] = one
            start = _start_of(one, self._embedded, self.group)
            if isinstance(start, OffsetLost):
                failures.append(start)
            else:
                self._started[one.place] = start
                starts.append(TopicPartition(one.place.topic, one.place.partition, start))
        self._consumer.incremental_assign(starts)
        self._tell(self._listener.assigned, [one for one in assigned if one.place in self._started])
        for failure in failures:
            self._tell(self._listener.failed, failure, False)

    def _on_revoke(self, _consumer: object, partitions: list[TopicPartition]) -> None:
        self._give_up(partitions, self._listener.revoked)

    def _on_lost(self, _consumer: object, partitions: list[TopicPartition]) -> None:
        self._give_up(partitions, self._listener.lost)

    def _give_up(
        self, partitions: list[TopicPartition], tell: Callable[[list[Place]], None]
    ) -> None:
        gone = _places(partitions)
        places = [place for place in gone if place not in self._waiting]
        self._waiting.difference_update(gone)
        if places:
            self._tell(tell, places)
        # A pause has been reported to outlive the assignment it was made for.
        self.resume(places)
        self._gone.update(places)
        started = [place for place in places if place in self._started]
        for place in places:
            self._owned.pop(place, None)
            self._started.pop(place, None)
        self._consumer.incremental_unassign(_partitions(started))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition] | None) -> None:
        sent = self._commits_sent.popleft() if self._commits_sent else None
        stored: dict[Place, int] = {}
        refused: dict[str, tuple[BrokerError, dict[Place, int]]] = {}
        for partition in partitions or ():
            place = Place(partition.topic, partition.partition)
            why = partition.error or error
            if why is None:
                stored[place] = partition.offset
            else:
                failure = broker_error(why, f"committing for group {self.group}")
                refused.setdefault(why.name(), (failure, {}))[1][place] = partition.offset
        if sent is not None:
            why_not = next((failure for failure, _ in refused.values()), None)
            self._commits.answered(self._clock.monotonic() - sent, why_not)
        if stored:
            self._lifeline.heard()
            self._tell(self._listener.committed, None, stored)
        for failure, offsets in refused.values():
            self._tell(self._listener.committed, failure, offsets)

    def _on_error(self, error: KafkaError) -> None:
        failure = broker_error(error, f"group {self.group}")
        if error.fatal():
            self._unusable = failure
        self._tell(self._listener.failed, failure, error.fatal())

    def _on_message_error(self, message: Any) -> None:
        error: KafkaError = message.error()
        doing = f"group {self.group}"
        if error.name() == "_FATAL":
            self._end(error, doing)
            return
        if message.topic() is not None and message.partition() is not None:
            place = Place(message.topic(), message.partition())
            doing = f"reading {place} for group {self.group}"
            if error.name() == "_AUTO_OFFSET_RESET":
                self._tell(
                    self._listener.failed,
                    OffsetLost(
                        f"{doing}: offset {message.offset()} is not there any more, so records may "
                        f"be lost; the partition has stopped ({error.str()})"
                    ),
                    False,
                )
                return
        self._tell(self._listener.failed, broker_error(error, doing), False)

    def _end(self, error: KafkaError, doing: str) -> None:
        """The client is of no use any more: comes a new one, or is it over?"""
        if not self._owned and self._joining.again(root_name(error)):
            self._connect_again()
            return
        self._unusable = broker_error(error, doing)
        self._tell(self._listener.failed, self._unusable, True)

    def _tell(self, hear: Callable[..., None], *facts: Any) -> None:
        self._telling_in = threading.get_ident()
        try:
            hear(*facts)
        except BaseException as error:  # noqa: BLE001 - it goes on from `take`, where it belongs
            self._raised = self._raised or error
        finally:
            self._telling_in = None

    def _look_up(self, places: Sequence[Place]) -> list[Assigned]:
        """Committed offsets and ends of partitions.

        Raises:
            BrokerError: no answer, or a refusal.
        """
        try:
            committed = self._consumer.committed(_partitions(places), timeout=5.0)
            return [self._assigned(partition) for partition in committed]
        except KafkaException as error:
            raise broker_error(error, f"looking up offsets of group {self.group}") from error

    def _assigned(self, partition: "TopicPartition") -> Assigned:
        if partition.error is not None:
            raise KafkaException(partition.error)
        low, high = self._consumer.get_watermark_offsets(partition, timeout=5.0)
        return Assigned(
            Place(partition.topic, partition.partition),
            partition.offset if partition.offset >= 0 else None,
            partition.metadata or "",
            low,
            high,
            max(self._counts.get(partition.topic, 0), partition.partition + 1),
        )

    def _commit_blocking(self, offsets: Offsets) -> BrokerError | None:
        began = self._clock.monotonic()
        failure = self._committed_blocking(offsets)
        self._commits.answered(self._clock.monotonic() - began, failure)
        return failure

    def _committed_blocking(self, offsets: Offsets) -> BrokerError | None:
        doing = f"committing for group {self.group}"
        try:
            outcome = self._consumer.commit(offsets=_with_metadata(offsets), asynchronous=False)
        except (KafkaException, RuntimeError) as error:
            failure = broker_error(error, doing)
            failure.__cause__ = error
            return failure
        refused = (partition.error for partition in outcome or () if partition.error is not None)
        first = next(refused, None)
        return None if first is None else broker_error(first, doing)


def _start_of(assigned: Assigned, embedded: bool, group: str) -> int | OffsetLost:
    """Where to start reading, or why not to."""
    place, committed = assigned.place, assigned.committed
    if committed is None:
        if embedded:  # the broker inside the process starts empty: nothing can have been lost
            return assigned.low
        return OffsetLost(
            f"group {group} has no committed offset for {place}, and has some for others: it was lost, or the "
            "topic has grown; end the group's members, and `taskstream init` commits a starting offset "
            "(`--group NAME` for a worker's)"
        )
    if committed < assigned.low:
        return OffsetLost(
            f"group {group} had read {place} up to offset {committed}, and retention has deleted "
            f"everything before {assigned.low}: {assigned.low - committed} records may be lost"
        )
    if committed > assigned.high:
        return OffsetLost(
            f"group {group} had read {place} up to offset {committed}, and the partition ends at "
            f"{assigned.high}: the topic was made anew, or acknowledged records were lost"
        )
    return committed


def _uninitialised(group: str) -> OffsetLost:
    return OffsetLost(
        f"group {group} waits for its starting offsets: it was never initialised, or they have expired; "
        "`taskstream init` commits them (`--group NAME` for a worker's), and creates topics that are missing"
    )


def _run_with_deadline(call: Callable[[], object], timeout: float) -> bool:
    """Whether the call ended in `timeout` seconds; else it is left behind in its thread."""
    thread = threading.Thread(target=call, name="taskstream-kafka-call", daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()


def _places(partitions: Iterable[TopicPartition]) -> list[Place]:
    return [Place(partition.topic, partition.partition) for partition in partitions]


def _partitions(places: Iterable[Place]) -> list[TopicPartition]:
    return [TopicPartition(place.topic, place.partition) for place in places]


def _with_metadata(offsets: Offsets) -> list[TopicPartition]:
    return [
        TopicPartition(place.topic, place.partition, offset, metadata)
        for place, (offset, metadata) in offsets.items()
    ]
