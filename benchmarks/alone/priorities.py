"""How long a high-priority task waits while low ones fill everything but the reserved slots.

A backlog of low tasks of 10 ms, one worker of two children, and a high task now and then: it prints
how long those waited from their publish to their start (p50, p99), and how many of either kind were
done meanwhile. Then both kinds are kept waiting, and the shares are those of the weights, 6 to 1.

    make bench ONLY=priorities           (LOW=1000000 sets the backlog, default 5000)
"""

import asyncio
import json
import os
import platform
import tempfile
import time
import uuid
from pathlib import Path

from benchmarks.processes import started

from taskstream import App, Handle
from taskstream.admin.provision import init
from taskstream.broker.topics import Topics

LOW = int(os.environ.get("LOW", "5000"))
SECONDS = float(os.environ.get("SECONDS", "10"))
PAUSE = 0.02
"""Seconds between two high tasks."""

STARTS = Path(os.environ.setdefault("BENCH_STARTS", f"{tempfile.gettempdir()}/{uuid.uuid4().hex}"))
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")

app = App(NAME, keyspace=NAME, otlp_endpoint="", queues={"tasks": {"high": 6, "low": 1}})


@app.task(priority="low", retry=None)
async def ten_milliseconds(n: int) -> int:
    """What fills the slots."""
    await asyncio.sleep(0.01)
    return n


@app.task(priority="high", retry=None)
async def urgent(n: int, published: float) -> int:
    """Notes how long it has waited."""
    waited = time.time() - published
    note(waited)
    return n


def note(waited: float) -> None:
    """Writes one line, in one append, which two processes may do at a time."""
    with STARTS.open("a", encoding="utf-8") as starts:
        starts.write(f"{waited:.6f}\n")


def done(topics: Topics, priority: str) -> int:
    """How many of a priority's tasks are committed."""
    offsets = topics.committed(
        app.names.group("tasks", priority), app.names.tasks("tasks", priority)
    )
    return sum(offset or 0 for offset in offsets.values())


def wait_until_busy(topics: Topics) -> None:
    """Until the first thousand low tasks are done."""
    give_up_at = time.monotonic() + 120
    while done(topics, "low") < min(1000, LOW // 4):
        if time.monotonic() > give_up_at:
            raise SystemExit("the worker did not begin")
        time.sleep(0.1)


def now_and_then(topics: Topics) -> dict[str, float]:
    """Publishes high tasks one by one while low ones fill the slots; how those fared."""
    before, started = done(topics, "low"), time.monotonic()
    handles: list[Handle[int]] = []
    while time.monotonic() < started + SECONDS and done(topics, "low") < LOW:
        handles.append(urgent.publish_nowait(len(handles), time.time()))
        time.sleep(PAUSE)
    seconds = time.monotonic() - started
    low = done(topics, "low") - before
    handles[-1].result(timeout=60)
    waits = sorted(float(line) for line in STARTS.read_text().splitlines())
    return {
        "high_tasks": len(handles),
        "high_wait_p50_ms": round(1000 * waits[len(waits) // 2], 1),
        "high_wait_p99_ms": round(1000 * waits[min(len(waits) - 1, len(waits) * 99 // 100)], 1),
        "high_wait_max_ms": round(1000 * waits[-1], 1),
        "low_per_s_meanwhile": round(low / seconds),
    }


def both_waiting(topics: Topics) -> dict[str, float]:
    """Publishes as many high tasks as are low ones left, and looks at the shares of what gets done."""
    count = min(LOW - done(topics, "low"), 20_000)
    urgent.publish_many({"n": n, "published": time.time()} for n in range(count))
    before = (
        done(topics, "low"),
        done(topics, "high"),
    )  # what was done while these came is not shared
    while done(topics, "high") - before[1] < count // 3 and done(topics, "low") < LOW:
        time.sleep(0.05)
    low, high = done(topics, "low") - before[0], done(topics, "high") - before[1]
    return {"high_done_while_both_wait": high, "low_done_while_both_wait": low}


def main() -> None:
    """Publishes the backlog, measures, prints one JSON document."""
    init(app)
    step = 50_000
    for start in range(0, LOW, step):
        ten_milliseconds.publish_many({"n": n} for n in range(start, min(LOW, start + step)))
    with Topics(app.settings) as topics:
        with started(__file__, "worker", "--no-scheduler"):
            wait_until_busy(topics)
            waits = now_and_then(topics)
            shares = both_waiting(topics)
        figures = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "low_backlog": LOW,
            **waits,
            **shares,
        }
        print(json.dumps(figures, indent=2))
        topics.delete(topics.names(f"{NAME}."))
    STARTS.unlink()
    app.close()


if __name__ == "__main__":
    main()
