"""How long a worker takes to its first task, what it costs while idle, and what `import taskstream` takes.

Cold start is measured from the command to the row of a task that was waiting: `taskstream worker` with
all it starts by default, two children and a scheduler. Idle is the processor time of all its processes.

    make bench ONLY=startup          (STARTS=5 and IDLE=30 set how often, and for how many seconds)
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

from taskstream import App

if TYPE_CHECKING:
    import psutil

STARTS = int(os.environ.get("STARTS", "5"))
IDLE = float(os.environ.get("IDLE", "30"))
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")

# An installed wheel has its bytecode; so has this tree after the first start, unless this is set.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SETTLED_AFTER = 8.0
"""Seconds from the first row until a worker counts as idle: everything it opens is open by then."""

app = App(NAME, keyspace=NAME, otlp_endpoint="")


@app.task
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


def until_stored(task_id: str) -> None:
    """Waits for the first row of a task."""
    store = app.result_store()
    assert store is not None
    while not store.read(task_id):
        time.sleep(0.005)


def cpu_seconds(process: "psutil.Process") -> dict[str, float]:
    """Processor seconds of a worker's processes so far, by what they are."""
    seconds = {}
    for number, one in enumerate([process, *process.children(recursive=True)]):
        words = one.cmdline()
        kind = "child" if "taskstream.consumer.child" in words else words[3]
        spent = one.cpu_times()
        seconds[f"{number} {kind}"] = spent.user + spent.system
    return seconds


def cold_start() -> tuple[float, float]:
    """Seconds from the command to the first row, and processor seconds until then."""
    from benchmarks.processes import started  # here: workers import this file for its app

    waiting = noop.publish(0)
    began = time.perf_counter()
    with started(__file__, "worker") as process:
        until_stored(waiting.id)
        return time.perf_counter() - began, sum(cpu_seconds(process).values())


def idle() -> dict[str, float]:
    """Percent of one core that each process of a worker takes while there is nothing to do."""
    from benchmarks.processes import started

    waiting = noop.publish(0)
    with started(__file__, "worker") as process:
        until_stored(waiting.id)
        time.sleep(SETTLED_AFTER)
        before = cpu_seconds(process)
        time.sleep(IDLE)
        after = cpu_seconds(process)
    shares = {name: 100 * (after[name] - before[name]) / IDLE for name in after}
    return {**shares, "all": sum(shares.values())}


def imported() -> float:
    """Milliseconds that `import taskstream` takes in a fresh interpreter."""
    program = (
        "import time; t = time.perf_counter(); import taskstream; print(time.perf_counter() - t)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return float(done.stdout) * 1000


def main() -> None:
    """Measures all of it, prints one JSON document."""
    from taskstream.admin.provision import init
    from taskstream.broker.topics import Topics

    init(app)
    try:
        figures: dict[str, object] = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "load": os.getloadavg()[0],
            "import_ms": round(statistics.median(imported() for _ in range(11))),
        }
        if STARTS:
            starts = sorted(cold_start() for _ in range(STARTS))
            figures["cold_start_s"] = [round(seconds, 2) for seconds, _ in starts]
            figures["cold_start_median_s"] = round(statistics.median(s for s, _ in starts), 2)
            figures["cold_start_cpu_s"] = round(statistics.median(cpu for _, cpu in starts), 2)
        if IDLE:
            figures["idle_percent"] = {name: round(share, 2) for name, share in idle().items()}
        print(json.dumps(figures, indent=2))
    finally:
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{NAME}."))
        app.close()


if __name__ == "__main__":
    main()
