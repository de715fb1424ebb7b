"""Whether an earlier owner still runs what the commit says it holds."""

from taskstream.broker.offsets import Held
from taskstream.broker.records import Record
from taskstream.consumer.parent.holders import Beats
from taskstream.core.envelope import Place
from taskstream.schemas.records import Records

PLACE = Place("shop.tasks.high", 3)
RECORDS = Records()
HELD = Held(17, "w1", since_us=1_000)


def beat(at_us: int, *offsets: int, worker: str = "w1", timestamp: float = 100.0) -> Record:
    """A heartbeat that lists tasks of `PLACE`."""
    running = [
        {
            "task_id": "t",
            "run": 0,
            "attempt": 1,
            "topic": PLACE.topic,
            "partition": PLACE.partition,
            "offset": offset,
            "since": 0,
            "task": "charge",
            "child": 8,
        }
        for offset in offsets
    ]
    fields = {
        "worker": worker, "host": "h", "pid": 1, "version": "1", "queues": [], "started": 0,
        "at": at_us, "children": 1, "halted": [], "paused": [], "running": running,
    }  # fmt: skip
    value = RECORDS.encode("heartbeat", fields)
    return Record("shop.workers", 0, 0, worker.encode(), value, (), timestamp)


def heard(*records: Record, complete: bool = True) -> Beats:
    """What is known after these."""
    beats = Beats(RECORDS, silence=10.0)
    beats.hear(records, complete)
    return beats


def test_a_listed_task_is_held() -> None:
    """The holder says so itself."""
    assert heard(beat(2_000, 16, 17)).hold(PLACE, HELD)


def test_a_later_heartbeat_without_it_frees_it() -> None:
    """It has ended: the store tells how."""
    assert not heard(beat(1_000, 16)).hold(PLACE, HELD)
    assert not heard(beat(1_000, 17), beat(3_000)).hold(PLACE, HELD)


def test_a_heartbeat_from_before_the_hold_proves_nothing() -> None:
    """It may have been written before the task began to run."""
    assert heard(beat(999, 16)).hold(PLACE, HELD)


def test_nothing_is_free_before_all_is_read() -> None:
    """What the topic says last is not known yet."""
    assert heard(complete=False).hold(PLACE, HELD)
    assert heard(beat(1_000), complete=False).hold(PLACE, HELD)


def test_a_silent_worker_is_gone() -> None:
    """By what others have written since, us among them: no clock of ours counts."""
    silent = beat(2_000, 17)
    assert heard(silent, beat(1, worker="w2", timestamp=110.0)).hold(PLACE, HELD)
    assert not heard(silent, beat(1, worker="w2", timestamp=110.1)).hold(PLACE, HELD)


def test_a_goodbye_frees_everything() -> None:
    """A worker that has left, or was never heard of, runs nothing."""
    goodbye = Record("shop.workers", 0, 0, b"w1", None, (), 100.0)
    assert not heard(beat(2_000, 17), goodbye).hold(PLACE, HELD)
    assert not heard(beat(2_000, 17, worker="w2")).hold(PLACE, HELD)


def test_a_worker_of_another_version_holds_until_it_is_silent() -> None:
    """What can't be read changes nothing that was read before."""
    foreign = Record("shop.workers", 0, 0, b"w1", b"\x00\x00", (), 100.0)
    assert heard(beat(2_000, 17), foreign).hold(PLACE, HELD)
