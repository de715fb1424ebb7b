"""What waits for a queue or for a kind of task, counted in Kafka.

By offsets where they tell it: a commit names what is not finished. By reading where they don't: which
task a record is of, where a delayed one goes home to, when a retry that came home had entered. Nothing
here joins a group or decodes arguments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from taskstream.broker.offsets import Progress
from taskstream.broker.records import Record
from taskstream.broker.tail import read as read_topic
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import ENTERED_HEADER, Envelope, Place, read, standing
from taskstream.core.errors import Undecodable

if TYPE_CHECKING:
    from taskstream.app.app import App

CLIENT = "taskstream-count"

READ_WITHIN = 60.0
"""Seconds that one count may read at most."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Which tasks are meant.

    Args:
        lanes: the priorities of queues that they come home to, each a queue and a priority.
        tasks: their names; None for all.
        until: only those that had entered by then, seconds since 1970; None for all.
    """

    lanes: tuple[tuple[str, str], ...]
    tasks: frozenset[str] | None = None
    until: float | None = None

    def is_about(self, record: Record) -> bool:
        """Whether it is about the task of a record that has come home."""
        told = standing(record.headers, record.timestamp)
        if self.until is not None and told.entered > self.until:
            return False
        return self.tasks is None or told.task in self.tasks


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many tasks are not finished.

    Args:
        queued: in their queue's topics, running ones among them, or deferred by an order.
        retrying: in the delay topics, for another attempt.
        delayed: in the delay topics, for the first.
    """

    queued: int = 0
    retrying: int = 0
    delayed: int = 0

    def __add__(self, other: "Waiting") -> "Waiting":
        return Waiting(
            self.queued + other.queued,
            self.retrying + other.retrying,
            self.delayed + other.delayed,
        )

    @property
    def total(self) -> int:
        """All of them."""
        return self.queued + self.retrying + self.delayed

    def as_json(self) -> dict[str, int]:
        """It as commands with `--json` show it."""
        return asdict(self)


def count(app: "App", concern: Concern, *, clock: Clock = SYSTEM_CLOCK) -> Waiting:
    """Counts what waits.

    The delay topics first, then the queues: what is brought home meanwhile is counted twice, never not
    at all. But a retry can slip by in the other direction, so who waits for nothing to be left must
    see that twice.

    Args:
        app: the app.
        concern: which tasks.
        clock: the time.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run; or reading took too long.
    """
    give_up_at = clock.monotonic() + READ_WITHIN
    with Topics(app.settings, client_id=CLIENT) as topics:
        reader = _Reader(app, topics, give_up_at, clock)
        found = _in_tiers(reader, concern)
        for queue, priority in concern.lanes:
            found += Waiting(queued=_at_home(reader, concern, queue, priority))
    return found


def count_left(app: "App", concern: Concern, *, clock: Clock = SYSTEM_CLOCK) -> Waiting:
    """Counts what is left of what had entered by a time; cheap to ask again and again until little is.

    For a whole queue the offsets tell, as long as anything is left there that is older than the time. Only
    then the rest is read, as by `count`: delayed tasks, and retries that have come home behind newer tasks.

    Args:
        app: the app.
        concern: which tasks; with a time.
        clock: the time.

    Raises:
        BrokerError: as `count`.
    """
    if concern.tasks is None and concern.until is not None:
        with Topics(app.settings, client_id=CLIENT) as topics:
            older = 0
            for queue, priority in concern.lanes:
                topic, group = app.names.tasks(queue, priority), app.names.group(queue, priority)
                older += _split(topics, _left(topics, group, topic), topic, concern.until)[0]
        if older:
            return Waiting(queued=older)
    return count(app, concern, clock=clock)


@dataclass(frozen=True, slots=True)
class _Reader:
    app: "App"
    topics: Topics
    give_up_at: float
    clock: Clock

    def records(self, topic: str, starts: Mapping[Place, int]) -> Iterator[Record]:
        """The records of these partitions from there to their ends as they stand now."""
        offsets = {place.partition: start for place, start in starts.items()}
        if not offsets:
            return iter(())
        return read_topic(
            self.app.settings,
            topic,
            offsets,
            partitions=list(offsets),
            within=self.give_up_at - self.clock.monotonic(),
            client_id=CLIENT,
            clock=self.clock,
        )


def _at_home(reader: _Reader, concern: Concern, queue: str, priority: str) -> int:
    """How many records of a priority's topic are unfinished and meant."""
    names, topics = reader.app.names, reader.topics
    topic = names.tasks(queue, priority)
    left = _left(topics, names.group(queue, priority), topic)
    if concern.tasks is not None:
        return sum(concern.is_about(one) for one in _unfinished(reader, topic, left))
    if concern.until is None:
        return sum(one.count_below(one.end) for one in left.values())
    older, behind = _split(topics, left, topic, concern.until)
    # Among those behind may be what came home since: it says when it had entered.
    return older + sum(
        concern.is_about(one)
        for one in _unfinished(reader, topic, behind)
        if any(name == ENTERED_HEADER for name, _ in one.headers)
    )


def _in_tiers(reader: _Reader, concern: Concern) -> Waiting:
    """How many records of the delay topics are not moved yet and meant."""
    names, topics = reader.app.names, reader.topics
    homes = {names.tasks(queue, priority) for queue, priority in concern.lanes}
    found = Waiting()
    for topic in names.delays:
        left = _left(topics, names.scheduler_group, topic)
        for record in _unfinished(reader, topic, left):
            try:
                envelope = read(record.headers)
            except Undecodable:
                continue  # on its way to the dead letters
            if (
                envelope.home is not None
                and envelope.home.topic in homes
                and concern.is_about(record)
            ):
                found += _kind(envelope)
    return found


def _kind(envelope: Envelope) -> Waiting:
    if envelope.deferred:
        return Waiting(queued=1)
    return Waiting(retrying=1) if envelope.attempt > 1 else Waiting(delayed=1)


def _unfinished(reader: _Reader, topic: str, left: Mapping[Place, "Left"]) -> Iterator[Record]:
    starts = {place: one.start for place, one in left.items() if one.start < one.end}
    for record in reader.records(topic, starts):
        if Place(record.topic, record.partition) in left and (
            left[Place(record.topic, record.partition)].has(record.offset)
        ):
            yield record


@dataclass(frozen=True, slots=True)
class Left:
    """What of a partition is not finished, by its last commit: pure.

    Args:
        unfinished: offsets below `position`, ascending.
        position: all from here on is unfinished.
        end: one past the last record.
    """

    unfinished: Sequence[int]
    position: int
    end: int

    @property
    def start(self) -> int:
        """The first unfinished offset."""
        return self.unfinished[0] if self.unfinished else self.position

    def has(self, offset: int) -> bool:
        """Whether the record at an offset is unfinished."""
        return self.position <= offset < self.end or offset in self.unfinished

    def count_below(self, bound: int) -> int:
        """How many offsets below the bound are unfinished; holes that the log has count, too."""
        listed = sum(offset < bound for offset in self.unfinished)
        return listed + max(0, min(bound, self.end) - self.position)

    def beyond(self, bound: int) -> "Left":
        """The part at or above the bound."""
        later = tuple(offset for offset in self.unfinished if offset >= bound)
        return Left(later, max(self.position, bound), self.end)


def left_of(progress: Progress | None, start: int, end: int) -> Left:
    """What a group has not finished of a partition.

    Args:
        progress: what its last commit says; None where that is none of ours.
        start: the committed offset, or the first that there still is.
        end: one past the last record.
    """
    if progress is None:
        return Left((), start, end)
    kept = tuple(offset for offset in progress.unfinished if offset >= start)
    return Left(kept, max(progress.position, start), max(end, progress.position))


def _left(topics: Topics, group: str, topic: str) -> dict[Place, Left]:
    # The progress first: what is finished between the two looks is counted, not missed.
    known = topics.progress(group, topic)
    return {
        place: left_of(known.get(place), start, end)
        for place, (start, end) in topics.behind(group, topic).items()
    }


def _split(
    topics: Topics, left: Mapping[Place, Left], topic: str, until: float
) -> tuple[int, dict[Place, Left]]:
    """How much is left that was appended by a time, and what of each partition came later."""
    bounds = topics.offsets_at(topic, until + 0.001)
    return (
        sum(one.count_below(bounds[place]) for place, one in left.items()),
        {place: one.beyond(bounds[place]) for place, one in left.items()},
    )
