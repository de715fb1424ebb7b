"""What counting costs: one addition beside prometheus_client's, and a drain and publishing beside other code's.

First what one value takes by `observability.metrics`, by prometheus_client, and by the latter where processes
add up their numbers through files (`PROMETHEUS_MULTIPROC_DIR`), with how many exemplars its page shows then.
No server is asked. COUNT=0 ends there.

Then the processor time for each task. A worker of two children that serves /metrics drains COUNT tasks; what an empty one takes is subtracted, for
most of that is its start. User and system time of all its processes, so that what else the machine does
matters little. Each round measures this checkout and the one at AGAINST, in an order that changes.

    make bench ONLY=counting          (COUNT=20000, ROUNDS=3; AGAINST=/path/to/another/checkout)
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskstream import App
from taskstream.observability import table
from taskstream.observability.metrics import Metrics

COUNT = int(os.environ.get("COUNT", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
AGAINST = os.environ.get("AGAINST", "")
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")
CHUNK = 5_000
CALLS = 200_000
FILES = "prometheus_client with files"
SPAN = ("ab" * 16, "cd" * 8)

app = App(NAME, keyspace=NAME, otlp_endpoint="", partitions=8)


@app.task(retry=None)
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


def worker_seconds() -> float:
    """The processor time of a worker, its children included, until it finds nothing to do."""
    words = ("worker", "counting:app", "--exit-when-empty", "--no-scheduler", "--health-port", "0")
    with Path(os.environ.get("BENCH_LOG", os.devnull)).open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskstream", *words], cwd=Path(__file__).parent, stderr=log
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit("the worker failed: BENCH_LOG=FILE shows why")
    return used.ru_utime + used.ru_stime


def measure() -> dict[str, float]:
    """Microseconds of processor time for each task that is published, and that is drained."""
    from taskstream.admin.provision import init
    from taskstream.broker.topics import Topics

    init(app)
    try:
        empty = worker_seconds()
        noop.publish(0)
        before = time.process_time()
        for start in range(0, COUNT, CHUNK):
            noop.publish_many({"n": n} for n in range(start, min(start + CHUNK, COUNT)))
        published = time.process_time() - before
        drained = worker_seconds() - empty
    finally:
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{NAME}."))
        app.close()
    return {"publish": 1e6 * published / COUNT, "drain": 1e6 * drained / COUNT}


def measured(checkout: str) -> dict[str, float]:
    """The same in a process of its own, with the code of a checkout; empty for this one's."""
    environment = {key: value for key, value in os.environ.items() if key != "BENCH_APP"}
    if checkout:
        environment["PYTHONPATH"] = str(Path(checkout) / "src")
    words = [sys.executable, __file__, "once"]
    told = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True)
    numbers: dict[str, float] = json.loads(told.stdout)
    return numbers


def fastest(action: Callable[[], object], values: int = 1) -> float:
    """Nanoseconds of processor time for each value: the best of some rounds."""
    repeats = CALLS // values
    rounds = []
    for _ in range(5):
        before = time.process_time_ns()
        for _ in range(repeats):
            action()
        rounds.append((time.process_time_ns() - before) / (repeats * values))
    return min(rounds)


def kept_by_us() -> dict[str, float]:
    """What a value takes of `observability.metrics`; 100 at once is how a child counts."""
    metrics = Metrics()
    counter = metrics.counter(table.CONSUMED, topic="shop.tasks.high")
    times = metrics.histogram(table.WAIT_DURATION, queue="tasks", priority="high")
    alone, linked = [(0.03, None)] * 100, [(0.03, SPAN)] * 100
    return {
        "counter": fastest(counter.inc),
        "histogram": fastest(lambda: times.observe(0.03)),
        "with exemplar": fastest(lambda: times.observe(0.03, SPAN)),
        "histogram, of 100 at once": fastest(lambda: times.observe_all(alone), 100),
        "with exemplar, of 100 at once": fastest(lambda: times.observe_all(linked), 100),
    }


def kept_by_prometheus() -> dict[str, float]:
    """The same of prometheus_client, and how many buckets of its page have an exemplar."""
    import prometheus_client
    from prometheus_client.multiprocess import MultiProcessCollector

    counter = prometheus_client.Counter("consumed", "-", ["topic"]).labels("shop.tasks.high")
    bounds = table.WAIT_DURATION.buckets
    times = prometheus_client.Histogram("wait", "-", ["queue", "priority"], buckets=bounds)
    child, ids = (
        times.labels("tasks", "high"),
        dict(zip(("trace_id", "span_id"), SPAN, strict=True)),
    )
    took = {
        "counter": fastest(counter.inc),
        "histogram": fastest(lambda: child.observe(0.03)),
        "with exemplar": fastest(lambda: child.observe(0.03, ids)),
    }
    page: Any = times
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        page = MultiProcessCollector(prometheus_client.CollectorRegistry(auto_describe=False))  # type: ignore[no-untyped-call]
    samples = [sample for family in page.collect() for sample in family.samples]
    return {**took, "exemplars shown": sum(sample.exemplar is not None for sample in samples)}


def compare_additions() -> None:
    """Prints what one value takes, each way in a process of its own."""
    for way, words in (("ours", "ours"), ("prometheus_client", "theirs"), (FILES, "theirs")):
        with tempfile.TemporaryDirectory() as directory:
            more = {"PROMETHEUS_MULTIPROC_DIR": directory} if way == FILES else {}
            told = subprocess.run(
                [sys.executable, __file__, words],
                env={**os.environ, **more}, stdout=subprocess.PIPE, check=True,
            ).stdout  # fmt: skip
        for what, number in json.loads(told).items():
            unit = "" if what == "exemplars shown" else " ns"
            print(f"{way}: {what} {number:.0f}{unit}", flush=True)


def main() -> None:
    """Measures in turn, and prints each round and the medians."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, {COUNT} tasks")
    compare_additions()
    if not COUNT:
        return
    sides = {"here": "", **({"there": AGAINST} if AGAINST else {})}
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(ROUNDS):
        # In turn the other way round, for what comes first may find the machine in another state.
        for side, checkout in sorted(sides.items(), reverse=bool(number % 2)):
            found[side].append(numbers := measured(checkout))
            told = ", ".join(f"{what} {us:.1f} us" for what, us in numbers.items())
            print(f"round {number + 1}, {side}: {told}", flush=True)
    for side, rounds in found.items():
        for what in rounds[0]:
            middle = statistics.median(one[what] for one in rounds)
            print(f"{side}: {what} {middle:.1f} us a task (median of {len(rounds)})")


if __name__ == "__main__":
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "once": measure, "ours": kept_by_us, "theirs": kept_by_prometheus,
    }  # fmt: skip
    if sys.argv[1:]:
        print(json.dumps(parts[sys.argv[1]]()))
    else:
        main()
