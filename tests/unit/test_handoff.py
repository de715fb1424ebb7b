"""What follows an attempt, as a record: what it keeps, what it adds, and where it waits."""

import pytest

from taskstream import Retry
from taskstream.broker.records import Record
from taskstream.consumer.parent.handoff import dead_letter, next_attempt
from taskstream.consumer.pipe import Judged
from taskstream.consumer.verdict import Again, Dead
from taskstream.core.envelope import Envelope, Header, Place, death_of, identity, read, write
from taskstream.core.ids import new_id
from taskstream.core.names import Names

NOW = 1_700_000_000.0
ID = new_id()
HOME = Place("shop.tasks.normal", 3)
FIRST = Envelope("charge", id=ID, published=NOW, retry=Retry(attempts=5, within=600))


def handed_off(envelope: Envelope, verdict: Again, *, attempt: int = 1) -> Envelope:
    """The envelope of the hand-off, as its record carries it."""
    record = Record(*HOME, 42, b"k", b"v", tuple(write(envelope)), NOW + 70)
    judged = Judged(1, verdict, (), ID, "charge", recalled=False, attempt=attempt)
    outgoing = next_attempt(record, judged, verdict, names=Names("shop"), group="g", now=NOW + 71)
    return read(outgoing.headers)


def test_a_retry_keeps_the_policy_of_its_publish() -> None:
    """Over every hop; and it comes home to where it was."""
    second = handed_off(FIRST, Again(NOW + 80))
    assert (second.attempt, second.retry, second.home) == (2, FIRST.retry, HOME)
    third = handed_off(second, Again(NOW + 90), attempt=2)
    assert (third.attempt, third.retry, third.home) == (3, FIRST.retry, HOME)


def test_a_retry_carries_since_when_its_time_counts() -> None:
    """Only where that is not its publish, which it carries anyway."""
    assert handed_off(FIRST, Again(NOW + 80)).since is None
    delayed = handed_off(FIRST._replace(due=NOW + 60), Again(NOW + 80))
    assert delayed.since == NOW + 60
    assert handed_off(delayed, Again(NOW + 90), attempt=2).since == NOW + 60
    assert handed_off(delayed, Again(NOW + 900, counts=False), attempt=2).since == NOW + 900
    redriven = handed_off(delayed._replace(run=1, attempt=1), Again(NOW + 80))
    assert redriven.since == NOW + 70
    foreign = handed_off(Envelope("charge"), Again(NOW + 80))
    assert (foreign.since, foreign.published) == (None, NOW + 70)


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
