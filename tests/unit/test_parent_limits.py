"""Which limited tasks may be given out: properties, against what users were promised.

Broken on purpose once, and seen to fail: a bucket that holds the whole limit; shares that are rounded
up; a key's bucket that is full at a takeover; a fresh task that takes a token before those that wait.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.limits import PRUNE_KEYS, UNDERWAY, Pace, TaskLimits
from taskstream.consumer.pipe import TaskFacts
from taskstream.core.envelope import Place
from taskstream.core.errors import ConfigError
from taskstream.core.limits import Concurrency, Rate, share

LANE = "tasks.normal"


def place(partition: int, lane: str = LANE) -> Place:
    """A partition of a lane's topic."""
    return Place(f"shop.{lane}", partition)


def facts(concurrency: Sequence[Concurrency] = (), rates: Sequence[Rate] = ()) -> TaskFacts:
    """A task with these limits."""
    return TaskFacts("charge", "tasks", "async", False, tuple(concurrency), tuple(rates))


class Worker:
    """A worker that has room for everything: only limits hold its tasks back."""

    def __init__(self, task: TaskFacts, numbers: "count[int]") -> None:
        self.limits = TaskLimits({"charge": task, "charge_old": task})
        self.ready: deque[Entry] = deque()
        self.running: list[Entry] = []
        self.started: list[tuple[float, Entry]] = []
        self._numbers = numbers

    def own(self, partitions: Iterable[int], *, count: int, now: float, lane: str = LANE) -> None:
        """Takes these partitions over."""
        for partition in partitions:
            self.limits.own(lane, place(partition, lane), count, now)

    def arrive(self, partition: int, key: bytes | None = None, lane: str = LANE) -> Entry:
        """A task comes."""
        number = next(self._numbers)
        record = Record(place(partition, lane).topic, partition, number, key, b"", (), 0.0)
        entry = Entry(number, record, place(partition, lane), 1, lane, task="charge", lookup=False)
        self.ready.append(entry)
        return entry

    def turn(self, now: float) -> list[Entry]:
        """Starts all that may."""
        self.ready.extendleft(reversed(self.limits.wake(now)))
        fresh = []
        while self.ready:
            entry = self.ready.popleft()
            if self.limits.admit(entry, now):
                fresh.append(entry)
        self.running += fresh
        self.started += [(now, entry) for entry in fresh]
        return fresh

    def end(self, entry: Entry) -> None:
        """A task has ended."""
        self.running.remove(entry)
        self.limits.end(entry)


def most_in_any(period: float, times: Iterable[float]) -> int:
    """The largest number of starts in a window of that length, its end left out."""
    ordered = sorted(times)
    return max(
        (
            sum(first <= at < first + period for at in ordered[n:])
            for n, first in enumerate(ordered)
        ),
        default=0,
    )


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_shares_add_up(limit: int, count_: int, data: st.DataObject) -> None:
    """However the partitions are dealt out, all shares together are the limit."""
    count_ = min(count_, limit)
    owners = [data.draw(st.integers(0, 3)) for _ in range(count_)]
    shares = [
        share(
            limit, [partition for partition in range(count_) if owners[partition] == owner], count_
        )
        for owner in range(4)
    ]
    assert sum(shares) == limit


@given(
    limit=st.integers(1, 400),
    period=st.sampled_from([0.2, 1.0, 60.0]),
    late=st.lists(st.floats(0, 1), min_size=50, max_size=50),
    pauses=st.lists(st.floats(0, 1), min_size=10, max_size=10),
)
def test_a_rate_holds_in_any_period(
    limit: int, period: float, late: list[float], pauses: list[float]
) -> None:
    """Turns come late, starts come a little after the giving out, work comes in bursts: never more."""
    pace = Pace.of(limit, period)
    now, full_at, starts = 0.0, 0.0, []
    for turn in range(150):
        now = max(now, pace.due(full_at)) + late[turn % 50] * 0.03
        if turn % 15 == 14:
            now += pauses[turn // 15] * 2 * period
        for _ in range(pace.tokens(full_at, now)):
            full_at = pace.spend(full_at, now)
            starts.append(now + late[(turn + 7) % 50] * UNDERWAY * 0.99)
    assert most_in_any(period, starts) <= limit


def test_a_rate_is_used_up() -> None:
    """What is given away for exactness is little: 5 % at 10 a second, 7 % at 1,000, nothing at 100 a minute."""
    for limit, period, least in ((10, 1.0, 0.94), (1000, 1.0, 0.92), (100, 60.0, 0.99)):
        pace = Pace.of(limit, period)
        now, full_at, starts = 0.0, 0.0, 0
        while now < 20 * period:
            now = max(now + 0.005, pace.due(full_at))
            for _ in range(pace.tokens(full_at, now)):
                full_at, starts = pace.spend(full_at, now), starts + 1
        assert least <= starts / (20 * limit) <= 1.01


@given(
    limits=st.tuples(st.integers(1, 5), st.integers(1, 5), st.booleans()),
    steps=st.lists(st.sampled_from(["arrive", "end", "wait"]), max_size=80),
    data=st.data(),
)
def test_a_worker_keeps_limits_order_and_work_going(
    limits: tuple[int, int, bool], steps: list[str], data: st.DataObject
) -> None:
    """Never more at once, in the order they came, never idle for nothing, and nobody starves."""
    most, rate, rated = limits
    worker = Worker(
        facts([Concurrency(most, "worker")], [Rate(rate, 1.0, "worker")] if rated else []), count()
    )
    worker.own([0], count=1, now=0.0)
    now, waiting = 1.0, 0
    for step in steps:
        if step == "arrive":
            worker.arrive(0)
            waiting += 1
        elif step == "end" and worker.running:
            worker.end(data.draw(st.sampled_from(worker.running)))
        else:
            now += data.draw(st.floats(0, 0.7))
        waiting -= len(worker.turn(now))
        assert len(worker.running) <= most
        if waiting and len(worker.running) < most:
            assert rated
            assert now < worker.limits.next_at < now + 2.0
    for _ in range(waiting):
        for entry in list(worker.running):
            worker.end(entry)
        if not (fresh := worker.turn(now)):
            now = worker.limits.next_at
            fresh = worker.turn(now)
        assert fresh
        waiting -= len(fresh)
        if not waiting:
            break
    assert waiting == 0
    numbers = [entry.number for _, entry in worker.started]
    assert numbers == sorted(numbers)
    assert most_in_any(1.0, (at for at, _ in worker.started)) <= rate or not rated


@given(
    extra=st.integers(0, 5),
    partitions=st.integers(1, 4),
    moves=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.floats(0, 0.9)), max_size=25),
    keyed=st.booleans(),
)
@example(1, 4, [(1, 1, 0.5), (3, 0, 0.5), *[(0, 0, 0.75)] * 2, (0, 0, 0.5), (3, 0, 0.5), (2, 1, 0.0), (0, 0, 0.0)], True)  # fmt: skip
def test_a_group_keeps_a_limit_while_partitions_move(
    extra: int,
    partitions: int,
    moves: list[tuple[int, int, float]],
    keyed: bool,
) -> None:
    """Two workers, partitions that wander: never more in a period, nor at once but for what ran before."""
    limit, numbers = partitions + extra, count()
    scope = Rate(2, 1.0, "key") if keyed else Rate(limit, 1.0, "group")
    workers = [Worker(facts([Concurrency(limit)], [scope]), numbers) for _ in range(2)]
    owner = [0] * partitions
    workers[0].own(range(partitions), count=partitions, now=0.0)
    now = 0.0
    left = [0, 0]  # what each ran beyond its share when a partition went
    for which, to, pause in moves:
        partition = which % partitions
        for _ in range(3):
            workers[owner[partition]].arrive(partition, b"k%d" % partition if keyed else None)
        for index, worker in enumerate(workers):
            ours = [number for number in range(partitions) if owner[number] == index]
            allowed = share(limit, ours, partitions)
            left[index] = min(left[index], max(0, len(worker.running) - allowed))
            worker.turn(now)
            assert len(worker.running) <= allowed + left[index]
        now += pause
        before = workers[owner[partition]]
        if to != owner[partition]:
            back = before.limits.drop([place(partition)], now)
            for entry in [one for one in before.running if one.place == place(partition)]:
                before.end(entry)  # within its grace
            owner[partition] = to
            left[1 - to] = len(before.running)
            workers[to].own([partition], count=partitions, now=now)
            workers[to].ready += back
        elif before.running:
            before.end(before.running[0])
    starts = [one for worker in workers for one in worker.started]
    if keyed:
        for key in {entry.record.key for _, entry in starts}:
            assert most_in_any(1.0, (at for at, entry in starts if entry.record.key == key)) <= 2
    else:
        assert most_in_any(1.0, (at for at, _ in starts)) <= limit


def test_nobody_overtakes_who_waits() -> None:
    """A slot that gets free is for who has waited, though a fresh task is tried first."""
    worker = Worker(facts([Concurrency(1, "worker")]), count())
    first, second = worker.arrive(0), worker.arrive(0)
    assert worker.turn(1.0) == [first]
    worker.end(first)
    fresh = worker.arrive(0)
    assert not worker.limits.admit(worker.ready.pop(), 1.0)
    assert worker.turn(1.0) == [second]
    worker.end(second)
    assert worker.turn(1.0) == [fresh]


def test_a_waiting_key_holds_up_no_other() -> None:
    """A key that has used its rate up waits aside; others pass, and it comes when it is due."""
    worker = Worker(facts(rates=[Rate(1, 10.0, "key")]), count())
    worker.own([0], count=1, now=0.0)
    now = 100.0
    worker.arrive(0, b"a")
    assert len(worker.turn(now)) == 1
    late = worker.arrive(0, b"a")
    other = worker.arrive(0, b"b")
    assert worker.turn(now) == [other]
    assert worker.limits.next_at == pytest.approx(now + 10 + UNDERWAY)
    assert worker.turn(now + 5) == []
    assert worker.turn(worker.limits.next_at) == [late]
    assert worker.limits.next_at == float("inf")


def test_a_key_is_new_to_its_next_owner() -> None:
    """Nobody wrote down when it started last, so its first token takes one interval to come."""
    worker = Worker(facts(rates=[Rate(4, 10.0, "key")]), count())
    worker.own([0], count=1, now=100.0)
    entry = worker.arrive(0, b"a")
    assert worker.turn(100.0) == []
    assert worker.limits.next_at == pytest.approx(100 + (10 + UNDERWAY) / 4)
    assert worker.turn(102.6) == [entry]


def test_full_buckets_are_forgotten() -> None:
    """Memory holds the keys of the last period, not those of all times."""
    worker = Worker(facts(rates=[Rate(1, 1.0, "key")]), count())
    worker.own([0], count=1, now=0.0)
    for number in range(5 * PRUNE_KEYS):
        worker.arrive(0, b"%d" % number)
        assert worker.turn(10.0 + number * 0.01)
    (keys,) = next(iter(worker.limits._gates.values())).keys
    assert len(keys._full_at) <= PRUNE_KEYS


def test_lanes_share_what_is_a_workers() -> None:
    """A limit per worker holds over all priorities together, and each alias counts as the task."""
    worker = Worker(facts([Concurrency(2, "worker")]), count())
    for lane in (LANE, "tasks.high"):
        worker.own([0], count=1, now=0.0, lane=lane)
        worker.arrive(0, lane=lane)
        worker.arrive(0, lane=lane).task = "charge_old"
    assert len(worker.turn(1.0)) == 2
    worker.end(worker.running[0])
    assert len(worker.turn(1.0)) == 1


def test_what_waits_goes_with_its_partition() -> None:
    """A dropped partition gives back its waiting tasks, and takes its share along."""
    worker = Worker(facts([Concurrency(2)]), count())
    worker.own([0, 1], count=2, now=0.0)
    kept = [worker.arrive(0) for _ in range(3)]
    gone = [worker.arrive(1) for _ in range(2)]
    assert worker.turn(1.0) == kept[:2]
    assert worker.limits.drop([place(1)], 1.0) == gone
    worker.end(kept[0])
    assert worker.turn(1.0) == [], "one is all that may run with one of two partitions"
    worker.end(kept[1])
    assert worker.turn(1.0) == [kept[2]]


def test_a_limit_below_the_partitions_is_refused() -> None:
    """A partition whose share is nothing would stand still: the error says what to do."""
    worker = Worker(facts([Concurrency(3)]), count())
    with pytest.raises(ConfigError, match=r"task charge: .*limit=3.* 4 partitions.*Queue"):
        worker.own([0], count=4, now=0.0)
    worker.own([0], count=4, now=0.0, lane="elsewhere.normal")
    assert worker.arrive(0, lane="elsewhere.normal") in worker.turn(1.0)
