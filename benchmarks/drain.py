"""How fast no-op tasks are published and drained, beside a bare hand-written loop.

Both run on the same servers in the same run: taskstream with one worker of two children, and one
process that consumes, decodes, writes rows grouped by partition, and commits, which is what a team
would write by hand if it gave up order, retries, limits and crash safety.

    make bench ONLY=drain            (TASKS=40000 sets the size)
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from pathlib import Path

from taskstream import App
from taskstream.admin.provision import init
from taskstream.broker.group import GroupConsumer
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.envelope import Place, read
from taskstream.core.states import State
from taskstream.results.row import Partition, Row, partition_of
from taskstream.schemas.framing import parse

TASKS = int(os.environ.get("TASKS", "20000"))
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")

app = App(NAME, keyspace=NAME, otlp_endpoint="")


@app.task
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


class BareLoop:
    """Consume, decode, write grouped rows, commit: no retries, no order, no look-ups."""

    def __init__(self, group: str) -> None:
        self.done = 0
        self._positions: dict[Place, int] = {}
        self._consumer = GroupConsumer(
            app.settings,
            group=group,
            topics=[app.names.tasks("tasks", "normal")],
            client_id="bare-loop",
            listener=self,
            clock=SYSTEM_CLOCK,
        )
        store = app.result_store()
        assert store is not None
        self._store = store

    def run(self) -> float:
        """Drains all tasks; seconds from the first record on."""
        started = None
        while self.done < TASKS:
            records = self._consumer.take(500, 1.0)
            started = started or (time.perf_counter() if records else None)
            groups: dict[Partition, list[Row]] = defaultdict(list)
            for record in records:
                envelope = read(record.headers)
                arguments = noop.arguments.decode(parse(record.value).body)
                row = Row(
                    task_id=envelope.id, run=1_000, attempt=1, state=State.SUCCEEDED, task="noop",
                    written_us=time.time_ns() // 1000, value=str(arguments["n"]).encode(),
                )  # fmt: skip
                groups[partition_of(envelope.id)].append(row)
                self._positions[Place(record.topic, record.partition)] = record.offset + 1
            self._write(groups)
            self._consumer.commit(
                {place: (offset, "") for place, offset in self._positions.items()}
            )
            self.done += len(records)
        self._consumer.close(5.0)
        return time.perf_counter() - (started or 0.0)

    def _write(self, groups: dict[Partition, list[Row]]) -> None:
        left = threading.Semaphore(0)
        for partition, rows in groups.items():
            self._store.write(partition, rows, lambda _error: left.release())
        for _ in groups:
            left.acquire()

    def assigned(self, partitions: object) -> None:
        """The loop starts wherever its group does."""

    revoked = lost = assigned

    def committed(self, error: object, offsets: object) -> None:
        """The next commit says the same and more."""

    failed = committed


def drain() -> float:
    """Drains all tasks by one worker of two children; seconds from the first row to the last."""
    with Topics(app.settings) as topics:
        group, topic = app.names.group("tasks", "normal"), app.names.tasks("tasks", "normal")
        command = [
            sys.executable, "-m", "taskstream", "worker", "drain:app", "--no-scheduler", "--exit-when-empty",
        ]  # fmt: skip
        worker = subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)
        before = sum(topics.lag(group, topic).values())
        started = None
        while (lag := sum(topics.lag(group, topic).values())) > 0:
            if started is None and lag < before:
                started, begun_with = time.perf_counter(), lag
            time.sleep(0.02)
        seconds = time.perf_counter() - (started or 0.0)
        worker.wait(60)
    return seconds * TASKS / begun_with


def main() -> None:
    """Publishes, drains both ways, prints one JSON document."""
    init(app)
    with Topics(app.settings) as topics:
        topics.commit_start(f"{NAME}.bare", app.names.tasks("tasks", "normal"))
    started = time.perf_counter()
    noop.publish_many({"n": n} for n in range(TASKS))
    publish = TASKS / (time.perf_counter() - started)
    bare = TASKS / BareLoop(f"{NAME}.bare").run()
    drained = TASKS / drain()
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "tasks": TASKS,
        "publish_many_per_s": round(publish),
        "drain_per_s": round(drained),
        "bare_loop_per_s": round(bare),
        "drain_to_bare_loop": round(drained / bare, 2),
    }
    print(json.dumps(figures, indent=2))
    with Topics(app.settings) as topics:
        topics.delete([topic for topic in topics.names() if topic.startswith(f"{NAME}.")])
    app.close()


if __name__ == "__main__":
    main()
