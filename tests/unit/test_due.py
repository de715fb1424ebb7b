"""When waiting records move, and where to."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.core.envelope import Envelope, Place
from taskstream.core.names import Names
from taskstream.scheduler.due import Heap, Move, next_move

NAMES = Names("shop")
HOME = Place("shop.tasks.high", 3)


def waiting(due: float) -> Envelope:
    """A task that is due then."""
    return Envelope("charge", id="1", home=HOME, due=due)


def test_a_due_record_goes_home() -> None:
    """To exactly the partition it came from."""
    assert next_move(waiting(100.0), NAMES, 100.0) == Move("shop.tasks.high", 3, home=True)


def test_an_early_record_goes_one_tier_down() -> None:
    """What is left decides the tier; never home before its time."""
    assert next_move(waiting(100.0), NAMES, 60.0) == Move("shop.delay.30s", None, home=False)
    assert next_move(waiting(100.0), NAMES, 99.9) == Move("shop.delay.0", None, home=False)


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
