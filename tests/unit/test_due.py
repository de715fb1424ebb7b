"""When waiting records move, where to, and how many wait at once."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.core.control import run_of
from taskstream.core.envelope import Envelope, Place, enter, write
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
from taskstream.core.tiers import TIERS
from taskstream.scheduler.due import (
    COMMON,
    HEAP_BYTES,
    HEAP_RECORDS,
    Heap,
    Load,
    Move,
    Waiting,
    full,
    is_free,
    next_move,
    shares,
    take_limit,
)

NAMES = Names("shop")
HOME = Place("shop.tasks.high", 3)
RECORD = Record("shop.delay.30s", 0, 7, b"1", b"", (("ts-id", b"1"),), 0.0)


def waiting(due: float) -> Envelope:
    """A task that is due then."""
    return Envelope("charge", id="1", home=HOME, due=due)


def test_a_due_record_goes_home() -> None:
    """To exactly the partition it came from."""
    one = Waiting(100.0, 1, RECORD, 1, HOME, 100.0)
    assert next_move(one, NAMES, 100.0) == Move("shop.tasks.high", 3, home=True)


def test_an_early_record_goes_one_tier_down() -> None:
    """What is left decides the tier; never home before its time."""
    one = Waiting(60.0, 1, RECORD, 1, HOME, 100.0)
    assert next_move(one, NAMES, 60.0) == Move("shop.delay.30s", None, home=False)
    assert next_move(one, NAMES, 99.9) == Move("shop.delay.0", None, home=False)


def test_a_cancelled_record_goes_home_at_once() -> None:
    """Its owner records it; nobody waits for its time."""
    one = replace(Waiting(60.0, 1, RECORD, 1, HOME, 100.0), cancelled=True)
    assert next_move(one, NAMES, 0.0) == Move("shop.tasks.high", 3, home=True)


def test_cancels_hurry_what_waits_and_what_arrives() -> None:
    """Those two are due now, and nothing else is."""
    heap = Heap()
    for number in range(3):
        headers = tuple(write(Envelope("charge", id=f"id-{number}", run=number)))
        record = RECORD._replace(offset=number, headers=headers)
        heap.push(record, waiting(1000.0), span=0.0, epoch=1, cancelled=number == 2)
    heap.hurry({run_of("id-0", 0), run_of("id-1", 0)})
    assert sorted(one.record.offset for one in heap.pop_due(0.0)) == [0, 2]
    assert len(heap) == 1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 200)), max_size=30), st.floats(0, 300))
def test_the_heap_gives_what_moves_by_now_in_order(
    times: list[tuple[float, float]], now: float
) -> None:
    """Nothing early, nothing left behind, the longest-due first."""
    heap = Heap()
    for offset, (entered, due) in enumerate(times):
        record = Record("shop.delay.5s", 0, offset, None, b"", (), entered)
        heap.push(record, waiting(due), span=5.0, epoch=1)
    moved = heap.pop_due(now)
    expected = sorted(min(due, entered + 5.0) for entered, due in times)
    assert [one.moves_at for one in moved] == [at for at in expected if at <= now]
    assert len(heap) == len(times) - len(moved)
    assert heap.next_at is None or heap.next_at > now


def test_a_lost_partition_leaves_the_heap() -> None:
    """Its next owner has its records."""
    heap = Heap()
    for partition in (0, 1):
        record = Record("shop.delay.0", partition, 0, None, b"", (), 0.0)
        heap.push(record, waiting(5.0), span=0.0, epoch=1)
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
            heap.push(record, waiting(entered[read] + 2 * span), span=span, epoch=1)
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
        heap.push(record, waiting(1000.0), span=5.0, epoch=1)
    heap.free(lambda record, home: record.offset == 1 and home == HOME)
    (one,) = heap.pop_due(1.0)
    assert next_move(one, NAMES, 1.0) == Move("shop.tasks.high", 3, home=True)
    assert len(heap) == 2
