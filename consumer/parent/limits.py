"""Which tasks of a limited kind may be given out now: pure, the time is passed in.

A limited task that must wait waits here, aside of its lane, in the order of its delivery; it keeps
its key and holds up nothing else. `wake` says which may try again, `next_at` when the next could.

Rates are kept by the virtual scheduling form of a leaky bucket (GCRA, ITU-T I.371): one number a
bucket, the instant at which it is full again. Starts are spread evenly over the period, because a
bucket that could be emptied at once would let twice its limit pass around the end of a period. In
any period, at the place where tasks start, no more than the limit do:

- a period is taken `UNDERWAY` longer, for what lies between giving a task out and its start;
- where tokens come faster than one in `TURN`, those of one turn may be used together, and so many
  fewer come in the period.

A group's limit is shared by owned partitions, so a worker's share changes with what it owns; its
bucket is then empty and fills at its new pace. A key's bucket starts empty, too, when its partition
comes to us: what an earlier owner started may have been a moment ago, and nobody wrote it down. With
starts spread evenly that costs one interval, not one period.
"""

import heapq
import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from taskstream.consumer.parent.lanes import Entry, Lock
from taskstream.consumer.pipe import TaskFacts
from taskstream.core.envelope import Place
from taskstream.core.limits import Concurrency, Rate, refuse_unshareable, share

UNDERWAY = 0.05
"""Seconds that lie between giving a task out and its start, at most."""

TURN = 0.02
"""Seconds: tokens that come within one turn of the loop may be used together."""

PRUNE_KEYS = 1000
"""From so many keys on, those whose bucket is full again are forgotten."""

UNBOUNDED = sys.maxsize


@dataclass(frozen=True, slots=True)
class Pace:
    """How a rate is kept.

    Args:
        interval: seconds between two tokens.
        burst: how many tokens a bucket holds.
    """

    interval: float
    burst: int = 1

    @classmethod
    def of(cls, limit: int, period: float) -> "Pace":
        """The fastest one that lets no more than `limit` start in any `period`; 0 lets none."""
        if limit < 1:
            return cls(math.inf)
        burst = 1 + int((limit - 1) * min(1.0, TURN / period))
        return cls((period + UNDERWAY) / (limit - burst + 1), burst)

    def empty(self, now: float) -> float:
        """When a bucket that is empty now is full."""
        return now + self.burst * self.interval

    def due(self, full_at: float) -> float:
        """When a bucket has its next token; in the past where it has one."""
        # No product of 0 and infinity for a pace that lets none.
        return full_at if self.burst == 1 else full_at - (self.burst - 1) * self.interval

    def tokens(self, full_at: float, now: float) -> int:
        """How many tokens a bucket has."""
        if now < self.due(full_at):
            return 0
        return max(1, self.burst - math.ceil(max(0.0, full_at - now) / self.interval))

    def spend(self, full_at: float, now: float) -> float:
        """When a bucket is full once a token of it is taken now."""
        return max(full_at, now) + self.interval


def without_shares(tasks: Mapping[str, TaskFacts]) -> dict[str, TaskFacts]:
    """The same tasks, their group's limits being those of the one worker that there is."""
    return {
        name: replace(
            facts,
            concurrency=tuple(replace(limit, scope="worker") for limit in facts.concurrency),
            rates=tuple(
                rate if rate.scope == "key" else replace(rate, scope="worker")
                for rate in facts.rates
            ),
        )
        for name, facts in tasks.items()
    }


@dataclass(slots=True)
class _Slots:
    """How many of a task may run, and how many do."""

    allowed: int
    used: int = 0


@dataclass(slots=True)
class _Bucket:
    """The tokens of a rate."""

    pace: Pace
    full_at: float


class _KeyBuckets:
    """The tokens of a rate for each key. A bucket that is full need not be remembered."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._full_at: dict[Lock, float] = {}
        self._prune_at = PRUNE_KEYS

    def due(self, lock: Lock, since: float) -> float:
        """When the key has its next token; `since` is when its partition came to us."""
        return self._pace.due(self._full_at.get(lock) or self._pace.empty(since))

    def spend(self, lock: Lock, since: float, now: float) -> None:
        """Takes a token of the key."""
        full_at = self._full_at.get(lock) or self._pace.empty(since)
        self._full_at[lock] = self._pace.spend(full_at, now)
        if len(self._full_at) >= self._prune_at:
            self._keep(lambda _, full_at: full_at > now)
            self._prune_at = max(PRUNE_KEYS, 2 * len(self._full_at))

    def drop(self, places: Collection[Place]) -> None:
        """Forgets the keys of these partitions."""
        self._keep(lambda lock, _: lock[0] not in places)

    def _keep(self, wanted: Callable[[Lock, float], bool]) -> None:
        self._full_at = {lock: at for lock, at in self._full_at.items() if wanted(lock, at)}


@dataclass(slots=True, eq=False)
class _Gate:
    """One limited task in one lane: what it needs, who has it, and who waits for it.

    Args:
        slots: of its concurrency.
        buckets: of its rates; like slots, those of a worker are the same in the gates of all lanes.
        keys: of its rates per key.
        running: numbers of the tasks that hold slots.
        waiting: those that any free slot or token would help, by number.
        keyed: those that wait for a token of their key, by due time.
        tried: those that were woken and have not come back yet, by number.
    """

    slots: dict[Concurrency, _Slots]
    buckets: dict[Rate, _Bucket]
    keys: list[_KeyBuckets]
    running: set[int] = field(default_factory=set)
    waiting: list[tuple[int, Entry]] = field(default_factory=list)
    keyed: list[tuple[float, int, Entry]] = field(default_factory=list)
    tried: dict[int, Place] = field(default_factory=dict)

    def room(self, now: float) -> int:
        """How many more may be given out now, keys aside."""
        room = [slots.allowed - slots.used for slots in self.slots.values()]
        room += (bucket.pace.tokens(bucket.full_at, now) for bucket in self.buckets.values())
        return max(0, min(room)) if room else UNBOUNDED

    def spend(self, number: int, now: float) -> None:
        """Takes a slot and a token each."""
        self.running.add(number)
        for slots in self.slots.values():
            slots.used += 1
        for bucket in self.buckets.values():
            bucket.full_at = bucket.pace.spend(bucket.full_at, now)

    def next_at(self) -> float:
        """When time alone lets one more go; infinity where it takes something else."""
        at = self.keyed[0][0] if self.keyed else math.inf
        # Those that were woken wait for room in a child, or will be back: nothing is due before.
        if (
            not self.waiting
            or self.tried
            or any(one.used >= one.allowed for one in self.slots.values())
        ):
            return at
        dues = [bucket.pace.due(bucket.full_at) for bucket in self.buckets.values()]
        return min(at, max(dues, default=math.inf))

    def withdraw(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Takes out those who wait and are wanted."""
        aside = [entry for _, entry in self.waiting] + [entry for _, _, entry in self.keyed]
        self.waiting = [one for one in self.waiting if not wanted(one[-1])]
        self.keyed = [one for one in self.keyed if not wanted(one[-1])]
        heapq.heapify(self.waiting)
        heapq.heapify(self.keyed)
        return [entry for entry in aside if wanted(entry)]

    def drop(self, places: Collection[Place]) -> list[Entry]:
        """Takes out who waits of these partitions, and forgets what was of them."""
        self.tried = {number: place for number, place in self.tried.items() if place not in places}
        for keys in self.keys:
            keys.drop(places)
        return self.withdraw(lambda entry: entry.place in places)


class TaskLimits:
    """The limits of all tasks, and the entries that wait for one. Not thread-safe.

    Times are monotonic seconds. `wake` and what is admitted after it in a turn must be given the
    same instant, or a task that has just come could overtake those that wait.

    Args:
        tasks: by name and alias, what the parent knows of each task.
    """

    def __init__(self, tasks: Mapping[str, TaskFacts]) -> None:
        self._tasks = {
            name: facts for name, facts in tasks.items() if facts.concurrency or facts.rates
        }
        self._gates: dict[tuple[str, str], _Gate] = {}
        self._slots_of_worker: dict[tuple[str, Concurrency], _Slots] = {}
        self._buckets_of_worker: dict[tuple[str, Rate], _Bucket] = {}
        self._aside: dict[_Gate, None] = {}
        self._owned: dict[str, dict[Place, float]] = {}
        self._counts: dict[str, int] = {}
        self._changed: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> frozenset[str]:
        """The names and aliases of the limited tasks."""
        return frozenset(self._tasks)

    # Partitions

    def own(self, lane: str, place: Place, count: int, now: float) -> None:
        """Notes that a partition of a lane's topic, which has `count` of them, is ours.

        Raises:
            ConfigError: a task of the lane's queue has a limit that can't be shared by so many.
        """
        queue = lane.rpartition(".")[0]
        for facts in self._tasks.values():
            if facts.queue == queue:
                refuse_unshareable(facts.name, (*facts.concurrency, *facts.rates), count)
        self._owned.setdefault(lane, {})[place] = now
        self._counts[lane] = count
        self._share(lane, now)

    def drop(self, places: Collection[Place], now: float) -> list[Entry]:
        """Notes that partitions are not ours any more; returns those of their tasks that waited."""
        for lane, owned in list(self._owned.items()):
            kept = {place: since for place, since in owned.items() if place not in places}
            if len(kept) < len(owned):
                self._owned[lane] = kept
                self._share(lane, now)
        return [entry for gate in self._gates.values() for entry in gate.drop(places)]

    # Tasks

    def admit(self, entry: Entry, now: float) -> bool:
        """Whether a limited task may be given out now; if not, it is kept here until it is woken."""
        gate = self._gate(entry, now)
        gate.tried.pop(entry.number, None)
        since = self._owned.get(entry.lane, {}).get(entry.place, now)
        lock = entry.lock
        if lock is not None:
            due = max((keys.due(lock, since) for keys in gate.keys), default=now)
            if due > now:
                heapq.heappush(gate.keyed, (due, entry.number, entry))
                self._aside[gate] = None
                return False
        overtakes = bool(gate.waiting) and gate.waiting[0][0] < entry.number
        if overtakes or not gate.room(now):
            heapq.heappush(gate.waiting, (entry.number, entry))
            self._aside[gate] = None
            return False
        gate.spend(entry.number, now)
        if lock is not None:
            for keys in gate.keys:
                keys.spend(lock, since, now)
        return True

    def withdraw(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Takes those out that wait for a limit they need no more."""
        return [entry for gate in list(self._aside) for entry in gate.withdraw(wanted)]

    def occupy(self, entry: Entry, now: float) -> None:
        """Notes that a task of ours runs with the former owner of its partition, until it has ended."""
        self._gate(entry, now).spend(entry.number, now)

    def end(self, entry: Entry) -> None:
        """Notes that a task does not run (any more), admitted or not; harmless to repeat."""
        facts = self._tasks.get(entry.task)
        gate = self._gates.get((facts.name, entry.lane)) if facts is not None else None
        if gate is None:
            return
        gate.tried.pop(entry.number, None)
        if entry.number in gate.running:
            gate.running.remove(entry.number)
            for slots in gate.slots.values():
                slots.used -= 1

    def wake(self, now: float) -> list[Entry]:
        """Those that may be tried again now, in the order of their delivery."""
        woken: list[Entry] = []
        for gate in list(self._aside):
            count = min(len(gate.waiting), gate.room(now) - len(gate.tried))
            ready = [heapq.heappop(gate.waiting)[-1] for _ in range(count)]
            while gate.keyed and gate.keyed[0][0] <= now:
                ready.append(heapq.heappop(gate.keyed)[-1])
            gate.tried.update((entry.number, entry.place) for entry in ready)
            woken += ready
            if not gate.waiting and not gate.keyed:
                del self._aside[gate]
        return sorted(woken, key=lambda entry: entry.number)

    @property
    def next_at(self) -> float:
        """When time alone lets one more go; infinity where it takes something else."""
        return min((gate.next_at() for gate in self._aside), default=math.inf)

    # Gates

    def _gate(self, entry: Entry, now: float) -> _Gate:
        facts = self._tasks[entry.task]
        gate = self._gates.get((facts.name, entry.lane))
        if gate is None:
            gate = self._gates[facts.name, entry.lane] = self._open(facts, entry.lane, now)
        return gate

    def _open(self, facts: TaskFacts, lane: str, now: float) -> _Gate:
        gate = _Gate({}, {}, [])
        for limit in facts.concurrency:
            slots = self._slots_of_worker.setdefault((facts.name, limit), _Slots(limit.limit))
            gate.slots[limit] = slots if limit.scope == "worker" else _Slots(0)
        for rate in facts.rates:
            pace = Pace.of(rate.limit, rate.period)
            if rate.scope == "key":
                gate.keys.append(_KeyBuckets(pace))
                continue
            # A worker's bucket is full at first: no other process was this worker before.
            bucket = self._buckets_of_worker.setdefault((facts.name, rate), _Bucket(pace, now))
            gate.buckets[rate] = bucket if rate.scope == "worker" else _Bucket(pace, now)
        self._share_of(gate, lane, self._changed.get(lane, now))
        return gate

    def _share(self, lane: str, now: float) -> None:
        self._changed[lane] = now
        for (_, of_lane), gate in self._gates.items():
            if of_lane == lane:
                self._share_of(gate, lane, now)

    def _share_of(self, gate: _Gate, lane: str, now: float) -> None:
        ours = [place.partition for place in self._owned.get(lane, ())]
        count = self._counts.get(lane, 1)
        for limit, slots in gate.slots.items():
            if limit.scope == "group":
                slots.allowed = share(limit.limit, ours, count)
        for rate, bucket in gate.buckets.items():
            if rate.scope == "group":
                bucket.pace = Pace.of(share(rate.limit, ours, count), rate.period)
                bucket.full_at = bucket.pace.empty(now)
