"""The mover: takes records from the delay topics and brings them home when they are due.

Beside it, in a thread of its own, `firing` fires the schedules of the partitions that are ours.

A record's offset is finished only when Kafka has acknowledged its next stop. A crash in between
moves it twice; both copies have the same identity and come to the same partition of the same topic,
where the worker's look-up drops the second. Never early: the due time is checked here, and again by
the worker's own clock.

Any number of these may run: they are one consumer group, and partitions are shared.
"""

import itertools
import os
import socket
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from taskstream._version import __version__
from taskstream.broker.failures import RecordTooLarge, UnknownTopic
from taskstream.broker.group import Assigned, GroupConsumer
from taskstream.broker.offset_codec import decode, encode
from taskstream.broker.offsets import Progress, Tracker
from taskstream.broker.records import Record
from taskstream.broker.sender import Ack, Sender
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import HEADER_ROOM_BYTES, Death, Place, bury, enter, peek, stay_of
from taskstream.core.errors import BrokerError, MissingExtra, TaskstreamError, Undecodable
from taskstream.core.faultpoints import (
    AFTER_MOVE,
    AFTER_MOVER_COMMIT,
    BEFORE_MOVE,
    BEFORE_MOVER_COMMIT,
    fault_point,
)
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.core.states import State
from taskstream.observability import logs, table, tracing
from taskstream.observability.metrics import Metrics, Reading
from taskstream.scheduler.due import (
    AHEAD,
    Heap,
    Load,
    Move,
    Slim,
    Waiting,
    full,
    is_free,
    next_move,
    shares,
    take_limit,
)
from taskstream.scheduler.firing import Firing
from taskstream.scheduler.retention import flaws
from taskstream.schemas.control import ControlTopic, Heard
from taskstream.schemas.records import Records

COMMIT_WINDOW = 1000
"""How many unmoved records a commit's metadata lists at most; more are simply moved again."""

COMMIT_EVERY = 0.25
"""Seconds between commits while anything changes."""

COMMITS = 4
"""Of how many partitions one turn commits: what is told of thousands that wait takes a millisecond each."""

POLL = 0.1
"""The longest wait for the first record, in seconds: what an acknowledgement waits for at most."""

HOP_LINGER_MS = 20
"""Milliseconds for which a hop waits for others to go with it; it has half a second left at least."""

TICK = 0.002
"""The shortest wait, in seconds: what comes due within it moves together, instead of each in a turn of its own."""

WEIGH_EVERY = 0.25
"""Seconds between two looks at what is paused, where nothing but the time has changed."""

IDLE_POLL = 0.5
"""The same where nothing is waited for but records: what a stop waits for at most."""

FETCH_WAIT = 0.5
"""What a partition that was full waits for at most when it goes on: half its share of the heap is left then."""

HOMELESS_PATIENCE = 600.0
"""Seconds for which Kafka may not know where a task is to go, before it goes to the dead letters."""

HOME, TIER, DEAD = "home", "tier", "dead"
"""Where a record may be moved to, for the metrics."""

SEND_AGAIN = 1.0
"""Seconds before a move that Kafka did not take is tried again."""

_log = logs.logger(__name__)


@dataclass(slots=True, eq=False)
class _Partition:
    span: float
    epoch: int
    tracker: Tracker
    size_bytes: int = 0
    leaves: float = 0.0
    """When the last record that was read of it leaves, at the latest; only where its tier has a span."""
    sent: Progress | None = None
    stored: Progress | None = None

    @property
    def in_hand(self) -> Load:
        """What was read of it and is not moved yet."""
        return Load(self.tracker.in_hand, self.size_bytes)

    @property
    def progress(self) -> Progress:
        """What to commit now."""
        return _short(self.tracker.progress(0))

    @property
    def last_commit(self) -> tuple[int, str]:
        """The same as a commit's offset and metadata."""
        return self.progress.watermark, encode(self.progress)


@dataclass(frozen=True, slots=True)
class _Moved:
    waiting: Waiting
    to: str
    error: BrokerError | None


class Scheduler:
    """Moves due tasks home. `run` belongs to one thread; `stop` may be called from any.

    Args:
        app: the app's name.
        settings: where Kafka is.
        metrics: where things are counted.
        clock: the time.

    Attributes:
        metrics: as given.
        turns: how often its loop has come round.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        app: str,
        settings: Settings,
        clock: Clock = SYSTEM_CLOCK,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics = metrics or Metrics()
        self.turns = 0
        self._moves = {to: metrics.counter(table.MOVED, to=to) for to in (HOME, TIER, DEAD)}
        metrics.gauge(table.DELAYED, self._delayed)
        metrics.gauge(table.INFO, lambda: {(table.SCHEDULER_ROLE, app, __version__): 1})
        self._names = Names(app)
        self._spans = self._names.delays
        self._settings = settings
        self._clock = clock
        self._stopping = threading.Event()
        self._heap = Heap()
        self._slim = Slim()
        self._partitions: dict[Place, _Partition] = {}
        self._shares: dict[Place, Load] = {}
        # What has changed since it was looked at, for most of the time nothing has: what is read,
        # given out or ours; and the partitions whose progress no commit may say yet.
        self._loads_changed = True
        self._limit = 1
        self._uncommitted: set[Place] = set()
        self._moved: deque[_Moved] = deque()
        self._debugging = _log.debugging
        self._again: deque[tuple[float, Waiting]] = deque()
        self._epochs = itertools.count(1)
        self._commit_at = 0.0
        self._to_commit: deque[Place] = deque()
        self._weigh_at = 0.0
        self._fatal: BrokerError | None = None
        name = self._client_id = f"{socket.gethostname()}-{os.getpid()}-scheduler"
        self._heard: deque[Heard] = deque()
        self._orders = ControlTopic(
            settings, self._names, self._heard.append, client_id=name, records=Records()
        )
        self._sender = Sender(
            settings, client_id=name, room_bytes=HEADER_ROOM_BYTES, metrics=metrics, role="moves"
        )
        patient = replace(settings, kafka={"linger.ms": HOP_LINGER_MS, **settings.kafka})
        self._hopper = Sender(
            patient,
            client_id=f"{name}-hops",
            room_bytes=HEADER_ROOM_BYTES,
            metrics=metrics,
            role="hops",
        )
        self._firing = Firing(self._names, settings, client_id=name, metrics=metrics, clock=clock)
        self._consumer = GroupConsumer(
            settings,
            group=self._names.scheduler_group,
            topics=list(self._spans),
            client_id=name,
            listener=self,
            fetch_wait=FETCH_WAIT,
            metrics=metrics,
            role="delays",
            clock=clock,
        )

    def run(self) -> None:
        """Moves until it is stopped.

        Raises:
            BrokerError: Kafka refuses to go on.
        """
        self._orders.start()
        self._firing.start()
        threading.Thread(
            target=self._check_topics, name="taskstream-retention", daemon=True
        ).start()
        try:
            while not self._stopping.is_set() and self._fatal is None:
                self._turn()
        finally:
            self._close()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Ends `run` soon; what waits here is found again by whoever comes next."""
        self._stopping.set()

    def _check_topics(self) -> None:
        """Says what would lose tasks. They are moved all the same: to stand still would lose more."""
        try:
            with Topics(self._settings, client_id=self._client_id) as topics:
                configs = topics.configs(list(self._spans))
        except TaskstreamError as error:
            _log.warning(
                "the settings of the delay topics can't be read: whether they keep tasks for long enough "
                "is not known",
                error=str(error),
                advice="allow DESCRIBE_CONFIGS on the delay topics, or look yourself: "
                "`taskstream doctor APP`",
            )
            return
        for flaw in flaws(self._spans, configs, self._settings.retention):
            say = _log.error if flaw.loses else _log.warning
            loses = "loses tasks" if flaw.loses else "may lose tasks"
            say(f"a delay topic {loses}", topic=flaw.topic, what=flaw.what, advice=flaw.advice)

    @property
    def not_ready(self) -> list[str]:
        """Why it moves nothing now; empty if it does. From any thread."""
        problems = [] if self._partitions else ["no partition of the delay topics is ours"]
        return problems + ([] if self._orders.caught_up else ["orders are not read to their end"])

    def _delayed(self) -> Reading:
        """What waits in our partitions of each delay topic, as far as the last fetch knows."""
        ends = self._consumer.watermarks()
        waiting: Counter[str] = Counter()
        for place, partition in list(self._partitions.items()):
            unread = ends.get(place, (0, 0))[1] - partition.tracker.position
            waiting[place.topic] += partition.tracker.in_hand + max(0, unread)
        return {(topic,): number for topic, number in waiting.items()}

    def _turn(self) -> None:
        self.turns += 1
        records = self._consumer.take(self._limit, self._wait())
        now = self._clock.now()
        for record in records:
            self._arrive(record, now)
        self._obey()
        self._settle()
        now = self._clock.now()
        for waiting in self._heap.pop_due(now):
            self._move(waiting, now)
        self._send_again()
        monotonic = self._clock.monotonic()
        if self._loads_changed or (self._consumer.paused and monotonic >= self._weigh_at):
            self._weigh_at = monotonic + WEIGH_EVERY
            self._weigh_loads(now)
        self._commit(monotonic)

    def _wait(self) -> float:
        """Seconds until something is due; a record that arrives ends the wait."""
        next_at = 0.0 if self._to_commit else self._heap.next_at
        if next_at is None:
            return POLL if self._uncommitted or self._again else IDLE_POLL
        left = next_at - self._clock.now()
        return 0.0 if left <= 0 else min(POLL, max(TICK, left))

    def _obey(self) -> None:
        """Brings home what was cancelled or purged, and what no order holds back any more.

        What was ordered before a record waited here is seen when it arrives.
        """
        before = (self._orders.control.queues, self._orders.caught_up)
        while self._heard:
            cancelled = self._orders.take(self._heard.popleft())
            if cancelled:
                self._heap.hurry(cancelled)
        self._orders.control.expire(self._clock.now())
        if before != (self._orders.control.queues, self._orders.caught_up):
            self._heap.free(self._is_free)

    def _is_free(self, record: Record, home: Place | None) -> bool:
        orders = self._orders
        # Before all orders are known, each record that one of them holds back would seem to be free.
        return orders.caught_up and is_free(record, home, orders.control.queues, self._names)

    def _arrive(self, record: Record, now: float) -> None:
        place = Place(record.topic, record.partition)
        partition = self._partitions.get(place)
        if partition is None or not partition.tracker.deliver(record.offset):
            return
        partition.size_bytes += record.size_bytes
        if partition.span:
            partition.leaves = record.timestamp + partition.span
        self._note_change(place)
        control = self._orders.control
        try:
            stay = stay_of(record.headers)
            why = "" if stay.home is not None else "a delay topic holds a record without ts-home"
        except Undecodable as error:
            why = str(error)
        if why:
            _log.error(
                "a delay topic holds what is no task of ours",
                source=record.source,
                error=why,
                advice="nothing: it becomes a dead letter; see `taskstream dead list APP` for "
                "who wrote it",
            )
            self._heap.push_refused(record, why, epoch=partition.epoch)
        else:
            if self._is_free(record, stay.home):
                stay = stay._replace(due=0.0)
            self._heap.push(
                self._slim(record),
                stay,
                span=partition.span,
                epoch=partition.epoch,
                now=now,
                cancelled=control.cancels_any and control.is_cancelled(*record.identity),
            )

    def _move(self, waiting: Waiting, now: float) -> None:
        record = waiting.record
        if waiting.refused or waiting.home is None:
            reason = "Undecodable" if waiting.home is None else "Undeliverable"
            death = Death(reason, waiting.refused[:8000], record.source, now)
            move = Move(self._names.dead, None, home=False)
            span = self._burying(record, reason)
            headers = bury(record.headers, death, span.headers)
        else:
            move, span = next_move(waiting, self._names, now), None
            headers = enter(record.headers, record.timestamp)
        to = DEAD if move.topic == self._names.dead else HOME if move.home else TIER

        def done(ack: Ack | None, error: BrokerError | None) -> None:
            if span is not None and ack is not None:
                span.acknowledged(ack.partition, ack.offset)
            elif span is not None:
                span.failed(error or BrokerError("no acknowledgement"))
            self._moved.append(_Moved(waiting, to, error))

        fault_point(BEFORE_MOVE)
        try:
            sender = self._sender if move.home or waiting.refused else self._hopper
            sender.send(
                move.topic,
                record.value,
                key=record.key,
                headers=headers,
                on_done=done,
                partition=-1 if move.partition is None else move.partition,
                timeout=0,
            )
        except BrokerError as error:
            done(None, error)

    def _burying(self, record: Record, reason: str) -> tracing.PublishSpan:
        """The span of a dead letter that no attempt came before."""
        with suppress(MissingExtra):  # then it passes on the trace that the record came with
            tracing.setup(self._settings.otlp_endpoint, f"{self._names.app}-scheduler")
        known = peek(record.headers)
        return tracing.publish_span(
            self._names.dead,
            task=known.task,
            task_id=known.task_id.decode(errors="replace"),
            key=None if record.key is None else record.key.decode(errors="replace"),
            parent=record.headers,
            about=partial(tracing.task_attributes, State.DEAD, reason=reason),
            keep=True,
        )

    def _settle(self) -> None:
        """Finishes the offsets of what Kafka has acknowledged since."""
        while self._moved:
            moved = self._moved.popleft()
            waiting = moved.waiting
            record = waiting.record
            if moved.error is not None:
                _log.warning(
                    "Kafka did not take a move; it is tried again",
                    source=record.source,
                    error=str(moved.error),
                    advice=logs.LOOK_AT_KAFKA,
                )
                again = self._weighed(waiting, moved.error)
                self._again.append((self._clock.monotonic() + SEND_AGAIN, again))
                continue
            fault_point(AFTER_MOVE)
            self._moves[moved.to].inc()
            if self._debugging:
                home = waiting.home if waiting.may_leave(self._clock.now()) else None
                _log.debug("a task leaves a delay topic", **record.told, home=str(home or ""))
            place = Place(record.topic, record.partition)
            partition = self._partitions.get(place)
            if partition is not None and partition.epoch == waiting.epoch:
                partition.tracker.finish(record.offset)
                partition.size_bytes -= record.size_bytes
                self._note_change(place)

    def _weighed(self, waiting: Waiting, error: BrokerError) -> Waiting:
        """What to try next after a move that Kafka did not take: the same again, or the dead letters."""
        homeless = waiting.homeless or self._clock.now()
        # A broker that comes back from an outage may say for some seconds that it knows no topic.
        hopeless = isinstance(error, UnknownTopic) and (
            self._clock.now() - homeless >= HOMELESS_PATIENCE
        )
        if hopeless or isinstance(error, RecordTooLarge):
            return replace(waiting, refused=str(error))
        return replace(waiting, homeless=homeless if isinstance(error, UnknownTopic) else 0.0)

    def _send_again(self) -> None:
        now = self._clock.monotonic()
        while self._again and self._again[0][0] <= now:
            self._move(self._again.popleft()[1], self._clock.now())

    def _note_change(self, place: Place) -> None:
        self._loads_changed = True
        self._uncommitted.add(place)

    def _weigh_loads(self, now: float) -> None:
        """Says how much may be read next, and of which partitions nothing."""
        self._loads_changed = False
        in_hand = {place: one.in_hand for place, one in self._partitions.items()}
        paused = self._consumer.paused
        far = {
            place
            for place, one in self._partitions.items()
            if one.leaves - now > (AHEAD / 2 if place in paused else AHEAD)
        }
        now_full = full(in_hand, self._shares, paused, far)
        self._consumer.pause(now_full)
        self._consumer.resume(paused - now_full)
        self._limit = take_limit(in_hand, self._shares)

    def _commit(self, now: float) -> None:
        if now >= self._commit_at and not self._to_commit:
            self._commit_at = now + COMMIT_EVERY
            self._to_commit.extend(self._uncommitted)
        offsets: dict[Place, tuple[int, str]] = {}
        while self._to_commit and len(offsets) < COMMITS:
            place = self._to_commit.popleft()
            partition = self._partitions.get(place)
            if partition is None or place not in self._uncommitted or partition.sent is not None:
                continue  # gone, said, or one at a time
            self._uncommitted.remove(place)
            progress = partition.progress
            if progress != partition.stored:
                partition.sent = progress
                offsets[place] = (progress.watermark, encode(progress))
        if offsets:
            fault_point(BEFORE_MOVER_COMMIT)
            self._consumer.commit(offsets)

    def _close(self) -> None:
        self._firing.close(5.0)
        self._flush()
        self._settle()
        offsets = {place: partition.last_commit for place, partition in self._partitions.items()}
        try:
            self._consumer.commit_now(offsets, 5.0)
        except BrokerError as error:
            _log.warning(
                "the last commit failed; some records are moved again",
                error=str(error),
                advice=logs.LOOK_AT_KAFKA,
            )
        self._consumer.close(5.0)
        self._orders.close(5.0)
        for sender in (self._hopper, self._sender):
            sender.close(5.0)

    def _flush(self) -> None:
        """Waits for what is under way; the hops first, for they wait for company."""
        for sender in (self._hopper, self._sender):
            sender.flush(5.0)

    # What the consumer tells, inside `take`.

    def assigned(self, partitions: Sequence[Assigned]) -> None:
        """Continues where the last commit left off."""
        for one in partitions:
            start = one.low if one.committed is None else one.committed
            progress = decode(start, one.metadata) or Progress.at(start)
            self._partitions[one.place] = _Partition(
                self._spans[one.place.topic], next(self._epochs), Tracker.resume(progress)
            )
            self._uncommitted.add(one.place)
        self._share()
        self._firing.assigned(partitions)

    def revoked(self, places: Sequence[Place]) -> None:
        """Commits what was moved, and forgets the rest."""
        self._firing.given_up(places)
        self._flush()
        self._settle()
        ours = self._partitions
        offsets = {place: ours[place].last_commit for place in places if place in ours}
        self.lost(places)
        try:
            self._consumer.commit_now(offsets, 5.0)
        except BrokerError as error:
            _log.warning(
                "a commit failed; some records are moved again",
                error=str(error),
                advice=logs.LOOK_AT_KAFKA,
            )

    def lost(self, places: Sequence[Place]) -> None:
        """Forgets partitions that have gone."""
        self._firing.given_up(places)
        for place in places:
            self._partitions.pop(place, None)
            self._uncommitted.discard(place)
        self._heap.drop(set(places))
        self._share()

    def _share(self) -> None:
        self._shares = shares({place: one.span for place, one in self._partitions.items()})
        self._loads_changed = True

    def committed(self, error: BrokerError | None, offsets: Mapping[Place, int]) -> None:
        """Notes what is stored."""
        if error is None:
            fault_point(AFTER_MOVER_COMMIT)
        for place in offsets:
            partition = self._partitions.get(place)
            if partition is not None:
                if error is None:
                    partition.stored = partition.sent
                else:
                    self._uncommitted.add(place)
                partition.sent = None
        if error is not None:
            _log.warning(
                "a commit failed; it is repeated", error=str(error), advice=logs.LOOK_AT_KAFKA
            )

    def failed(self, error: BrokerError, fatal: bool) -> None:
        """Ends on a fatal error."""
        _log.error(
            "Kafka reports trouble", fatal=fatal, error=str(error), advice=logs.LOOK_AT_KAFKA
        )
        if fatal:
            self._fatal = error


def _short(progress: Progress) -> Progress:
    """A progress whose list of unfinished offsets fits the metadata.

    A partition may hold ten times as many waiting records as a commit can list. Then the position
    is set back to the first one that isn't listed: what lies behind it is moved again after a crash,
    and dropped at home.
    """
    if len(progress.unfinished) <= COMMIT_WINDOW:
        return progress
    listed = progress.unfinished[:COMMIT_WINDOW]
    return Progress(
        progress.watermark, progress.unfinished[COMMIT_WINDOW], listed, progress.horizon
    )
