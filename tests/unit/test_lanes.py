"""Which task goes next, without any Kafka."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.consumer.parent.lanes import Entry, Lanes
from taskstream.core.envelope import Place

PLACE = Place("shop.tasks.high", 0)


def entries(
    keys: Sequence[bytes | None],
    lane: str = "high",
    place: Place = PLACE,
    numbers: Iterator[int] | None = None,
) -> list[Entry]:
    """An entry for each key, in order."""
    numbers = numbers or count()
    return [
        Entry(
            number,
            Record(place.topic, place.partition, number, key, b"", (), 0.0),
            place,
            epoch=1,
            lane=lane,
            lookup=False,
        )
        for number, key in zip(numbers, keys, strict=False)
    ]


def test_lanes_share_by_weight() -> None:
    """With work in every lane, each is served in proportion to its weight, at any batch size."""
    for batch in (1, 2, 7, 250):
        lanes = Lanes({"high": 6, "normal": 3, "low": 1})
        numbers = count()
        for lane in ("high", "normal", "low"):
            for entry in entries([None] * 1000, lane, numbers=numbers):
                lanes.push(entry)
        taken: list[Entry] = []
        while len(taken) < 1000:
            taken += lanes.take(min(batch, 1000 - len(taken)))
        assert Counter(entry.lane for entry in taken) == {"high": 600, "normal": 300, "low": 100}


def test_a_bound_lane_leaves_its_share_too() -> None:
    """No more than its bound is taken of it, and the others go on as if it had nothing ready."""
    lanes = Lanes({"high": 6, "low": 1})
    numbers = count()
    for lane in ("high", "low"):
        for entry in entries([None] * 100, lane, numbers=numbers):
            lanes.push(entry)
    lanes.bound("high", 3)
    assert lanes.ready == 103
    assert Counter(entry.lane for entry in lanes.take(50)) == {"high": 3, "low": 47}
    assert Counter(entry.lane for entry in lanes.take(50)) == {"low": 50}
    lanes.bound("high", 1)
    assert Counter(entry.lane for entry in lanes.take(50)) == {"high": 1, "low": 3}


def test_an_idle_lane_leaves_its_share() -> None:
    """A lane without work costs the others nothing."""
    lanes = Lanes({"high": 6, "low": 1})
    for entry in entries([None] * 10, "low"):
        lanes.push(entry)
    assert len(lanes.take(10)) == 10


@given(keys=st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=40), data=st.data())
def test_a_key_is_held_by_one_task_in_order(keys: list[bytes | None], data: st.DataObject) -> None:
    """Tasks of one key run one at a time and in order; others are never held up by them."""
    lanes = Lanes({"high": 1})
    for entry in entries(keys):
        lanes.push(entry)
    running: list[Entry] = []
    order: list[Entry] = []
    while lanes.ready or running:
        for entry in lanes.take(data.draw(st.integers(1, 5))):
            running.append(entry)
            order.append(entry)
        held = [entry.record.key for entry in running if entry.record.key is not None]
        assert len(held) == len(set(held))
        ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
        lanes.release(ended)
    assert len(order) == len(keys)
    for key in (b"a", b"b", b"c"):
        numbers = [entry.number for entry in order if entry.record.key == key]
        assert numbers == sorted(numbers)


def test_a_revoked_partition_leaves_nothing_behind() -> None:
    """Dropping a partition takes its tasks and keys out, and no other partition's."""
    lanes = Lanes({"high": 1})
    other = Place(PLACE.topic, 1)
    numbers = count()
    gone, kept = (
        entries([b"k"] * 3, numbers=numbers),
        entries([b"k"] * 2, place=other, numbers=numbers),
    )
    for entry in gone + kept:
        lanes.push(entry)
    running = lanes.take(1)
    assert running == [gone[0]]
    assert {entry.number for entry in lanes.drop({PLACE})} == {entry.number for entry in gone[1:]}
    lanes.release(running[0])
    assert lanes.take(5) == [kept[0]]
    lanes.release(kept[0])
    assert lanes.take(5) == [kept[1]]
