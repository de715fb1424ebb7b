"""A worker that its group may have given up ends its tasks by itself, before anybody else starts them.

Broken on purpose once, and seen to fail: `Fence.cancel_after` and `Fence.beat_limit` of an hour.
"""

import signal
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.stage import Run, Stage

from taskstream import State
from taskstream.infra.catalogue import Server


def _told(stage: Stage, word: str) -> list[Run]:
    return [run for run in stage.journal if word in run.more]


@pytest.mark.alone
def test_a_worker_without_kafka_ends_what_it_runs(stage: Stage, servers: Servers) -> None:
    """Kafka frozen past the session time-out: nothing starts, what runs is cancelled, and runs again."""
    gate = stage.directory / "gate"
    worker = stage.worker()
    handle = stage.task("tells_its_end").publish(str(gate))
    eventually(lambda: _told(stage, "began"), timeout=30)
    kafka = servers.handle(Server.KAFKA)
    kafka.stop()
    try:
        eventually(lambda: "nothing new of it starts" in worker.log.read_text(), timeout=30)
        eventually(lambda: _told(stage, "cancelled"), timeout=30)
        assert len(_told(stage, "began")) == 1
        assert stage.states([handle]) == {State.UNKNOWN: 1}, "a cancelled run leaves no row"
    finally:
        kafka.cont()
    eventually(lambda: len(_told(stage, "began")) == 2, timeout=60)
    gate.touch()
    stage.wait_for([handle], {State.SUCCEEDED: 1})
    eventually(lambda: stage.left_over() == 0, timeout=30)


def test_children_of_a_frozen_parent_end(stage: Stage) -> None:
    """SIGSTOP of the parent alone: its task is cancelled before the next owner starts it."""
    gate = stage.directory / "gate"
    frozen = stage.worker()
    handle = stage.task("tells_its_end").publish(str(gate))
    eventually(lambda: _told(stage, "began"), timeout=30)
    stage.worker()
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: len(_told(stage, "began")) == 2, timeout=60)
        (cancelled,) = _told(stage, "cancelled")
        first, second = _told(stage, "began")
        assert first.at < cancelled.at < second.at
        assert not _runs(first.pid)
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    gate.touch()
    stage.wait_for([handle], {State.SUCCEEDED: 1})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert len(_told(stage, "began")) == 2
    assert frozen.stop() == 0, "once awake it works on"


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie: a halted parent can't bury its children."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
        return status.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
