"""The faults, by name: what a data centre has to offer, in the order of the report.

Each is a function over a scene whose publisher is at work. Told in seconds and numbers, the first for
the short form, the second for the long one.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil

from taskstream.core import faultpoints
from taskstream.infra.catalogue import Server
from tests.support.eventually import eventually
from tests.support.faults.crew import Member
from tests.support.faults.held import HELD
from tests.support.faults.scene import Scene


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Args:
        what: in a line, for the report.
        strike: does it.
        seconds: over how many seconds the tasks are published, in the short and in the long form;
            the publisher goes on while the fault does.
        workers: how many workers there are at the start.
        poison: whether tasks that break their process are strewn in.
        publisher: settings of the publisher's app alone.
        classic: whether it is also tried with the classic group protocol.
    """

    what: str
    strike: Callable[[Scene], None]
    seconds: tuple[float, float]
    workers: int = 2
    poison: bool = False
    publisher: Mapping[str, Any] = field(default_factory=dict)
    classic: bool = False


def nothing(_scene: Scene) -> None:
    """No fault: what the others are compared with."""


def kill_workers(scene: Scene) -> None:
    """Every 2 s the oldest worker dies and another one takes its place."""
    for _ in range(20 if scene.long else 4):
        scene.pause(2.0)
        _kill_worker(scene)


def kill_children(scene: Scene) -> None:
    """Every 2 s one child process of some worker dies."""
    for _ in range(25 if scene.long else 6):
        scene.pause(2.0)
        _kill_child(scene)


def freeze_workers(scene: Scene) -> None:
    """A worker stands still past the session time-out, and wakes up when others have its tasks."""
    whole = scene.chance.random() < 0.5
    for _ in range(4 if scene.long else 1):
        scene.pause(1.0)
        _freeze_worker(scene, whole=whole)
        whole = not whole


def restart_broker(scene: Scene) -> None:
    """Kafka is killed, stays away for some seconds, and comes back."""
    for _ in range(3 if scene.long else 1):
        scene.pause(3.0)
        _restart(scene, Server.KAFKA, 5.0 if scene.long else 2.0)


def freeze_broker(scene: Scene) -> None:
    """Kafka holds its connections and answers nothing, past every session time-out."""
    scene.pause(3.0)
    _freeze(scene, Server.KAFKA, 30.0 if scene.long else 13.0)
    scene.pause(2.0)


def fill_the_publisher(scene: Scene) -> None:
    """Kafka stands still for 5 s: the publisher's buffer fills, and what doesn't fit is refused."""
    for _ in range(3 if scene.long else 1):
        scene.pause(3.0)
        _freeze(scene, Server.KAFKA, 5.0)


def take_store_away(scene: Scene) -> None:
    """Cassandra dies in mid-batch and stays away; a worker dies meanwhile with what it could not record."""
    scene.pause(3.0)
    busy = scene.busy()
    with scene.outage("Cassandra killed"):
        scene.server(Server.CASSANDRA).kill()
        scene.pause(3.0)
        _kill_worker(scene, busy)
        scene.pause(57.0 if scene.long else 4.0)
        scene.server(Server.CASSANDRA).restart()


def scale(scene: Scene) -> None:
    """From one worker to six and back, every 3 s."""
    for _ in range(8 if scene.long else 2):
        more = [scene.crew.start("--no-scheduler", children=1) for _ in range(5)]
        # On a loaded machine it takes a while until there are six.
        eventually(partial(_all_began, more), timeout=60)
        scene.pause(3.0)
        for member in scene.crew.alive[1:]:
            member.process.terminate()
        scene.struck("scaled down")
        scene.pause(3.0)


def crash_at_points(scene: Scene) -> None:
    """A process dies at each named point between run, write, hand-off and commit, in turn."""
    for _ in range(3 if scene.long else 1):
        for point in faultpoints.POINTS:
            pid = lay(scene, point, "kill")
            scene.struck(f"killed at {point}", *_processes(scene, pid))
            eventually(partial(_gone, pid), timeout=10)
            scene.crew.keep(2)
            scene.pause(1.0)


def freeze_at_points(scene: Scene) -> None:
    """A worker stands still at a point, past the session time-out, and goes on from there."""
    points = (faultpoints.BEFORE_COMMIT, faultpoints.BEFORE_HANDOFF, faultpoints.AFTER_RUN)
    for point in points if scene.long else points[:1]:
        pid = lay(scene, point, "stop")
        member = _member_of(scene, pid)
        with scene.crew.frozen(member, whole=True) as pids:
            scene.struck(f"frozen at {point}", *pids)
            scene.pause(scene.session + 3.0)
        scene.pause(1.0)


def write_late(scene: Scene) -> None:
    """A dead worker's writes reach the store after those of its partitions' next owner."""
    held = scene.directory / "held"
    member = scene.crew.start(environment={HELD: str(held)})
    eventually(held.exists, timeout=60)
    scene.pause(2.0)
    scene.struck("worker killed", *scene.crew.kill(member))
    scene.pause(scene.session + 4.0)
    scene.crew.write_held(held)


def storm(scene: Scene) -> None:
    """One fault after the other, by chance, before the last one is got over."""
    faults: Sequence[Callable[[Scene], None]] = (
        _kill_worker,
        _kill_child,
        partial(_freeze_worker, whole=True),
        partial(_restart, server=Server.KAFKA, away=2.0),
        partial(_freeze, server=Server.KAFKA, seconds=6.0),
        partial(_restart, server=Server.CASSANDRA, away=2.0),
        partial(_freeze, server=Server.CASSANDRA, seconds=6.0),
    )
    for strike in scene.chance.choices(faults, k=16 if scene.long else 4):
        scene.pause(scene.chance.uniform(0.5, 3.0))
        strike(scene)
        scene.crew.keep(2)


FAULTS: Mapping[str, Fault] = {
    "none": Fault("nothing is broken", nothing, (8.0, 20.0)),
    "workers killed": Fault(
        "kill -9 of a worker every 2 s", kill_workers, (10.0, 45.0), workers=3, classic=True
    ),
    "children killed": Fault("kill -9 of a child every 2 s", kill_children, (13.0, 50.0)),
    "workers frozen": Fault(
        "SIGSTOP of a worker past the session time-out, then SIGCONT",
        freeze_workers,
        (16.0, 55.0),
        classic=True,
    ),
    "broker restarted": Fault("Kafka killed and started again", restart_broker, (12.0, 50.0)),
    "broker frozen": Fault(
        "Kafka frozen past every session time-out", freeze_broker, (18.0, 35.0), classic=True
    ),
    "store away": Fault(
        "Cassandra killed in mid-batch and away, a worker killed meanwhile",
        take_store_away,
        (20.0, 75.0),
    ),
    "scaled": Fault(
        "from 1 worker to 6 and back, every 3 s", scale, (14.0, 50.0), workers=1, classic=True
    ),
    "poison": Fault(
        "tasks that raise, exit, crash, loop, eat memory, or can't be read or told",
        nothing,
        (15.0, 30.0),
        poison=True,
    ),
    "publisher full": Fault(
        "a publisher whose buffer is full, with Kafka frozen for some seconds",
        fill_the_publisher,
        (12.0, 25.0),
        publisher={"publish_timeout": 2.0, "kafka": {"queue.buffering.max.messages": 100}},
    ),
    "crash points": Fault(
        "a crash at each point between run, write, hand-off and commit",
        crash_at_points,
        (25.0, 75.0),
    ),
    "frozen points": Fault(
        "SIGSTOP at a point past the session time-out, then SIGCONT", freeze_at_points, (16.0, 50.0)
    ),
    "late writes": Fault(
        "a dead worker's rows reach the store after its successor's", write_late, (12.0, 15.0)
    ),
    "storm": Fault("one fault after the other, by chance", storm, (15.0, 60.0), workers=3),
}
"""All of them."""


def lay(scene: Scene, point: str, what: str, timeout: float = 45.0) -> int:
    """Lays a fault at a point and waits for whoever it strikes; returns its pid.

    So long, because the sessions of several dead members may have to end first, one after the other.

    Raises:
        AssertionError: nobody came by.
    """
    for file in scene.crew.faults.glob(f"{point}.*"):
        file.unlink()  # of an earlier fault at this point
    # Written aside first: a process that came by between creation and writing would find it empty.
    fresh = scene.crew.faults / f"{point}.laid"
    fresh.write_text(what)
    fresh.rename(scene.crew.faults / point)

    def look() -> int:
        struck = [
            file for file in scene.crew.faults.glob(f"{point}.*") if file.suffix[1:].isdigit()
        ]
        assert struck, f"nobody has passed {point}"
        return int(struck[0].suffix[1:])

    return eventually(look, timeout=timeout, every=0.02)


def _kill_worker(scene: Scene, member: Member | None = None) -> None:
    scene.struck("worker killed", *scene.crew.kill(member or scene.crew.alive[0]))
    scene.crew.start()


def _kill_child(scene: Scene) -> None:
    pid = scene.crew.a_child(scene.chance)
    if pid is not None:
        with suppress(ProcessLookupError):
            scene.struck("child killed", pid)
            os.kill(pid, signal.SIGKILL)


def _freeze_worker(scene: Scene, *, whole: bool) -> None:
    with scene.crew.frozen(scene.busy(), whole=whole) as pids:
        scene.struck("worker frozen", *pids)
        scene.pause(scene.session + 3.0)


def _restart(scene: Scene, server: Server, away: float) -> None:
    with scene.outage(f"{server} killed"):
        scene.server(server).kill()
        scene.pause(away)
        scene.server(server).restart()


def _freeze(scene: Scene, server: Server, seconds: float) -> None:
    with scene.outage(f"{server} frozen"):
        scene.server(server).stop()
        scene.pause(seconds)
        scene.server(server).cont()


def _all_began(members: Sequence[Member]) -> bool:
    return all(member.began for member in members)


def _processes(scene: Scene, pid: int) -> list[int]:
    """The process, and all that it has started: with a worker's parent its children end, too."""
    parents = scene.crew.watched.parents
    return [pid, *(child for child, parent in parents.items() if parent == pid)]


def _member_of(scene: Scene, pid: int) -> Member:
    for member in scene.crew.alive:
        if pid in (process.pid for process in member.tree):
            return member
    raise AssertionError(f"process {pid} belongs to no worker")


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
