"""Fires schedules: publishes their tasks at their instants, then notes in the schedules topic that it did.

All schedulers follow that topic; the one that owns a certain partition of the shortest delay topic fires a
schedule, so a takeover is a rebalance. No clock, lock or lease decides who may: the id of a firing's task
follows from the schedule's name and its instant, its record goes to one partition, and the worker looks it
up there before it runs. So a scheduler that dies between publishing and noting, or one that was frozen and
goes on, costs a second copy, which is dropped.

Nothing here imports the app's code: a schedule's arguments stand in its record as they will be published.

It has a thread of its own, beside the mover's, whose tasks are not to be late because a store is slow.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from taskstream.broker.cluster import look_at, session_timeout
from taskstream.broker.follow import Follower
from taskstream.broker.group import Assigned
from taskstream.broker.records import Record
from taskstream.broker.sender import Ack, Sender
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.cron import instants
from taskstream.core.envelope import Envelope, Header, Place
from taskstream.core.errors import (
    BrokerError,
    ConfigError,
    MissingExtra,
    PublishError,
    StoreError,
    TaskstreamError,
)
from taskstream.core.faultpoints import AFTER_FIRE, AFTER_NOTE, BEFORE_FIRE, fault_point
from taskstream.core.names import Names
from taskstream.core.schedule import (
    MOST,
    Firings,
    Rules,
    Schedule,
    admit,
    fired,
    newer,
    release,
    task_id,
)
from taskstream.core.settings import Settings
from taskstream.core.tiers import TIERS
from taskstream.observability import logs, table, tracing
from taskstream.observability.metrics import Metrics
from taskstream.producer.delivery import Delivery
from taskstream.producer.producer import Publisher
from taskstream.producer.routing import Fired, PublishRequest, partition_for
from taskstream.results.open import open_store
from taskstream.results.row import current
from taskstream.results.store import ResultStore
from taskstream.schemas.records import Records
from taskstream.schemas.schedules import Book, record_of

LATE = 1.0
"""Seconds after its instant from which on a firing is said to be late."""

AGAIN_AFTER = 1.0
"""Seconds before what Kafka did not take is tried again."""

UNREADABLE_FOR = 60.0
"""Seconds before a schedule whose times can't be read is looked at again."""

FIRST_ASK = 0.5
"""Seconds after a firing until the store is asked whether its task has ended; doubled each time."""

WAITED_FOR = 1.0
"""The longest such pause while another firing waits for that end."""

LAST_ASK = 10.0
"""The longest such pause else."""

LONGEST_REST = 60.0
"""Seconds after which it looks up, though nothing is due."""

HAND_OVER_WITHIN = 5.0
"""Seconds that a rebalance waits for what is being fired."""

_NEVER = float("inf")

_log = logs.logger(__name__)


@dataclass(slots=True)
class Asking:
    """When the store is asked again whether the last firing has ended. Seconds since 1970.

    Args:
        asked: when it was asked last.
        pause: until it is asked again.
    """

    asked: float = 0.0
    pause: float = 0.0

    @property
    def at(self) -> float:
        """When it is asked again."""
        return self.asked + self.pause

    def is_due(self, now: float, *, waited_for: bool) -> bool:
        """Whether to ask now: sooner where an instant waits for the answer, but never at once again."""
        return now >= (min(self.at, self.asked + FIRST_ASK) if waited_for else self.at)

    def again(self, now: float, *, waited_for: bool) -> "Asking":
        """After an answer that it has not ended."""
        longest = WAITED_FOR if waited_for else LAST_ASK
        return Asking(now, min(longest, max(FIRST_ASK, 2 * self.pause)))


@dataclass(slots=True, eq=False)
class _Work:
    """One schedule that is looked at in this turn.

    Args:
        schedule: the schedule.
        known: what was known of its firings.
        firings: what is to be noted.
        owed: whether that must be noted though nothing has changed.
        instants: what fires.
        deliveries: of these.
        look_at: when to look again, where something went wrong.
    """

    schedule: Schedule
    known: Firings
    firings: Firings
    owed: bool = False
    instants: tuple[float, ...] = ()
    deliveries: list[Delivery] = field(default_factory=list)
    look_at: float | None = None

    def give_up(self, look_at: float) -> None:
        """Leaves all as it was: the same is found due again."""
        self.firings, self.instants, self.look_at = self.known, (), look_at


class Firing:
    """Fires the schedules of those partitions that are ours.

    Args:
        names: the app's.
        settings: where Kafka and the result store are.
        client_id: how the broker's logs call us.
        metrics: where firings are counted; None for a place of its own.
        clock: the time.
        open_store: opens the result store, once it is needed.
    """

    def __init__(
        self,
        names: Names,
        settings: Settings,
        *,
        client_id: str,
        metrics: Metrics | None = None,
        clock: Clock = SYSTEM_CLOCK,
        open_store: Callable[[Settings], ResultStore | None] = open_store,
    ) -> None:
        self._names = names
        self._settings = settings
        self._client_id = client_id
        self._metrics = metrics or Metrics()
        self._lateness = self._metrics.histogram(table.SCHEDULE_LATENESS)
        self._clock = clock
        self._open_store = open_store
        self._me = f"{socket.gethostname()}-{os.getpid()}"
        self._records = Records()
        self._rules = Rules(takeover=0.0, horizon=settings.result_ttl / 2)
        # Held for a moment: what three threads share.
        self._lock = threading.Lock()
        self._book = Book()
        self._caught_up = False
        self._partitions: set[int] = set()
        self._count = 1
        self._looks: dict[str, float] = {}
        self._owed: set[str] = set()
        # Held while a turn lasts: who gives partitions up waits for its end.
        self._turning = threading.Lock()
        self._asking: dict[str, Asking] = {}
        self._told: dict[str, str] = {}
        # The trace of the last firing of each schedule, as far as this process has fired it.
        self._traces: dict[str, tuple[Header, ...]] = {}
        self._store: ResultStore | None = None
        self._opened: tuple[Publisher, Sender] | None = None
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskstream-fire", daemon=True)
        self._follower = Follower(settings, names.schedules, self._hear, client_id=client_id)

    def start(self) -> None:
        """Begins to read and to fire."""
        self._follower.start()
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Ends it; what is due is fired by whoever comes next."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._follower.close(timeout)
        if self._opened is not None:
            for client in self._opened:
                client.close(timeout)
        if self._store is not None:
            self._store.close()

    # What the mover's thread tells.

    def assigned(self, partitions: Sequence[Assigned]) -> None:
        """Fires the schedules of these partitions from now on."""
        ours = [one for one in partitions if one.place.topic == self._names.delay(TIERS[0])]
        if not ours:
            return
        with self._lock:
            self._partitions.update(one.place.partition for one in ours)
            self._count = ours[0].count
            self._looks.clear()
        self._wake.set()

    def given_up(self, places: Iterable[Place]) -> None:
        """Fires those of these partitions no more; waits for what is being fired, for a while."""
        topic = self._names.delay(TIERS[0])
        gone = {place.partition for place in places if place.topic == topic}
        with self._lock:
            if not gone & self._partitions:
                return
            self._partitions -= gone
        if self._turning.acquire(timeout=HAND_OVER_WITHIN):
            self._turning.release()

    # What the reading thread tells.

    def _hear(self, batch: Sequence[Record], caught_up: bool) -> None:
        with self._lock:
            heard = self._book.hear(self._records, batch)
            self._caught_up = caught_up
            others = {name for name in heard.told if self._book.firings[name].owner != self._me}
            # The last word on a key is what remains of it: an earlier owner's late one must not be.
            self._owed |= {name for name, told in heard.outdated.items() if told.owner != self._me}
            for name in heard.changed | others | self._owed:
                self._looks.pop(name, None)
        self._wake.set()

    # The thread that fires.

    def _run(self) -> None:
        self._rules = replace(self._rules, takeover=self._takeover())
        while not self._closing:
            self._wake.clear()
            try:
                rest = self._turn()
            except Exception as error:  # noqa: BLE001 - a bug must not end all schedules in silence
                _log.error(
                    "schedules could not be looked at",
                    error=f"{type(error).__name__}: {error}",
                    advice=logs.LOOK_AT_KAFKA,
                )
                rest = AGAIN_AFTER
            self._wake.wait(rest)

    def _takeover(self) -> float:
        """How late a firing may be because of a takeover: twice what a dead member is waited for, and more."""
        try:
            cluster = None if self._settings.embedded else look_at(self._settings)
        except TaskstreamError:
            cluster = None
        return 60.0 + 2 * session_timeout(self._settings, cluster)

    def _turn(self) -> float:
        """Fires what is due; returns for how many seconds nothing will be."""
        with self._turning:
            now = self._clock.now()
            works = self._due(now)
            if works:
                self._go_through(works, now)
                self._take_note(works, now)
        with self._lock:
            self._forget_removed()
            if not self._caught_up or not self._partitions:
                return LONGEST_REST
            ours = [
                self._looks.get(name, 0.0) for name in self._book.schedules if self._is_ours(name)
            ]
        return max(0.0, min(LONGEST_REST, min(ours, default=_NEVER) - self._clock.now()))

    def _forget_removed(self) -> None:
        """Nothing is kept of schedules that are no more: programs make up names as they run."""
        schedules = self._book.schedules
        kept: tuple[dict[str, Any], ...] = (self._looks, self._asking, self._told, self._traces)
        for known in kept:
            if len(known) > len(schedules):
                for name in known.keys() - schedules.keys():
                    del known[name]

    def _due(self, now: float) -> list[_Work]:
        with self._lock:
            if not self._caught_up:
                return []
            return [
                _Work(schedule, known, known, owed=name in self._owed)
                for name, schedule in self._book.schedules.items()
                if self._is_ours(name) and self._looks.get(name, 0.0) <= now
                for known in (self._book.firings.get(name, Firings(name=name)),)
            ]

    def _is_ours(self, name: str) -> bool:
        return partition_for(name.encode(), self._count) in self._partitions

    def _go_through(self, works: Sequence[_Work], now: float) -> None:
        for work in works:
            self._admit(work, now)
        self._learn_ends(works, now)
        for work in works:
            if work.look_at is None:
                work.instants, work.firings = release(work.schedule, work.firings)
        firing = [work for work in works if work.instants]
        if firing:
            fault_point(BEFORE_FIRE)
            self._publish(firing, now)
            fault_point(AFTER_FIRE)
        self._note([work for work in works if work.owed or work.firings != work.known], now)
        if firing:
            fault_point(AFTER_NOTE)

    def _admit(self, work: _Work, now: float) -> None:
        try:
            work.firings = admit(work.schedule, work.known, now, self._rules)
        except (ConfigError, MissingExtra) as error:
            self._tell(
                work.schedule.name, "a schedule's times can't be read; it does not fire", error
            )
            work.give_up(now + UNREADABLE_FOR)

    def _learn_ends(self, works: Sequence[_Work], now: float) -> None:
        """Asks the store about last firings whose end matters, all in one read."""
        asked = {}
        for work in works:
            if work.schedule.overlap == "allow" or not work.firings.busy:
                continue
            waited_for = bool(work.firings.pending)
            asking = self._asking.get(work.schedule.name, Asking())
            if asking.is_due(now, waited_for=waited_for):
                asked[work.firings.last_id] = work
                self._asking[work.schedule.name] = asking.again(now, waited_for=waited_for)
        if not asked:
            return
        try:
            rows = self._results().read_many(list(asked))
        except (StoreError, MissingExtra, ConfigError) as error:
            for work in asked.values():
                self._tell(
                    work.schedule.name,
                    "whether its last firing has ended can't be read; it waits",
                    error,
                )
            return
        for found_id, work in asked.items():
            row = current(rows[found_id])
            if row is not None and row.state.final:
                work.firings = replace(
                    work.firings, ended=row.finished or now, ended_as=row.state.value
                )
            elif (work.firings.fired or 0.0) < now - self._rules.horizon:
                # Whatever became of it, nothing will be written of it any more.
                work.firings = replace(work.firings, ended=now, ended_as="unknown")

    def _results(self) -> ResultStore:
        if self._store is None:
            self._store = self._open_store(self._settings)
        if self._store is None:
            raise ConfigError(
                "overlap=skip and overlap=queue need a result store, and none is configured: set "
                "cassandra_hosts (TASKSTREAM_CASSANDRA_HOSTS)"
            )
        return self._store

    def _publish(self, firing: Sequence[_Work], now: float) -> None:
        """Publishes what fires, and waits until Kafka has acknowledged it."""
        publisher, _ = self._clients()
        for work in firing:
            try:
                work.deliveries = [
                    self._fire(publisher, work.schedule, instant, now) for instant in work.instants
                ]
            except (PublishError, ConfigError) as error:
                self._fail(work, error, now)
        for work in firing:
            try:
                for delivery in work.deliveries:
                    delivery.wait()
            except PublishError as error:
                self._fail(work, error, now)
            else:
                if work.instants:
                    self._succeed(work, now)

    def _fire(
        self, publisher: Publisher, schedule: Schedule, instant: float, now: float
    ) -> Delivery:
        delivery = publisher.publish(
            _request(schedule, self._names, instant, now, self._traces.get(schedule.name, ()))
        )
        self._traces[schedule.name] = delivery.trace
        return delivery

    def _fail(self, work: _Work, error: TaskstreamError, now: float) -> None:
        self._tell(work.schedule.name, "a schedule could not fire; it is tried again", error)
        self._metrics.counter(table.SCHEDULE_FAILURES, schedule=work.schedule.name).inc()
        work.give_up(now + AGAIN_AFTER)

    def _succeed(self, work: _Work, now: float) -> None:
        name = work.schedule.name
        self._told.pop(name, None)
        self._asking[name] = Asking(now, FIRST_ASK)
        for instant in work.instants:
            work.firings = fired(work.firings, self._names.app, instant, now)
            self._metrics.counter(table.SCHEDULES_FIRED, schedule=name).inc()
            self._lateness.observe(max(0.0, now - instant))
            _log.debug("a schedule fired", schedule=name, task_id=work.firings.last_id)
        late = [instant for instant in work.instants if now - instant > LATE]
        if late:
            _log.warning(
                "a schedule fired late",
                schedule=name,
                count=len(late),
                late=round(now - late[0], 3),
                last_id=work.firings.last_id,
                advice="nothing, if schedulers were down or Kafka away at that time; more "
                "schedulers take over faster",
            )

    def _note(self, works: Sequence[_Work], now: float) -> None:
        """Writes what has become of firings, and waits until Kafka has acknowledged it."""
        outcomes: list[tuple[_Work, Future[None]]] = []
        for work in works:
            work.firings = replace(
                work.firings, number=max(work.known.number, work.firings.number) + 1, owner=self._me
            )
            outcomes.append((work, self._write(work.firings)))
            if work.firings.skipped > work.known.skipped:
                self._metrics.counter(
                    table.SCHEDULES_SKIPPED,
                    schedule=work.schedule.name,
                    reason=work.firings.skipped_why,
                ).inc(work.firings.skipped - work.known.skipped)
                _log.info(
                    "firings were passed over", schedule=work.schedule.name,
                    count=work.firings.skipped - work.known.skipped, why=work.firings.skipped_why,
                )  # fmt: skip
        for work, outcome in outcomes:
            try:
                outcome.result()  # the sender reports on each, in `publish_timeout` at most
                work.owed = False
                self._owed.discard(work.schedule.name)
            except BrokerError as error:
                self._tell(
                    work.schedule.name, "what a schedule has fired could not be noted; it is tried again",
                    error,
                )  # fmt: skip
                self._metrics.counter(table.SCHEDULE_FAILURES, schedule=work.schedule.name).inc()
                work.owed, work.look_at = True, now + AGAIN_AFTER

    def _write(self, firings: Firings) -> "Future[None]":
        _, sender = self._clients()
        outcome: Future[None] = Future()
        key, value = record_of(self._records, firings)
        try:
            sender.send(
                self._names.schedules, value, key=key, headers=[], on_done=partial(_settle, outcome)
            )
        except BrokerError as error:
            outcome.set_exception(error)
        return outcome

    def _take_note(self, works: Sequence[_Work], now: float) -> None:
        """Keeps what has become of this turn's schedules, and when to look at each again."""
        looks = {work.schedule.name: self._next_look(work, now) for work in works}
        with self._lock:
            for work in works:
                name = work.schedule.name
                if newer(work.firings, self._book.firings.get(name)):
                    self._book.firings[name] = work.firings
                if work.owed:
                    self._owed.add(name)
                if self._book.schedules.get(name) is work.schedule:  # else it was changed meanwhile
                    self._looks[name] = looks[name]

    def _next_look(self, work: _Work, now: float) -> float:
        if work.look_at is not None:
            return work.look_at
        schedule, firings = work.schedule, work.firings
        if not schedule.fires:
            return _NEVER
        look = _NEVER
        if len(firings.pending) < MOST:
            start = max(firings.seen, schedule.since, now - self._rules.horizon)
            look = next(instants(schedule.when, start), _NEVER)
        if firings.busy and schedule.overlap != "allow":
            look = min(look, self._asking.get(schedule.name, Asking()).at)
        return look

    def _clients(self) -> tuple[Publisher, Sender]:
        """The clients that write, made when the first schedule fires: most schedulers have none."""
        if self._opened is None:
            try:
                tracing.setup(self._settings.otlp_endpoint, f"{self._names.app}-scheduler")
            except MissingExtra as error:
                _log.info("traces are not sent", reason=str(error))
            self._opened = (
                Publisher(
                    self._settings,
                    self._names,
                    client_id=self._client_id,
                    metrics=self._metrics,
                    role="firings",
                    clock=self._clock,
                ),
                Sender(
                    self._settings,
                    client_id=self._client_id,
                    metrics=self._metrics,
                    role="notes",
                    clock=self._clock,
                ),
            )
        return self._opened

    def _tell(self, name: str, what: str, error: TaskstreamError) -> None:
        """Says of a schedule what is wrong, once until it is something else."""
        if self._told.get(name) != str(error):
            self._told[name] = str(error)
            _log.error(
                what,
                schedule=name,
                error=str(error),
                advice=f"look at it: `taskstream schedules list APP --json`, and add it again where {name} is wrong",
            )


def _request(
    schedule: Schedule, names: Names, instant: float, now: float, last: tuple[Header, ...]
) -> PublishRequest:
    """The task of one firing; whoever fires the same instant makes the same, but for its trace."""
    envelope = Envelope(
        task=schedule.task,
        id=task_id(names.app, schedule.name, instant),
        priority=schedule.priority,
        published=now,
        expires=None if schedule.expires is None else instant + schedule.expires,
        lookup=True,
    )
    topic = names.tasks(schedule.queue, schedule.priority)
    return PublishRequest(
        topic, schedule.value, envelope, schedule.key, fired=Fired(schedule.name, last)
    )


def _settle(outcome: "Future[None]", _ack: Ack | None, error: BrokerError | None) -> None:
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)
