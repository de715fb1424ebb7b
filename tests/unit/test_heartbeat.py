"""What a worker's heartbeat tells of what runs there.

Broken on purpose once, and seen to fail: the shortest-running tasks told, what is owed left out.
"""

from taskstream.broker.records import Record
from taskstream.consumer.parent.heartbeat import TOLD_AFTER, TOLD_MOST, running
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.envelope import Place

NOW = 1_700_000_000.0
HEADERS = (("ts-id", b"a"), ("ts-task", b"charge"), ("ts-attempt", b"2"))


def entry(number: int, given_at: float) -> Entry:
    """A task that a child got at that time."""
    place = Place("shop.tasks.high", 1)
    record = Record(place.topic, place.partition, number, b"k", b"", HEADERS, NOW)
    return Entry(number, record, place, 1, "tasks.high", "charge", lookup=False, given_at=given_at)


def test_a_running_task_is_told_with_its_name_and_its_child() -> None:
    """Where it stood, since when it runs, and in which process; 0 where its child has just let go of it."""
    first, second = running([entry(7, NOW - 5), entry(8, NOW - 3)], [], {7: 4242}, NOW)
    assert first == {
        "task_id": "a", "run": 0, "attempt": 2, "topic": "shop.tasks.high", "partition": 1, "offset": 7,
        "since": int((NOW - 5) * 1e6), "task": "charge", "child": 4242,
    }  # fmt: skip
    assert second["child"] == 0


def test_what_has_run_longest_is_told_and_what_is_owed_always() -> None:
    """A bound on the record's size leaves out what began last, and never what others wait to hear of."""
    held = [entry(number, NOW - 10 - number) for number in range(TOLD_MOST + 50)]
    fresh = entry(90_000, NOW - TOLD_AFTER / 2)
    owed = [entry(91_000, NOW - TOLD_AFTER / 2)]
    told = [one["offset"] for one in running([*held, fresh], owed, {}, NOW)]
    assert told == [91_000, *range(TOLD_MOST + 49, 49, -1)]
