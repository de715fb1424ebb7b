"""What the loop does in which order, and when it believes that it is done."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock, call

import pytest

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import encode
from taskstream.broker.offsets import Progress
from taskstream.broker.records import Record
from taskstream.consumer.parent.children import Death
from taskstream.consumer.parent.intake import EndsTold
from taskstream.consumer.parent.journal import Page, Written
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.loop import UNASSIGNED_AFTER, Parent
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.pipe import Failure, Hello, Pulse, Ready, pack_beat, pack_recall
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.core.errors import ConfigError
from taskstream.core.queue_orders import NO_ORDERS, PAUSE, PURGE, QueueOrder, QueueOrders
from taskstream.observability import table
from taskstream.observability.metrics import Metrics

PLACE = Place("shop.tasks.high", 0)


@pytest.fixture
def owed() -> list[Entry]:
    """What runs here of partitions that were given up: one task."""
    record = Record(PLACE.topic, PLACE.partition, 100, None, b"", (), 0.0)
    return [Entry(1, record, PLACE, 1, "tasks.high", "charge", lookup=False)]


@pytest.fixture
def parent(owed: list[Entry]) -> Iterator[Parent]:
    """A worker without partitions, that ends once it finds nothing to do."""
    clock = ManualClock()
    parent = Parent(ParentOptions(name="w1", exit_when_empty=True), clock)
    parent._joined_at = clock.monotonic()
    clock.advance(UNASSIGNED_AFTER)
    intake = MagicMock(lane="tasks.high")
    intake.ends.return_value = {}
    intake.ask_ends = lambda: parent._tell(EndsTold(intake, {}))
    parent._work = cast("Any", SimpleNamespace(intakes=[intake], owed=lambda: owed))
    yield parent
    parent._work = None
    parent._close()


def over(parent: Parent) -> bool:
    """Whether it ends within some turns in which nothing happens but that it is answered."""
    for _ in range(4):
        if parent._over():
            return True
        while parent._mailbox:
            parent._react(cast("Any", parent._work), parent._mailbox.popleft())
    return False


def test_it_is_not_empty_while_a_task_goes_on_over_a_rebalance(
    parent: Parent, owed: list[Entry]
) -> None:
    """Its end would kill the task, and the partition's next owner, who waits for it, run it again."""
    assert not over(parent)
    owed.clear()
    assert over(parent)


def test_the_outcome_of_an_event_wakes_nobody(parent: Parent) -> None:
    """It is heard in the next turn, which the journal asks for; all else that happens wakes the loop."""
    woken = []
    for event in (Written(Page(1, (1,), 1), b"", None), EndsTold(cast("Any", None), {})):
        parent._tell(event)
        woken.append(parent._woken)
    assert woken == [False, True]
    assert len(parent._mailbox) == 2
    parent._mailbox.clear()


def test_it_does_not_wait_for_what_counts_for_nothing(parent: Parent, owed: list[Entry]) -> None:
    """A task that was told to end, unrecorded, may never do so."""
    owed[0].abandoned = True
    assert over(parent)


def test_it_asks_the_brokers_before_it_believes_that_all_is_done(
    parent: Parent, owed: list[Entry]
) -> None:
    """What it fetched last may be old: paused partitions had grown, and it left with tasks waiting."""
    owed.clear()
    (intake,) = cast("Any", parent._work).intakes
    parent._ownership.assign(intake, [Assigned(PLACE, 100, encode(Progress.at(100)), 0, 100)])
    ends = {PLACE: 101}
    intake.ask_ends = lambda: parent._tell(EndsTold(intake, dict(ends)))
    assert not over(parent)
    partition = parent._ownership.find(PLACE)
    assert partition is not None
    partition.tracker.deliver(100)
    assert not over(parent)
    partition.tracker.finish(100)
    assert over(parent)


def test_after_a_halt_it_is_shut_before_it_gives_anything_out(parent: Parent) -> None:
    """The first turn gave tasks to children of which the next owner had run some already."""
    work = MagicMock()
    work.handover.pending = False
    work.heartbeat.silent_since, work.fence.stop_holding_after = 0.0, 1e9
    parent._ownership.commit = MagicMock()  # type: ignore[method-assign]
    parent._turn_work(work, now=1.0)
    said = [name for name, *_ in work.dispatch.method_calls]
    assert said.index("shut") < said.index("give_out")


def test_a_child_has_its_limit_before_its_first_task(parent: Parent) -> None:
    """One that was given a task first went on for as long as its parent was frozen."""
    work, child = MagicMock(), MagicMock()
    work.handover.pending = False
    work.heartbeat.silent_since = 0.0
    work.fence.stop_holding_after = work.fence.beat_limit = 1e9
    parent._ownership.commit = MagicMock()  # type: ignore[method-assign]
    parent._turn_work(work, now=1.0)
    parent._react_to_child(child, Ready())
    children = MagicMock()
    children.__iter__.return_value = iter([child])
    parent._children = children
    work.dispatch.give_out.side_effect = children.send.assert_called_once
    parent._turn_work(work, now=1.1)
    children.send.assert_called_once_with(child, pack_beat(1e9))


def test_who_counts_beside_it_ends_before_the_last_numbers_are_sent(parent: Parent) -> None:
    """What the scheduler of a worker had counted since its last word never came to a collector."""
    ends = MagicMock()
    work = MagicMock(flush_metrics=ends.flush_metrics, owed=list, intakes=[])
    parent._work, parent._on_end = work, ends.others
    parent._close()
    assert ends.mock_calls == [call.others(), call.flush_metrics()]
    parent._on_end = MagicMock()


def test_it_joins_once_the_first_child_takes_tasks(parent: Parent) -> None:
    """Hello only tells what the app is: a deploy whose children can't start disturbs no group."""
    work = MagicMock()
    parent._work = parent._joined_at = None
    parent._on_ready = MagicMock()
    parent._open = MagicMock(return_value=work)  # type: ignore[method-assign]
    for _ in range(2):
        parent._react_to_child(MagicMock(), Hello("shop", {}, {}, {}))
    parent._open.assert_called_once()
    work.join.assert_not_called()
    assert not parent._empty()
    assert [name for name in parent.paces() if "intake" in name] == []
    for _ in range(2):
        parent._react_to_child(MagicMock(), Ready())
    work.join.assert_called_once_with()
    parent._on_ready.assert_called_once_with()


def test_a_child_that_fails_after_its_hello_ends_a_worker_without_another(parent: Parent) -> None:
    """A lifespan that raises, or a driver that is missing, reaches the user as bad usage."""
    parent._joined_at = None
    parent._react_to_child(MagicMock(), Failure("no such database", ""))
    assert isinstance(parent._fatal, ConfigError)
    assert parent._over()


def test_once_it_has_joined_a_child_that_fails_ends_nobody(parent: Parent) -> None:
    """The others go on."""
    parent._react_to_child(MagicMock(), Failure("no such database", ""))
    assert parent._fatal is None


def test_it_tells_what_it_holds_back_and_is_ready_all_the_same(parent: Parent) -> None:
    """A pause or a drain by its words; a purge holds nothing back. Before it has joined there is nothing."""
    pause = QueueOrder(PAUSE, "queue:tasks", 0.0, "me", "the bank is down")
    orders = QueueOrders([pause, QueueOrder(PURGE, "task:charge", 0.0)])
    work = MagicMock()
    work.dispatch.queue_orders = orders
    parent._work = work
    assert parent.held_back == ["queue:tasks is paused by me: the bank is down"]
    assert not any("paused" in reason for reason in parent.not_ready)
    parent._work = None
    assert parent.held_back == []


def test_an_order_takes_back_what_a_child_holds_and_is_heeded_once(parent: Parent) -> None:
    """Each child hears of its own, and of nothing where the orders are the same."""
    work, child, other = MagicMock(), MagicMock(), MagicMock()
    child.held, other.held = {1: "entry one", 2: "entry two"}, {3: "entry three"}
    work.dispatch.is_concerned = lambda entry: entry != "entry one"
    work.dispatch.queue_orders, work.orders.queues = NO_ORDERS, QueueOrders()
    children = MagicMock()
    children.__iter__.side_effect = lambda: iter([child, other])
    parent._children = children
    parent._heed_queue_orders(work)
    work.dispatch.obey.assert_called_once_with(work.orders.queues)
    said = [call.args for call in children.send.call_args_list]
    assert said == [(child, pack_recall([2])), (other, pack_recall([3]))]
    work.dispatch.queue_orders = work.orders.queues
    parent._heed_queue_orders(work)
    assert work.dispatch.obey.call_count == 1


def test_what_is_ended_unrecorded_is_counted_once(parent: Parent, owed: list[Entry]) -> None:
    """A second word to the same task, which is told on the way, counts no more."""
    child = MagicMock(held={1: owed[0]})
    children = MagicMock()
    children.__iter__.side_effect = lambda: iter([child])
    parent._children = children
    for _ in range(2):
        parent._cancel(owed)
    assert parent.metrics.series(table.ABANDONED) == {("tasks", "high"): 1}


def test_a_child_s_numbers_are_added_and_its_death_counted(parent: Parent) -> None:
    """What it said with its pulse stays; what its gauges said goes with it."""
    labels = {"task": "charge", "reason": "OSError"}
    counting = Metrics()
    counting.counter(table.RETRIES, **labels).inc(3)
    counting.gauge(table.KAFKA_QUEUED, lambda: {("publish",): 7.0})
    child = MagicMock(pid=42, killed=False, retiring=False, ready=True, held={})
    parent._react_to_child(child, Pulse(1, 0, True, 0, counting.take()))
    assert parent.metrics.series(table.KAFKA_QUEUED) == {("publish",): 7.0}
    parent._children = MagicMock()
    parent._children.bury.return_value = Death(-9, [])
    parent._bury(child)
    assert parent.metrics.series(table.RETRIES) == {("charge", "OSError"): 3}
    assert parent.metrics.series(table.KAFKA_QUEUED) == {}
    assert parent.metrics.series(table.CHILD_DEATHS) == {("signal 9",): 1}
