"""What was taken in and waits to be given out, and the giving out.

An entry waits in one place at a time: for its due time, for the horizon (in its partition), in its
lane for its turn or its key, for a worker that holds it since before a rebalance (with its key, so that
nothing behind it starts), for an order that holds it back (with its key, too), for a limit of its task,
or for a child that it has to itself. Only the lane's wait counts against what the intake may bring: who
waits for something else must not keep others from being taken in.
"""

import heapq
from bisect import insort
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Mapping

from taskstream.broker.records import Record
from taskstream.consumer.parent.aside import Aside
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.children import Child, Children
from taskstream.consumer.parent.intake import Intake
from taskstream.consumer.parent.lanes import Entry, Lanes
from taskstream.consumer.parent.limits import TaskLimits
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.parent.partitions import Partition
from taskstream.consumer.pipe import Given, TaskFacts, Turn, pack_given
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.clock import Clock
from taskstream.core.envelope import Place, standing
from taskstream.core.queue_orders import QueueOrders
from taskstream.observability import logs, table
from taskstream.observability.metrics import Metrics

_log = logs.logger(__name__)


class Dispatch:
    """The tasks that wait, of all priorities. Not thread-safe: it belongs to the loop.

    Args:
        weights: each lane's share.
        intakes: who is told that there is room again, by lane.
        ownership: which of them may start.
        children: who runs them.
        tasks: by name and alias, what is known of each task.
        breakers: which lanes are halted, because their tasks only die.
        is_cancelled: whether a record's task must not run any more.
        metrics: where it is counted what each lane gives.
        clock: the time.
    """

    def __init__(
        self,
        weights: Mapping[str, int],
        intakes: Mapping[str, Intake],
        ownership: Ownership,
        children: Children,
        *,
        tasks: Mapping[str, TaskFacts],
        breakers: Breakers,
        is_cancelled: Callable[[Record], bool],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._lanes = Lanes(weights)
        self._intakes = intakes
        self._ownership = ownership
        self._children = children
        self._limits = TaskLimits(tasks)
        self._limited = self._limits.tasks
        self._runs_alone = {name for name, facts in tasks.items() if facts.runs == "process"}
        self._breakers = breakers
        self._is_cancelled = is_cancelled
        self._given = {
            lane: metrics.counter(table.GIVEN, **table.lane_labels(lane)) for lane in weights
        }
        self._clock = clock
        self._aside = Aside({name for name, facts in tasks.items() if facts.strict_order})
        self._deferred: list[tuple[Entry, bool]] = []
        self._alone: list[Entry] = []  # urgent ones first
        self._solo_reserved = 0
        self._held: list[Entry] = []
        self._shut: frozenset[str] = frozenset()
        self._not_yet_due: list[tuple[float, int, Entry]] = []

    # Take in

    def arrive(self, entry: Entry, partition: Partition, due: float) -> None:
        """Takes a delivered task in.

        Args:
            entry: the task.
            partition: its partition.
            due: not to be given out before, seconds since 1970.
        """
        if entry.held is not None and entry.task in self._limited:
            self._limits.occupy(entry, self._clock.monotonic())
        if (
            due
            and due > self._clock.now()
            and not self._ends(entry)
            and not _is_deferred(entry.record)
        ):
            heapq.heappush(self._not_yet_due, (due, entry.number, entry))
            self._park(entry)
        elif partition.within_horizon(entry):
            self.queue(entry)

    def queue(self, entry: Entry) -> None:
        """Puts a task into its lane, to be given out or to wait for its key.

        Where an order holds back more of its partition than may stay here, it is deferred.
        """
        if self._aside.any and entry.held is None and self._leaves(entry):
            self._defer(entry, holds_key=False)
        elif not self._lanes.push(entry):
            self._park(entry)

    def come_back(self, entry: Entry, suspicion: Suspicion) -> None:
        """Takes a task back that its child has not recorded; it keeps its key.

        Args:
            entry: the task.
            suspicion: what the child says of it, or its end.
        """
        self._limits.end(entry)
        entry.lookup, entry.suspicion = True, suspicion
        if self._ownership.startable(entry) is None:
            return
        if entry.alone and not self._holds_back(entry):
            self._queue_alone(entry)
        else:
            self._lanes.push_again(entry)

    def hurry(self, ends: Callable[[Entry], bool]) -> None:
        """Lets tasks that are to end be recorded, without a wait for their time, or for a child of their own.

        Args:
            ends: whether a task was cancelled, or purged.
        """
        self._not_yet_due = [
            (0.0 if ends(entry) else due, number, entry) for due, number, entry in self._not_yet_due
        ]
        heapq.heapify(self._not_yet_due)
        self.wake_due()
        self._take_turns_again(ends)
        for entry in reversed(self._aside.withdraw(ends)):
            self._lanes.push_again(entry)

    @property
    def queue_orders(self) -> QueueOrders:
        """The orders about queues and tasks that are heeded."""
        return self._aside.orders

    def obey(self, orders: QueueOrders) -> None:
        """Heeds these orders about queues and tasks from now on.

        What was purged is recorded soon, what is held back no more takes its turn, and of what is held
        back now no more stays than may.
        """
        self._aside.obey(orders)
        self.hurry(lambda entry: self._aside.purge_of(entry) is not None)
        for entry in reversed(self._aside.withdraw(lambda entry: not self._holds_back(entry))):
            self._lanes.push_again(entry)
        if orders.any:
            # In their turn they are put aside; where they are now they would hold up, or call for a child.
            self._take_turns_again(self._holds_back)
            self._shed()

    def is_concerned(self, entry: Entry) -> bool:
        """Whether a task that a child holds must not start, by an order about queues or tasks."""
        return self._aside.purge_of(entry) is not None or self._holds_back(entry)

    def take_deferred(self) -> list[tuple[Entry, bool]]:
        """What is to go through the delay topics because of an order, each with whether it holds its key."""
        deferred, self._deferred = self._deferred, []
        return deferred

    def runs_alone(self, entry: Entry) -> bool:
        """Whether it has a child to itself when it runs, which can be killed without harm to others."""
        return entry.task in self._runs_alone

    def left(self, entries: Iterable[Entry]) -> None:
        """Notes that children are done with tasks: their places among their limits are free."""
        if self._limited:
            for entry in entries:
                self._limits.end(entry)

    def retry_here(self, entry: Entry, due: float) -> None:
        """Keeps a task that is to be tried again at `due`, seconds since 1970, and its key with it."""
        entry.lookup = True  # its row says which attempt comes next, here and with whoever is next
        # The next attempt begins without what was against the last one, as it would elsewhere.
        entry.suspicion, entry.alone = Suspicion.NONE, False
        if self._ends(entry):
            due = 0.0  # the word came between its verdict and this
        heapq.heappush(self._not_yet_due, (due, entry.number, entry))

    def release(self, entry: Entry) -> None:
        """Frees the key of a task that needs nothing more."""
        self._lanes.release(entry)

    # Come and go

    def own(self, lane: str, place: Place, count: int) -> None:
        """Notes that a partition of a lane's topic, which has `count` of them, is ours.

        Raises:
            ConfigError: a limit can't be shared by so many; says what to do.
        """
        self._limits.own(lane, place, count, self._clock.monotonic())

    def drop(self, places: Collection[Place]) -> None:
        """Forgets what was not given out yet; the next owner is given it by Kafka."""
        dropped = self._lanes.drop(places)
        for place in places:
            partition = self._ownership.find(place)
            if partition is not None:
                dropped += partition.beyond
                partition.beyond.clear()
        dropped += self._limits.drop(places, self._clock.monotonic())
        dropped += self._aside.drop(places)
        dropped += (entry for entry in self._alone if entry.place in places)
        self._alone = [entry for entry in self._alone if entry.place not in places]
        dropped += (entry for entry in self._held if entry.place in places)
        self._held = [entry for entry in self._held if entry.place not in places]
        dropped += (entry for _, _, entry in self._not_yet_due if entry.place in places)
        self._not_yet_due = [one for one in self._not_yet_due if one[2].place not in places]
        heapq.heapify(self._not_yet_due)
        for entry in dropped:
            self._limits.end(entry)
        self._free_room(dropped)

    # Give out

    def wake_due(self) -> None:
        """Tasks whose time has come: a retry that was held, or one from a machine whose clock runs ahead."""
        now = self._clock.now()
        while self._not_yet_due and self._not_yet_due[0][0] <= now:
            entry = heapq.heappop(self._not_yet_due)[2]
            partition = self._ownership.startable(entry)
            if partition is None:
                self._free_room([entry])
            elif entry.given_at:  # it has its key: to push it would make it wait behind itself
                self._lanes.push_again(entry)
            elif partition.within_horizon(entry):
                self.queue(entry)

    def give_out(self) -> None:
        """Gives the children what they have room for, each lane by its weight."""
        now = self._clock.monotonic()
        for entry in reversed(self._limits.wake(now)):
            self._lanes.push_again(entry)
        for lane, room in self._breakers.rooms():
            self._lanes.bound(lane, 0 if lane in self._shut else room)
        shared = sorted(
            (child for child in self._children if not child.solo and child.room > 0),
            key=lambda child: len(child.held),
        )
        for position, child in enumerate(shared):
            ready = self._lanes.ready
            if not ready:
                break
            # An even share each, so that a few tasks don't all end up in one child.
            share = -(-ready // (len(shared) - position))
            self._give(child, self._taken(child, min(child.room, share), now))
        self._give_alone(now)

    def shut(self, lanes: frozenset[str]) -> None:
        """Gives nothing out of these lanes, until told otherwise: Kafka does not answer for them."""
        for lane in sorted(lanes - self._shut):
            _log.warning(
                "Kafka acknowledges no commit of a priority: nothing new of it starts",
                lane=lane,
                advice=logs.LOOK_AT_KAFKA,
            )
        for lane in sorted(self._shut - lanes):
            _log.info("Kafka acknowledges commits again", lane=lane)
        self._shut = lanes

    def free_held(self, is_held: Callable[[Entry], bool]) -> None:
        """Lets those go on that nobody holds any more; the store tells what became of them.

        Args:
            is_held: whether the entry's holder runs it still.
        """
        for entry in [one for one in self._held if not is_held(one)]:
            self._held.remove(entry)
            entry.held = None
            self._limits.end(entry)
            partition = self._ownership.current(entry)
            if partition is not None:
                partition.held.pop(entry.record.offset, None)
            self._lanes.push_again(entry)

    @property
    def shut_lanes(self) -> frozenset[str]:
        """The lanes of which nothing is given out, because Kafka does not answer for them."""
        return self._shut

    @property
    def ready(self) -> int:
        """How many tasks could be given out to a shared child now."""
        return self._lanes.ready

    @property
    def waiting_alone(self) -> int:
        """How many tasks wait for a child that they have to themselves."""
        return len(self._alone)

    @property
    def solo_reserved(self) -> int:
        """How many solo children more than these there should be, for urgent tasks alone."""
        return self._solo_reserved

    @property
    def next_due(self) -> float | None:
        """When the next task is due, seconds since 1970; None if none waits for that."""
        return self._not_yet_due[0][0] if self._not_yet_due else None

    @property
    def next_token(self) -> float:
        """When a limit by rate lets the next task go, in monotonic seconds; infinity if none waits."""
        return self._limits.next_at

    def waiting(self) -> Iterable[tuple[str, int]]:
        """Each lane and how many tasks it has ready, for metrics."""
        return self._lanes.waiting()

    def held_back(self) -> Iterable[str]:
        """The lane of each task that is kept aside because of an order, for metrics."""
        return [entry.lane for entry in list(self._aside.waiting())]

    def _taken(self, child: Child, limit: int, now: float) -> list[Entry]:
        """Tasks for a shared child; those that wait for more than their turn are put aside."""
        common = child.room - self._short_of_reserve(child)
        urgent = self._lanes.urgent
        taken: list[Entry] = []
        while entries := self._lanes.take(limit - len(taken), common):
            for entry in entries:
                if entry.held is not None:
                    self._held.append(entry)
                    self._park(entry)
                elif self._aside.any and self._holds_back(entry):
                    self._set_aside(entry)
                elif (entry.alone or entry.task in self._runs_alone) and not self._ends(entry):
                    entry.alone = True
                    self._queue_alone(entry)
                    self._park(entry)
                elif entry.task in self._limited and not self._admitted(entry, now):
                    self._park(entry)
                else:
                    taken.append(entry)
                    common -= entry.lane not in urgent
        return taken

    def _admitted(self, entry: Entry, now: float) -> bool:
        """Whether its task's limits let it go; one that is only to be recorded needs none."""
        if entry.task not in self._limited or self._ends(entry):
            return True
        return self._limits.admit(entry, now)

    # Orders about queues and tasks

    def _ends(self, entry: Entry) -> bool:
        """Whether a task is not to be run any more, only to be recorded."""
        return self._is_cancelled(entry.record) or self._aside.purge_of(entry) is not None

    def _holds_back(self, entry: Entry) -> bool:
        """Whether an order keeps a task from starting; one that is only to be recorded is free."""
        return self._aside.holds_back(entry) and not self._ends(entry)

    def _leaves(self, entry: Entry) -> bool:
        """Whether a task is held back and one too many here."""
        partition = self._ownership.current(entry)
        return (
            partition is not None
            and self._holds_back(entry)
            and self._aside.leaves(entry, partition)
        )

    def _set_aside(self, entry: Entry) -> None:
        """A task's turn has come, and it is held back: it stays, with its key, or is deferred."""
        self._limits.end(entry)  # it may have been woken for a place among them
        if self._leaves(entry):
            self._defer(entry, holds_key=True)
            return
        self._aside.put(entry)
        if not self._aside.keeps_room(entry):
            self._free_room([entry])

    def _take_turns_again(self, wanted: Callable[[Entry], bool]) -> None:
        """Lets those that wait for a limit, or for a child of their own, come to their turn again."""
        waited = [entry for entry in self._alone if wanted(entry)]
        self._alone = [entry for entry in self._alone if not wanted(entry)]
        for entry in waited + self._limits.withdraw(wanted):
            self._lanes.push_again(entry)

    def _shed(self) -> None:
        """Defers those of the held-back tasks that are too many, the last ones of each partition."""
        waiting = [*self._lanes.entries(), *self._aside.waiting()]
        waiting.sort(key=lambda entry: entry.number)
        leaving = {entry.number for entry in waiting if entry.held is None and self._leaves(entry)}
        if leaving:
            for entry in self._aside.withdraw(lambda entry: entry.number in leaving):
                self._defer(entry, holds_key=True)
            for entry, holds_key in self._lanes.withdraw(leaving):
                self._defer(entry, holds_key=holds_key)
        for entry in self._aside.waiting():
            if not self._aside.keeps_room(entry):
                self._free_room([entry])

    def _defer(self, entry: Entry, *, holds_key: bool) -> None:
        self._free_room([entry])
        self._deferred.append((entry, holds_key))

    # Alone

    def _short_of_reserve(self, child: Child) -> int:
        """How much of a child's room is for urgent tasks alone, to fill what is reserved for them."""
        reserved = child.reserved if self._lanes.urgent else 0
        if not reserved:
            return 0
        return max(0, reserved - len(child.urgent))

    def _queue_alone(self, entry: Entry) -> None:
        insort(self._alone, entry, key=lambda one: not self._lanes.is_urgent(one))

    def _give_alone(self, now: float) -> None:
        free = [child for child in self._children if child.solo and child.room > 0]
        while free:
            entry = next(filter(self._is_open, self._alone), None)
            if entry is None:
                return
            if len(free) <= self._solo_reserved and not self._lanes.is_urgent(entry):
                return
            self._alone.remove(entry)
            if self._admitted(entry, now):
                self._give(free.pop(), [entry])
        if self._alone and self._lanes.is_urgent(self._alone[0]):
            # An urgent one waits while others run: from now on there is one child more, for such.
            self._solo_reserved = int(any(child.solo and child.held for child in self._children))

    def _is_open(self, entry: Entry) -> bool:
        """Whether anything of its lane may be given out now."""
        return entry.lane not in self._shut and self._breakers.room(entry.lane) >= 1

    def _give(self, child: Child, entries: list[Entry]) -> None:
        now = self._clock.now()
        now_us = int(now * 1e6)
        given = []
        for entry in entries:
            partition = self._ownership.startable(entry)
            if partition is None:
                self._limits.end(entry)
                continue
            child.hold(entry, urgent=self._lanes.is_urgent(entry))
            entry.given_at, entry.abandoned = now, False
            self._breakers.gave(entry)
            partition.given_to = max(partition.given_to, entry.record.offset + 1)
            purge = self._aside.purge_of(entry) if self._aside.any else None
            given.append(
                Given(
                    entry.number,
                    entry.record,
                    now_us,
                    partition.fence,
                    partition.intake.group,
                    entry.lookup,
                    entry.suspicion,
                    purge is not None or self._is_cancelled(entry.record),
                    self._turn(entry),
                    "" if purge is None else str(purge),
                )
            )
        self._free_room(entries)
        for lane, count in Tally(child.held[one.number].lane for one in given).items():
            self._given[lane].inc(count)
        # In frames of their own, for a child comes to urgent ones first, and prepares a frame as a whole.
        for urgent in (True, False):
            part = [one for one in given if (one.turn is Turn.URGENT) is urgent]
            if part:
                self._children.send(child, pack_given(part))
        if _log.debugging:
            for one in given:
                _log.debug("a task is given out", pid=child.pid, **child.held[one.number].told)

    def _turn(self, entry: Entry) -> Turn:
        if not self._lanes.urgent or self._lanes.is_urgent(entry):
            return Turn.URGENT
        return Turn.SOON if entry.task in self._limited else Turn.COMMON

    # Room

    def _park(self, entry: Entry) -> None:
        """A task that waits for something else than its turn: others may be taken in past it.

        Its partition's window bounds how many there are; their bytes go on counting.
        """
        self._free_room([entry], keep_bytes=True)

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
        for lane, room in freed.items():
            self._intakes[lane].release(*room)


def _is_deferred(record: Record) -> bool:
    return standing(record.headers, record.timestamp).deferred
