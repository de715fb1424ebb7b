"""What a child costs without servers: processor time for each no-op task that it is given, runs and reports.

The frames of the parent come from a process beside it, as fast as the child reports; the result store and the
schema store answer at once. So what is measured is Python alone, and it is steady where a drain is not: take the
least of some runs, of two versions in turn.

    make bench ONLY=child          (COUNT=60000 and TIMES=3 are the defaults)
"""

import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.processes import beside

from taskstream import App
from taskstream.broker.records import Record
from taskstream.consumer import begun
from taskstream.consumer.child import main as child
from taskstream.consumer.child.inbox import Inbox
from taskstream.consumer.child.link import Link
from taskstream.consumer.child.service import Service
from taskstream.consumer.pipe import Frames, Given, Stop, Verdicts, pack_given, pack_stop
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.envelope import Envelope, Place, write
from taskstream.core.garbage import settle_in
from taskstream.core.ids import new_id
from taskstream.observability.metrics import Metrics
from taskstream.results import columns
from taskstream.results.row import Partition, Row
from taskstream.results.store import Written
from taskstream.schemas.framing import Fingerprint

COUNT = int(os.environ.get("COUNT", "60000"))
TIMES = int(os.environ.get("TIMES", "3"))
FRAME = 100
AHEAD = 550
"""How many tasks a child holds at most, as under load."""

TOPIC = "bench.tasks.normal"
app = App("bench", bootstrap_servers="embedded", otlp_endpoint="")


@app.task
async def noop(n: int) -> int:
    """Nothing, with a result."""
    return n


class Store:
    """Makes the cells of each batch, and answers from a thread of its own, as a driver does."""

    def __init__(self) -> None:
        self._under_way: queue.SimpleQueue[Written] = queue.SimpleQueue()
        threading.Thread(target=self._answer, daemon=True).start()

    def write(self, partition: Partition, rows: Sequence[Row], written: Written) -> None:
        """As a result store's."""
        columns.cells(partition, rows)
        self._under_way.put(written)

    def _answer(self) -> None:
        while True:
            self._under_way.get()(None)


def serve(theirs: socket.socket) -> None:
    """The child's process: says what it has used once it is told to stop."""
    schemas = SimpleNamespace(put=lambda schema: Fingerprint(schema.fingerprint).prefix)
    app.schema_store = lambda: cast("Any", schemas)  # type: ignore[method-assign]
    link = Link(theirs.detach())
    service = Service(
        app,
        cast("Any", Store()),
        link,
        worker="bench-host-1a2b3c",
        concurrency=50,
        reserved=5,
        solo=False,
        begun=begun.Begun(begun.create(AHEAD + FRAME)),
        metrics=Metrics(),
        clock=SYSTEM_CLOCK,
    )
    service.open()
    settle_in()
    inbox = Inbox()
    prepare: Callable[[Inbox, Service], None] = child._prepare  # noqa: SLF001
    threading.Thread(target=prepare, args=(inbox, service), daemon=True).start()
    link.send(b"\xc0")
    before = time.process_time()
    for frame in link.frames():
        if isinstance(frame, Stop):
            break
        inbox.put(frame)
    used, switches = time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF)
    turns = switches.ru_nvcsw + switches.ru_nivcsw
    print(f"{1e6 * used / COUNT:.1f} us a task, {turns / COUNT:.2f} switches", flush=True)
    os._exit(0)


def frames() -> list[bytes]:
    """All tasks, as the parent gives them."""
    value = Fingerprint(noop.schema.arguments.fingerprint).prefix + b"\xd0\x0f"
    now, reply_to = time.time(), Place("bench.replies", 3)
    tasks = []
    for number in range(1, COUNT + 1):
        task_id = new_id()
        headers = write(Envelope("noop", task_id, published=now, reply_to=reply_to))
        record = Record(
            TOPIC, number % 8, number, task_id.encode(), value, tuple(headers), now, 200
        )
        tasks.append(
            Given(number, record, int(now * 1e6), 1, TOPIC, lookup=False, suspicion=Suspicion.NONE)
        )
    return [pack_given(tasks[first : first + FRAME]) for first in range(0, COUNT, FRAME)]


def feed(ours: socket.socket, waiting: list[bytes]) -> None:
    """The parent's side: keeps the child fed, and hears its verdicts."""
    heard, sent, done = Frames(), 0, 0
    ours.recv(1)
    while done < COUNT:
        while sent < len(waiting) and sent * FRAME - done < AHEAD:
            ours.sendall(waiting[sent])
            sent += 1
        for frame in heard.feed(ours.recv(256 * 1024)):
            assert isinstance(frame, Verdicts)
            done += len(frame.tasks)
    ours.sendall(pack_stop())


def main() -> None:
    """Runs it some times."""
    for _ in range(TIMES):
        with beside(serve) as (ours, _):
            feed(ours, frames())


if __name__ == "__main__":
    main()
