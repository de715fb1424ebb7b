"""What a replay is: which records of which topics are published again, and as what. Pure.

A plan is settled once, with an offset at both ends of each partition: a dry run of it and the replay
itself see the same records, and so does whoever resumes it on another machine. What stands in a plan
is all that decides, and it travels as text, beside the offsets that tell how far the replay is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

from taskstream.core.envelope import Envelope, Place
from taskstream.core.errors import ConfigError
from taskstream.core.ids import derived_id, is_uuid7, time_of
from taskstream.core.names import Names, queue_and_priority
from taskstream.core.shadow import shadow_app
from taskstream.core.states import JUDGED, State

Moment = str | float | datetime
"""Seconds since 1970, an aware datetime, or text as `admin.selection.instant` reads it."""


class Ids(StrEnum):
    """Which ids replayed tasks have."""

    NEW = "new"
    SAME = "same"


class Skip(StrEnum):
    """Why a record is not published again."""

    TIME = "out of the time"
    TASK = "another task"
    KEY = "another key"
    CONDITION = "condition not met"
    OUTCOME = "another outcome"
    NO_OUTCOME = "no outcome stored"
    LATER_ATTEMPT = "a retry"
    COPY = "a copy"
    NO_SHADOW = "no shadow function"
    UNREADABLE = "headers unreadable"
    UNDECODABLE = "arguments undecodable"
    UNTOLD = "condition can't be told"


class ReplayArguments(TypedDict, total=False):
    """The keyword arguments of `app.replay`, told in `ReplayRequest`."""

    topics: Sequence[str]
    queue: str | None
    priority: str | None
    since: Moment | None
    until: Moment | None
    offsets: Mapping[int, tuple[int, int | None]]
    partitions: Sequence[int]
    tasks: Sequence[str]
    key: str | None
    where: str
    states: Sequence[State | str]
    error: str
    text: str
    ids: Ids | str
    to_topic: str | None
    to_queue: str | None
    to_priority: str | None
    shadow: str
    rate: float | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """What somebody wants to be replayed; `admin.replay.settle` makes a plan of it.

    Args:
        topics: which topics are read; empty for the app's task topics.
        queue: of those, the ones of this queue.
        priority: of those, the ones of this priority.
        since: records that were written at this time or later.
        until: records that were written before this time; None for all that is there now.
        offsets: by partition of a single topic, the first offset and the one to stop before, or None
            for the end.
        partitions: only these; empty for all.
        tasks: names of tasks, or patterns as `send_*`; empty for all.
        key: only tasks with this ordering key.
        where: a condition over the decoded arguments (`admin.where`); empty for none.
        states: only tasks that were in one of these states when the replay was settled; empty for all.
        error: the same by the error's type, a name or a pattern as `*Timeout`; empty for all.
        text: the same by a text in the error's type or its text, small and capital letters being the same; empty for all.
        ids: "new" makes each a new task, which says of which one it is the replay; "same" makes it a
            further run of the same task.
        to_topic: where they are published; None for the topic they stand in.
        to_queue: the same by queue, in which they keep their priority.
        to_priority: the same by priority.
        shadow: the name of the shadow that runs them instead of the app; empty for none.
        rate: how many a second at most; None for as fast as Kafka takes them.
        name: by which it is resumed and found in the audit log; empty for one made from the time.

    Raises:
        ConfigError: what can't be meant together.
    """

    topics: Sequence[str] = ()
    queue: str | None = None
    priority: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    offsets: Mapping[int, tuple[int, int | None]] = field(default_factory=dict)
    partitions: Sequence[int] = ()
    tasks: Sequence[str] = ()
    key: str | None = None
    where: str = ""
    states: Sequence[State | str] = ()
    error: str = ""
    text: str = ""
    ids: Ids | str = Ids.NEW
    to_topic: str | None = None
    to_queue: str | None = None
    to_priority: str | None = None
    shadow: str = ""
    rate: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.since is None and self.until is None and not self.offsets and not self.partitions:
            raise ConfigError(
                "a replay of everything is hardly meant: say from when on, up to when, which offsets or "
                "which partitions (from 0 is all that there is)"
            )
        if self.ids not in tuple(Ids):
            raise ConfigError(f"ids {self.ids!r}: write new or same")
        for state in self.states:
            if state not in JUDGED:
                raise ConfigError(
                    f"no attempt ends as {state!r}: write {', '.join(sorted(JUDGED))}"
                )
        if self.to_topic and (self.to_queue or self.to_priority or self.shadow):
            raise ConfigError("another topic, and a queue, priority or shadow: give one of the two")
        if self.rate is not None and not self.rate > 0:
            raise ConfigError(
                f"a rate of {self.rate:g} a second publishes nothing: give one above 0"
            )


class Stretch(NamedTuple):
    """A part of a partition.

    Args:
        topic: its topic.
        partition: its partition.
        first: its first offset.
        end: the offset after its last.
    """

    topic: str
    partition: int
    first: int
    end: int

    @property
    def place(self) -> Place:
        """Topic and partition."""
        return Place(self.topic, self.partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A replay, settled: everything that decides what is published.

    Args:
        name: as in `ReplayRequest`, and never empty.
        stretches: what is read, in this order of topics.
        since: records with an earlier time are passed over; seconds since 1970.
        until: records of this time or later are passed over; seconds since 1970.
        settled: when this was settled, seconds since 1970: later outcomes count for nothing.
        tasks, key, where, states, error, text, ids, to_topic, to_queue, to_priority, shadow, rate: as in
            `ReplayRequest`.
    """

    name: str
    stretches: tuple[Stretch, ...]
    since: float | None = None
    until: float | None = None
    settled: float = 0.0
    tasks: tuple[str, ...] = ()
    key: str | None = None
    where: str = ""
    states: tuple[State, ...] = ()
    error: str = ""
    text: str = ""
    ids: Ids = Ids.NEW
    to_topic: str | None = None
    to_queue: str | None = None
    to_priority: str | None = None
    shadow: str = ""
    rate: float | None = None

    @property
    def total(self) -> int:
        """How many offsets are read."""
        return sum(one.end - one.first for one in self.stretches)

    @property
    def marker(self) -> str:
        """By which a row says that this replay has announced a further run."""
        return f"replay/{self.name}"

    @property
    def keeps_ids(self) -> bool:
        """Whether tasks keep their ids; in a shadow they do, or outcomes could not be compared."""
        return self.ids is Ids.SAME or bool(self.shadow)

    @property
    def by_outcome(self) -> bool:
        """Whether it matters how a task has ended."""
        return bool(self.states or self.error or self.text)

    def to_text(self) -> str:
        """The plan as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "Plan":
        """The inverse of `to_text`. Raises ConfigError where a newer version wrote it."""
        try:
            fields = json.loads(text)
            fields["stretches"] = tuple(Stretch(*one) for one in fields["stretches"])
            fields["tasks"] = tuple(fields["tasks"])
            fields["ids"] = Ids(fields["ids"])
            fields["states"] = tuple(map(State, fields.get("states", ())))
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"a replay's plan can't be read, it is of another version: {error}"
            ) from error

    def destination(self, app: str, topic: str) -> str:
        """Where a task is published that stands in this topic.

        Args:
            app: the app's name.
            topic: where the record was read.

        Raises:
            ConfigError: the topic is none of the app's task topics, and nothing else was said.
        """
        if self.to_topic is not None:
            return self.to_topic
        lane = lane_of(app, topic)
        if lane is None:
            raise ConfigError(
                f"topic {topic} is no task topic of app {app}, and nothing is ever written to a topic of "
                "others: say to which topic its tasks go"
            )
        queue, priority = self.to_queue or lane[0], self.to_priority or lane[1]
        return Names(shadow_app(app, self.shadow) if self.shadow else app).tasks(queue, priority)


NOTE_BYTES = 3500
"""How much of a notice one partition's commit carries; brokers take 4,096 bytes of metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is kept of a replay beside its offsets: so any machine that knows its name can go on.

    Args:
        plan: what is published.
        at: when it was begun, seconds since 1970.
        who: who began it.
        reason: why.
    """

    plan: Plan
    at: float
    who: str
    reason: str = ""

    def notes(self) -> dict[Place, str]:
        """The notice in parts, one for each partition of the plan.

        Raises:
            ConfigError: there are too few partitions for it: the condition is too long.
        """
        text = json.dumps(
            {"at": self.at, "who": self.who, "reason": self.reason, "plan": self.plan.to_text()}
        )
        parts = [text[at : at + NOTE_BYTES] for at in range(0, len(text), NOTE_BYTES)]
        places = [one.place for one in self.plan.stretches]
        if len(parts) > len(places):
            raise ConfigError(
                f"the replay's plan has {len(text)} bytes, and its {len(places)} partitions have room for "
                f"{len(places) * NOTE_BYTES}: shorten the condition or the reason"
            )
        return {
            place: f"{number}/{len(parts)} {part}"
            for number, (place, part) in enumerate(zip(places, parts, strict=False))
        }

    @classmethod
    def from_notes(cls, notes: Iterable[str]) -> "Notice":
        """The inverse of `notes`, in any order. Raises ConfigError where parts are missing."""
        parts: dict[int, str] = {}
        expected = 0
        for note in notes:
            head, _, part = note.partition(" ")
            number, _, count = head.partition("/")
            if number.isdecimal() and count.isdecimal():
                parts[int(number)] = part
                expected = int(count)
        if not expected or parts.keys() != set(range(expected)):
            raise ConfigError(
                "a replay's plan is not whole: some of its offsets have been forgotten"
            )
        told = json.loads("".join(parts[number] for number in range(expected)))
        return cls(
            plan=Plan.from_text(told["plan"]), at=told["at"], who=told["who"], reason=told["reason"]
        )


def lane_of(app: str, topic: str) -> tuple[str, str] | None:
    """Queue and priority of a task topic of the app; None of any other topic."""
    names = Names(app)
    ours = {
        names.dead, names.workers, names.events, names.replies, names.control, names.schedules,
        names.schemas, *names.delays,
    }  # fmt: skip
    queue, priority = queue_and_priority(topic)
    if not queue or "." in queue or topic != names.tasks(queue, priority) or topic in ours:
        return None
    return queue, priority


def new_id(plan: Plan, envelope: Envelope, place: Place, written: float) -> str:
    """The id of a task that repeats this one under a new id; the same however often it is asked for.

    Args:
        plan: by whose name it differs from that of another replay.
        envelope: the task that is repeated, its id filled in.
        place: where its record stands; an id that callers chose may be of two tasks in two of them.
        written: when its record was written, seconds since 1970; counts where the id tells no time.
    """
    born = time_of(envelope.id) if is_uuid7(envelope.id) else envelope.published or written
    return derived_id(born, "replay", plan.name, str(place), envelope.id)


def repeated(
    envelope: Envelope, *, task_id: str, run: int, priority: str | None, written: float, now: float
) -> Envelope:
    """The metadata of a task that is published again: as new, but for what it says of its origin.

    What belonged to the old record's way is left behind: home, group, due time, attempts, who waits for
    a reply, and its trace, to which the new one is linked. It may take as long to be run as before.

    Args:
        envelope: of the old record, its id filled in.
        task_id: its new id, or the old one.
        run: which run this is.
        priority: with which it is published.
        written: when the old record was written, seconds since 1970.
        now: seconds since 1970.
    """
    published = envelope.published or written
    return envelope._replace(
        id=task_id,
        run=run,
        attempt=1,
        uncounted=0,
        priority=priority,
        home=None,
        group=None,
        due=None,
        expires=None if envelope.expires is None else now + max(0.0, envelope.expires - published),
        published=published if task_id == envelope.id else now,
        grace=None,
        since=None,
        entered=None,
        deferred=False,
        lookup=True,
        reply_to=None,
        replay_of=envelope.id,
        death=None,
        trace=(),
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the tasks that a replay publishes.

    Args:
        task: its name.
        id: its id as it stands in the topic.
        source: `topic/partition/offset`.
        arguments: decoded; None where they can't be.
    """

    task: str
    id: str
    source: str
    arguments: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay has published, or a dry run would.

    Args:
        plan: what was asked for.
        dry: whether nothing was published.
        tasks: by task, how many; a resumed replay counts what was published before as well.
        skipped: by reason, how many were not.
        untold: why the condition could not be told, where it could not: the first case.
        samples: some of them.
        seconds: how long it took, since it was begun or resumed.
    """

    plan: Plan
    dry: bool
    tasks: Mapping[str, int]
    skipped: Mapping[Skip, int]
    untold: str = ""
    samples: tuple[Sample, ...] = ()
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many tasks."""
        return sum(self.tasks.values())

    def as_json(self) -> dict[str, Any]:
        """The report as `replay --json` shows it."""
        return {
            "name": self.plan.name,
            "dry": self.dry,
            "count": self.count,
            "tasks": dict(self.tasks),
            "skipped": {reason.name.lower(): count for reason, count in self.skipped.items()},
            "untold": self.untold,
            "samples": [asdict(one) for one in self.samples],
            "seconds": round(self.seconds, 3),
            "plan": json.loads(self.plan.to_text()),
        }


class ReplayProgress(NamedTuple):
    """How far a replay is.

    Args:
        read: offsets that are behind it.
        total: offsets of its plan.
        tasks: how many it has published, or would have.
    """

    read: int
    total: int
    tasks: int


def advanced(plan: Plan, positions: Mapping[Place, int]) -> int:
    """How many offsets of the plan lie before these positions."""
    return sum(
        min(max(positions.get(one.place, one.first), one.first), one.end) - one.first
        for one in plan.stretches
    )
