"""What follows an attempt in Kafka: the next attempt's record, or a dead letter; and what is deferred.

Called only after the attempt's row is stored, and the task's offset counts as finished only after
Kafka has acknowledged the record. A hand-off that a crash repeats has the same identity and comes
home to the same partition, where it is recognised. What is deferred has not run: it keeps its identity,
and no row tells of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from taskstream.broker.records import Record
from taskstream.broker.sender import Ack, Report, Sender
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.pipe import Judged
from taskstream.consumer.verdict import Again, Dead
from taskstream.core import envelope
from taskstream.core.envelope import Death, Header, Place
from taskstream.core.errors import BrokerError
from taskstream.core.names import Names
from taskstream.core.states import State
from taskstream.core.tiers import tier_for
from taskstream.observability import tracing

MESSAGE_CHARACTERS = 8000
"""Where an error's text is cut in a dead letter's headers; the row has all of it."""

DEFERRED_FOR = 600.0
"""Seconds until a deferred task comes home to be weighed again, where its order still holds. The scheduler
brings it home sooner where it doesn't; what it has not read yet waits so long at most."""


class Deferred(NamedTuple):
    """A task that an order holds back, and that waits elsewhere.

    Args:
        holds_key: whether it holds its key until it has gone.
    """

    holds_key: bool


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be produced; its trace headers are added when its span starts."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class HandedOff:
    """The outcome of one hand-off: `error` is None once Kafka has acknowledged it.

    What was handed off is `judged`: a verdict's, or deferred.
    """

    entry: Entry
    judged: Judged | Deferred
    error: BrokerError | None


def next_attempt(
    record: Record, judged: Judged, verdict: Again, *, names: Names, group: str, now: float
) -> Outgoing:
    """The record that asks for one more attempt, in the tier that fits its wait.

    Args:
        record: the record of the attempt that ended.
        judged: what the child said of it.
        verdict: when the next attempt is due.
        names: the app's topics.
        group: the consumer group that it comes back to.
        now: seconds since 1970.
    """
    as_it_came = envelope.read(envelope.name_task(record.headers, judged.task, judged.task_id))
    since = as_it_came.time_from(record.timestamp)
    before = envelope.read(_completed(record, judged))
    published = before.published or record.timestamp
    after = (
        before._replace(since=None if since == published else since)
        .next_attempt(due=verdict.due, counts=verdict.counts, grace=verdict.grace)
        ._replace(
            home=before.home or Place(record.topic, record.partition),
            group=group,
            published=published,
            entered=envelope.standing(record.headers, record.timestamp).entered,
            trace=(),
        )
    )
    key = judged.task_id.encode() if record.key is None else record.key
    topic = names.delay(tier_for(verdict.due - now))
    return Outgoing(topic, key, record.value, tuple(envelope.write(after)))


def deferred(record: Record, *, names: Names, group: str, now: float) -> Outgoing:
    """The same record on its way through a delay topic, because an order holds its task back.

    Args:
        record: the record; its headers can be read.
        names: the app's topics.
        group: the consumer group that it comes back to.
        now: seconds since 1970.
    """
    before = envelope.read(record.headers)
    task_id = before.id or record.identity[0]
    after = before._replace(
        id=task_id,
        home=before.home or Place(record.topic, record.partition),
        group=group,
        due=now + DEFERRED_FOR,
        published=before.published or record.timestamp,
        entered=envelope.standing(record.headers, record.timestamp).entered,
        lookup=True,
        deferred=True,
    )
    key = task_id.encode() if record.key is None else record.key
    topic = names.delay(tier_for(DEFERRED_FOR))
    return Outgoing(topic, key, record.value, tuple(envelope.write(after)))


def dead_letter(
    record: Record, judged: Judged, verdict: Dead, *, names: Names, group: str, now: float
) -> Outgoing:
    """The dead letter: the original bytes and headers, the reason, and where it came from.

    It names the group that gave the task up, to which a redrive gives it back.
    """
    death = Death(verdict.reason, verdict.message[:MESSAGE_CHARACTERS], record.source, now)
    addressed = envelope.address_to(_completed(record, judged), group)
    headers = envelope.bury(addressed, death, ())
    return Outgoing(names.dead, record.key, record.value, tuple(headers))


def _completed(record: Record, judged: Judged) -> list[Header]:
    """The record's headers, with what it did not say, or says no more."""
    named = envelope.name_task(record.headers, judged.task, judged.task_id)
    return envelope.number_attempt(named, judged.attempt, judged.uncounted)


def _told(record: Record, judged: Judged, now: float) -> tracing.Attributes:
    """What the span of a hand-off says of its task."""
    (_, run), verdict = envelope.identity(record.headers), judged.verdict
    if isinstance(verdict, Dead):
        return tracing.task_attributes(
            State.DEAD, run=run, attempt=judged.attempt, reason=verdict.reason
        )
    assert isinstance(verdict, Again)
    return tracing.task_attributes(
        State.RETRYING, run=run, attempt=judged.attempt + 1, delay=verdict.due - now
    )


class Handoff:
    """Produces what follows an attempt, and tells when Kafka has it.

    Args:
        sender: the worker's producer.
        names: the app's topics.
        tell: takes the outcome, from any thread, without blocking.
    """

    def __init__(self, sender: Sender, names: Names, tell: Callable[[HandedOff], None]) -> None:
        self._sender = sender
        self._names = names
        self._tell = tell

    def carry_out(self, entry: Entry, judged: Judged, *, group: str, now: float) -> None:
        """Starts the hand-off of a judged task; the outcome comes to `tell`."""
        record = entry.record
        if isinstance(judged.verdict, Again):
            outgoing = next_attempt(
                record, judged, judged.verdict, names=self._names, group=group, now=now
            )
        elif isinstance(judged.verdict, Dead):
            outgoing = dead_letter(
                record, judged, judged.verdict, names=self._names, group=group, now=now
            )
        else:
            raise TypeError(f"{judged.verdict} needs no hand-off")
        self._send(entry, judged, outgoing, now)

    def defer(self, entry: Entry, what: Deferred, *, group: str, now: float) -> None:
        """Starts to send a task away that an order holds back; the outcome comes to `tell`."""
        outgoing = deferred(entry.record, names=self._names, group=group, now=now)

        def done(_ack: Ack | None, error: BrokerError | None) -> None:
            self._tell(HandedOff(entry, what, error))

        self._produce(outgoing, outgoing.headers, done)

    def _send(self, entry: Entry, judged: Judged, outgoing: Outgoing, now: float) -> None:
        span = tracing.publish_span(
            outgoing.topic,
            task=judged.task,
            task_id=judged.task_id,
            key=None if outgoing.key is None else outgoing.key.decode(errors="replace"),
            parent=judged.trace,
            about=partial(_told, entry.record, judged, now),
        )

        def done(ack: Ack | None, error: BrokerError | None) -> None:
            if ack is not None:
                span.acknowledged(ack.partition, ack.offset)
            else:
                span.failed(error or BrokerError("no acknowledgement"))
            self._tell(HandedOff(entry, judged, error))

        self._produce(outgoing, (*outgoing.headers, *span.headers), done)

    def _produce(self, outgoing: Outgoing, headers: Sequence[Header], done: Report) -> None:
        try:
            self._sender.send(
                outgoing.topic,
                outgoing.value,
                key=outgoing.key,
                headers=list(headers),
                on_done=done,
                timeout=0,
            )
        except BrokerError as error:
            done(None, error)
