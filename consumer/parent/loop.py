"""The parent: one loop that owns Kafka and feeds the children.

A task's way through here: an intake brings its record; its partition's tracker notes it; it waits in
its lane until a child has room, and is given out below the acknowledged horizon only; the child runs
it and stores its row; then what must follow is handed off, and only when Kafka has that, the offset
is finished and may be committed. Each of these is a plain call in this file, in this order.

The loop waits for nothing but its selector: intakes poll in threads of their own, children are
written to as they read, and Kafka reports come in as events. (The exception: the first record to a
topic asks the broker for its partitions.) It never loads user code, so nothing a task does can stop it.
"""

import contextlib
import heapq
import itertools
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from taskstream.broker.records import Record
from taskstream.broker.sender import Sender, unheard
from taskstream.consumer.parent import heartbeat
from taskstream.consumer.parent.children import Child, Children
from taskstream.consumer.parent.handoff import HandedOff, Handoff
from taskstream.consumer.parent.heartbeat import Heartbeat
from taskstream.consumer.parent.intake import (
    Arrived,
    Committed,
    Event,
    Intake,
    IntakeFailed,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
)
from taskstream.consumer.parent.lanes import Entry, Lanes
from taskstream.consumer.parent.partitions import Partition
from taskstream.consumer.pipe import (
    Failure,
    Frame,
    Given,
    Hello,
    Judged,
    Reply,
    Retiring,
    Verdicts,
    pack_given,
)
from taskstream.consumer.verdict import Dead, Done
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import HEADER_ROOM_BYTES, Place, peek
from taskstream.core.errors import BrokerError, ConfigError
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.observability import logs, table, tracing
from taskstream.observability.metrics import Metrics
from taskstream.schemas.records import Records

COMMIT_EVERY = 0.25
"""Seconds between commits while anything changes."""

COMMIT_AGAIN = 5.0
"""Seconds after which everything is committed again, changed or not."""

REVOKE_GRACE = 10.0
"""Seconds that running tasks get to end when their partition goes to another worker."""

HANDOFF_PAUSE = 1.0
"""Seconds before a hand-off that Kafka did not take is tried again."""

EMPTY_AFTER = 2.0
"""Seconds from the start on before `exit_when_empty` believes that there is nothing to do."""

UNASSIGNED_AFTER = 15.0
"""The same where a priority has given us no partition: the group may still be forming."""

CLOSE_WITHIN = 5.0
"""Seconds that each step of the end may take."""

SUSPECT_ALONE = 2
"""After how many dead children a task runs alone."""

_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentOptions:
    """How a worker runs. Times are in seconds.

    Args:
        name: the worker's name, unique in the cluster.
        queue_names: which queues it serves; empty means all of the app's.
        priorities: which of their priorities; empty means all.
        children: how many child processes run async and thread tasks; as many more are started
            for process tasks once the first one comes.
        concurrency: how many tasks one child runs at once.
        group: replaces the app's name in the consumer groups' names.
        drain: how long running tasks may go on after the first stop.
        exit_when_empty: end once every partition of ours is read and finished.
        child_command: arguments that a child is started with.
    """

    name: str
    queue_names: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    children: int = 2
    concurrency: int = 50
    group: str | None = None
    drain: float = 30.0
    exit_when_empty: bool = False
    child_command: tuple[str, ...] = ()


class Parent:
    """A worker's parent process. `run` belongs to one thread; `stop` may be called from any.

    Args:
        options: how it runs.
        clock: the time.
    """

    def __init__(self, options: ParentOptions, clock: Clock = SYSTEM_CLOCK) -> None:
        self._options = options
        self._clock = clock
        self._mailbox: deque[Event | HandedOff] = deque()
        # A plain flag: a signal handler may find any lock held by the very thread it interrupts.
        self._woken = False
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._children = Children(
            list(options.child_command),
            concurrency=options.concurrency,
            selector=self._selector,
            clock=clock,
        )
        self._hello: Hello | None = None
        # Set by `_open`, once the first child has told what the app is.
        self._sender: Sender
        self._handoff: Handoff
        self._heartbeat: Heartbeat
        self._flush_traces: Callable[[], None]
        self._runs_alone: frozenset[str]
        self._intakes: list[Intake] = []
        self._partitions: dict[Place, Partition] = {}
        self._lanes = Lanes({})
        self._alone: deque[Entry] = deque()
        self._not_yet_due: list[tuple[float, int, Entry]] = []
        self._again: list[tuple[float, int, Entry, Judged]] = []
        self._handing_off = 0
        self._revocations: list[tuple[float, PartitionsRevoked]] = []
        self._numbers = itertools.count(1)
        self._epochs = itertools.count(1)
        self._commit_at = 0.0
        self._commit_all_at = 0.0
        self._beat_at = 0.0
        self._opened_at = 0.0
        self._stops = 0
        self._draining = False
        self._drain_until = 0.0
        self._fatal: Exception | None = None
        self.metrics = Metrics()
        self.finished = 0
        self._measure()

    # Public

    def run(self) -> None:
        """Works until it is stopped, or empty where the options say so.

        Raises:
            ConfigError: the app can't be loaded, or what it needs is missing; says what to do.
            BrokerError: a consumer can't go on.
        """
        try:
            while not self._over():
                self._turn()
        finally:
            self._close()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """The first call drains: running tasks end, nothing new starts. The second ends at once."""
        self._stops += 1
        self._wake()

    @property
    def not_ready(self) -> list[str]:
        """Why it does no work now; empty if it does."""
        reasons = []
        if not any(child.ready for child in self._children):
            reasons.append("no child is ready")
        if self._intakes and not self._partitions:
            reasons.append("no partition is assigned")
        if self._stops:
            reasons.append("it is draining")
        return reasons

    def _measure(self) -> None:
        """What a look at /metrics reads, in the thread that serves it."""
        self.metrics.gauge(
            table.WAITING,
            lambda: {tuple(lane.rsplit(".", 1)): count for lane, count in self._lanes.waiting()},
        )
        self.metrics.gauge(
            table.WATERMARK_GAP,
            lambda: {
                (place.topic, str(place.partition)): partition.tracker.gap
                for place, partition in list(self._partitions.items())
            },
        )
        self.metrics.gauge(
            table.SLOTS, lambda: {(): len(self._children) * self._options.concurrency}
        )

    # One turn

    def _turn(self) -> None:
        self._keep_children()
        for key, events in self._selector.select(self._wait()):
            if key.data is None:
                # In this order: whoever finds the flag set between the two does not send, and what
                # it put into the mailbox before is read below; the other way round its byte would
                # be drained, and the flag stay set with nothing to wake the next one.
                _drain(self._wake_in)
                self._woken = False
            elif events & selectors.EVENT_READ:
                self._hear(key.data)
            else:
                self._children.flush(key.data)
        while self._mailbox:
            self._react(self._mailbox.popleft())
        now = self._clock.monotonic()
        self._begin_drain(now)
        self._wake_due()
        self._hand_off_again(now)
        self._give_out()
        self._hold_full()
        self._commit(now)
        self._answer_revocations(now)
        self._beat(now)

    def _wait(self) -> float:
        """Seconds until something is due by time; what comes from outside ends the wait."""
        now, clock_now = self._clock.monotonic(), self._clock.now()
        due = [self._commit_at if self._partitions else now + 1.0, now + 1.0]
        due += [now + (self._not_yet_due[0][0] - clock_now)] if self._not_yet_due else []
        due += [self._again[0][0]] if self._again else []
        due += [until for until, _ in self._revocations]
        due += [self._drain_until if self._draining else now] if self._stops else []
        return max(0.0, min(due) - now)

    def _over(self) -> bool:
        if self._fatal is not None or self._stops >= 2:
            return True
        if self._stops:
            # A signal may come after this turn's look at it: then the drain has not begun.
            drained = self._idle() or self._clock.monotonic() >= self._drain_until
            return self._draining and drained
        return self._options.exit_when_empty and self._empty()

    def _idle(self) -> bool:
        """Whether nothing is with a child or on its way to Kafka."""
        held = any(child.held for child in self._children)
        return not held and not self._again and self._handing_off == 0

    def _empty(self) -> bool:
        """Whether every record of our partitions is finished."""
        waited = self._clock.monotonic() - self._opened_at
        assigned = {partition.intake for partition in self._partitions.values()}
        if not self._intakes or waited < (
            EMPTY_AFTER if len(assigned) == len(self._intakes) else UNASSIGNED_AFTER
        ):
            return False
        ends = {place: end for intake in self._intakes for place, end in intake.ends().items()}
        return all(
            partition.tracker.pending == 0
            and partition.tracker.position >= max(partition.end, ends.get(place, 0))
            for place, partition in self._partitions.items()
        )

    # Children

    def _keep_children(self) -> None:
        for child in self._children:
            if child.process.poll() is not None:
                # A process that it forked may hold its socket open, so that no end is to be read.
                self._hear(child)
                if child.number in self._children:
                    self._bury(child)
        if self._stops:
            return
        for _ in range(self._children.missing(self._options.children)):
            self._children.start()
        if self._alone:
            wanted = min(self._options.children, len(self._alone))
            for _ in range(self._children.missing(wanted, solo=True)):
                self._children.start(solo=True)

    def _hear(self, child: Child) -> None:
        frames = self._children.receive(child)
        if frames is None:
            self._bury(child)
            return
        for frame in frames:
            self._react_to_child(child, frame)

    def _react_to_child(self, child: Child, frame: Frame) -> None:
        match frame:
            case Verdicts(tasks, write_seconds):
                child.depth.finished(len(tasks), write_seconds, self._clock.monotonic())
                for judged in tasks:
                    self._judged(child, judged)
            case Hello():
                child.ready = True
                if self._hello is None:
                    self._open(frame)
            case Failure(message, traceback):
                if self._hello is None:
                    self._fatal = ConfigError(message + (f"\n{traceback}" if traceback else ""))
                else:
                    _log.error("a child can't start", pid=child.pid, error=message)
            case Retiring():
                self._children.retire(child)

    def _bury(self, child: Child) -> None:
        status = self._children.bury(child)
        reason = f"signal {-status}" if status < 0 else f"exit {status}"
        if child.retiring and not child.held:
            return
        _log.warning(
            "a child died; what it held is looked up and run again",
            pid=child.pid, reason=reason, held=len(child.held), ready=child.ready,
        )  # fmt: skip
        self.metrics.counter(table.CHILD_DEATHS, reason=reason).inc()
        for entry in child.held.values():
            if self._startable(entry) is None:
                continue
            entry.lost += 1
            entry.lookup = True
            if entry.lost == SUSPECT_ALONE:
                self._alone.append(entry)
            else:
                self._lanes.push_again(entry)

    # Kafka

    def _open(self, hello: Hello) -> None:
        """The first child has told what the app is: connect to Kafka."""
        settings = Settings(**hello.settings)
        names = Names(hello.app)
        self._flush_traces = tracing.setup(settings.otlp_endpoint, f"{hello.app}-worker")
        served = list(_served(hello.queues, self._options))
        self._sender = Sender(
            settings, client_id=f"{self._options.name}-handoff", room_bytes=HEADER_ROOM_BYTES
        )
        self._handoff = Handoff(self._sender, names, self._tell)
        self._heartbeat = Heartbeat(
            self._sender,
            names,
            Records(),
            self._options.name,
            tuple(dict.fromkeys(queue for queue, _, _ in served)),
            self._clock.now(),
        )
        self._hello = hello  # from here on there is something to close
        self._runs_alone = frozenset(
            name for name, facts in hello.tasks.items() if facts.runs == "process"
        )
        lanes: dict[str, int] = {}
        for queue, priority, weight in served:
            lane = f"{queue}.{priority}"
            lanes[lane] = weight
            self._intakes.append(
                Intake(
                    settings,
                    lane=lane,
                    topic=names.tasks(queue, priority),
                    group=names.group(queue, priority, self._options.group),
                    client_id=f"{self._options.name}-{lane}",
                    tell=self._tell,
                    revoke_wait=REVOKE_GRACE + 5.0,
                    clock=self._clock,
                )
            )
        self._lanes = Lanes(lanes)
        for intake in self._intakes:
            intake.start()
        self._opened_at = self._clock.monotonic()
        _log.info("worker started", worker=self._options.name, app=hello.app, lanes=",".join(lanes))

    def _react(self, event: Event | HandedOff) -> None:
        match event:
            case Arrived(intake, records):
                self.metrics.counter(table.CONSUMED, topic=intake.topic).inc(len(records))
                for record in records:
                    self._arrive(intake, record)
            case HandedOff(entry, judged, error):
                self._handed_off(entry, judged, error)
            case Committed(_, error, offsets):
                self._committed(error, offsets)
            case PartitionsAssigned(intake, partitions):
                for assigned in partitions:
                    self._partitions[assigned.place] = Partition.begin(
                        assigned,
                        epoch=next(self._epochs),
                        intake=intake,
                        fence=int(self._clock.now() * 1e6),
                    )
                self._commit_at = 0.0
            case PartitionsRevoked():
                self._revoke(event)
            case PartitionsLost(_, places):
                self._forget(places)
                _log.warning("partitions lost", places=",".join(map(str, places)))
            case IntakeFailed(intake, error, fatal):
                _log.error(
                    "Kafka reports trouble", topic=intake.topic, fatal=fatal, error=str(error)
                )
                if fatal:
                    self._fatal = error

    def _arrive(self, intake: Intake, record: Record) -> None:
        place = Place(record.topic, record.partition)
        partition = self._partitions.get(place)
        if partition is None or not partition.tracker.deliver(record.offset):
            intake.release(1, record.size_bytes)
            return
        facts = peek(record.headers)
        if facts.group is not None and facts.group != intake.group:
            intake.release(1, record.size_bytes)
            partition.tracker.finish(record.offset)
            return
        entry = Entry(
            next(self._numbers),
            record,
            place,
            partition.epoch,
            intake.lane,
            lookup=facts.lookup or record.offset < partition.inherited,
        )
        if facts.due > self._clock.now():
            heapq.heappush(self._not_yet_due, (facts.due, entry.number, entry))
            self._park(entry)
        elif partition.within_horizon(entry):
            self._queue(entry)

    def _queue(self, entry: Entry) -> None:
        """Puts a task into its lane, to be given out or to wait for its key."""
        if not self._lanes.push(entry):
            self._park(entry)

    def _park(self, entry: Entry) -> None:
        """A task that waits for something else than its turn: others may be taken in past it.

        Its partition's window bounds how many there are; their bytes go on counting.
        """
        self._free_room([entry], keep_bytes=True)

    def _wake_due(self) -> None:
        """Tasks that came home before their due time by our clock: another machine's runs ahead."""
        now = self._clock.now()
        while self._not_yet_due and self._not_yet_due[0][0] <= now:
            entry = heapq.heappop(self._not_yet_due)[2]
            partition = self._startable(entry)
            if partition is None:
                self._free_room([entry])
            elif partition.within_horizon(entry):
                self._queue(entry)

    # Give out

    def _give_out(self) -> None:
        if self._stops:
            return
        self._give_alone()
        shared = sorted(
            (child for child in self._children if not child.solo and child.room > 0),
            key=lambda child: len(child.held),
        )
        for position, child in enumerate(shared):
            ready = self._lanes.ready
            if not ready:
                return
            # An even share each, so that a few tasks don't all end up in one child.
            share = -(-ready // (len(shared) - position))
            self._give(child, self._taken(min(child.room, share)))

    def _taken(self, limit: int) -> list[Entry]:
        """Tasks for a shared child; those that must run alone are put aside."""
        entries = self._lanes.take(limit)
        if not self._runs_alone and not self._alone:
            return entries
        shared = []
        for entry in entries:
            if peek(entry.record.headers).task in self._runs_alone and entry.lost <= SUSPECT_ALONE:
                self._alone.append(entry)
                self._park(entry)
            else:
                shared.append(entry)
        self._give_alone()
        return shared

    def _give_alone(self) -> None:
        if not self._alone:
            return
        for child in self._children:
            while self._alone and child.solo and child.room > 0:
                self._give(child, [self._alone.popleft()])

    def _give(self, child: Child, entries: list[Entry]) -> None:
        now = self._clock.now()
        now_us = int(now * 1e6)
        given = []
        for entry in entries:
            partition = self._startable(entry)
            if partition is None:
                continue
            child.held[entry.number] = entry
            entry.given_at = now
            partition.given_to = max(partition.given_to, entry.record.offset + 1)
            given.append(
                Given(
                    entry.number,
                    entry.record,
                    now_us,
                    partition.fence,
                    partition.intake.group,
                    entry.lookup,
                    entry.lost,
                )
            )
        self._free_room(entries)
        if given:
            self._children.send(child, pack_given(given))

    def _free_room(self, entries: Iterable[Entry], *, keep_bytes: bool = False) -> None:
        """Tells the intakes that there is room again; once for each entry, whatever follows."""
        freed: dict[str, tuple[int, int]] = {}
        for entry in entries:
            records, size_bytes = freed.get(entry.lane, (0, 0))
            records += entry.takes_room
            entry.takes_room = False
            if entry.takes_bytes and not keep_bytes:
                size_bytes += entry.record.size_bytes
                entry.takes_bytes = False
            freed[entry.lane] = (records, size_bytes)
        for intake in self._intakes:
            if intake.lane in freed:
                intake.release(*freed[intake.lane])

    # Judge, hand off, finish

    def _judged(self, child: Child, judged: Judged) -> None:
        entry = child.held.pop(judged.number, None)
        if entry is None or self._current(entry) is None:
            return  # the partition has another owner by now, who finds the row in the store
        queue, priority = entry.lane.rsplit(".", 1)
        state = str(judged.verdict.state)
        self.metrics.counter(table.ATTEMPTS, queue=queue, priority=priority, state=state).inc()
        if isinstance(judged.verdict, Dead):
            self.metrics.counter(table.DEAD, queue=queue, reason=judged.verdict.reason).inc()
        if judged.reply is not None:
            self._reply(judged.task_id, judged.reply)
        if isinstance(judged.verdict, Done):
            self._finish(entry)
        else:
            self._hand_off(entry, judged)

    def _hand_off(self, entry: Entry, judged: Judged) -> None:
        partition = self._partitions[entry.place]
        self._handing_off += 1
        self._handoff.carry_out(entry, judged, group=partition.intake.group, now=self._clock.now())

    def _handed_off(self, entry: Entry, judged: Judged, error: BrokerError | None) -> None:
        self._handing_off -= 1
        if error is None:
            self._finish(entry)
            return
        _log.warning(
            "Kafka did not take a hand-off; it is tried again, and the offset stays open",
            task=judged.task, task_id=judged.task_id, source=entry.record.source, error=str(error),
        )  # fmt: skip
        again_at = self._clock.monotonic() + HANDOFF_PAUSE
        heapq.heappush(self._again, (again_at, entry.number, entry, judged))

    def _hand_off_again(self, now: float) -> None:
        while self._again and self._again[0][0] <= now:
            _, _, entry, judged = heapq.heappop(self._again)
            if self._current(entry) is not None:
                self._hand_off(entry, judged)

    def _finish(self, entry: Entry) -> None:
        partition = self._current(entry)
        if partition is not None:
            partition.tracker.finish(entry.record.offset)
            self._lanes.release(entry)
            self.finished += 1

    def _reply(self, task_id: str, reply: Reply) -> None:
        """Tells those who wait; they also read the store, so a reply may be lost."""
        with contextlib.suppress(BrokerError):
            self._sender.send(
                reply.place.topic,
                reply.value,
                key=task_id.encode(),
                headers=[],
                on_done=unheard,
                partition=reply.place.partition,
                timeout=0,
            )

    # Commit

    def _commit(self, now: float) -> None:
        again = now >= self._commit_all_at
        if now < self._commit_at and not any(
            partition.commit_is_urgent for partition in self._partitions.values()
        ):
            return
        self._commit_at = now + COMMIT_EVERY
        if again:
            self._commit_all_at = now + COMMIT_AGAIN
        for intake in self._intakes:
            offsets = {}
            for place, partition in self._partitions.items():
                if partition.intake is intake and not partition.revoking:
                    commit = partition.commit(full=again)
                    if commit is not None:
                        offsets[place] = commit
            if not offsets:
                continue
            try:
                intake.commit(offsets)
            except BrokerError as error:
                self._committed(error, {place: offset for place, (offset, _) in offsets.items()})

    def _committed(self, error: BrokerError | None, offsets: Mapping[Place, int]) -> None:
        for place in offsets:
            partition = self._partitions.get(place)
            if partition is None:
                continue
            if error is not None:
                partition.refuse()
                continue
            for entry in partition.acknowledge():
                self._queue(entry)
        if error is not None:
            _log.warning(
                "a commit failed; it is repeated",
                places=",".join(map(str, offsets)),
                error=str(error),
            )

    def _hold_full(self) -> None:
        """Tells each intake which of its partitions are full; every turn, because finishing ends it."""
        for intake in self._intakes:
            intake.hold(
                frozenset(
                    place
                    for place, partition in self._partitions.items()
                    if partition.intake is intake and partition.full
                )
            )

    def _beat(self, now: float) -> None:
        if self._hello is not None and now >= self._beat_at:
            self._beat_at = now + heartbeat.EVERY
            held = [entry for child in self._children for entry in child.held.values()]
            self._heartbeat.beat(held, len(self._children), self._clock.now())

    # Rebalance

    def _current(self, entry: Entry) -> Partition | None:
        """The entry's partition, while it is the same assignment."""
        partition = self._partitions.get(entry.place)
        return partition if partition is not None and partition.epoch == entry.epoch else None

    def _startable(self, entry: Entry) -> Partition | None:
        """The same, but for a partition that is being given up: nothing of it may start."""
        partition = self._current(entry)
        return None if partition is None or partition.revoking else partition

    def _revoke(self, event: PartitionsRevoked) -> None:
        """Starts nothing more of these partitions, and lets what runs end within its grace."""
        places = set(event.places)
        self._drop_waiting(places)
        for place in places & self._partitions.keys():
            self._partitions[place].revoking = True
        self._revocations.append((self._clock.monotonic() + REVOKE_GRACE, event))

    def _answer_revocations(self, now: float) -> None:
        for until, event in list(self._revocations):
            places = set(event.places)
            if now < until and self._busy(places):
                continue
            self._revocations.remove((until, event))
            event.offsets = {
                place: self._partitions[place].last_commit()
                for place in places & self._partitions.keys()
            }
            self._forget(places)
            event.answered.set()

    def _busy(self, places: set[Place]) -> bool:
        return any(
            entry.place in places for child in self._children for entry in child.held.values()
        )

    def _forget(self, places: Iterable[Place]) -> None:
        self._drop_waiting(set(places))
        for place in places:
            self._partitions.pop(place, None)

    def _drop_waiting(self, places: set[Place]) -> None:
        """Forgets what was not given out yet; the next owner is given it by Kafka."""
        dropped = self._lanes.drop(places)
        for place in places & self._partitions.keys():
            dropped += self._partitions[place].beyond
            self._partitions[place].beyond.clear()
        dropped += (entry for entry in self._alone if entry.place in places)
        self._alone = deque(entry for entry in self._alone if entry.place not in places)
        dropped += (entry for _, _, entry in self._not_yet_due if entry.place in places)
        self._not_yet_due = [one for one in self._not_yet_due if one[2].place not in places]
        heapq.heapify(self._not_yet_due)
        self._free_room(dropped)

    # End

    def _begin_drain(self, now: float) -> None:
        if self._stops and not self._draining:
            self._draining = True
            _log.info(
                "draining: what runs may end, nothing new starts", seconds=self._options.drain
            )
            self._drain_until = now + self._options.drain
            for intake in self._intakes:
                intake.stop_taking()

    def _close(self) -> None:
        """Commits what is finished and leaves the groups; then the children end."""
        if self._stops >= 2 or not self._idle():
            # Before the groups are left: what runs must not go on beside its next owner's copy.
            self._children.kill()
        for child in self._children:
            self._children.retire(child)
        for intake in self._intakes:
            offsets = {
                place: partition.last_commit()
                for place, partition in self._partitions.items()
                if partition.intake is intake
            }
            failure = intake.close(offsets, CLOSE_WITHIN)
            if failure is not None:
                _log.warning("the last commit failed", topic=intake.topic, error=str(failure))
        if self._hello is not None:
            self._heartbeat.leave()
            self._sender.close(CLOSE_WITHIN)
            self._flush_traces()
        self._end_children()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _end_children(self) -> None:
        until = self._clock.monotonic() + CLOSE_WITHIN
        while len(self._children) and self._clock.monotonic() < until:
            for key, events in self._selector.select(0.1):
                if key.data is None:
                    _drain(self._wake_in)
                elif events & selectors.EVENT_WRITE:
                    self._children.flush(key.data)
                elif self._children.receive(key.data) is None:
                    self._children.bury(key.data)
        self._children.kill()

    # Events from other threads

    def _tell(self, event: Event | HandedOff) -> None:
        self._mailbox.append(event)
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            with contextlib.suppress(
                OSError
            ):  # full: it will wake; closed: there is nobody to wake
                self._wake_out.send(b"x")


def _served(
    queues: Mapping[str, Mapping[str, int]], options: ParentOptions
) -> Iterator[tuple[str, str, int]]:
    """Which queues and priorities this worker serves, and their weights.

    Raises:
        ConfigError: an option names a queue or priority that the app doesn't have.
    """
    for name in options.queue_names:
        if name not in queues:
            raise ConfigError(f"--queues: the app has no queue {name!r}, only {', '.join(queues)}")
    known = {priority for priorities in queues.values() for priority in priorities}
    for name in options.priorities:
        if name not in known:
            raise ConfigError(
                f"--priorities: no queue has priority {name!r}, only {', '.join(known)}"
            )
    for queue, priorities in queues.items():
        if options.queue_names and queue not in options.queue_names:
            continue
        for priority, weight in priorities.items():
            if not options.priorities or priority in options.priorities:
                yield queue, priority, weight


def _drain(link: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while link.recv(4096):
            pass
