"""What counting costs: the processor time of a drain and of publishing, for each task, beside other code's.

A worker of two children that serves /metrics drains COUNT tasks; what an empty one takes is subtracted, for
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
import time
import uuid
from pathlib import Path

from taskstream import App

COUNT = int(os.environ.get("COUNT", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
AGAINST = os.environ.get("AGAINST", "")
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")
CHUNK = 5_000

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
            topics.delete([name for name in topics.names() if name.startswith(f"{NAME}.")])
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


def main() -> None:
    """Measures in turn, and prints each round and the medians."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, {COUNT} tasks")
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
    if sys.argv[1:] == ["once"]:
        print(json.dumps(measure()))
    else:
        main()
