"""The record that asks for one more attempt: what it keeps, what it adds, and where it waits."""

from taskstream import Retry
from taskstream.broker.records import Record
from taskstream.consumer.parent.handoff import next_attempt
from taskstream.consumer.pipe import Judged
from taskstream.consumer.verdict import Again
from taskstream.core.envelope import Envelope, Place, read, write
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
