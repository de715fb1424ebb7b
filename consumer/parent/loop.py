"""The parent: one loop that owns Kafka and feeds the children.

A task's way through here: an intake brings its record; its partition's tracker notes it; it waits in
`dispatch` until a child has room, and is given out below the acknowledged horizon only; the child runs
it and stores its row; then `settling` hands off what must follow, and only when Kafka has that, the
offset is finished and may be committed by `ownership`. Each of these is a plain call, in this order.

The loop waits for nothing but its selector: intakes poll in threads of their own, children are
written to as they read, and Kafka reports come in as events. (The exception: the first record to a
topic asks the broker for its partitions.) It never loads user code, so nothing a task does can stop it.
"""

import contextlib
import itertools
import math
import operator
import selectors
import socket
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from taskstream.broker.group import Assigned
from taskstream.broker.records import Record
from taskstream.consumer.parent import gauges, heartbeat, readiness
from taskstream.consumer.parent.children import Child, Children
from taskstream.consumer.parent.handoff import HandedOff
from taskstream.consumer.parent.holders import HoldersHeard
from taskstream.consumer.parent.intake import (
    Arrived,
    Committed,
    EndsTold,
    Intake,
    IntakeFailed,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
)
from taskstream.consumer.parent.journal import Written
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.parent.partitions import Partition
from taskstream.consumer.parent.staff import Staff
from taskstream.consumer.parent.work import Told, Work, open_work
from taskstream.consumer.pipe import (
    Dropped,
    Failure,
    Frame,
    Hello,
    Pulse,
    Quarantined,
    Ready,
    Retiring,
    Verdicts,
    pack_beat,
    pack_cancel,
    pack_recall,
)
from taskstream.consumer.suspicion import Suspicion
from taskstream.consumer.verdict import Done
from taskstream.consumer.watch import DUMP, Pace, dump_stacks
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.control import run_of
from taskstream.core.envelope import Place, peek
from taskstream.core.errors import ConfigError
from taskstream.core.queue_orders import HOLDING, NO_ORDERS
from taskstream.core.settings import Settings
from taskstream.observability import logs, table
from taskstream.observability.metrics import Metrics
from taskstream.schemas.control import Heard

EMPTY_AFTER = 2.0
"""Seconds from the start on before `exit_when_empty` believes that there is nothing to do."""

UNASSIGNED_AFTER = 15.0
"""The same where a priority has given us no partition: the group may still be forming."""

CLOSE_WITHIN = 5.0
"""Seconds that each step of the end may take."""

ALARMS_EVERY = 1.0
"""Seconds between two looks at what goes wrong with partitions in silence."""

BEAT_EVERY = 1.0
"""Seconds between two signs of life to the children."""

INTAKE_PATIENCE = 300.0
"""Seconds that an intake may stand still at least: with Kafka away, its client waits for minutes."""

CANCEL_GRACE = 5.0
"""Seconds that a task in a process gets to end when it is cancelled, before its process is ended."""

_log = logs.logger(__name__)


class Parent:
    """A worker's parent process. `run` belongs to one thread; `stop` and `scale` may be called from any.

    Args:
        options: how it runs.
        clock: the time.
        children: those that were started already, with the same options.
        on_hello: is told the app's settings, once, when the first child knows them; must not block.
        on_ready: called once, when the first child takes tasks; must not block.
        on_end: called at the end, before the last numbers are sent.
        metrics: where things are counted; None for a place of its own.

    Attributes:
        metrics: as given.
    """

    def __init__(
        self,
        options: ParentOptions,
        clock: Clock = SYSTEM_CLOCK,
        *,
        children: Children | None = None,
        on_hello: Callable[[Settings], None] = lambda _: None,
        on_ready: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._mailbox: deque[Told] = deque()
        # A plain flag: a signal handler may find any lock held by the very thread it interrupts.
        self._woken = False
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._children = children or Children(options, clock)
        self._selector = self._children.selector
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._on_hello = on_hello
        self._on_ready = on_ready
        self._on_end = on_end
        self._staff = Staff(
            self._children,
            count=options.children,
            autoscale=options.autoscale,
            limits=options.limits,
            slots=options.concurrency - options.reserved,
            clock=clock,
        )
        self.metrics = metrics or Metrics()
        self._ownership = Ownership(self.metrics, clock)
        self._lateness = self.metrics.histogram(table.DELAY_LATENESS)
        self._work: Work | None = None
        self._numbers = itertools.count(1)
        self._heartbeat_at = 0.0
        self._alarms_at = 0.0
        self._beat_at = 0.0
        self._joined_at: float | None = None
        self._ends: dict[str, Mapping[Place, int]] | None = None
        """What the brokers say of our partitions' ends, by lane, once it seems that all is done."""
        self._stops = 0
        self._draining = False
        self._drain_until = 0.0
        self._cancelling: deque[tuple[float, Child, Entry]] = deque()
        self._turns = 0
        self._patience = Settings().stuck_after
        self._fatal: Exception | None = None
        gauges.of_children(self.metrics, self._children, options.concurrency)
        gauges.of_partitions(self.metrics, self._ownership, clock)

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

    def scale(self, children: int | None) -> None:
        """Sets the number of children, whatever the load, from now on.

        Args:
            children: 1 or more; None goes back to what the options say.
        """
        self._staff.command(children)
        self._wake()

    @property
    def finished(self) -> int:
        """How many tasks were finished."""
        return self._work.settling.finished if self._work else 0

    @property
    def not_ready(self) -> list[str]:
        """Why it does no work now; empty if it does."""
        children = [child for child in self._children if child.ready]
        pulses = [child.pulse for child in children if child.pulse is not None]
        return readiness.not_ready(
            readiness.Condition(
                children=len(children),
                storeless=sum(not pulse.store_healthy for pulse in pulses),
                assigned=None if self._joined_at is None else bool(self._ownership),
                ordered=None if self._work is None else self._work.orders.caught_up,
                draining=self._stops > 0,
                commit_ages=self._ownership.commit_ages(),
                commit_limit=self._work.fence.stop_after if self._work else math.inf,
                halted=self._work.breakers.halted if self._work else (),
            )
        )

    @property
    def held_back(self) -> list[str]:
        """What is paused or draining on somebody's order, a sentence each; from any thread.

        No reason not to be ready: a mended worker is deployed just while its queue is paused.
        """
        orders = self._work.dispatch.queue_orders if self._work is not None else NO_ORDERS
        return [str(order) for order in orders.orders if order.verb in HOLDING]

    def paces(self) -> dict[str, Pace]:
        """What must move while this worker lives, by name; from any thread."""
        paces = {"the parent's loop": Pace(self._turns, self._patience)}
        for intake in self._work.intakes if self._work and self._joined_at is not None else ():
            paces[f"the intake of {intake.lane}"] = Pace(
                intake.turns, max(self._patience, INTAKE_PATIENCE)
            )
        for child in self._children:
            # A task that has a process to itself may keep the interpreter to itself, too.
            if child.ready and not (child.solo and child.held):
                paces[_name_of(child)] = Pace(child.pulses, self._patience)
                if child.pulse is not None:
                    loop = f"the event loop of {_name_of(child)}"
                    paces[loop] = Pace(child.pulse.loop_turns, self._patience)
        return paces

    def dump(self, stuck: Sequence[str]) -> None:
        """Writes the stacks of what is stuck to standard error; from any thread."""
        ours = list(stuck)
        for child in self._children:
            theirs = [name for name in ours if name.endswith(_name_of(child))]
            if theirs and child.ready:
                child.process.send_signal(DUMP)
                ours = [name for name in ours if name not in theirs]
        if ours:
            dump_stacks()

    # One turn

    def _turn(self) -> None:
        self._turns += 1
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
        now = self._clock.monotonic()
        self._begin_drain(now)
        if self._work is not None:
            self._turn_work(self._work, now)

    def _turn_work(self, work: Work, now: float) -> None:
        while self._mailbox:
            self._react(work, self._mailbox.popleft())
        work.dispatch.wake_due()
        work.dispatch.free_held(work.holders.holds)
        work.settling.try_again(now)
        # Before anything starts: after a halt this is where it shows that nothing may.
        self._beat(work, now)
        if not self._stops and work.orders.caught_up:
            work.dispatch.give_out()
        self._defer(work)
        self._end_stubborn(now)
        self._ownership.hold_full(work.intakes)
        self._ownership.commit(now)
        if work.handover.pending:
            running = list(self._children.held())
            self._cancel(work.handover.turn(now, running, work.settling.places))
        if now - work.heartbeat.silent_since > work.fence.stop_holding_after:
            self._cancel(work.owed())
        if now >= self._alarms_at:
            self._alarms_at = now + ALARMS_EVERY
            work.alarms.look(dict(self._ownership.items()), self._clock.now())
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + heartbeat.EVERY
            work.tell_workers()
            work.orders.keep(now)
            self._heed_queue_orders(work)

    def _wait(self) -> float:
        """Seconds until something is due by time; what comes from outside ends the wait."""
        now = self._clock.monotonic()
        due = [now + BEAT_EVERY, self._ownership.next_at(now)]
        if self._work is not None:
            next_due = self._work.dispatch.next_due
            due += [now + (next_due - self._clock.now())] if next_due is not None else []
            for next_at in (self._work.settling.next_at, self._work.handover.next_at):
                due += [next_at] if next_at is not None else []
            due += [] if self._stops else [self._work.dispatch.next_token]
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
        return not any(self._children.held()) and (self._work is None or self._work.settling.idle)

    def _empty(self) -> bool:
        """Whether every record of our partitions is finished.

        By what the last fetches said of their ends first; then the brokers are asked, for a partition that
        was paused, or is about to be read on, may have grown since.
        """
        if not self._seems_empty():
            self._ends = None
        elif self._ends is None:
            self._ends = {}
            for intake in self._work.intakes if self._work else ():
                intake.ask_ends()
        elif self._work is not None and len(self._ends) == len(self._work.intakes):
            ends = {place: end for told in self._ends.values() for place, end in told.items()}
            if self._all_finished(ends):
                return True
            self._ends = None
        return False

    def _seems_empty(self) -> bool:
        if self._work is None or self._joined_at is None:
            return False
        partitions = self._ownership.items()
        waited = self._clock.monotonic() - self._joined_at
        assigned = {partition.intake for _, partition in partitions}
        everyone = len(assigned) == len(self._work.intakes)
        if waited < (EMPTY_AFTER if everyone else UNASSIGNED_AFTER):
            return False
        ends = {place: end for intake in self._work.intakes for place, end in intake.ends().items()}
        # What goes on over a rebalance would be killed, and run again by who waits for it.
        return self._all_finished(ends) and all(entry.abandoned for entry in self._work.owed())

    def _all_finished(self, ends: Mapping[Place, int]) -> bool:
        return all(
            partition.tracker.pending == 0
            and partition.tracker.position >= max(partition.end, ends.get(place, 0))
            for place, partition in self._ownership.items()
        )

    # Children

    def _keep_children(self) -> None:
        for child in self._children:
            if child.process.poll() is not None:
                # A process that it forked may hold its socket open, so that no end is to be read.
                self._hear(child)
                if child.number in self._children:
                    self._bury(child)
        if not self._stops:
            dispatch = self._work.dispatch if self._work else None
            self._staff.keep(
                waiting=dispatch.ready if dispatch else 0,
                waiting_alone=dispatch.waiting_alone if dispatch else 0,
                solo_reserved=dispatch.solo_reserved if dispatch else 0,
            )

    def _hear(self, child: Child) -> None:
        frames = self._children.receive(child)
        if frames is None:
            self._bury(child)
            return
        for frame in frames:
            self._react_to_child(child, frame)

    def _react_to_child(self, child: Child, frame: Frame) -> None:
        match frame:
            case Verdicts():
                self._settle(child, frame)
            case Pulse():
                child.pulse = frame
                child.pulses += 1
                self.metrics.hear(_name_of(child), frame.told)
            case Dropped(numbers):
                # Each goes to the head of its lane, so the last one first.
                for entry in reversed(child.let_go(numbers)):
                    self._come_back(entry, Suspicion.NONE)
            case Quarantined(numbers):
                _log.info("suspects go on alone", tasks=len(numbers))
                for entry in child.let_go(numbers):
                    entry.alone = True
                    self._come_back(entry, entry.suspicion)
            case Hello():
                if self._work is None:
                    self._work = self._open(frame)
            case Ready():
                child.ready = True
                _log.debug("a child takes tasks", pid=child.pid, solo=child.solo)
                self._beat_at = 0.0  # it has its limit before its first task
                if self._work is not None and self._joined_at is None and not self._stops:
                    self._join(self._work)
            case Failure(message, traceback):
                if self._joined_at is None:
                    self._fatal = ConfigError(message + (f"\n{traceback}" if traceback else ""))
                else:
                    _log.error(
                        "a child can't start",
                        pid=child.pid,
                        error=message,
                        advice="mend what the error names: the children that are there go on "
                        "meanwhile",
                    )
            case Retiring(serves):
                child.spent = True
                if not serves:
                    self._children.retire(child)

    def _settle(self, child: Child, verdicts: Verdicts) -> None:
        child.used = self._clock.monotonic()
        child.finished += len(verdicts.tasks)
        # Only what succeeds counts: a child is not fed ahead with tasks that all die.
        good = sum(isinstance(judged.verdict, Done) for judged in verdicts.tasks)
        child.depth.finished(good, verdicts.write_seconds, child.used)
        held = child.held
        told = [(held[one.number], one) for one in verdicts.tasks if one.number in held]
        child.let_go([judged.number for _, judged in told])
        if self._work is None:
            return
        self._work.settling.tell([entry.number for entry, _ in told], verdicts.events)
        settled = self._work.settling.judged(told)
        if settled < len(told):
            self._tell_at_once()
        if settled == len(verdicts.tasks):
            # Else some are another worker's by now, whose word counts: the store tells of the others.
            self._work.settling.reply(verdicts.replies)

    def _bury(self, child: Child) -> None:
        death = self._children.bury(child)
        self.metrics.forget(_name_of(child))
        reason = f"signal {-death.status}" if death.status < 0 else f"exit {death.status}"
        if child.retiring and not child.held:
            return
        if not child.killed:
            _log.warning(
                "a child died; what it held is looked up and run again",
                pid=child.pid,
                reason=reason,
                held=len(child.held),
                ready=child.ready,
                suspects=sum(suspicion is not Suspicion.NONE for _, suspicion in death.held),
                advice="if it goes on, look for what kills it: a crash in a C library, or too "
                "little memory (signal 9)",
            )
            self.metrics.counter(table.CHILD_DEATHS, reason=reason).inc()
        for entry, suspicion in reversed(death.held):  # each goes to the head of its lane
            self._come_back(entry, suspicion)

    def _come_back(self, entry: Entry, suspicion: Suspicion) -> None:
        """What a child held and has not recorded, as far as anybody here knows."""
        if self._work is not None:
            self._work.dispatch.come_back(entry, suspicion)
        if self._ownership.current(entry) is None:
            self._tell_at_once()

    def _tell_at_once(self) -> None:
        """Somebody may wait for a task that was held over a rebalance, and has ended: it is told now."""
        self._heartbeat_at = 0.0

    def _cancel(self, entries: Collection[Entry]) -> None:
        """Ends running tasks that are, or may soon be, somebody else's; they come back unrecorded."""
        numbers = {entry.number for entry in entries if not entry.abandoned}
        for child in self._children:
            ours = sorted(numbers & child.held.keys())
            for number in ours:
                child.held[number].abandoned = True
                labels = table.lane_labels(child.held[number].lane)
                self.metrics.counter(table.ABANDONED, **labels).inc()
            if ours:
                self._children.send(child, pack_cancel(ours, record=False))

    def _beat(self, work: Work, now: float) -> None:
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_EVERY
        self._heed_silence(work)
        for child in self._children:
            if child.ready:
                self._children.send(child, pack_beat(work.fence.beat_limit))

    def _heed_silence(self, work: Work) -> None:
        """A priority without Kafka's word stops before its group may give us up; see `Fence`."""
        ages = self._ownership.commit_ages()
        work.dispatch.shut(
            frozenset(lane for lane, age in ages.items() if age > work.fence.stop_after)
        )
        overdue = {lane for lane, age in ages.items() if age > work.fence.cancel_after}
        if overdue:
            self._cancel([entry for entry in self._children.held() if entry.lane in overdue])

    # Kafka

    def _open(self, hello: Hello) -> Work:
        """The first child has told what the app is: find the way to Kafka, and hear the orders."""
        self._on_hello(Settings(**hello.settings))
        work = open_work(
            hello,
            self._options,
            self._ownership,
            self._children,
            tell=self._tell,
            metrics=self.metrics,
            clock=self._clock,
        )
        self._patience = work.patience
        return work

    def _join(self, work: Work) -> None:
        """The first child takes tasks. Not before: a deploy that can't start must disturb no group."""
        work.join()
        self._joined_at = self._clock.monotonic()
        self._on_ready()

    def _react(self, work: Work, event: Told) -> None:
        match event:
            case Heard():
                before = work.orders.children
                self._obey(work, work.orders.take(event))
                self._heed_queue_orders(work)
                if work.orders.children != before:
                    self.scale(work.orders.children)
            case Arrived(intake, records):
                self.metrics.counter(table.CONSUMED, topic=intake.topic).inc(len(records))
                self._arrive(work, intake, records)
            case HandedOff(entry, judged, error):
                work.settling.handed_off(entry, judged, error)
            case Written():
                work.settling.written(event)
            case Committed(_, error, offsets):
                for entry in self._ownership.committed(error, offsets):
                    work.dispatch.queue(entry)
            case EndsTold(intake, ends):
                if self._ends is not None:
                    self._ends[intake.lane] = ends
            case PartitionsAssigned(intake, partitions):
                self._note_rebalance(intake, "assigned")
                self._ownership.assign(intake, partitions)
                self._own(work, intake, partitions)
            case PartitionsRevoked(intake, places):
                self._note_rebalance(intake, "revoked")
                work.dispatch.drop(set(places))
                work.handover.revoke(event)
            case HoldersHeard():
                work.holders.hear(event)
            case PartitionsLost(intake, places):
                self._note_rebalance(intake, "lost")
                self._lose(work, places)
            case IntakeFailed(intake, error, fatal):
                _log.error(
                    "Kafka reports trouble",
                    topic=intake.topic,
                    fatal=fatal,
                    error=str(error),
                    advice=logs.LOOK_AT_KAFKA,
                )
                if fatal:
                    self._fatal = error

    def _arrive(self, work: Work, intake: Intake, records: Sequence[Record]) -> None:
        # Records come by the hundred from one partition.
        for number, some in itertools.groupby(records, key=_partition_of):
            place = Place(intake.topic, number)
            partition = self._ownership.find(place)
            for record in some:
                if partition is not None and partition.tracker.deliver(record.offset):
                    self._take_in(work, intake, partition, record)
                else:
                    intake.release(1, record.size_bytes)
        if _log.debugging:
            self._say_taken(records)

    def _say_taken(self, records: Sequence[Record]) -> None:
        for record in records:
            partition = self._ownership.find(Place(record.topic, record.partition))
            entry = partition.entries.get(record.offset) if partition is not None else None
            if entry is not None:
                _log.debug("a task is taken in", **entry.told)

    def _take_in(self, work: Work, intake: Intake, partition: Partition, record: Record) -> None:
        facts = peek(record.headers)
        if facts.group is not None and facts.group != intake.group:
            intake.release(1, record.size_bytes)
            partition.tracker.finish(record.offset)
            queue = intake.lane.rpartition(".")[0]
            self.metrics.counter(table.DROPPED, queue=queue, reason="group").inc()
            return
        if 0 < facts.due <= record.timestamp:  # one that was cancelled comes home before its time
            self._lateness.observe(record.timestamp - facts.due)
        held = partition.held.get(record.offset)
        entry = Entry(
            next(self._numbers),
            record,
            partition.place,
            partition.epoch,
            intake.lane,
            facts.task,
            lookup=partition.has_met(facts.task_id)
            or facts.lookup
            or record.offset < partition.inherited,
            held=held,
            suspicion=Suspicion.SUSPECT
            if record.offset < partition.suspected and held is None
            else Suspicion.NONE,
        )
        partition.entries[record.offset] = entry
        if entry.held is not None:
            work.holders.follow()
        work.dispatch.arrive(entry, partition, facts.due)

    def _own(self, work: Work, intake: Intake, partitions: Sequence[Assigned]) -> None:
        try:
            for assigned in partitions:
                work.dispatch.own(intake.lane, assigned.place, assigned.count)
        except ConfigError as error:
            self._fatal = error

    def _note_rebalance(self, intake: Intake, change: str) -> None:
        labels = table.lane_labels(intake.lane)
        self.metrics.counter(table.REBALANCES, **labels, change=change).inc()

    def _lose(self, work: Work, places: Sequence[Place]) -> None:
        """Partitions have another owner already: what runs of them here must end, unrecorded."""
        _log.warning(
            "partitions lost",
            places=",".join(map(str, places)),
            advice="nothing: their next owner runs what was unfinished; if it happens often, "
            "see whether the host is overloaded",
        )
        gone = set(places)
        work.dispatch.drop(gone)
        self._ownership.forget(places)
        self._cancel([entry for entry in self._children.held() if entry.place in gone])

    def _obey(self, work: Work, cancelled: Collection[str]) -> None:
        """Ends what runs of these; what waits of them is found when its turn comes, but need not wait."""
        if not cancelled:
            return

        def ends(entry: Entry) -> bool:
            return run_of(*entry.record.identity) in cancelled

        work.dispatch.hurry(ends)
        until = self._clock.monotonic() + CANCEL_GRACE
        for child in self._children:
            found = [
                entry
                for entry in child.held.values()
                if run_of(*entry.record.identity) in cancelled
            ]
            if found:
                numbers = [entry.number for entry in found]
                self._children.send(child, pack_cancel(numbers, record=True))
            self._cancelling += (
                (until, child, one) for one in found if child.solo and work.dispatch.runs_alone(one)
            )

    def _end_stubborn(self, now: float) -> None:
        """Ends the processes of cancelled tasks that go on; another child looks them up and records it."""
        while self._cancelling and self._cancelling[0][0] <= now:
            _, child, entry = self._cancelling.popleft()
            if entry.number in child.held and child.number in self._children:
                _log.warning(
                    "a cancelled task does not end; its process is",
                    pid=child.pid,
                    advice="let the task look at current().cancelled now and then",
                )
                self._children.end(child)

    def _heed_queue_orders(self, work: Work) -> None:
        """Heeds orders about queues and tasks; what a child was fed ahead and has not begun comes back."""
        before, now = work.dispatch.queue_orders, work.orders.queues
        if now is before:
            return
        for order in set(now.orders) - set(before.orders):
            _log.warning(
                "an order is in force",
                order=str(order),
                advice="nothing, if it is meant to be; `taskstream queues resume APP QUEUE` "
                "takes it back",
            )
        for order in set(before.orders) - set(now.orders):
            _log.info("an order holds no more", order=str(order))
        work.dispatch.obey(now)
        for child in self._children:
            concerned = [
                number for number, entry in child.held.items() if work.dispatch.is_concerned(entry)
            ]
            if concerned:
                self._children.send(child, pack_recall(concerned))

    def _defer(self, work: Work) -> None:
        """Sends what an order holds back, and what is too much here, through the delay topics."""
        for entry, holds_key in work.dispatch.take_deferred():
            work.settling.defer(entry, holds_key=holds_key)

    # End

    def _begin_drain(self, now: float) -> None:
        if self._stops and not self._draining:
            self._draining = True
            _log.info(
                "draining: what runs may end, nothing new starts", seconds=self._options.drain
            )
            self._drain_until = now + self._options.drain
            for intake in self._work.intakes if self._work else ():
                intake.stop_taking()

    def _close(self) -> None:
        """Commits what is finished and leaves the groups; then the children end."""
        if self._stops >= 2 or not self._idle():
            # Before the groups are left: what runs must not go on beside its next owner's copy.
            self._children.kill()
        for child in self._children:
            self._children.retire(child)
        if self._work is not None:
            self._work.close(CLOSE_WITHIN)
        self._end_children()
        self._on_end()
        if self._work is not None:
            self._work.flush_metrics()
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
                elif (frames := self._children.receive(key.data)) is None:
                    self._children.bury(key.data)
                else:
                    self._hear_last_words(key.data, frames)
        self._children.kill()

    def _hear_last_words(self, child: Child, frames: Sequence[Frame]) -> None:
        """A child that ends tells what it has counted; nothing else counts any more."""
        for frame in frames:
            if isinstance(frame, Pulse):
                self.metrics.hear(_name_of(child), frame.told)

    # Events from other threads

    def _tell(self, event: Told) -> None:
        self._mailbox.append(event)
        # Nothing waits for an event's outcome but its offsets, and the journal says by when to look: a turn
        # for each of them would cost more than all else that it brings.
        if not isinstance(event, Written):
            self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            with contextlib.suppress(
                OSError
            ):  # full: it will wake; closed: there is nobody to wake
                self._wake_out.send(b"x")


_partition_of = operator.attrgetter("partition")


def _name_of(child: Child) -> str:
    return f"child {child.pid}"


def _drain(link: socket.socket) -> None:
    # Once: more than one byte is rare, and what is left only wakes the loop once more.
    with contextlib.suppress(BlockingIOError):
        link.recv(4096)
