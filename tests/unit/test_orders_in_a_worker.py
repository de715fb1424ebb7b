"""Pauses, drains and purges in the midst of work: one partition, its worker, its delay topic, and crashes.

The parts that decide are the real ones (dispatch, lanes, settling, the scheduler's choice); Kafka, the
store and the child are lists here. So each interleaving is short, and thousands of them are tried.

Broken on purpose once, and seen to fail: `Dispatch` without its looks at the orders (where a task is taken, comes
back, or waits for a child), at purges, or without `_shed`; deferral without the lookup, of a strict task, of a
suspect, of what can't be read, in a paused queue; one that frees a key it does not hold, and one that keeps its
own; the moment of entering taken from the last record; `Aside` that frees nobody when an order is lifted, or
counts who has ended.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import encode
from taskstream.broker.offsets import Progress
from taskstream.broker.records import Record
from taskstream.consumer.parent import aside
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.handoff import (
    DEFERRED_FOR,
    Deferred,
    Outgoing,
    deferred,
    next_attempt,
)
from taskstream.consumer.parent.journal import Journal
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.parent.settling import Settling
from taskstream.consumer.pipe import Frames, Given, Judged, TaskFacts
from taskstream.consumer.suspicion import Suspicion
from taskstream.consumer.verdict import Again, Done, Verdict
from taskstream.core.clock import ManualClock
from taskstream.core.control import Control, Order
from taskstream.core.envelope import Envelope, Place, enter, peek, read, standing, write
from taskstream.core.ids import new_id
from taskstream.core.names import Names
from taskstream.core.queue_orders import DRAIN, HOLDING, PAUSE, PURGE, of_queue, of_task
from taskstream.core.states import State
from taskstream.core.tiers import DAY
from taskstream.observability import table
from taskstream.observability.metrics import Metrics
from taskstream.scheduler.due import is_free

LANE = "tasks.normal"
PLACE = Place(f"shop.{LANE}", 0)
NAMES = Names("shop")
WINDOW, ROOM, STAY = 8, 5, 2
TASKS = {
    "a": TaskFacts("a", "tasks", "async"),
    "b": TaskFacts("b", "tasks", "async"),
    "alone": TaskFacts("alone", "tasks", "process"),
    "strict": TaskFacts("strict", "tasks", "async", strict_order=True),
}


@pytest.fixture(autouse=True, scope="module")
def few_stay() -> Iterator[None]:
    """Bounds that a short story reaches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aside, "ASIDE_RECORDS", STAY)
        yield


@dataclass(slots=True, eq=False)
class Child:
    """A child that begins what it holds when the story says so."""

    solo: bool
    capacity: int
    held: dict[int, Entry] = field(default_factory=dict)
    given: dict[int, Given] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    urgent: frozenset[int] = frozenset()
    reserved: int = 0
    frames: Frames = field(default_factory=Frames)

    def hold(self, entry: Entry, *, urgent: bool) -> None:
        self.held[entry.number] = entry

    @property
    def room(self) -> int:
        return self.capacity - len(self.held)


class Worker:
    """One life of a worker, from an assignment to its end."""

    def __init__(self, story: "Story") -> None:
        self.story = story
        self.children = [Child(solo=False, capacity=3), Child(solo=True, capacity=1)]
        self.waiting_room = 0
        self.delivered = 0
        self.numbers = count(1)
        self.metrics = Metrics()
        self.ownership = Ownership(Metrics(), story.clock)
        self.ownership.sure_for = float("inf")
        self.unsent: list[tuple[Entry, Judged | Deferred, Outgoing]] = []
        worker = self

        class Intake:
            lane = LANE
            group = "shop.tasks.normal"

            def release(self, records: int, _size_bytes: int) -> None:
                worker.waiting_room -= records

        class Children:
            def __iter__(self) -> Iterator[Child]:
                return iter(worker.children)

            def send(self, child: Child, frame: bytes) -> None:
                for frames in child.frames.feed(frame):
                    assert isinstance(frames, list)
                    child.given.update((one.number, one) for one in frames)

        class Handoff:
            def carry_out(self, entry: Entry, judged: Judged, *, group: str, now: float) -> None:
                assert isinstance(judged.verdict, Again)
                outgoing = next_attempt(
                    entry.record, judged, judged.verdict, names=NAMES, group=group, now=now
                )
                worker.unsent.append((entry, judged, outgoing))

            def defer(self, entry: Entry, what: Deferred, *, group: str, now: float) -> None:
                outgoing = deferred(entry.record, names=NAMES, group=group, now=now)
                worker.unsent.append((entry, what, outgoing))

        intake: Any = Intake()
        breakers = Breakers([LANE], limit=0, share=0.5, clock=story.clock)
        self.dispatch = Dispatch(
            {LANE: 1},
            {LANE: intake},
            self.ownership,
            cast("Any", Children()),
            tasks=TASKS,
            breakers=breakers,
            is_cancelled=lambda _record: False,
            metrics=self.metrics,
            clock=story.clock,
        )
        self.settling = Settling(
            self.ownership,
            self.dispatch,
            cast("Any", Handoff()),
            Journal(cast("Any", None), NAMES.events, lambda _written: None, story.clock.monotonic),
            cast("Any", None),
            breakers=breakers,
            on_final=lambda _record: None,
            strict={"strict"},
            metrics=self.metrics,
            clock=story.clock,
        )
        assigned = Assigned(PLACE, story.committed[0], story.committed[1], 0, len(story.log))
        self.ownership.assign(intake, [assigned])
        self.dispatch.own(LANE, PLACE, 1)
        partition = self.ownership.find(PLACE)
        assert partition is not None
        self.partition = partition
        self.position = story.committed[0]
        self.heed()

    def heed(self) -> None:
        """As the loop does when it has heard."""
        orders = self.story.control.queues
        if orders is self.dispatch.queue_orders:
            return
        self.dispatch.obey(orders)
        for child in self.children:
            back = [
                number
                for number, entry in child.held.items()
                if self.dispatch.is_concerned(entry) and number not in child.begun
            ]
            for number in reversed(back):
                del child.given[number]
                self.dispatch.come_back(child.held.pop(number), Suspicion.NONE)

    def commit(self) -> None:
        """Kafka takes a commit."""
        commit = self.partition.commit(full=True)
        if commit is not None:
            self.story.committed = commit
            for entry in list(self.partition.acknowledge()):
                self.dispatch.queue(entry)

    def turn(self) -> None:
        """Takes in what there is room for, gives out, and sends what must follow."""
        log = self.story.log
        while (
            self.position < len(log)
            and self.waiting_room < ROOM
            and self.partition.tracker.in_hand < WINDOW
        ):
            record = log[self.position]
            self.position += 1
            if self.partition.tracker.deliver(record.offset):
                self.waiting_room += 1
                self.take_in(record)
        self.dispatch.wake_due()
        self.dispatch.give_out()
        for entry, holds_key in self.dispatch.take_deferred():
            self.settling.defer(entry, holds_key=holds_key)

    def take_in(self, record: Record) -> None:
        facts = peek(record.headers)
        entry = Entry(
            next(self.numbers), record, PLACE, self.partition.epoch, LANE, facts.task,
            lookup=self.partition.has_met(facts.task_id)
            or facts.lookup
            or record.offset < self.partition.inherited,
        )  # fmt: skip
        self.partition.entries[record.offset] = entry
        self.dispatch.arrive(entry, self.partition, facts.due)

    def acknowledge(self) -> None:
        """Kafka has the oldest hand-off that is under way."""
        if self.unsent:
            entry, judged, outgoing = self.unsent.pop(0)
            self.story.append_to_tier(outgoing)
            self.settling.handed_off(entry, judged, None)


class Story:
    """What happens, and what must be true of it all along."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.control = Control(40 * DAY)
        self.log: list[Record] = []
        self.tier: list[Record] = []
        self.committed = (0, encode(Progress.at(0)))
        self.rows: dict[str, dict[int, Verdict]] = {}
        self.published: list[str] = []
        self.runs: Counter[tuple[str, int]] = Counter()
        self.must_be_cancelled: set[str] = set()
        self.worker = Worker(self)

    # Steps

    def publish(self, task: str, key: str | None) -> None:
        task_id = new_id()
        self.published.append(task_id)
        self.rows[task_id] = {}
        headers = tuple(write(Envelope(task, id=task_id)))
        self.append((task_id if key is None else key).encode(), headers)

    def order(self, verb: str, target: str) -> None:
        self.clock.advance(0.001)
        at = self.clock.now()
        if verb == PURGE:
            self.must_be_cancelled |= {
                one
                for one in self.unbegun()
                if target in (of_queue("tasks"), of_task(self.task_of[one]))
            }
        self.control.give(Order(verb=verb, target=target, at=at, who="me"), at)
        self.worker.heed()
        self.clock.advance(0.001)

    def resume(self) -> None:
        for one in list(self.control.queues.orders):
            if one.verb in HOLDING:
                self.control.take_back(f"{one.verb}/{one.target}".encode())
        self.worker.heed()

    def move(self) -> None:
        """The scheduler brings home what is due, or need not wait."""
        staying = []
        for record in self.tier:
            envelope = read(record.headers)
            if (envelope.due or 0.0) <= self.clock.now() or is_free(
                record, envelope.home, self.control.queues, NAMES
            ):
                self.append(record.key or b"", tuple(enter(record.headers, record.timestamp)))
            else:
                staying.append(record)
        self.tier = staying

    def begin(self, which: int) -> None:
        """A child begins one of its tasks; what is only to be recorded is, at once."""
        ready = [
            (child, number)
            for child in self.worker.children
            for number in child.held
            if number not in child.begun
        ]
        if not ready:
            return
        child, number = ready[which % len(ready)]
        entry, given_ = child.held[number], child.given[number]
        envelope = read(entry.record.headers)
        rows = self.rows[envelope.id]
        attempt = envelope.attempt
        if entry.task == "strict" and rows:
            attempt = max(rows) + 1 if isinstance(rows[max(rows)], Again) else max(rows)
        if entry.lookup and any(later > attempt for later in rows):
            self.judge(child, number, attempt, Done(), recalled=True)
        elif entry.lookup and attempt in rows:
            self.judge(child, number, attempt, rows[attempt], recalled=True)
        elif given_.cancelled:
            assert "purged by me" in given_.why
            self.judge(child, number, attempt, Done(State.CANCELLED))
        else:
            self.check_that_it_may_run(entry, rows, attempt)
            self.runs[envelope.id, attempt] += 1
            child.begun.add(number)

    def check_that_it_may_run(self, entry: Entry, rows: dict[int, Verdict], attempt: int) -> None:
        told = standing(entry.record.headers, entry.record.timestamp)
        orders = self.control.queues
        assert not orders.holds_back(LANE, told.task, told.entered), "it is held back"
        assert orders.purge_of(LANE, told.task, told.entered) is None, "it is purged"
        assert not any(isinstance(row, Done) for row in rows.values()), "it is over"
        assert attempt not in rows, "it has been judged"
        beside = [
            other
            for child in self.worker.children
            for number in child.begun
            if (other := child.held[number]).record.key == entry.record.key
        ]
        assert not beside, "another one of its key runs"

    def end(self, which: int, *, again: bool) -> None:
        """A task that runs returns, or is to be tried again."""
        running = [(child, number) for child in self.worker.children for number in child.begun]
        if running:
            child, number = running[which % len(running)]
            entry = child.held[number]
            envelope = read(entry.record.headers)
            attempt = envelope.attempt
            if entry.task == "strict":
                attempt = max(self.rows[envelope.id], default=0) + 1
            verdict = Again(self.clock.now() + 7.0) if again and attempt < 3 else Done()
            self.judge(child, number, attempt, verdict)

    def judge(
        self, child: Child, number: int, attempt: int, verdict: Verdict, *, recalled: bool = False
    ) -> None:
        entry = child.held.pop(number)
        del child.given[number]
        child.begun.discard(number)
        envelope = read(entry.record.headers)
        if not recalled:
            self.rows[envelope.id][attempt] = verdict
        judged = Judged(number, verdict, (), envelope.id, entry.task, recalled, attempt)
        self.worker.settling.judged([(entry, judged)])

    def crash(self) -> None:
        """The worker is killed, and another one takes over; records on their way may have arrived."""
        for _, _, outgoing in self.worker.unsent[::2]:
            self.append_to_tier(outgoing)
        self.worker = Worker(self)

    def recover(self) -> None:
        """All that was held back may go on, and everything works for as long as it takes."""
        self.resume()
        self.settle()

    def settle(self) -> None:
        """Lets everybody do all there is to do, under the orders that hold."""
        for _ in range(40 + 8 * len(self.log)):
            self.clock.advance(1.0)
            self.move()
            self.worker.commit()
            self.worker.turn()
            for _ in range(4):
                self.begin(0)
                self.end(0, again=False)
            while self.worker.unsent:
                self.worker.acknowledge()
            if self.is_over():
                return

    # What is known

    def append(self, key: bytes, headers: tuple[Any, ...]) -> None:
        self.clock.advance(0.001)
        record = Record(PLACE.topic, 0, len(self.log), key, b"", headers, self.clock.now())
        self.log.append(record)

    def append_to_tier(self, outgoing: Outgoing) -> None:
        self.clock.advance(0.001)
        record = Record(
            outgoing.topic, 0, len(self.tier), outgoing.key, b"", outgoing.headers, self.clock.now()
        )
        self.tier.append(record)

    def unbegun(self) -> set[str]:
        """The tasks that have entered, are not over, and don't run at this moment."""
        running = {
            read(child.held[number].record.headers).id
            for child in self.worker.children
            for number in child.begun
        }
        # One whose verdict is stored and not heard of by the log yet is as good as over.
        return {
            one
            for one in self.published
            if one not in running
            and not any(isinstance(row, Done) for row in self.rows[one].values())
        }

    @property
    def task_of(self) -> dict[str, str]:
        envelopes = [read(record.headers) for record in self.log]
        return {envelope.id: envelope.task for envelope in envelopes}

    def final(self, task_id: str) -> State | None:
        done = [row.state for row in self.rows[task_id].values() if isinstance(row, Done)]
        assert len(done) <= 1, "two final states"
        return done[0] if done else None

    def is_over(self) -> bool:
        worker = self.worker
        return (
            not self.tier
            and worker.position == len(self.log)
            and not worker.partition.tracker.pending
            and all(self.final(one) is not None for one in self.published)
        )


Step = Callable[[Story], None]
step: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda task, key: lambda story: story.publish(task, key),
        st.sampled_from(["a", "a", "b", "b", "alone", "strict"]),
        st.sampled_from([None, None, "k1", "k2"]),
    ),
    st.just(lambda story: story.worker.turn()),
    st.just(lambda story: story.worker.commit()),
    st.just(lambda story: story.worker.acknowledge()),
    st.integers(0, 3).map(lambda which: lambda story: story.begin(which)),
    st.integers(0, 3).map(lambda which: lambda story: story.begin(which)),
    st.builds(
        lambda which, again: lambda story: story.end(which, again=again),
        st.integers(0, 3),
        st.booleans(),
    ),
    st.builds(
        lambda verb, target: lambda story: story.order(verb, target),
        st.sampled_from([PAUSE, PAUSE, DRAIN, PURGE]),
        st.sampled_from(
            [
                of_queue("tasks"),
                of_task("a"),
                of_task("b"),
                of_task("alone"),
                of_task("strict"),
            ]
        ),
    ),
    st.just(lambda story: story.resume()),
    st.just(lambda story: story.move()),
    st.just(lambda story: story.clock.advance(5.0)),
    st.just(lambda story: story.crash()),
)


@settings(max_examples=600)
@given(st.lists(step, min_size=20, max_size=90))
def test_nothing_is_lost_and_nothing_runs_against_an_order(steps: list[Step]) -> None:
    """Every task ends once, none that is held back or purged begins, and a purge ends all that it found."""
    story = Story()
    story.worker.commit()
    for take in steps:
        take(story)
    story.recover()
    assert [one for one in story.published if story.final(one) is None] == []
    assert story.is_over()
    for one in story.must_be_cancelled:
        assert story.final(one) is State.CANCELLED


def paused(story: Story, task: str, copies: int, key: str | None = None) -> None:
    """A task type is paused, and so many of it come."""
    story.order(PAUSE, of_task(task))
    for _ in range(copies):
        story.publish(task, key)


@pytest.mark.parametrize("key", [None, "hot"])
def test_a_paused_kind_of_task_lets_the_others_of_its_partition_pass(key: str | None) -> None:
    """However many of it come, of one key or of many: few stay, the rest is deferred."""
    story = Story()
    paused(story, "a", 5 * WINDOW, key)
    story.publish("b", None)
    story.settle()
    assert story.final(story.published[-1]) is State.SUCCEEDED
    assert story.worker.partition.tracker.in_hand == STAY
    assert len(story.tier) == 5 * WINDOW - STAY
    assert list(story.worker.dispatch.held_back()) == [LANE] * (STAY if key is None else 1)
    deferred = story.worker.metrics.series(table.DEFERRED)
    assert deferred == {tuple(LANE.split(".")): 5 * WINDOW - STAY}
    story.recover()
    assert story.is_over()
    assert max(story.runs.values()) == 1


def test_a_paused_queue_defers_nothing() -> None:
    """Nobody is behind it that could go on: its intake fills up, and waits."""
    story = Story()
    story.order(PAUSE, of_queue("tasks"))
    for _ in range(5 * WINDOW):
        story.publish("a", None)
    story.settle()
    assert story.tier == []
    assert not story.runs
    assert story.worker.waiting_room == ROOM
    story.recover()
    assert story.is_over()


def test_what_is_in_strict_order_stays_in_its_place() -> None:
    """Deferred, it would be overtaken by its key's later ones: so it fills the window."""
    story = Story()
    paused(story, "strict", 3 * WINDOW, "k")
    story.settle()
    assert story.tier == []
    assert story.worker.partition.tracker.in_hand == WINDOW
    story.recover()
    assert story.is_over()


def test_a_drained_queue_finishes_a_retry_behind_any_number_of_new_tasks() -> None:
    """What was there before comes home behind them; they are deferred, and it is reached."""
    story = Story()
    story.publish("a", None)
    story.worker.commit()
    story.worker.turn()
    story.begin(0)
    story.order(DRAIN, of_queue("tasks"))
    for _ in range(5 * WINDOW):
        story.publish("b", None)
    story.end(0, again=True)
    story.settle()
    assert [story.final(one) for one in story.published[:2]] == [State.SUCCEEDED, None]
    assert story.runs == {(story.published[0], 1): 1, (story.published[0], 2): 1}
    story.recover()
    assert story.is_over()


def test_a_purged_queue_ends_even_while_it_is_paused() -> None:
    """Retries in the delay topic, those aside, and those in the log; what enters later does not."""
    story = Story()
    story.publish("a", None)
    story.worker.commit()
    story.worker.turn()
    story.begin(0)
    story.end(0, again=True)
    story.worker.acknowledge()
    story.order(PAUSE, of_queue("tasks"))
    for _ in range(ROOM):
        story.publish("b", None)
    story.worker.turn()
    story.order(PURGE, of_queue("tasks"))
    story.publish("a", None)
    story.settle()
    states = [story.final(one) for one in story.published]
    assert states == [State.CANCELLED] * (ROOM + 1) + [None]
    story.recover()
    assert story.final(story.published[-1]) is State.SUCCEEDED


def test_those_in_the_window_are_shed_when_the_order_comes() -> None:
    """Also those that wait behind a key: they would fill the window for as long as the order holds."""
    story = Story()
    story.worker.commit()
    for _ in range(WINDOW):
        story.publish("a", "hot")
    story.publish("b", None)
    story.worker.turn()
    assert story.worker.partition.tracker.in_hand == WINDOW
    story.order(PAUSE, of_task("a"))
    story.settle()
    assert story.final(story.published[-1]) is State.SUCCEEDED
    assert all(story.runs[one, 1] == 0 for one in story.published[:-1])


def test_a_deferred_task_frees_the_key_that_it_holds() -> None:
    """Those behind it in its key, of another kind, go on: past it, as past a retry."""
    story = Story()
    story.worker.commit()
    for key in ("k1", "k2", "k3"):
        story.publish("a", key)
    story.publish("b", "k3")
    story.order(PAUSE, of_task("a"))
    story.settle()
    assert len(story.tier) == 1
    assert story.final(story.published[-1]) is State.SUCCEEDED


def test_a_deferred_task_frees_no_key_that_another_one_holds() -> None:
    """What waits behind the one that runs goes on waiting."""
    story = Story()
    story.worker.commit()
    story.publish("b", "k")
    story.worker.turn()
    story.begin(0)
    paused(story, "a", STAY + 1, "k")
    story.publish("b", "k")
    story.worker.turn()
    story.worker.acknowledge()
    story.worker.turn()
    story.resume()
    story.worker.turn()
    story.begin(0)
    assert sum(story.runs.values()) == 1
    story.recover()
    assert story.is_over()


@pytest.mark.parametrize("back", ["from a child", "from its queue for one"])
def test_a_paused_task_that_needs_a_child_to_itself_gets_none(back: str) -> None:
    """Whether it had one already, and had not begun, or waited for one."""
    story = Story()
    story.worker.commit()
    for _ in range(2):
        story.publish("alone", None)
    story.worker.turn()
    if back == "from its queue for one":
        story.begin(0)
    story.order(PAUSE, of_task("alone"))
    assert story.worker.dispatch.waiting_alone == 0
    story.settle()
    assert sum(story.runs.values()) == (back == "from its queue for one")


def test_what_is_deferred_is_the_same_task() -> None:
    """The same run and attempt, to be looked up at home; its trace and the headers of others stay."""
    mine = Envelope(
        "a", id="inv-9", run=1, attempt=2, expires=9e9, published=5.0, lookup=False,
        trace=(("traceparent", b"00-1-2-01"),), others=(("x", b"1"),),
    )  # fmt: skip
    record = Record(PLACE.topic, 0, 7, b"k", b"value", tuple(write(mine)), 50.0)
    sent = deferred(record, names=NAMES, group="g", now=100.0)
    assert (sent.topic, sent.key, sent.value) == ("shop.delay.10m", b"k", b"value")
    assert read(sent.headers) == mine._replace(
        home=PLACE, group="g", due=100.0 + DEFERRED_FOR, entered=50.0, lookup=True, deferred=True
    )
    again = record._replace(headers=sent.headers, timestamp=800.0)
    assert read(deferred(again, names=NAMES, group="g", now=900.0).headers).entered == 50.0
    assert not read(sent.headers).next_attempt(due=1.0).deferred


def test_a_foreign_task_that_is_deferred_keeps_the_id_that_its_place_gave_it() -> None:
    """It comes home at another offset, from which another id would follow."""
    record = Record(PLACE.topic, 0, 7, None, b"", (("ts-task", b"a"),), 50.0)
    sent = deferred(record, names=NAMES, group="g", now=100.0)
    task_id = record.identity[0]
    assert (sent.key, read(sent.headers).id) == (task_id.encode(), task_id)


def test_what_cannot_be_read_stays_and_ends() -> None:
    """In a delay topic nobody could bring it home."""
    story = Story()
    story.worker.commit()
    story.order(DRAIN, of_queue("tasks"))
    for _ in range(STAY + 2):
        story.append(b"?", (("ts-task", b"a"), ("ts-run", b"many")))
    story.worker.turn()
    story.worker.turn()
    assert story.worker.unsent == []


def test_a_purge_does_not_wait_for_a_retry_that_keeps_its_key() -> None:
    """It waits in its worker, for an hour perhaps; it is recorded at once."""
    story = Story()
    story.worker.commit()
    story.publish("strict", "k")
    story.worker.turn()
    story.begin(0)
    story.end(0, again=True)
    story.order(PURGE, of_queue("tasks"))
    story.worker.turn()
    story.begin(0)
    assert story.final(story.published[0]) is State.CANCELLED


def test_who_has_ended_makes_place_for_another_one() -> None:
    """One of those that stay was cancelled: the next one need not be deferred."""
    story = Story()
    story.worker.commit()
    paused(story, "a", STAY, None)
    story.worker.turn()
    partition = story.worker.partition
    partition.finish(next(iter(partition.entries.values())))
    story.publish("a", None)
    story.worker.turn()
    assert story.worker.unsent == []
    story.publish("a", None)
    story.worker.turn()
    assert len(story.worker.unsent) == 1


def test_a_suspect_stays() -> None:
    """At home nobody would know that a process may have died of it."""
    story = Story()
    story.worker.commit()
    paused(story, "a", STAY + 1, None)
    story.worker.turn()
    ((entry, _, _),) = story.worker.unsent
    weigher = story.worker.dispatch._aside
    assert weigher.leaves(entry, story.worker.partition)
    entry.suspicion = Suspicion.SUSPECT
    assert not weigher.leaves(entry, story.worker.partition)
