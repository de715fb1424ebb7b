"""Which workers are alive, by what they have said of themselves."""

from taskstream.admin.workers import RunningTask, alive
from taskstream.broker.records import Record
from taskstream.schemas.records import Records

RECORDS = Records()
NOW = 1_700_000_000.0


def heartbeat(worker: str, started: float, *, at: float = NOW, children: int = 2) -> Record:
    """What a worker says of itself while it runs one task."""
    fields = {
        "worker": worker, "host": "h", "pid": 7, "version": "0.1.0", "queues": ["tasks"],
        "started": int(started * 1e6), "at": int(at * 1e6), "children": children, "halted": [],
        "paused": ["task:charge"], "running": [
            {
                "task_id": "a", "run": 1, "attempt": 2, "topic": "shop.tasks.high",
                "partition": 3, "offset": 9, "since": int(started * 1e6),
                "task": "charge", "child": 8,
            }
        ],
    }  # fmt: skip
    value = RECORDS.encode("heartbeat", fields)
    return Record("shop.workers", 0, 0, worker.encode(), value, (), at)


def test_the_last_word_of_each_counts() -> None:
    """The oldest first, with what it runs."""
    said = [
        heartbeat("w-2", NOW - 10),
        heartbeat("w-1", NOW - 20, children=2),
        heartbeat("w-1", NOW - 20, children=5),
    ]
    first, second = alive(said, NOW)
    assert (first.worker, first.children, first.since) == ("w-1", 5, NOW - 20)
    assert first.running == (RunningTask("a", 1, 2, "shop.tasks.high/3/9", NOW - 20, "charge", 8),)
    assert first.paused == ("task:charge",)
    assert second.worker == "w-2"


def test_who_has_gone_or_is_silent_is_not_alive() -> None:
    """A goodbye, a minute of silence, and a worker of another version that can't be read."""
    said = [
        heartbeat("w-1", NOW - 500),
        Record("shop.workers", 0, 1, b"w-1", None, (), NOW),
        heartbeat("w-2", NOW - 500, at=NOW - 61),
        Record("shop.workers", 0, 2, b"w-3", b"\xc3\x01unknown!", (), NOW),
    ]
    assert alive(said, NOW) == []
