"""What the loop does in which order, and when it believes that it is done."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from taskstream.broker.records import Record
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.loop import UNASSIGNED_AFTER, Parent
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.pipe import Failure, Hello, Ready, pack_beat
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Place
from taskstream.core.errors import ConfigError

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
    parent._work = cast("Any", SimpleNamespace(intakes=[], owed=lambda: owed))
    yield parent
    parent._work = None
    parent._close()


def test_it_is_not_empty_while_a_task_goes_on_over_a_rebalance(
    parent: Parent, owed: list[Entry]
) -> None:
    """Its end would kill the task, and the partition's next owner, who waits for it, run it again."""
    assert not parent._over()
    owed.clear()
    assert parent._over()


def test_it_does_not_wait_for_what_counts_for_nothing(parent: Parent, owed: list[Entry]) -> None:
    """A task that was told to end, unrecorded, may never do so."""
    owed[0].abandoned = True
    assert parent._over()


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
