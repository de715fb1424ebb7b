"""What logging costs: CPU of a worker for each task, by level and form, and what one look at the level costs.

One worker of two children works through tasks that do nothing, its log goes to a file. CPU is user and
system time of all its processes, to their end, without what a start of it costs (one with an empty queue).

    make bench ONLY=logs          (COUNT=20000 and ROUNDS=3 are the defaults)
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import timeit
import uuid
from pathlib import Path

from taskstream import App

COUNT = int(os.environ.get("COUNT", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
LOOKS = 1_000_000
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")
WAYS = (("warning", "text"), ("info", "text"), ("debug", "text"), ("debug", "json"))

app = App(NAME, keyspace=NAME, otlp_endpoint="")


@app.task(retry=None)
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


def cpu_seconds(level: str, form: str) -> tuple[float, int]:
    """User and system time of a worker that ends when all is done, and the bytes of its log."""
    words = [sys.executable, "-m", "taskstream", "worker", "logs:app", "--exit-when-empty"]
    words += ["--no-scheduler", "--log-level", level, "--log-format", form]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(words, cwd=Path(__file__).parent, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(Path(log.name).read_text())
        return used.ru_utime + used.ru_stime, Path(log.name).stat().st_size


def per_task(level: str, form: str) -> dict[str, float]:
    """Microseconds of CPU, and bytes of log, that each task costs."""
    empty, _ = cpu_seconds(level, form)
    noop.publish_many({"n": n} for n in range(COUNT))
    spent, size = cpu_seconds(level, form)
    return {"cpu_us": 1e6 * (spent - empty) / COUNT, "log_bytes": size / COUNT}


def looks_ns() -> dict[str, float]:
    """Nanoseconds that it costs not to log, at info: once a batch, or a flag of one's own once a task."""
    from taskstream.observability import logs

    logs.configure("info")
    log = logs.logger("bench")
    around = {"log": log, "flag": log.debugging}
    return {
        what: round(1e9 * min(timeit.repeat(code, globals=around, number=LOOKS)) / LOOKS)
        for what, code in (("ask", "log.debugging"), ("flag", "flag"))
    }


def main() -> None:
    """Measures, prints one JSON document."""
    from taskstream.admin.provision import init
    from taskstream.broker.topics import Topics

    init(app)
    try:
        rounds = [{way: per_task(*way) for way in WAYS} for _ in range(ROUNDS)]
        figures = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "load": os.getloadavg()[0],
            "count": COUNT,
            "looks_ns": looks_ns(),
            "per_task": {
                " ".join(way): {
                    what: round(statistics.median(one[way][what] for one in rounds), 1)
                    for what in ("cpu_us", "log_bytes")
                }
                for way in WAYS
            },
        }
        print(json.dumps(figures, indent=2))
    finally:
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{NAME}."))
        app.close()


if __name__ == "__main__":
    main()
