"""What follows an attempt, as a record."""

import pytest

from taskstream.broker.records import Record
from taskstream.consumer.parent.handoff import dead_letter
from taskstream.consumer.pipe import Judged
from taskstream.consumer.verdict import Dead
from taskstream.core.envelope import Header, death_of, identity
from taskstream.core.names import Names

DEAD = Dead("Fatal", "no")


@pytest.mark.parametrize(
    ("headers", "group"),
    [
        ((("ts-task", b"charge"), ("ts-id", b"o-17")), b"shop.tasks.high"),
        ((("ts-group", b"other.tasks.high"), ("theirs", b"1")), b"other.tasks.high"),
    ],
)
def test_a_dead_letter_says_whose_it_was(headers: tuple[Header, ...], group: bytes) -> None:
    """Id, task and group are there whatever the record said, so that a redrive finds back; the rest as it was.

    Broken on purpose once, and seen to fail: a letter without its group.
    """
    record = Record("shop.tasks.high", 2, 17, None, b"\x00odd", headers, 5.0)
    judged = Judged(1, DEAD, (), "o-17", "charge", recalled=False)
    letter = dead_letter(
        record, judged, DEAD, names=Names("shop"), group="shop.tasks.high", now=6.0
    )
    assert (letter.topic, letter.value, letter.key) == ("shop.dead", b"\x00odd", None)
    assert [value for name, value in letter.headers if name == "ts-group"] == [group]
    assert identity(letter.headers) == ("o-17", 0)
    assert set(headers) <= set(letter.headers)
    death = death_of(letter.headers)
    assert death is not None
    assert (death.reason, death.origin) == ("Fatal", "shop.tasks.high/2/17")
