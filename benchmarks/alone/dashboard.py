"""How long each page of the dashboard takes to its first byte, with many tasks stored and many dead letters.

Tasks are written straight into the result store, spread over an hour, every hundredth of them dead with a
letter; nothing runs meanwhile. Each page is asked for again and again, one request at a time, over HTTP on this
machine. "whole" is the time to the last byte: a search that finds little looks for two seconds at most.

    make bench ONLY=dashboard          (TASKS=1000000, LETTERS=10000 and REQUESTS=30 set how many)
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from taskstream import App

TASKS = int(os.environ.get("TASKS", "1000000"))
LETTERS = int(os.environ.get("LETTERS", "10000"))
REQUESTS = int(os.environ.get("REQUESTS", "30"))
NAME = os.environ.setdefault("BENCH_APP", f"bench{uuid.uuid4().hex[:8]}")
SPREAD = 3600.0

app = App(NAME, keyspace=NAME, otlp_endpoint="")


@app.task(key="order_id")
async def charge(order_id: str, cents: int) -> int:
    """Nothing, with a key."""
    del order_id
    return cents


def store_tasks() -> list[Any]:
    """Writes the rows; gives those that are dead."""
    from taskstream import State
    from taskstream.core.ids import derived_id
    from taskstream.results.batching import Batcher
    from taskstream.results.row import Row

    store = app.result_store()
    assert store is not None
    batcher: Batcher[None] = Batcher(
        store, stored=lambda _: None, refused=lambda _, error: print(error)
    )
    first = time.time() - SPREAD
    every = max(1, TASKS // LETTERS)
    dead = []
    for number in range(TASKS):
        at = first + SPREAD * number / TASKS
        died = number % every == 0 and len(dead) < LETTERS
        row = Row(
            derived_id(at, NAME, number), 0, 1, State.DEAD if died else State.SUCCEEDED, "charge",
            int(at * 1e6), queue="tasks", priority="normal", key=f"o-{number}", worker="bench",
            published=at, started=at + 0.01, finished=at + 0.05, trace_id=f"{number:032x}",
            error_type="CardDeclined" if died else None, error=f"card {number} was declined" if died else None,
            source=f"{NAME}.tasks.normal/0/{number}",
        )  # fmt: skip
        if died:
            dead.append(row)
        batcher.add([(row, None)])
        if number % 10_000 == 0:
            batcher.await_pending(20_000)
    assert batcher.close(120.0) == 0
    return dead


def store_letters(dead: list[Any]) -> None:
    """Writes a letter for each of these rows."""
    from taskstream.admin.payloads import Payloads
    from taskstream.broker.sender import Sender, unheard
    from taskstream.core.envelope import Death, Envelope, bury, write

    payloads = Payloads(app)
    sender = Sender(app.settings, client_id="bench")
    for row in dead:
        value = payloads.encode("charge", {"order_id": row.key, "cents": 1})
        envelope = Envelope("charge", row.task_id, priority="normal", published=row.published)
        death = Death(row.error_type, row.error, row.source, row.finished)
        headers = bury(write(envelope), death, ())
        sender.send(app.names.dead, value, key=row.key.encode(), headers=headers, on_done=unheard)
    assert sender.close(60.0) == 0


@contextmanager
def served() -> Iterator[str]:
    """The dashboard, as people start it; gives its address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        with path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskstream", "dashboard", "dashboard:app", "--port", "0"],
                cwd=Path(__file__).parent,
                stderr=log,
            )
        try:
            while not (found := re.search(r"on (http://\S+)/", path.read_text())):
                time.sleep(0.05)
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)


def timed(client: httpx.Client, path: str) -> tuple[float, float]:
    """Milliseconds to the first byte of the body, and to the last."""
    begun = time.perf_counter()
    with client.stream("GET", path) as answer:
        assert answer.status_code in (200, 400), (path, answer.status_code)
        parts = answer.iter_raw()
        next(parts)
        first = time.perf_counter() - begun
        for _ in parts:
            pass
    return first * 1000, (time.perf_counter() - begun) * 1000


def main() -> None:
    """Measures all of it, prints one JSON document."""
    from taskstream.admin import schedules
    from taskstream.admin.provision import init
    from taskstream.broker.topics import Topics

    init(app)
    try:
        begun = time.perf_counter()
        dead = store_tasks()
        store_letters(dead)
        schedules.add(app, "charge", "0 3 * * *", {"order_id": "o-1", "cents": 1}, name="nightly")
        figures: dict[str, Any] = {
            "tasks": TASKS,
            "letters": len(dead),
            "stored_s": round(time.perf_counter() - begun, 1),
            "pages": {},
        }
        one = dead[len(dead) // 2].task_id
        old = f"/tasks?until={time.strftime('%Y-%m-%dT%H:%M', time.gmtime(time.time() - 1800))}"
        pages = (
            "/", "/queues", "/tasks", "/tasks?state=dead", "/tasks?text=card+7+was", old, f"/tasks/{one}",
            "/dead", "/dead?reason=CardDeclined&page=100", "/dead?where=cents+>+0", "/dead?where=cents+>",
            f"/dead/preview?what=redrive&id={one}", "/queues/preview?verb=pause&target=queue:tasks", "/replay",
            "/replay/preview?since=1h", "/workers", "/schedules", "/schedules/of/nightly", "/schedules/form",
            "/schedules/form?task=charge&when=@daily&arguments=" + quote('{"order_id": "o-1", "cents": 1}'),
            "/schemas", "/schemas/charge", "/audit",
        )  # fmt: skip
        with served() as url, httpx.Client(base_url=url, timeout=60) as client:
            while f": {len(dead):,}" not in client.get("/dead").text:
                time.sleep(0.2)
            for page in pages:
                cold, _ = timed(client, page)
                times = [timed(client, page) for _ in range(REQUESTS)]
                firsts, wholes = (sorted(values) for values in zip(*times, strict=True))
                figures["pages"][page] = {
                    "very_first_ms": round(cold, 1),
                    "first_byte_ms": round(statistics.median(firsts), 1),
                    "slowest_first_byte_ms": round(firsts[-1], 1),
                    "whole_ms": round(statistics.median(wholes), 1),
                }
        print(json.dumps(figures, indent=2))
    finally:
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{NAME}."))
        drop()


def drop() -> None:
    """Takes the keyspace away."""
    from cassandra.cluster import Cluster

    host, _, port = app.settings.cassandra_hosts.partition(":")
    app.close()
    cluster = Cluster([host], port=int(port or 9042), protocol_version=5)
    try:
        cluster.connect().execute(f"DROP KEYSPACE IF EXISTS {NAME}", timeout=60)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
