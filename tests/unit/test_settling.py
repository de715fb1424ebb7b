"""From a verdict to a finished offset: what must follow is handed off first, and by its owner only.

Broken on purpose once, and seen to fail: the journal named no time for an outcome that is still to be heard.
"""

from typing import Any, cast

from taskstream.broker.failures import RecordTooLarge
from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import encode
from taskstream.broker.offsets import Progress
from taskstream.broker.records import Record
from taskstream.broker.sender import Ack, Report
from taskstream.consumer.parent.journal import HEARD_WITHIN, WRITE_AGAIN, Journal, Written
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.parent.settling import HANDOFF_PAUSE, Settling
from taskstream.consumer.pipe import Judged
from taskstream.consumer.verdict import Again, Dead, Done, Verdict
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.observability.metrics import Metrics

PLACE = Place("shop.tasks.high", 0)


class Nobody:
    """Takes whatever it is told."""

    lane = "tasks.high"
    group = "shop.tasks.high"

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_more: None


class Handoff:
    """Remembers what it was to carry out."""

    def __init__(self) -> None:
        self.carried: list[int] = []

    def carry_out(self, entry: Entry, _judged: Judged, **_more: object) -> None:
        self.carried.append(entry.record.offset)


class EventsSender:
    """Remembers what was sent, and to whom its outcome is to be told."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.reports: list[Report] = []

    def send(self, _topic: str, value: bytes, *, on_done: Report, **_more: object) -> None:
        self.sent.append(value)
        self.reports.append(on_done)


class World:
    """One partition with one record at 100."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ownership = Ownership(Metrics(), self.clock)
        self.ownership.sure_for = 3.0
        nobody: Any = Nobody()
        self.ownership.assign(nobody, [Assigned(PLACE, 100, encode(Progress.at(100)), 0, 101)])
        partition = self.ownership.find(PLACE)
        assert partition is not None
        partition.tracker.deliver(100)
        record = Record(PLACE.topic, PLACE.partition, 100, None, b"", (), 0.0)
        self.entry = Entry(1, record, PLACE, partition.epoch, "tasks.high", "charge", lookup=False)
        self.handoff = Handoff()
        self.final: list[Record] = []
        self.sender = EventsSender()
        self.written: list[Written] = []
        self.settling = Settling(
            self.ownership,
            nobody,
            cast("Any", self.handoff),
            Journal(
                cast("Any", self.sender), "shop.events", self.written.append, self.clock.monotonic
            ),
            nobody,
            breakers=nobody,
            on_final=self.final.append,
            strict=frozenset(),
            metrics=Metrics(),
            clock=self.clock,
        )

    def judged(self, verdict: Verdict) -> Judged:
        return Judged(1, verdict, (), "id", "charge", recalled=False)

    @property
    def watermark(self) -> int:
        partition = self.ownership.find(PLACE)
        assert partition is not None
        return partition.tracker.watermark


DEAD = Dead("Fatal", "no")


def test_an_offset_is_finished_once_its_hand_off_is_acknowledged() -> None:
    """Neither the verdict nor a refusal finishes it; a refused one is tried again."""
    world = World()
    judged = world.judged(DEAD)
    world.settling.judged([(world.entry, judged)])
    assert world.handoff.carried == [100]
    assert world.settling.places == {PLACE}
    world.settling.handed_off(world.entry, judged, BrokerError("no"))
    assert world.watermark == 100
    world.clock.advance(HANDOFF_PAUSE)
    world.settling.try_again(world.clock.monotonic())
    assert world.handoff.carried == [100, 100]
    world.settling.handed_off(world.entry, judged, None)
    assert world.watermark == 101
    assert world.settling.idle


def test_a_worker_that_was_halted_hands_nothing_off_before_it_hears_from_kafka() -> None:
    """What its children have said meanwhile may be the next owner's business already."""
    world = World()
    world.clock.advance(10.0)
    world.settling.judged([(world.entry, world.judged(DEAD))])
    assert world.handoff.carried == []
    assert not world.settling.idle
    world.ownership.forget([PLACE])
    world.clock.advance(HANDOFF_PAUSE)
    world.settling.try_again(world.clock.monotonic())
    assert world.handoff.carried == []
    assert world.settling.idle


def test_it_goes_on_where_kafka_says_that_the_partition_is_still_ours() -> None:
    """A short halt costs a moment, and nothing else."""
    world = World()
    world.clock.advance(10.0)
    world.settling.judged([(world.entry, world.judged(DEAD))])
    world.ownership.committed(None, {PLACE: 100})
    world.clock.advance(HANDOFF_PAUSE)
    world.settling.try_again(world.clock.monotonic())
    assert world.handoff.carried == [100]


def test_a_cancel_is_taken_back_at_the_final_state_alone() -> None:
    """At a result at once; at a death once its dead letter is acknowledged; at a retry, never."""
    cases: list[tuple[Verdict, bool]] = [(Done(), True), (DEAD, True), (Again(5.0), False)]
    for verdict, told in cases:
        world = World()
        judged = world.judged(verdict)
        world.settling.judged([(world.entry, judged)])
        if not isinstance(verdict, Done):
            assert world.final == []
            world.settling.handed_off(world.entry, judged, None)
        assert world.final == ([world.entry.record] if told else [])


DONE = Done()
ACK = Ack(0, 0)


def _answer(world: World, number: int, error: BrokerError | None = None) -> None:
    """Kafka's answer to an event, told to the loop."""
    world.sender.reports[number](None if error else ACK, error)
    world.settling.written(world.written.pop())


def test_an_offset_is_finished_once_all_events_of_its_attempt_are_acknowledged() -> None:
    """The key is freed and the run counted at once; a refused event is written again."""
    world = World()
    world.settling.tell([1], [b"one", b"two"])
    world.settling.judged([(world.entry, world.judged(DONE))])
    assert (world.settling.finished, world.watermark) == (1, 100)
    assert not world.settling.idle
    assert world.settling.places == {PLACE}
    # Nobody is woken by an answer, so the loop looks for it.
    assert world.settling.next_at == world.clock.monotonic() + HEARD_WITHIN
    _answer(world, 0)
    _answer(world, 1, BrokerError("no"))
    assert world.watermark == 100
    assert world.settling.next_at == world.clock.monotonic() + WRITE_AGAIN
    world.clock.advance(WRITE_AGAIN)
    world.settling.try_again(world.clock.monotonic())
    assert world.sender.sent == [b"one", b"two", b"two"]
    _answer(world, 2)
    assert world.watermark == 101
    assert world.settling.idle


def test_an_event_that_no_topic_can_hold_is_left_out() -> None:
    """It would never be taken: the offset goes on, and an error tells of it."""
    world = World()
    world.settling.tell([1], [b"one"])
    world.settling.judged([(world.entry, world.judged(DONE))])
    _answer(world, 0, RecordTooLarge("no"))
    assert world.watermark == 101


def test_a_hand_off_and_its_event_are_both_waited_for() -> None:
    """Whichever is acknowledged first."""
    for event_first in (True, False):
        world = World()
        judged = world.judged(DEAD)
        world.settling.tell([1], [b"one"])
        world.settling.judged([(world.entry, judged)])
        if event_first:
            _answer(world, 0)
        else:
            world.settling.handed_off(world.entry, judged, None)
        assert world.watermark == 100
        if event_first:
            world.settling.handed_off(world.entry, judged, None)
        else:
            _answer(world, 0)
        assert world.watermark == 101


def test_a_later_attempt_of_the_same_record_waits_for_the_events_of_the_earlier() -> None:
    """A strict retry may be over before Kafka has answered for the attempt before it."""
    world = World()
    world.settling.tell([1], [b"first"])
    world.settling.tell([1], [b"second"])
    world.settling.judged([(world.entry, world.judged(DONE))])
    _answer(world, 1)
    assert world.watermark == 100
    _answer(world, 0)
    assert world.watermark == 101
    assert world.settling.idle


def test_events_of_a_partition_that_has_gone_finish_nothing() -> None:
    """Its next owner finds the row, and tells of it again."""
    world = World()
    world.settling.tell([1], [b"one"])
    world.settling.judged([(world.entry, world.judged(DONE))])
    world.ownership.forget([PLACE])
    _answer(world, 0)
    assert world.settling.idle
