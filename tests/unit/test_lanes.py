"""Which task goes next, without any Kafka.

Broken on purpose once, and seen to fail: a round that begins anew with each `take`; `drop` that keeps
the locks.
"""

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
            task="charge",
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


@given(
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    limits=st.lists(st.integers(1, 40), min_size=1, max_size=60),
)
def test_shares_hold_whatever_is_asked_for(weights: list[int], limits: list[int]) -> None:
    """With work in every lane, what each has given is its share, to less than one round."""
    lanes = Lanes({f"tasks.p{number}": weight for number, weight in enumerate(weights)})
    numbers = count()
    for number in range(len(weights)):
        for entry in entries([None] * 2_500, f"tasks.p{number}", numbers=numbers):
            lanes.push(entry)
    given_: Counter[str] = Counter()
    for limit in limits:
        taken = lanes.take(limit)
        assert len(taken) == limit, "there is work for all that is asked for"
        given_.update(entry.lane for entry in taken)
        rounds = given_.total() / sum(weights)
        for number, weight in enumerate(weights):
            assert abs(given_[f"tasks.p{number}"] - rounds * weight) <= weight


def test_what_is_reserved_is_for_urgent_lanes_alone() -> None:
    """Lanes that are not urgent get no more than their part, however much of the rest is free."""
    lanes = Lanes({"tasks.high": 6, "tasks.normal": 3, "tasks.low": 1, "mail.only": 1})
    assert lanes.urgent == {"tasks.high"}
    numbers = count()
    for lane in ("tasks.normal", "tasks.low"):
        for entry in entries([None] * 400, lane, numbers=numbers):
            lanes.push(entry)
    assert Counter(entry.lane for entry in lanes.take(100, common=40)) == {
        "tasks.normal": 30,
        "tasks.low": 10,
    }
    assert lanes.take(5, common=0) == []
    for entry in entries([None] * 50, "tasks.high", numbers=numbers):
        lanes.push(entry)
    assert {entry.lane for entry in lanes.take(5, common=0)} == {"tasks.high"}


def test_lanes_keep_their_shares_in_what_is_left_over() -> None:
    """One place at a time for those that are not urgent: they share it by weight all the same."""
    lanes = Lanes({"tasks.high": 6, "tasks.normal": 3, "tasks.low": 1})
    numbers = count()
    for lane in ("tasks.normal", "tasks.low"):
        for entry in entries([None] * 400, lane, numbers=numbers):
            lanes.push(entry)
    taken = [entry for _ in range(200) for entry in lanes.take(10, common=1)]
    assert Counter(entry.lane for entry in taken) == {"tasks.normal": 150, "tasks.low": 50}


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


@given(data=st.data())
def test_nothing_is_lost_or_given_twice(data: st.DataObject) -> None:
    """Any order of push, take, release, come-back and drop: each entry is in one place, in its order.

    A naive model keeps what waits, what runs and what is over.
    """
    lanes = Lanes({"tasks.high": 3, "tasks.low": 1})
    places = [Place(PLACE.topic, 0), Place(PLACE.topic, 1)]
    numbers = count()
    waiting: dict[int, Entry] = {}
    running: dict[int, Entry] = {}
    started: list[Entry] = []
    for _ in range(data.draw(st.integers(0, 60))):
        match data.draw(st.sampled_from(["push", "take", "end", "come back", "drop"])):
            case "push":
                (entry,) = entries(
                    [data.draw(st.sampled_from([b"a", b"b", None]))],
                    data.draw(st.sampled_from(["tasks.high", "tasks.low"])),
                    data.draw(st.sampled_from(places)),
                    numbers,
                )
                waiting[entry.number] = entry
                lanes.push(entry)
            case "take":
                for entry in lanes.take(data.draw(st.integers(1, 5))):
                    running[entry.number] = waiting.pop(entry.number)
                    started.append(entry)
            case "end" if running:
                lanes.release(running.pop(data.draw(st.sampled_from(sorted(running)))))
            case "come back" if running:
                entry = running.pop(data.draw(st.sampled_from(sorted(running))))
                waiting[entry.number] = entry
                started.remove(entry)
                lanes.push_again(entry)
            case "drop":
                place = data.draw(st.sampled_from(places))
                gone = {number for number, entry in waiting.items() if entry.place == place}
                assert {entry.number for entry in lanes.drop({place})} == gone
                for number in gone:
                    del waiting[number]
                for number in [n for n, entry in running.items() if entry.place == place]:
                    del running[number]
                started = [entry for entry in started if entry.place != place]
        held = [entry.lock for entry in running.values() if entry.lock is not None]
        assert len(held) == len(set(held))
    while waiting or running:
        for entry in lanes.take(100):
            running[entry.number] = waiting.pop(entry.number)
            started.append(entry)
        assert running, "what waits can be given out once what runs has ended"
        for entry in running.values():
            lanes.release(entry)
        running.clear()
    for lock in {entry.lock for entry in started} - {None}:
        mine = [entry.number for entry in started if entry.lock == lock]
        assert mine == sorted(mine)
