"""How much memory a worker's parent takes with a small backlog and with a large one.

Memory must not grow with what waits in Kafka. Each backlog is published first; then a worker of two
children works on it for a while, and the parent's highest resident memory is kept.

    make bench ONLY=backlog              (BACKLOGS=1000,1000000 and SECONDS=60 are the defaults)
"""

import json
import os
import platform
import time
import uuid

from benchmarks.processes import started

from taskstream import App
from taskstream.admin.provision import init
from taskstream.broker.topics import Topics

BACKLOGS = tuple(int(one) for one in os.environ.get("BACKLOGS", "1000,1000000").split(","))
SECONDS = float(os.environ.get("SECONDS", "60"))
CHUNK = 50_000
"""How many are published at once: their handles are kept until they are acknowledged."""

NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")

app = App(NAME, keyspace=NAME, otlp_endpoint="")


@app.task(retry=None)
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


def peak(topics: Topics, backlog: int) -> dict[str, int]:
    """Works on so many tasks; the parent's memory in bytes, and what was done and left."""
    for first in range(0, backlog, CHUNK):
        noop.publish_many({"n": n} for n in range(first, min(first + CHUNK, backlog)))
    group, topic = app.names.group("tasks", "normal"), app.names.tasks("tasks", "normal")
    highest = 0
    with started(__file__, "worker", "--no-scheduler") as process:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            highest = max(highest, process.memory_info().rss)
            time.sleep(0.1)
    left = sum(topics.lag(group, topic).values())
    return {"backlog": backlog, "parent_rss_bytes": highest, "done": backlog - left, "left": left}


def main() -> None:
    """Measures each backlog, prints one JSON document."""
    init(app)
    with Topics(app.settings) as topics:
        found = [peak(topics, backlog) for backlog in BACKLOGS]
        figures = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "seconds_each": SECONDS,
            "backlogs": found,
            "grows_by_mib": round(
                (found[-1]["parent_rss_bytes"] - found[0]["parent_rss_bytes"]) / 2**20, 1
            ),
        }
        print(json.dumps(figures, indent=2))
        topics.delete(topics.names(f"{NAME}."))
    app.close()


if __name__ == "__main__":
    main()
