"""Giving partitions up: grace, heartbeat, last commit, in this order."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import decode, encode
from taskstream.broker.offsets import Held, Progress
from taskstream.broker.records import Record
from taskstream.consumer.parent.fence import Fence
from taskstream.consumer.parent.handover import Handover
from taskstream.consumer.parent.intake import PartitionsRevoked
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.ownership import Ownership
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Spread

PLACE = Place("shop.tasks.high", 0)
FENCE = Fence(session=12.0, heartbeat=2.0)


@dataclass(slots=True)
class Intake:
    """As much of an intake as ownership asks for."""

    lane: str = "tasks.high"


@dataclass(slots=True)
class Heartbeat:
    """What Kafka has heard of this worker."""

    worker: str = "w1"
    acknowledged_us: int = 0


class World:
    """One partition with one record at 100, a revocation of it, and what was sent."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.heartbeat = Heartbeat()
        self.beats: list[int] = []
        self.metrics = metrics = Metrics()
        self.ownership = Ownership(metrics, self.clock)
        self.handover = Handover(
            self.ownership,
            cast("Any", self.heartbeat),
            self.beat,
            FENCE,
            metrics=metrics,
            clock=self.clock,
        )
        intake = cast("Any", Intake())
        self.ownership.assign(intake, [Assigned(PLACE, 100, encode(Progress.at(100)), 0, 101)])
        partition = self.ownership.find(PLACE)
        assert partition is not None
        partition.tracker.deliver(100)
        record = Record(PLACE.topic, PLACE.partition, 100, None, b"", (), 0.0)
        self.entry = Entry(
            1, record, PLACE, partition.epoch, "tasks.high", task="charge", lookup=False
        )
        self.event = PartitionsRevoked(intake, [PLACE])
        self.handover.revoke(self.event)

    def beat(self) -> int:
        self.beats.append(7)
        return 7

    def turn(self, *running: Entry, handing_off: set[Place] | None = None) -> list[Entry]:
        return self.handover.turn(self.clock.monotonic(), running, handing_off or set())

    def held(self) -> tuple[Held, ...]:
        """What the answer's commit says is held."""
        progress = decode(*self.event.offsets[PLACE])
        assert progress is not None
        return progress.held


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


def test_what_ends_within_its_grace_is_waited_for(world: World) -> None:
    """The answer comes once nothing runs any more, and holds nothing; it is measured how long it took."""
    assert world.turn(world.entry) == []
    assert not world.event.answered.is_set()
    assert world.ownership.startable(world.entry) is None
    assert world.turn() == []
    assert world.event.answered.is_set()
    assert world.held() == ()
    assert not world.beats
    took = world.metrics.series(table.REBALANCE_DURATION)["tasks", "high"]
    assert isinstance(took, Spread)
    assert sum(took.counts) == 1


def test_a_hand_off_is_waited_for(world: World) -> None:
    """One that is given up in mid-way would be repeated by the next owner; but not for ever."""
    world.turn(handing_off={PLACE})
    assert not world.event.answered.is_set()
    world.clock.advance(FENCE.grace)
    world.turn(handing_off={PLACE})
    assert world.event.answered.is_set()


def test_what_outlives_it_is_told_of_before_it_is_held(world: World) -> None:
    """No commit names a task before Kafka has the heartbeat that tells of it."""
    world.clock.advance(FENCE.grace)
    world.turn(world.entry)
    world.turn(world.entry)
    assert world.beats == [7]
    assert not world.event.answered.is_set()
    world.heartbeat.acknowledged_us = 7
    assert world.turn(world.entry) == []
    assert world.held() == (Held(100, "w1", 7),)


def test_a_partition_that_has_come_back_is_not_given_up_again(world: World) -> None:
    """An intake that was halted waits no longer: the late answer is not about the new assignment."""
    world.turn(world.entry)
    intake = world.event.intake
    world.ownership.assign(intake, [Assigned(PLACE, 100, encode(Progress.at(100)), 0, 101)])
    world.clock.advance(FENCE.grace)
    world.turn()
    assert world.event.answered.is_set()
    assert world.event.offsets == {}
    assert world.ownership.find(PLACE) is not None


def test_what_nobody_can_be_told_of_is_cancelled(world: World) -> None:
    """Kafka takes no heartbeat: nobody would wait for the task, so it must not go on."""
    world.clock.advance(FENCE.grace)
    world.turn(world.entry)
    world.clock.advance(FENCE.tell_within)
    assert world.turn(world.entry) == [world.entry]
    assert world.held() == ()
