"""What a child's end says of what it held, and how much it is given."""

import os
from collections.abc import Iterator
from typing import Any, cast

import pytest

from taskstream.broker.records import Record
from taskstream.consumer.begun import Begun, create
from taskstream.consumer.parent.children import Child, Death, Depth
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.pipe import BLAMELESS
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.envelope import Place

PLACE = Place("shop.tasks.high", 0)


def entry(number: int) -> Entry:
    """A task that a child holds."""
    record = Record(PLACE.topic, PLACE.partition, number, None, b"", (), 0.0)
    return Entry(number, record, PLACE, 1, "tasks.high", "charge", lookup=False)


@pytest.fixture
def child() -> Iterator[Child]:
    """A ready child of four slots that holds tasks 1 to 3."""
    descriptor = create(8)
    begun = Begun(descriptor)
    os.close(descriptor)
    nothing = cast("Any", None)
    child = Child(
        1,
        process=nothing,
        link=nothing,
        solo=False,
        depth=Depth(4),
        begun=begun,
        used=0.0,
        reserved=0,
    )
    child.ready = True
    child.held = {number: entry(number) for number in (1, 2, 3)}
    yield child
    begun.close()


def said(death: Death) -> dict[int, Suspicion]:
    """The suspicion of each task, by number."""
    return {entry.number: suspicion for entry, suspicion in death.held}


def test_suspects_are_those_that_had_begun(child: Child) -> None:
    """What waited in its queue is not to blame."""
    child.begun.begin(2)
    assert said(Death.of(child, -9)) == {
        1: Suspicion.NONE,
        2: Suspicion.SUSPECT,
        3: Suspicion.NONE,
    }


def test_where_nothing_had_begun_all_may_have(child: Child) -> None:
    """A death that nobody can be blamed for is on all that it held."""
    assert set(said(Death.of(child, -11)).values()) == {Suspicion.SUSPECT}


def test_an_end_by_the_rules_blames_nobody(child: Child) -> None:
    """A child that ended itself, for a blocked event loop say, leaves no suspects."""
    child.begun.begin(2)
    assert set(said(Death.of(child, BLAMELESS)).values()) == {Suspicion.NONE}


def test_alone_it_is_caught(child: Child) -> None:
    """A solo child's task that had begun is caught; one that had not is a suspect like any other."""
    child.solo, child.held = True, {1: entry(1)}
    assert said(Death.of(child, 3)) == {1: Suspicion.SUSPECT}
    child.begun.begin(1)
    assert said(Death.of(child, 3)) == {1: Suspicion.CAUGHT}


def test_no_suspect_is_given_ahead_of_its_turn(child: Child) -> None:
    """A quick child is fed ahead, but not while it holds suspects."""
    for turn in range(1, 20):
        child.depth.finished(500, 0.01, turn * 0.1)
    ahead = child.room
    assert ahead > 4
    child.suspects.add(2)
    assert child.room == 1
    del child.held[2]
    assert child.room == ahead + 1
