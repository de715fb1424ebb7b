"""The scheduler's thread that fires, turn by turn, with a clock that stands still and nobody else about.

Broken on purpose once, and seen to fail: a note before the acknowledgement; a failed note that is
forgotten; a late word that nobody writes over; a store that is asked in every turn; traces of schedules that are
no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from taskstream.broker.group import Assigned
from taskstream.broker.records import Record
from taskstream.broker.sender import Ack
from taskstream.core.clock import ManualClock
from taskstream.core.cron import Cron, Every
from taskstream.core.envelope import Header, Place
from taskstream.core.errors import BrokerError, PublishError, StoreUnavailable
from taskstream.core.names import Names
from taskstream.core.schedule import Firings, Rules, Schedule, task_id
from taskstream.core.settings import Settings
from taskstream.core.states import State
from taskstream.observability import table
from taskstream.observability.metrics import Spread
from taskstream.producer.routing import PublishRequest, partition_for
from taskstream.results.row import Row
from taskstream.scheduler.firing import Asking, Firing
from taskstream.schemas.records import Records
from taskstream.schemas.schedules import decode_firings, record_of

NOON = 1_800_000_000.0
RECORDS = Records()


@dataclass
class Delivery:
    """One that was acknowledged, or refused."""

    error: PublishError | None
    trace: tuple[Header, ...] = ()

    def wait(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class Kafka:
    """Takes what is published and noted, in order; or nothing, while `away`."""

    published: list[PublishRequest] = field(default_factory=list)
    noted: list[Firings] = field(default_factory=list)
    takes_tasks: bool = True
    takes_notes: bool = True

    def publish(self, request: PublishRequest) -> Delivery:
        if not self.takes_tasks:
            return Delivery(PublishError("away"))
        self.published.append(request)
        return Delivery(None, (("traceparent", request.envelope.id.encode()),))

    def send(self, topic: str, value: bytes, *, on_done: Callable[..., None], **_: Any) -> None:
        if not self.takes_notes:
            return on_done(None, BrokerError("away"))
        assert topic == "shop.schedules"
        self.noted.append(decode_firings(RECORDS, value))
        return on_done(Ack(0, len(self.noted)), None)

    @property
    def ids(self) -> list[str]:
        return [request.envelope.id for request in self.published]


@dataclass
class Store:
    """Where the ends of tasks are read, if it answers."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    away: bool = False

    def read_many(self, ids: Sequence[str]) -> dict[str, list[Row]]:
        self.asked.append(list(ids))
        if self.away:
            raise StoreUnavailable("away")
        return {task: self.rows.get(task, []) for task in ids}

    def end(self, task: str, at: float) -> None:
        self.rows[task] = [Row(task, 0, 1, State.SUCCEEDED, "clean", 1, finished=at)]


@dataclass
class Scene:
    """A scheduler that owns all partitions, and what is around it."""

    firing: Firing
    kafka: Kafka
    store: Store
    clock: ManualClock

    def hear(
        self, *ones: Schedule | Firings | tuple[bytes, bytes | None], done: bool = True
    ) -> None:
        pairs = [one if isinstance(one, tuple) else record_of(RECORDS, one) for one in ones]
        self.firing._hear(
            [Record("shop.schedules", 0, 0, key, value, (), NOON) for key, value in pairs], done
        )

    def own(self, *partitions: int, count: int = 2) -> None:
        self.firing.assigned(
            [Assigned(Place("shop.delay.0", one), 0, "", 0, 0, count) for one in partitions]
        )

    def turn(self, seconds: float = 0.0) -> float:
        self.clock.advance(seconds)
        return self.firing._turn()

    def counted(self, metric: table.Metric, *labels: str) -> float | Spread:
        return self.firing._metrics.series(metric)[labels]

    def id(self, after: float, name: str = "clean") -> str:
        return task_id("shop", name, NOON + after)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    kafka, store, clock = Kafka(), Store(), ManualClock(NOON)
    firing = Firing(
        Names("shop"),
        Settings(bootstrap_servers="nowhere:1"),
        client_id="test",
        clock=clock,
        open_store=lambda _settings: store,  # type: ignore[arg-type, return-value]
    )
    monkeypatch.setattr(firing, "_clients", lambda: (kafka, kafka))
    firing._rules = Rules(takeover=150.0, horizon=86400.0)
    return Scene(firing, kafka, store, clock)


def schedule(**how: Any) -> Schedule:
    given: dict[str, Any] = {
        "name": "clean", "task": "clean", "when": Every(60), "value": b"\xc3\x01body", "queue": "tasks",
        "priority": "low", "since": NOON, "at": NOON,
    }  # fmt: skip
    return Schedule(**{**given, **how})


def test_it_publishes_then_notes_then_rests_until_the_next(scene: Scene) -> None:
    """The record is the same whoever fires it, and asks for a look-up."""
    scene.hear(schedule(key="k", expires=20.0))
    scene.own(0, 1)
    assert scene.turn() == 60.0
    assert not scene.kafka.published
    assert scene.turn(60.5) == 59.5
    (request,) = scene.kafka.published
    assert (request.topic, request.value, request.key) == ("shop.tasks.low", b"\xc3\x01body", "k")
    envelope = request.envelope
    assert (envelope.id, envelope.task, envelope.priority) == (scene.id(60), "clean", "low")
    assert (envelope.lookup, envelope.expires) == (True, NOON + 80)
    (noted,) = scene.kafka.noted
    assert (noted.last, noted.last_id, noted.fired, noted.number) == (
        NOON + 60, scene.id(60), NOON + 60.5, 1,
    )  # fmt: skip
    assert scene.turn() == 59.5
    assert len(scene.kafka.published) == len(scene.kafka.noted) == 1


def test_it_fires_nothing_before_it_knows_all(scene: Scene) -> None:
    """What stood in the topic at the start may say that it has fired already."""
    scene.own(0, 1)
    scene.hear(schedule(), done=False)
    scene.turn(61)
    assert not scene.kafka.published
    scene.hear(Firings(name="clean", number=4, seen=NOON + 60))
    assert scene.turn() == 59.0
    assert not scene.kafka.published


def test_a_schedule_belongs_to_one_partition(scene: Scene) -> None:
    """By the hash of its name; who gives that partition up fires it no more."""
    place = partition_for(b"clean", 2)
    scene.hear(schedule())
    scene.own(1 - place)
    scene.turn(61)
    assert not scene.kafka.published
    scene.own(place)
    scene.turn()
    assert scene.kafka.ids == [scene.id(60)]
    scene.firing.given_up([Place("shop.delay.0", place), Place("shop.delay.5s", 1 - place)])
    assert scene.turn(60) == 60.0
    assert scene.kafka.ids == [scene.id(60)]


def test_what_kafka_did_not_take_is_published_again(scene: Scene) -> None:
    """Nothing is noted before; other schedules go on meanwhile."""
    scene.hear(schedule())
    scene.own(0, 1)
    scene.kafka.takes_tasks = False
    assert scene.turn(60) == 1.0
    assert not scene.kafka.noted
    assert scene.counted(table.SCHEDULE_FAILURES, "clean") == 1
    scene.kafka.takes_tasks = True
    scene.turn(1)
    assert scene.kafka.ids == [scene.id(60)]
    assert [one.seen for one in scene.kafka.noted] == [NOON + 60]
    assert scene.counted(table.SCHEDULES_FIRED, "clean") == 1
    late = scene.counted(table.SCHEDULE_LATENESS)
    assert isinstance(late, Spread)
    assert late.total == 1.0


def test_what_could_not_be_noted_is_noted_later(scene: Scene) -> None:
    """It is not published again meanwhile, for this one knows."""
    scene.hear(schedule())
    scene.own(0, 1)
    scene.kafka.takes_notes = False
    assert scene.turn(60) == 1.0
    scene.kafka.takes_notes = True
    assert scene.turn(1) == 59.0
    assert scene.kafka.ids == [scene.id(60)]
    assert [one.seen for one in scene.kafka.noted] == [NOON + 60]


def test_a_change_holds_at_once(scene: Scene) -> None:
    """A pause, a removal, another time table: heard, and looked at anew."""
    scene.hear(schedule())
    scene.own(0, 1)
    scene.turn(60)
    scene.hear(schedule(paused=True))
    assert scene.turn(60) == 60.0
    scene.hear(schedule(when=Every(30), since=NOON + 120))
    assert scene.turn() == 30.0
    scene.turn(30)
    scene.hear((b"schedule/clean", None))
    assert scene.turn(60) == 60.0
    assert scene.kafka.ids == [scene.id(60), scene.id(150)]


def test_the_next_owner_goes_on_where_the_last_one_was(scene: Scene) -> None:
    """What others note is heard, before and after the partition is ours."""
    scene.hear(schedule())
    scene.hear(Firings(name="clean", number=1, owner="other", seen=NOON + 60))
    scene.own(0, 1)
    scene.turn(130)
    assert scene.kafka.ids == [scene.id(120)]
    assert scene.kafka.noted[-1].number == 2


def test_a_late_word_of_an_earlier_owner_is_written_over(scene: Scene) -> None:
    """A compacted topic keeps the last word on a key; echoes of our own are none."""
    scene.hear(schedule())
    scene.own(0, 1)
    scene.turn(60)
    scene.turn(60)
    first, second = scene.kafka.noted
    scene.hear(first, second)
    scene.turn()
    assert len(scene.kafka.noted) == 2
    scene.hear(replace(first, owner="zombie"))
    scene.turn()
    assert scene.kafka.noted[-1] == replace(second, number=3)
    scene.turn()
    assert len(scene.kafka.noted) == 3


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_it_waits_for_the_end_of_the_last_one(scene: Scene, overlap: str) -> None:
    """The store is asked when that matters, not in every turn; its end is noted."""
    scene.hear(schedule(overlap=overlap))
    scene.own(0, 1)
    assert scene.turn(60) == 0.5
    assert not scene.store.asked
    for _ in range(5):
        scene.turn(0.05)
    assert not scene.store.asked
    scene.turn(60)
    assert len(scene.store.asked) == 1
    assert scene.kafka.ids == [scene.id(60)]
    scene.store.end(scene.id(60), NOON + 130)
    scene.turn(60)
    expected = scene.id(180) if overlap == "skip" else scene.id(120)
    assert scene.kafka.ids == [scene.id(60), expected]
    noted = scene.kafka.noted[-1]
    assert noted.pending == (() if overlap == "skip" else (NOON + 180,))
    scene.store.end(expected, NOON + 181)
    scene.turn(5)
    ended = scene.kafka.noted[-1]
    if overlap == "skip":
        assert (ended.ended, ended.ended_as) == (NOON + 181, "succeeded")
    else:
        assert scene.kafka.ids[-1] == scene.id(180)
    assert ended.skipped == (1 if overlap == "skip" else 0)


def test_a_store_that_is_away_lets_nothing_overlap(scene: Scene) -> None:
    """What can't be known is taken for running."""
    scene.hear(schedule(overlap="queue"))
    scene.own(0, 1)
    scene.turn(60)
    scene.store.away = True
    scene.turn(60)
    assert scene.kafka.ids == [scene.id(60)]
    scene.store.away = False
    scene.store.end(scene.id(60), NOON + 61)
    scene.turn(1)
    assert scene.kafka.ids == [scene.id(60), scene.id(120)]


def test_a_task_that_left_no_trace_counts_as_ended_in_the_end(scene: Scene) -> None:
    """Whatever became of it, nothing will be written of it any more."""
    scene.hear(schedule(overlap="skip"))
    scene.own(0, 1)
    scene.turn(60)
    scene.turn(86400)
    assert scene.kafka.ids == [scene.id(60)]
    scene.turn(60)
    assert scene.kafka.ids == [scene.id(60), scene.id(86520)]


def test_allow_asks_no_store(scene: Scene) -> None:
    """Nor is its driver ever loaded."""
    scene.hear(schedule())
    scene.own(0, 1)
    for _ in range(3):
        scene.turn(60)
    assert not scene.store.asked
    assert scene.firing._store is None


def test_one_that_can_not_be_read_stops_no_other(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and looked at again in a while."""
    scene.hear(schedule(name="odd", when=Cron("99 * * * *")), schedule())
    scene.own(0, 1)
    for _ in range(3):
        scene.turn(60)
    assert len(scene.kafka.ids) == 3
    assert caplog.text.count("a schedule's times can't be read") == 1


def test_asking_slows_down() -> None:
    """0.5, 1, 2, 4, 8, 10 s, 10 s, …; a second at most while another firing waits."""
    asking, now, pauses = Asking(NOON, 0.5), NOON, []
    for _ in range(7):
        pauses.append(asking.pause)
        now = asking.at
        assert asking.is_due(now, waited_for=False)
        assert not asking.is_due(now - 0.01, waited_for=False)
        asking = asking.again(now, waited_for=False)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert asking.is_due(now + 0.5, waited_for=True)
    assert not asking.is_due(now + 0.4, waited_for=True)
    assert asking.again(now, waited_for=True).pause == 1.0


def test_each_firing_is_linked_to_the_one_before(scene: Scene) -> None:
    """Its span is to say which schedule it is, and to lead to the trace of the last firing that is known."""
    scene.own(0, 1)
    scene.hear(schedule())
    scene.turn(60.0)
    scene.turn(60.0)
    first, second = (request.fired for request in scene.kafka.published)
    assert first is not None
    assert second is not None
    assert (first.schedule, first.last) == ("clean", ())
    assert second.last == (("traceparent", scene.kafka.ids[0].encode()),)


def test_nothing_is_kept_of_schedules_that_were_removed(scene: Scene) -> None:
    """A program that adds one for each order and removes it must not fill the scheduler's memory."""
    scene.own(0, 1)
    for number in range(50):
        one = schedule(name=f"order-{number}", overlap="skip")
        scene.hear(one)
        scene.clock.advance(3600)
        scene.turn()
        scene.hear((record_of(RECORDS, one)[0], None))
        scene.turn()
    assert len(scene.kafka.ids) >= 50
    firing = scene.firing
    assert [len(one) for one in (firing._looks, firing._asking, firing._told, firing._traces)] == [
        0
    ] * 4
