"""What a worker's parent costs without servers: processor time for each no-op task that passes through its loop.

Records are there as soon as there is room, Kafka acknowledges at once, and the child is a process beside it that
says of each task that it succeeded, with an event and a reply for each seventy. So what is measured is the loop
alone: taking in, giving out, frames, settling. Reading from Kafka and sending to it come on top, in threads
of their own. Take the least of some runs, of two versions in turn.

    make bench ONLY=parent          (COUNT=100000 and TIMES=3 are the defaults)
"""

import os
import socket
import time
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.processes import beside

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import encode
from taskstream.broker.offsets import Progress
from taskstream.broker.records import Record
from taskstream.broker.sender import Ack
from taskstream.consumer import begun
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.children import DEPTH_TASKS, Child, Depth
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.handoff import Handoff
from taskstream.consumer.parent.intake import ROOM_RECORDS, TAKE_RECORDS, Arrived, Committed
from taskstream.consumer.parent.journal import Journal
from taskstream.consumer.parent.loop import Parent
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.parent.settling import Settling
from taskstream.consumer.pipe import (
    Frames,
    Given,
    Reply,
    TaskFacts,
    Verdicts,
    pack_verdicts,
    succeeded,
)
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.envelope import Envelope, Place, write
from taskstream.core.garbage import settle_in
from taskstream.core.ids import new_id
from taskstream.core.names import Names

COUNT = int(os.environ.get("COUNT", "100000"))
TIMES = int(os.environ.get("TIMES", "3"))
BATCH = 70
"""How many tasks a child tells of at once, as under load."""

PARTITIONS = 8
LANES = {"tasks.high": 6, "tasks.normal": 3, "tasks.low": 1}
LANE, TOPIC = "tasks.normal", "bench.tasks.normal"


class Intake:
    """Brings records as soon as there is room for them."""

    lane, topic, group = LANE, TOPIC, TOPIC

    def __init__(self, parent: Parent, records: Iterator[Record]) -> None:
        self._parent = parent
        self._records = records
        self._room = ROOM_RECORDS
        self._full: frozenset[Place] = frozenset()

    def release(self, records: int, _size_bytes: int) -> None:
        """As an intake's."""
        self._room += records

    def hold(self, full: frozenset[Place]) -> None:
        """As an intake's."""
        self._full = full

    def commit(self, offsets: dict[Place, tuple[int, str]]) -> None:
        """As an intake's; Kafka acknowledges at once."""
        told = {place: offset for place, (offset, _) in offsets.items()}
        self._parent._tell(Committed(cast("Any", self), None, told))  # noqa: SLF001

    def bring(self) -> None:
        """What its thread does."""
        if self._full:
            return
        records = list(islice(self._records, min(TAKE_RECORDS, self._room)))
        if records:
            self._room -= len(records)
            self._parent._tell(Arrived(cast("Any", self), records))  # noqa: SLF001


class Sender:
    """Kafka acknowledges at once."""

    def send(self, _topic: str, _value: bytes, *, on_done: Any, **_more: object) -> None:
        """As a producer's."""
        on_done(Ack(0, 0), None)


def records() -> list[Record]:
    """All tasks, as Kafka brings them."""
    now, reply_to = time.time(), Place("bench.replies", 3)
    made = []
    for number in range(COUNT):
        task_id = new_id()
        headers = tuple(write(Envelope("noop", task_id, published=now, reply_to=reply_to)))
        partition, offset = (
            number // 100 % PARTITIONS,
            number // 100 // PARTITIONS * 100 + number % 100,
        )
        made.append(
            Record(TOPIC, partition, offset, task_id.encode(), b"12345678", headers, now, 200)
        )
    return made


def answer(link: socket.socket) -> None:
    """The child's process: each task that it is given has succeeded."""
    heard, waiting, event, place = Frames(), [], bytes(60 * BATCH), Place("bench.replies", 3)
    while data := link.recv(256 * 1024):
        for frame in heard.feed(data):
            if isinstance(frame, list):
                waiting += [cast("Given", one).number for one in frame]
        while waiting:
            told, waiting = [succeeded(number) for number in waiting[:BATCH]], waiting[BATCH:]
            link.sendall(pack_verdicts(Verdicts(told, [Reply(place, event)], [event], 0.01)))
    os._exit(0)


def parent_of(link: socket.socket, pid: int, brought: Iterator[Record]) -> tuple[Parent, Intake]:
    """A parent with one child, which owns the partitions."""
    clock, sender = SYSTEM_CLOCK, cast("Any", Sender())
    parent = Parent(ParentOptions(name="bench"), clock)
    intake = Intake(parent, brought)
    ownership, children, metrics = parent._ownership, parent._children, parent.metrics  # noqa: SLF001
    breakers = Breakers(LANES, limit=100, share=0.5, clock=clock)
    dispatch = Dispatch(
        LANES,
        cast("Any", {LANE: intake}),
        ownership,
        children,
        tasks={"noop": TaskFacts("noop", "tasks", "async")},
        breakers=breakers,
        is_cancelled=lambda _: False,
        metrics=metrics,
        clock=clock,
    )
    settling = Settling(
        ownership,
        dispatch,
        Handoff(sender, Names("bench"), parent._tell),  # noqa: SLF001
        Journal(sender, "bench.events", parent._tell, clock.monotonic),  # noqa: SLF001
        sender,
        breakers=breakers,
        on_final=lambda _: None,
        strict=set(),
        metrics=metrics,
        clock=clock,
    )
    parent._work = cast(  # noqa: SLF001
        "Any",
        SimpleNamespace(
            intakes=[intake],
            dispatch=dispatch,
            settling=settling,
            orders=SimpleNamespace(caught_up=True),
            holders=SimpleNamespace(holds=lambda _: False),
            handover=SimpleNamespace(pending=False, next_at=None),
            heartbeat=SimpleNamespace(silent_since=float("inf")),
            fence=SimpleNamespace(stop_holding_after=1.0),
        ),
    )
    never = float("inf")
    parent._beat_at = parent._alarms_at = parent._heartbeat_at = never  # noqa: SLF001
    parent._keep_children = lambda: None  # type: ignore[method-assign]  # noqa: SLF001
    process = cast("Any", SimpleNamespace(pid=pid))
    link.setblocking(False)
    now = clock.monotonic()
    cells = begun.Begun(begun.create(50 + DEPTH_TASKS))
    child = Child(1, process, link, False, Depth(50, now), cells, now, 5, ready=True)
    children._alive[1] = child  # noqa: SLF001
    children.selector.register(link, 1, child)
    ownership.assign(
        cast("Any", intake),
        [
            Assigned(Place(TOPIC, number), 0, encode(Progress.at(0)), 0, COUNT)
            for number in range(PARTITIONS)
        ],
    )
    return parent, intake


def drain(parent: Parent, intake: Intake) -> None:
    """Turns the loop until all are finished, and says what it took."""
    settle_in()
    before, turns = time.process_time(), 0
    while parent.finished < COUNT:
        intake.bring()
        parent._turn()  # noqa: SLF001
        turns += 1
    used = time.process_time() - before
    print(f"{1e6 * used / COUNT:.2f} us a task, {COUNT / turns:.0f} tasks a turn", flush=True)


def main() -> None:
    """Runs it some times."""
    for _ in range(TIMES):
        with beside(answer) as (ours, pid):
            drain(*parent_of(ours, pid, iter(records())))


if __name__ == "__main__":
    main()
