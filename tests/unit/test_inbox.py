"""In which order a child comes to what its parent has said."""

import pytest

from taskstream.broker.records import Record
from taskstream.consumer.child.inbox import Inbox
from taskstream.consumer.child.line import PATIENCE
from taskstream.consumer.pipe import Cancel, Frame, Given, Recall, Stop, Turn
from taskstream.consumer.suspicion import Suspicion

RECORD = Record("shop.tasks.high", 0, 0, None, b"", (), 0.0)


def frame(number: int, turn: Turn) -> list[Given]:
    """A frame of one task."""
    return [Given(number, RECORD, 0, 0, "g", False, Suspicion.NONE, False, turn)]


def heard(*said: Frame) -> list[Frame]:
    """All that was said, in the order of `get`."""
    inbox = Inbox()
    for one in said:
        inbox.put(one)
    return [inbox.get() for _ in said]


def test_urgent_tasks_come_first_and_the_rest_in_order() -> None:
    """Order is kept within each kind."""
    common: list[Frame] = [frame(1, Turn.SOON), frame(2, Turn.COMMON)]
    urgent = frame(3, Turn.URGENT)
    assert heard(*common, urgent) == [urgent, *common]


@pytest.mark.parametrize("turn", Turn)
@pytest.mark.parametrize("word", [Cancel((8,), record=False), Recall((8,))])
def test_a_cancel_or_recall_stays_behind_the_tasks_that_it_is_about(
    turn: Turn, word: Cancel | Recall
) -> None:
    """Of either kind, also where the rest comes on in between: it finds only what was prepared."""
    tasks: list[Frame] = [frame(number, turn) for number in range(9)]
    inbox = Inbox()
    for one in (*tasks, word):
        inbox.put(one)
    inbox.put(Stop())
    came = list(iter(inbox.get, Stop()))
    assert word in came[came.index(tasks[8]) :]


def test_the_rest_comes_on_whatever_is_urgent() -> None:
    """Every fourth frame is one of the rest."""
    urgent = [frame(number, Turn.URGENT) for number in range(9)]
    common = frame(9, Turn.COMMON)
    assert heard(*urgent, common).index(common) == PATIENCE - 1


def test_the_word_to_stop_comes_last() -> None:
    """What waits when it is said is prepared first, urgent or not."""
    urgent = [frame(number, Turn.URGENT) for number in range(9)]
    assert heard(frame(9, Turn.COMMON), *urgent, Stop())[-1] == Stop()
