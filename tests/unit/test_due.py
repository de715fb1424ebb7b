"""When waiting records move, where to, and how many wait at once.

Broken on purpose once, and seen to fail: hops before what is due (`pop_due`), `hurry` without those that
have yet to hop, no shortest hop, no shortest stay.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.core.control import run_of
from taskstream.core.envelope import Envelope, Place, Stay, enter, write
from taskstream.core.names import Names
from taskstream.core.queue_orders import (
    DRAIN,
    NO_ORDERS,
    PAUSE,
    PURGE,
    QueueOrder,
    QueueOrders,
    of_queue,
    of_task,
)
from taskstream.core.tiers import HOUR, LONGEST_DELAY, SHORTEST_HOP, SHORTEST_STAY, TIERS, tier_for
from taskstream.scheduler.due import (
    COMMON,
    HEAP_BYTES,
    HEAP_RECORDS,
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

NAMES = Names("shop")
SPANS = NAMES.delays
HOME = Place("shop.tasks.high", 3)
RECORD = Record("shop.delay.30s", 0, 7, b"1", b"", (("ts-id", b"1"),), 0.0)


def waiting(due: float) -> Stay:
    """A task that is due then."""
    return Stay(HOME, due)


def test_a_due_record_goes_home() -> None:
    """To exactly the partition it came from."""
    one = Waiting(1, RECORD, 1, HOME, 100.0)
    assert next_move(one, NAMES, 100.0) == Move("shop.tasks.high", 3, home=True)


def test_an_early_record_goes_one_tier_down() -> None:
    """What is left decides the tier; never home before its time."""
    one = Waiting(1, RECORD, 1, HOME, 100.0)
    assert next_move(one, NAMES, 60.0) == Move("shop.delay.30s", None, home=False)
    assert next_move(one, NAMES, 99.9) == Move("shop.delay.0", None, home=False)


def test_a_cancelled_record_goes_home_at_once() -> None:
    """Its owner records it; nobody waits for its time."""
    one = replace(Waiting(1, RECORD, 1, HOME, 100.0), cancelled=True)
    assert next_move(one, NAMES, 0.0) == Move("shop.tasks.high", 3, home=True)


def test_cancels_hurry_what_waits_and_what_arrives() -> None:
    """Those two are due now, and nothing else is."""
    heap = Heap()
    for number in range(3):
        headers = tuple(write(Envelope("charge", id=f"id-{number}", run=number)))
        record = RECORD._replace(offset=number, headers=headers)
        heap.push(record, waiting(1000.0), span=0.0, epoch=1, now=0.0, cancelled=number == 2)
    heap.hurry({run_of("id-0", 0), run_of("id-1", 0)})
    assert sorted(one.record.offset for one in heap.pop_due(0.0)) == [0, 2]
    assert len(heap) == 1


def read_at_once(times: list[tuple[float, float]]) -> Heap:
    """A heap with records of the tier of 5 s, each read when it was written there: (written, due)."""
    heap = Heap()
    for offset, (entered, due) in enumerate(times):
        record = Record("shop.delay.5s", 0, offset, None, b"", (), entered)
        heap.push(record, waiting(due), span=5.0, epoch=1, now=entered)
    return heap


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 200)), max_size=30), st.floats(0, 300))
def test_the_heap_gives_what_moves_by_now(times: list[tuple[float, float]], now: float) -> None:
    """First all that is due, then what is worth a hop; nothing early, nothing left behind."""
    heap = read_at_once(times)
    moved = heap.pop_due(now, hops=100)
    home = [one.due for one in moved if one.due <= now]
    assert sorted(home) == sorted(due for _, due in times if due <= now)
    assert [one.due for one in moved[: len(home)]] == home
    hopped = sorted(one.record.offset for one in moved if one.due > now)
    assert hopped == [
        offset
        for offset, (entered, due) in enumerate(times)
        if entered + 5.0 <= now and due - now >= SHORTEST_HOP
    ]
    assert len(heap) == len(times) - len(moved)
    assert heap.next_at is None or heap.next_at > now


def test_what_is_due_does_not_wait_for_hops() -> None:
    """Hops are made some at a time, those due soonest first; one that has become due needs none any more."""
    heap = read_at_once([(0.0, 100.0 + number) for number in range(5)] + [(0.0, 7.0)])
    assert [one.due for one in heap.pop_due(5.0, hops=2)] == [7.0, 100.0]
    assert heap.next_at == 0.0
    assert [one.due for one in heap.pop_due(102.0, hops=1)] == [101.0, 102.0, 103.0]
    assert [one.due for one in heap.pop_due(103.6, hops=1)] == []
    assert heap.next_at == 104.0


def test_what_is_due_soon_hops_no_more() -> None:
    """A hop takes some milliseconds: with less to go a record would come home late."""
    heap = read_at_once([(0.0, 5.0 + SHORTEST_HOP / 2)])
    assert heap.pop_due(5.0) == []
    assert heap.next_at == 5.0 + SHORTEST_HOP / 2


def test_records_share_what_they_have_in_common() -> None:
    """Nothing of them changes, and a second one brings along little but its id and its times."""
    slim = Slim()

    def one(number: int) -> Record:
        envelope = Envelope(
            "charge", id=f"id-{number}", priority="normal", home=HOME, due=float(number)
        )
        headers = tuple(("".join(name), value) for name, value in write(envelope))
        return RECORD._replace(topic=str(b"shop.delay.30s", "ascii"), headers=headers)

    first, second = slim(one(1)), slim(one(2))
    assert (first, second) == (one(1), one(2))
    assert first.topic is second.topic
    shared = {
        header[0]
        for header, other in zip(first.headers, second.headers, strict=True)
        if header is other
    }
    assert shared == {"ts-task", "ts-priority", "ts-home"}
    assert all(
        header[0] is other[0] for header, other in zip(first.headers, second.headers, strict=True)
    )


def test_a_cancel_finds_what_has_yet_to_hop() -> None:
    """It moves home at once, and the others go on."""
    heap = Heap()
    for offset in range(2):
        headers = tuple(write(Envelope("charge", id=f"id-{offset}")))
        record = Record("shop.delay.5s", 0, offset, None, b"", headers, 0.0)
        heap.push(record, waiting(100.0), span=5.0, epoch=1, now=0.0)
    assert heap.pop_due(5.0, hops=0) == []
    heap.hurry({run_of("id-1", 0)})
    assert [(one.record.offset, one.cancelled) for one in heap.pop_due(5.0)] == [
        (1, True),
        (0, False),
    ]


class Road:
    """One task on its way home: a mover, its clock, a broker with another one, and what goes wrong.

    Args:
        due: its due time, by the clock of those who publish.
        lag: how far the broker's clock is behind the mover's, in seconds; negative where it is ahead.
    """

    def __init__(self, due: float, lag: float) -> None:
        self.due, self.lag = due, lag
        self.real = 0.0
        self.wrong = 0.0  # how far the mover's clock is ahead
        self.hops = 0
        self.home_at: float | None = None
        self._write(NAMES.delay(tier_for(due)))

    @property
    def now(self) -> float:
        """By the mover's clock."""
        return self.real + self.wrong

    def read_again(self) -> None:
        """A mover begins, or begins anew: it reads what stands in the tier."""
        self.heap = Heap()
        span = SPANS[self.record.topic]
        self.heap.push(self.record, Stay(HOME, self.due), span=span, epoch=1, now=self.now)

    def turn(self) -> None:
        """The mover sleeps until something moves, and moves it."""
        assert self.heap.next_at is not None
        wait = self.heap.next_at - self.now
        if wait > 0:
            self.real = max(self.real + wait, math.nextafter(self.real, math.inf))
        for one in self.heap.pop_due(self.now):
            move = next_move(one, NAMES, self.now)
            if move.home:
                assert self.now >= self.due
                self.home_at = self.real
            else:
                self.hops += 1
                self._write(move.topic)

    def _write(self, topic: str) -> None:
        self.record = Record(topic, 0, self.hops, None, b"", (), self.now - self.lag)
        self.read_again()


def drive(road: Road, disturb: Callable[[Road], None] = lambda _road: None) -> None:
    """Lets it go home."""
    for _ in range(20_000):
        if road.home_at is not None:
            return
        disturb(road)
        road.turn()
    raise AssertionError(f"not home after {road.hops} hops, due in {road.due - road.now} s")


@given(st.floats(0, LONGEST_DELAY), st.floats(-3600, 0))
def test_a_task_comes_home_at_its_time(due: float, lag: float) -> None:
    """From a second to a year ahead: not before, no later, in some sixty hops at most."""
    road = Road(due, lag)
    drive(road)
    assert road.home_at is not None
    assert due <= road.home_at <= due + 1e-6
    assert road.hops <= 60


steps = st.tuples(st.floats(0, 1), st.sampled_from(["restart", "step"]), st.floats(-3600, 3600))


@settings(deadline=None)
@given(st.floats(0, LONGEST_DELAY), st.lists(steps, max_size=8))
def test_neither_restarts_nor_clock_steps_bring_it_home_early(
    due: float, troubles: list[tuple[float, str, float]]
) -> None:
    """By the mover's clock; each step may cost some hops more, a restart none."""
    road = Road(due, lag=0.0)
    waiting_for = sorted(troubles)

    def disturb(road: Road) -> None:
        while waiting_for and road.real >= waiting_for[0][0] * due:
            _, what, seconds = waiting_for.pop(0)
            if what == "step":
                road.wrong += seconds
                road.lag += seconds  # the broker's clock does not step along
            road.read_again()

    drive(road, disturb)
    stepped = sum(what == "step" for _, what, _ in troubles)
    # A clock that is ahead of the broker's by an hour or more lets the tiers below be left too soon, and
    # what would come back to its tier stays for half a minute, or for half of its span.
    assert road.hops <= 60 or stepped
    assert road.home_at is not None
    assert road.home_at + road.wrong >= due


@settings(deadline=None)
@given(st.floats(0, LONGEST_DELAY), st.floats(0, 3600))
def test_a_broker_whose_clock_lags_makes_nothing_go_round_and_round(due: float, lag: float) -> None:
    """Each record looks as if it had stayed long enough; it stays for half a minute, or half its span."""
    road = Road(due, lag)
    drive(road)
    assert road.home_at is not None
    assert due <= road.home_at <= due + 1e-6
    # In the tiers that are shorter than the lag, half a minute at a time.
    assert road.hops <= 60 + 2 * 6 * HOUR / SHORTEST_STAY


def test_a_lost_partition_leaves_the_heap() -> None:
    """Its next owner has its records."""
    heap = Heap()
    for partition in (0, 1):
        record = Record("shop.delay.0", partition, 0, None, b"", (), 0.0)
        heap.push(record, waiting(5.0), span=0.0, epoch=1, now=0.0)
    heap.drop({Place("shop.delay.0", 0)})
    assert [one.record.partition for one in heap.pop_due(10.0)] == [1]


A, B = Place("shop.delay.1h", 0), Place("shop.delay.0", 0)
OWN = {A: Load(100, 1000), B: Load(900, 9000)}
NOTHING = Load(0, 0)


def test_a_partition_borrows_what_others_leave() -> None:
    """It pauses only when its own share and all there is to borrow are used up, in records or in bytes."""
    most = Load(OWN[A].records + COMMON.records, 0)
    assert full({A: Load(most.records - 1, 0), B: NOTHING}, OWN, ()) == set()
    assert full({A: most, B: NOTHING}, OWN, ()) == {A}
    assert full({A: Load(1, OWN[A].size_bytes + COMMON.size_bytes), B: NOTHING}, OWN, ()) == {A}


def test_what_is_borrowed_takes_nothing_from_the_shares_of_others() -> None:
    """With the far-off records of one tier everywhere, a near one is still read."""
    everything = Load(OWN[A].records + COMMON.records, 0)
    assert full({A: everything, B: Load(OWN[B].records - 1, 0)}, OWN, {A}) == {A}
    assert full({A: everything, B: OWN[B]}, OWN, {A}) == {A, B}


def test_who_has_read_far_ahead_leaves_half_of_it_to_others() -> None:
    """It borrows half of what there is, and goes on when a quarter is left of it; the others borrow the rest."""
    half = Load(OWN[A].records + COMMON.records // 2, 0)
    assert full({A: half, B: NOTHING}, OWN, (), {A}) == {A}
    assert full({A: half, B: OWN[B]}, OWN, (), {A}) == {A}
    assert full({A: Load(half.records - 1, 0), B: NOTHING}, OWN, (), {A}) == set()
    quarter = Load(OWN[A].records + COMMON.records // 4, 0)
    assert full({A: quarter, B: NOTHING}, OWN, {A}, {A}) == {A}
    assert full({A: Load(quarter.records - 1, 0), B: NOTHING}, OWN, {A}, {A}) == set()
    assert full({A: half, B: NOTHING}, OWN, {A}) == {A}
    assert full({A: Load(half.records - 1, 0), B: NOTHING}, OWN, {A}) == set()


def test_a_paused_partition_goes_on_when_half_is_free() -> None:
    """Pausing throws away what was fetched, so it must not happen for every record that leaves."""
    half = Load(OWN[A].records + COMMON.records // 2, 0)
    assert full({A: half, B: NOTHING}, OWN, {A}) == {A}
    assert full({A: Load(half.records - 1, 0), B: NOTHING}, OWN, {A}) == set()
    # Where others have borrowed it all, half of its own must be free.
    others = Load(OWN[B].records + COMMON.records, 0)
    assert full({A: Load(50, 0), B: others}, OWN, {A}) == {A, B}
    assert full({A: Load(49, 0), B: others}, OWN, {A}) == {B}


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(TIERS), st.integers(0, 100)),
        st.lists(st.integers(1, 20_000), max_size=3),
        min_size=1,
    )
)
def test_the_heap_is_bounded_whatever_waits(waiting: dict[tuple[float, int], list[int]]) -> None:
    """Whoever reads while it may, all partitions together pass the heap by a record each at most."""
    spans = {Place(NAMES.delay(span), number): span for span, number in waiting}
    own = shares(spans)
    assert sum(one.size_bytes for one in own.values()) <= HEAP_BYTES // 2
    in_hand = dict.fromkeys(spans, NOTHING)
    paused: set[Place] = set()
    for (span, number), arrivals in waiting.items():
        place = Place(NAMES.delay(span), number)
        for arriving in arrivals:
            left = arriving
            while left and place not in paused:
                taken = min(left, take_limit(in_hand, own))
                left -= taken
                in_hand[place] = Load(in_hand[place].records + taken, 0)
                paused = full(in_hand, own, paused)
    assert sum(one.records for one in in_hand.values()) <= HEAP_RECORDS + len(spans)
    shortest = [own[place].records for place, span in spans.items() if span == 0]
    others = [own[place].records for place, span in spans.items() if span]
    assert not shortest or not others or min(shortest) > max(others)


@given(
    st.lists(st.floats(0.0, 0.5), min_size=1, max_size=300),
    st.integers(1, 20),
    st.sampled_from([span for span in TIERS if span]),
)
def test_a_full_share_makes_nothing_late(gaps: list[float], room: int, span: float) -> None:
    """In a tier with a span, each record leaves at its time although others have borrowed the rest."""
    entered, clock = [], 0.0
    for gap in gaps:
        clock += gap
        entered.append(clock)
    heap, own = Heap(), {A: Load(room, HEAP_BYTES), B: NOTHING}
    read = moved = 0
    paused: set[Place] = set()
    moves: list[float] = []
    now = 0.0
    while moved < len(entered):
        while read < len(entered) and A not in paused:
            record = RECORD._replace(offset=read, timestamp=entered[read])
            stay = waiting(entered[read] + 2 * span)
            heap.push(record, stay, span=span, epoch=1, now=entered[read])
            read += 1
            paused = full({A: Load(read - moved, 0), B: COMMON}, own, paused)
        assert heap.next_at is not None
        now = max(now, heap.next_at)
        leaving = len(heap.pop_due(now))
        moves += [now] * leaving
        moved += leaving
        paused = full({A: Load(read - moved, 0), B: COMMON}, own, paused)
    assert moves == [at + span for at in entered]


def test_what_no_order_holds_back_any_more_is_free_at_once() -> None:
    """A deferred task when its order is over, a purged one always; others wait for their time."""
    told = Envelope("charge", id="1", home=HOME, due=1000.0, entered=50.0)
    plain = RECORD._replace(headers=tuple(write(told)))
    held = RECORD._replace(headers=tuple(write(told._replace(deferred=True))))
    task, lane = of_task("charge"), of_queue("tasks", "high")
    cases = [
        ([], False, True),
        ([QueueOrder(PAUSE, task, 60.0)], False, False),
        ([QueueOrder(DRAIN, lane, 50.0)], False, True),
        ([QueueOrder(DRAIN, lane, 49.0)], False, False),
        ([QueueOrder(PURGE, task, 50.0)], True, True),
        ([QueueOrder(PURGE, task, 49.0), QueueOrder(PAUSE, lane, 60.0)], False, False),
        ([QueueOrder(PAUSE, of_queue("mail"), 60.0)], False, True),
    ]
    for orders, plain_goes, held_goes in cases:
        standing = QueueOrders(orders)
        assert is_free(plain, HOME, standing, NAMES) is plain_goes
        assert is_free(held, HOME, standing, NAMES) is held_goes
    assert not is_free(held, None, NO_ORDERS, NAMES)


def test_a_record_without_a_hop_has_entered_when_it_was_appended() -> None:
    """A delayed task goes to its tier first: the time of that record counts, here and after each move."""
    first = RECORD._replace(headers=(("ts-task", b"charge"), ("ts-due", b"99.0")), timestamp=50.0)
    moved = first._replace(headers=tuple(enter(first.headers, 50.0)), timestamp=90.0)
    purge = QueueOrders([QueueOrder(PURGE, of_task("charge"), 60.0)])
    assert is_free(first, HOME, purge, NAMES)
    assert is_free(moved, HOME, purge, NAMES)
    assert enter(moved.headers, 90.0) == list(moved.headers)


def test_those_that_are_free_leave_their_tier_at_once() -> None:
    """To their homes, whatever is left of their time; the others wait on."""
    heap = Heap()
    for number in range(3):
        record = RECORD._replace(offset=number)
        heap.push(record, waiting(1000.0), span=5.0, epoch=1, now=0.0)
    heap.free(lambda record, home: record.offset == 1 and home == HOME)
    (one,) = heap.pop_due(1.0)
    assert next_move(one, NAMES, 1.0) == Move("shop.tasks.high", 3, home=True)
    assert len(heap) == 2
