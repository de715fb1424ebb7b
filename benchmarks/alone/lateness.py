"""How late delayed tasks are: 100,000 with random due times over 60 s, all waiting before the first is due.

The scheduler is a process of its own, beside one worker of two children. Late is counted twice for each task:
when the broker appended it to its queue, and when its function started, by its row. None may be early.

    make bench ONLY=lateness          (COUNT=100000, OVER=60, AHEAD=25 and WORKER=1 are the defaults)
"""

import json
import os
import platform
import random
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from taskstream import App

if TYPE_CHECKING:
    from taskstream.broker.topics import Topics

COUNT = int(os.environ.get("COUNT", "100000"))
OVER = float(os.environ.get("OVER", "60"))
AHEAD = float(os.environ.get("AHEAD", "25"))
"""Seconds from the first publish to the first due time; all must be published by then."""

WORKER = os.environ.get("WORKER", "1") == "1"
"""Whether a worker runs them, too: it needs the same two cores."""

PATIENCE = 120.0
"""Seconds after the last due time within which all must be done."""

CHUNK = 5_000
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")

app = App(NAME, keyspace=NAME, otlp_endpoint="", partitions=4)


@app.task(retry=None)
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


def publish() -> dict[str, float]:
    """Publishes all, and gives the due time of each id."""
    chance, first = random.Random(COUNT), time.time() + AHEAD
    handles = [
        noop.options(at=first + chance.uniform(0, OVER)).publish_nowait(n) for n in range(COUNT)
    ]
    app.flush(60)
    if time.time() > first:
        raise SystemExit("publishing took longer than AHEAD: give it more seconds")
    return {handle.id: handle.due or 0.0 for handle in handles}


def await_members(topics: "Topics") -> None:
    """Until the scheduler moves, and the worker runs, a first task."""
    noop.options(delay=0.01).publish(0)
    topic = app.names.tasks("tasks", "normal")
    give_up_at = time.monotonic() + PATIENCE
    while sum(topics.end_offsets(topic).values()) < 1 or (
        WORKER and sum(topics.lag(app.names.group("tasks", "normal"), topic).values())
    ):
        if time.monotonic() > give_up_at:
            raise SystemExit("nothing moves")
        time.sleep(0.1)


def await_home(topics: "Topics") -> None:
    """Until as many records have come home."""
    give_up_at = time.monotonic() + AHEAD + OVER + PATIENCE
    while sum(topics.end_offsets(app.names.tasks("tasks", "normal")).values()) < COUNT + 1:
        if time.monotonic() > give_up_at:
            raise SystemExit("not all have come home")
        time.sleep(0.5)


def await_done(topics: "Topics") -> None:
    """Until the worker has finished what has come home."""
    group, topic = app.names.group("tasks", "normal"), app.names.tasks("tasks", "normal")
    give_up_at = time.monotonic() + PATIENCE
    while sum(topics.lag(group, topic).values()):
        if time.monotonic() > give_up_at:
            raise SystemExit("not all were run")
        time.sleep(0.5)


def lateness_at_home(due: dict[str, float]) -> list[float]:
    """Of each task's first record at home, by the broker's clock; in seconds."""
    from taskstream.broker.tail import read_to_end

    late: dict[str, float] = {}
    for record in read_to_end(app.settings, app.names.tasks("tasks", "normal")):
        task_id = record.identity[0]
        if task_id in due:  # but not the first one, which only warmed up
            late.setdefault(task_id, record.timestamp - due[task_id])
    return list(late.values())


def lateness_at_start(due: dict[str, float]) -> list[float]:
    """Of each task's first start, by its row; in seconds."""
    store = app.result_store()
    assert store is not None
    ids = list(due)
    late = []
    for start in range(0, len(ids), CHUNK):
        for task_id, rows in store.read_many(ids[start : start + CHUNK]).items():
            late += [row.started - due[task_id] for row in rows if row.started is not None]
    return late


def told(late: Sequence[float]) -> dict[str, float]:
    """What of it is shown."""
    ordered = sorted(late)
    return {
        "tasks": len(ordered),
        # The broker and Cassandra keep whole milliseconds, cut off.
        "early": sum(seconds < -0.001 for seconds in ordered),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
        "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 1),
        "max_ms": round(1000 * ordered[-1], 1),
    }


def hops(topics: "Topics") -> int:
    """How many records the delay topics have taken: the publishes, and the hops between them."""
    return sum(sum(topics.end_offsets(topic).values()) for topic in app.names.delays)


def measured(topics: "Topics") -> dict[str, object]:
    """Publishes, waits for all, and looks at when they came."""
    from benchmarks.processes import started  # here: workers import this file for its app

    with started(__file__, "scheduler") as scheduler, ExitStack() as worker:
        if WORKER:
            worker.enter_context(started(__file__, "worker", "--no-scheduler"))
        await_members(topics)
        began = time.monotonic()
        due = publish()
        published = time.monotonic() - began
        await_home(topics)
        if WORKER:
            await_done(topics)
        worker.close()
        spent = scheduler.cpu_times()
        figures: dict[str, object] = {
            "published_per_s": round(COUNT / published),
            "hops_per_task": round(hops(topics) / COUNT - 1, 2),
            "scheduler_cpu_s": round(spent.user + spent.system, 1),
            "scheduler_rss_mib": round(scheduler.memory_info().rss / 2**20, 1),
            "home": told(lateness_at_home(due)),
        }
    if WORKER:
        figures["start"] = told(lateness_at_start(due))
    return figures


def main() -> None:
    """Measures, prints one JSON document."""
    from taskstream.admin.provision import init
    from taskstream.broker.topics import Topics

    init(app)
    with Topics(app.settings) as topics:
        try:
            figures = {
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "load": os.getloadavg()[0],
                "count": COUNT,
                "over_s": OVER,
                **measured(topics),
            }
            print(json.dumps(figures, indent=2))
        finally:
            topics.delete(topics.names(f"{NAME}."))
    app.close()


if __name__ == "__main__":
    main()
