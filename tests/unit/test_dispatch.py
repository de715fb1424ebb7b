"""What waits and is given out: each task in one place at a time, and none in the wrong company."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import encode
from taskstream.broker.offsets import Held, Progress
from taskstream.broker.records import Record
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.pipe import TaskFacts
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.core.limits import Concurrency, Rate
from taskstream.core.queue_orders import DRAIN, QueueOrder, QueueOrders, of_queue
from taskstream.observability.metrics import Metrics

LANE = "tasks.normal"
PLACE = Place(f"shop.{LANE}", 0)


@dataclass(slots=True, eq=False)
class Child:
    """As much of a child as dispatch asks for."""

    solo: bool
    capacity: int
    held: dict[int, Entry] = field(default_factory=dict)
    urgent: frozenset[int] = frozenset()
    reserved: int = 0

    def hold(self, entry: Entry, *, urgent: bool) -> None:
        self.held[entry.number] = entry

    @property
    def room(self) -> int:
        return self.capacity - len(self.held)


class World:
    """One partition, one shared and one solo child."""

    def __init__(self, task: TaskFacts) -> None:
        self.clock = ManualClock()
        self.shared, self.solo = Child(solo=False, capacity=4), Child(solo=True, capacity=1)
        self.released: list[int] = []
        self.cancelled = False
        self.ownership = Ownership(Metrics(), self.clock)
        world = self

        class Children:
            def __iter__(self) -> Iterator[Child]:
                return iter((world.shared, world.solo))

            def send(self, _child: Child, _frame: bytes) -> None:
                """The child's business."""

        class Intake:
            lane = LANE
            group = "shop"

            def release(self, records: int, _size_bytes: int) -> None:
                world.released.append(records)

        intake = cast("Any", Intake())
        self.dispatch = Dispatch(
            {LANE: 1},
            {LANE: intake},
            self.ownership,
            cast("Any", Children()),
            tasks={"charge": task},
            breakers=Breakers([LANE], limit=100, share=0.5, clock=self.clock),
            is_cancelled=lambda _record: self.cancelled,
            metrics=Metrics(),
            clock=self.clock,
        )
        self.ownership.assign(intake, [Assigned(PLACE, 0, encode(Progress.at(0)), 0, 100)])
        self.dispatch.own(LANE, PLACE, 1)
        partition = self.ownership.find(PLACE)
        assert partition is not None
        partition.reserved = 1000
        self.partition = partition

    def arrive(
        self, offset: int, key: bytes | None = None, held: Held | None = None, at: float = 0.0
    ) -> Entry:
        record = Record(PLACE.topic, 0, offset, key, b"", (), at)
        entry = Entry(
            offset, record, PLACE, self.partition.epoch, LANE, "charge", lookup=False, held=held
        )
        self.dispatch.arrive(entry, self.partition, 0.0)
        return entry


def facts(*rates: Rate) -> TaskFacts:
    """A task with these limits."""
    return TaskFacts("charge", "tasks", "async", False, (), rates)


def test_a_suspect_that_waits_for_its_limit_goes_on_alone() -> None:
    """A rate that holds it back must not bring it into company afterwards."""
    world = World(facts(Rate(1, period=10.0)))
    suspect = world.arrive(1)
    world.clock.advance(20.0)
    world.dispatch.give_out()
    assert world.shared.held.pop(1) is suspect
    suspect.alone = True
    world.dispatch.come_back(suspect, Suspicion.SUSPECT)
    world.dispatch.give_out()
    assert not world.shared.held
    assert not world.solo.held, "its rate holds it back"
    world.clock.advance(20.0)
    for _ in range(2):
        world.dispatch.give_out()
    assert not world.shared.held
    assert list(world.solo.held) == [1]


def test_a_held_task_keeps_its_key_until_its_holder_is_done() -> None:
    """Neither it nor what is behind its key starts; others do."""
    world = World(facts())
    world.arrive(1, b"a", Held(1, "w1", 7))
    world.arrive(2, b"a")
    world.arrive(3, b"b")
    world.dispatch.give_out()
    assert list(world.shared.held) == [3]
    world.dispatch.free_held(lambda _entry: True)
    world.dispatch.give_out()
    assert list(world.shared.held) == [3]
    world.dispatch.free_held(lambda _entry: False)
    world.dispatch.give_out()
    assert list(world.shared.held) == [3, 1]


def test_a_shut_lane_gives_nothing_out() -> None:
    """Until Kafka answers for it again; nothing is lost meanwhile."""
    world = World(facts())
    world.dispatch.shut(frozenset({LANE}))
    world.arrive(1)
    world.dispatch.give_out()
    assert not world.shared.held
    world.dispatch.shut(frozenset())
    world.dispatch.give_out()
    assert list(world.shared.held) == [1]


def test_what_is_dropped_gives_its_room_back_once() -> None:
    """Wherever it waited: for its turn, for its key, for a holder."""
    world = World(facts())
    world.arrive(1, b"a", Held(1, "w1", 7))
    for offset in range(2, 12):
        world.arrive(offset, b"a" if offset % 2 else None)
    world.dispatch.give_out()
    world.dispatch.drop({PLACE})
    assert sum(world.released) == 11
    world.dispatch.drop({PLACE})
    assert sum(world.released) == 11


def test_a_retry_that_keeps_its_key_begins_without_what_was_against_the_last_attempt() -> None:
    """No strike for a death that was not its own, no child to itself, and it can be ended like any."""
    world = World(facts())
    entry = world.arrive(1, b"a")
    world.dispatch.give_out()
    entry.suspicion, entry.alone, entry.abandoned = Suspicion.CAUGHT, True, True
    del world.shared.held[1]
    world.dispatch.retry_here(entry, world.clock.now() + 5.0)
    world.clock.advance(5.0)
    world.dispatch.wake_due()
    world.dispatch.give_out()
    assert world.shared.held == {1: entry}
    assert entry.suspicion is Suspicion.NONE
    assert not entry.abandoned


def test_a_retry_that_was_cancelled_before_it_began_to_wait_does_not_wait() -> None:
    """The word came between the verdict and its being heard."""
    world = World(facts())
    entry = world.arrive(1, b"a")
    world.dispatch.give_out()
    del world.shared.held[1]
    world.cancelled = True
    world.dispatch.retry_here(entry, world.clock.now() + 3600.0)
    world.dispatch.wake_due()
    world.dispatch.give_out()
    assert list(world.shared.held) == [1]


def test_a_held_back_task_gives_its_place_among_the_limited_ones_back() -> None:
    """It was woken for a slot; the one behind it, which a drain lets go, must have it."""
    world = World(TaskFacts("charge", "tasks", "async", False, (Concurrency(1, "worker"),)))
    first = world.arrive(1)
    world.arrive(2, at=10.0)
    world.arrive(3, at=5.0)
    world.dispatch.give_out()
    del world.shared.held[1]
    world.dispatch.left([first])
    world.shared.capacity = 0
    world.dispatch.give_out()  # wakes the second one, and there is no room
    world.dispatch.obey(QueueOrders([QueueOrder(DRAIN, of_queue("tasks"), 7.0)]))
    world.shared.capacity = 4
    for _ in range(2):
        world.dispatch.give_out()
    assert list(world.shared.held) == [3]
