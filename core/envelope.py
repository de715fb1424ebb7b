"""The metadata of a task in Kafka headers: the only file that knows the names "ts-...".

Only `ts-task` is required, so that any Kafka client in any language can publish a task; everything
else has a default. Headers that are not ours pass through untouched. Reading and writing are exact
inverses for every envelope (`tests/unit/test_envelope.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from taskstream.core.errors import Undecodable
from taskstream.core.ids import is_uuid7
from taskstream.core.retry import Retry

Header = tuple[str, bytes | None]

_LATEST = 1e11
"""Seconds since 1970 that no time of ours reaches: beyond it a header holds something else."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"
TRACE_HEADERS = (TRACEPARENT, TRACESTATE, BAGGAGE)
"""W3C Trace Context and Baggage: replaced on every hop, never appended."""

LOOKUP_HEADER = "ts-lookup"
GROUP_HEADER = "ts-group"
ENTERED_HEADER = "ts-entered"
HEADER_ROOM_BYTES = 32 * 1024
"""How much the headers that a hand-off adds may take at most."""


class Place(NamedTuple):
    """A partition of a topic; in headers `topic/partition`."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """The inverse of `str`. Raises ValueError."""
        topic, _, partition = text.rpartition("/")
        if not topic:
            raise ValueError(f"{text!r} is not topic/partition")
        return cls(topic, int(partition))


@dataclass(frozen=True, slots=True)
class Death:
    """Why a task is a dead letter, and where its record came from.

    Args:
        reason: one word for counting: the error's class name, or ours ("Undecodable", "UnknownTask").
        message: the error's text, cut to what the headers have room for.
        origin: topic, partition and offset of the record that failed last, `topic/partition/offset`.
        at: seconds since 1970.
    """

    reason: str
    message: str
    origin: str
    at: float


class Envelope(NamedTuple):
    """What the headers of a task say. Times are seconds since 1970 in UTC.

    Args:
        task: the task's name.
        id: the task's id; empty only in a foreign record, for the reader to derive.
        run: 0 for the first publish, +1 for each redrive or replay with the same id.
        attempt: which try of this run the record asks for; 1 is the first.
        uncounted: how many of the tries so far don't count (snoozes, waits for a rolling deploy).
        priority: the priority it was published with.
        home: the partition of its first hand-off; every later hop goes back to it.
        group: the consumer group a hand-off is meant for; other groups skip it.
        due: not to be run before.
        expires: not to be run after.
        published: when it was first published.
        grace: when a worker first met it without knowing its task or schema.
        since: from when the time limit of its attempts counts, from the second attempt on; `published`
            where it isn't told. Of the first attempt `time_from` says it.
        lookup: whether a reader must look in the result store before running it.
        reply_to: the partition that wants its final state.
        parent: id of the task that published it.
        root: id of the first task of that chain.
        replay_of: id of the task that a replay repeats with this one; its own where it is a further run.
        entered: when the first record of this run was appended, by the broker's clock; the first hop says
            so, and it counts on later hops alone (see `standing`).
        deferred: whether it waits only because an order holds it back, so that it goes home as soon as
            none does.
        retry: the policy that its publisher chose; None leaves the task's.
        death: set in dead letters.
        trace: W3C headers.
        others: headers that are not ours, in order.
    """

    task: str
    id: str = ""
    run: int = 0
    attempt: int = 1
    uncounted: int = 0
    priority: str | None = None
    home: Place | None = None
    group: str | None = None
    due: float | None = None
    expires: float | None = None
    published: float | None = None
    grace: float | None = None
    since: float | None = None
    lookup: bool = False
    reply_to: Place | None = None
    parent: str | None = None
    root: str | None = None
    replay_of: str | None = None
    entered: float | None = None
    deferred: bool = False
    retry: Retry | None = None
    death: Death | None = None
    trace: tuple[Header, ...] = ()
    others: tuple[Header, ...] = ()

    @property
    def counted_attempt(self) -> int:
        """Which try this is in the eyes of the retry policy and of the user."""
        return self.attempt - self.uncounted

    def time_from(self, appended: float) -> float:
        """From when the time limit of its attempts counts, seconds since 1970.

        That is the publish, the due time where it was delayed, the end of its last snooze, or, of a later
        run, its arrival; so every owner of the record finds the same.

        Args:
            appended: the record's timestamp.
        """
        first = self.published or appended
        if self.attempt > 1:
            return self.since or first
        return appended if self.run else max(first, self.due or first)

    def ready_from(self, appended: float) -> float:
        """From when this attempt could have run, seconds since 1970: its publish, or its due time.

        Args:
            appended: the record's timestamp, which counts where a later run begins.
        """
        return self.due or (appended if self.run else self.published or appended)

    def next_attempt(
        self, *, due: float, counts: bool = True, grace: float | None = None
    ) -> "Envelope":
        """The envelope of the hand-off that asks for one more try at `due`."""
        return self._replace(
            attempt=self.attempt + 1,
            uncounted=self.uncounted + (not counts),
            due=due,
            grace=grace,
            # What does not count as an attempt does not count as time either.
            since=self.since if counts else due,
            lookup=True,
            deferred=False,
            death=None,
        )

    def next_run(self, *, home: Place, now: float) -> "Envelope":
        """The envelope that begins the task anew, with all its attempts, after this run has died.

        What is over is left out: the due time, what is counted from the begin of a run, the reason of the
        death, the trace context, and an `expires` that has passed by `now`.
        """
        expired = self.expires is not None and self.expires <= now
        return self._replace(
            run=self.run + 1,
            attempt=1,
            uncounted=0,
            home=home,
            due=None,
            expires=None if expired else self.expires,
            grace=None,
            since=None,
            entered=None,
            deferred=False,
            lookup=True,
            death=None,
            trace=(),
        )


def write(envelope: Envelope) -> list[Header]:
    """The envelope as Kafka headers; what has its default is left out."""
    headers: list[Header] = [("ts-task", envelope.task.encode())]
    for (name, default, encode), value in zip(_TEXTS, envelope[1:], strict=False):
        if value != default:
            headers.append((name, encode(value)))
    if envelope.death is not None:
        headers += _death_headers(envelope.death)
    headers += envelope.trace
    headers += envelope.others
    return headers


class Stamp:
    """Envelopes of many tasks that differ in their id and the time of their publish alone.

    Makes each with its headers, which are those of `write`, in a fraction of the time.

    Args:
        common: what they have in common; its `id` and `published` don't matter.
    """

    __slots__ = ("_between", "_fields", "_rest", "_task")

    def __init__(self, common: Envelope) -> None:
        self._fields = tuple(common)
        headers = write(common._replace(id="-", published=0.0))
        names = [name for name, _ in headers]
        published = names.index("ts-published")
        self._task = headers[0]
        self._between = headers[2:published]
        self._rest = headers[published + 1 :]

    def envelope(self, task_id: str, published: float) -> Envelope:
        """The envelope of one."""
        fields = self._fields
        between, rest = fields[2:_PUBLISHED], fields[_PUBLISHED + 1 :]
        return Envelope._make((fields[0], task_id, *between, published, *rest))

    def headers(self, task_id: str, published: float) -> list[Header]:
        """The headers of one, in the order of `write`."""
        return [
            self._task,
            ("ts-id", task_id.encode()),
            *self._between,
            ("ts-published", _encode_time(published)),
            *self._rest,
        ]


_PUBLISHED = Envelope._fields.index("published")


def read(headers: Iterable[Header]) -> Envelope:
    """The envelope in a record's headers.

    Raises:
        Undecodable: `ts-task` is missing, or one of our headers is not what it should be; names it.
    """
    fields: dict[str, Any] = {}
    death: dict[str, str] = {}
    trace: list[Header] = []
    others: list[Header] = []
    for name, value in headers:
        reader = _READERS.get(name)
        if reader is not None:
            attribute, decode = reader
            try:
                fields[attribute] = decode((value or b"").decode())
            except ValueError as error:
                raise Undecodable(f"header {name} is {value!r}: {error}") from error
        elif name in TRACE_HEADERS:
            trace.append((name, value))
        elif name in _DEATH:
            death[_DEATH[name]] = (value or b"").decode(errors="replace")
        else:
            others.append((name, value))
    if "task" not in fields:
        raise Undecodable("header ts-task is missing, and the topic is not bound to a task")
    fields["death"] = _death(death)
    return Envelope(**fields, trace=tuple(trace), others=tuple(others))


def read_at(headers: Sequence[Header], appended: float) -> Envelope:
    """`read`, with `since` filled in: from when the time limit of its attempts counts.

    Hot: once for every attempt. What many tasks have in common is read once for all of them.

    Args:
        headers: the record's.
        appended: the record's timestamp.

    Raises:
        Undecodable: as `read`.
    """
    usual = _read_usual(headers, appended)
    if usual is not None:
        return usual
    envelope = read(headers)
    return envelope._replace(since=envelope.time_from(appended))


def _read_usual(headers: Sequence[Header], appended: float) -> Envelope | None:
    """The envelope of a first attempt at once, as nearly all are; None where it may be something else."""
    if len(headers) > _KEPT_HEADERS:
        return None
    common: list[Header] = []
    trace: list[Header] = []
    task_id, published = b"", None
    for header in headers:
        name, value = header
        if value is None or len(value) > _KEPT_BYTES:
            return None
        if name == "ts-id":
            task_id = value
        elif name == "ts-published":
            published = value
        elif name in COMMON_HEADERS:
            common.append(header)
        elif name in TRACE_HEADERS:
            trace.append(header)
        else:
            return None
    before, between, behind = _read_common(tuple(common))
    try:
        told = None if published is None else _decode_time(published.decode())
        own_id = task_id.decode()
    except ValueError:
        return None  # `read` says of which header that is
    since = told or appended  # see `Envelope.time_from`
    return Envelope._make((*before, own_id, *between, told, None, since, *behind, tuple(trace), ()))


_KEPT_BYTES = 512
"""How long a header may be that is kept for later ones: what anybody may write must not fill memory."""

_KEPT_HEADERS = 16
"""How many headers a record may have of which any are kept, for their names may repeat: likewise."""


@lru_cache(maxsize=1024)  # each publisher has its own reply partition
def _read_common(headers: tuple[Header, ...]) -> tuple[tuple[Any, ...], ...]:
    """The fields of an envelope with these headers, without those of one task alone, in three parts."""
    fields = tuple(read(headers))
    return fields[:1], fields[2:_PUBLISHED], fields[_PUBLISHED + 3 : -2]


class Peek(NamedTuple):
    """The few facts that decide what a worker's parent does with a record it does not decode.

    Args:
        task: the task's name; empty where the record doesn't say.
        task_id: the task's id as it stands there; empty where the record doesn't say.
        lookup: whether a reader must look in the result store before running it.
        group: the consumer group it is meant for; None for all.
        due: not to be run before, seconds since 1970; 0 for at once.
    """

    task: str
    task_id: bytes
    lookup: bool
    group: str | None
    due: float


class Stay(NamedTuple):
    """What a delay topic must know of a record: the rest is read where it is run.

    Args:
        home: where it goes in the end; None where the record doesn't say.
        due: not before, seconds since 1970; 0 for at once.
    """

    home: Place | None
    due: float


def stay_of(headers: Iterable[Header]) -> Stay:
    """Reads just that: once for each hop of each record.

    Raises:
        Undecodable: one of the two headers is not what it should be; names it.
    """
    find = dict(headers).get
    home, due = find("ts-home"), find("ts-due")
    try:
        return Stay(
            None if home is None else _decode_place(home.decode()),
            0.0 if due is None else _decode_time(due.decode()),
        )
    except ValueError as error:
        raise Undecodable(f"headers ts-home {home!r} and ts-due {due!r}: {error}") from error


def peek(headers: Iterable[Header]) -> Peek:
    """Reads the few facts, and never fails: what is unreadable is left for `read` to judge."""
    find = dict(headers).get
    group, told_due, task_id = find(GROUP_HEADER), find("ts-due"), find("ts-id")
    due = 0.0
    if told_due is not None:
        with suppress(ValueError):
            due = _decode_time(told_due.decode())
    return Peek(
        (find("ts-task") or b"").decode(errors="replace"),
        task_id or b"",
        # An id that somebody chose counts once, so a reader looks whether it has been there.
        find(LOOKUP_HEADER) == b"1" or (task_id is not None and not is_uuid7(task_id)),
        None if group is None else group.decode(errors="replace"),
        due,
    )


class Standing(NamedTuple):
    """What of a record decides which orders about queues and tasks are about it.

    Args:
        task: the task's name; empty where the record doesn't say.
        entered: when the first record of its run was appended, seconds since 1970.
        deferred: whether it waits only because an order holds it back.
    """

    task: str
    entered: float
    deferred: bool


def standing(headers: Iterable[Header], appended: float) -> Standing:
    """Reads these facts, and never fails.

    Args:
        headers: the record's.
        appended: when the record was appended, which counts where no hop has come before it.
    """
    find = dict(headers).get
    told, entered = find(ENTERED_HEADER), appended
    # What begins a run anew may have it from the record that it was made of; a later hop has a due time,
    # or asks for a later attempt.
    is_later = find("ts-due") is not None or find("ts-attempt", b"1") != b"1"
    if told is not None and is_later:
        with suppress(ValueError):
            entered = _decode_time(told.decode())
    task = (find("ts-task") or b"").decode(errors="replace")
    return Standing(task, entered, find("ts-deferred") == b"1")


def enter(headers: Sequence[Header], appended: float) -> list[Header]:
    """The headers of a record's next hop, with the moment when the first one was appended."""
    known = any(name == ENTERED_HEADER for name, _ in headers)
    return list(headers) if known else [*headers, (ENTERED_HEADER, _encode_time(appended))]


def identity(headers: Iterable[Header]) -> tuple[str, int]:
    """The task's id and run, as far as they can be read; an empty id where the record doesn't say."""
    values = dict(headers)
    try:
        run = _decode_count((values.get("ts-run") or b"0").decode())
    except ValueError:
        run = 0
    return (values.get("ts-id") or b"").decode(errors="replace"), run


def name_task(headers: Sequence[Header], task: str, task_id: str) -> list[Header]:
    """The headers with the task's name and id, where a foreign record came without them."""
    present = {name for name, _ in headers}
    ours = [("ts-task", task.encode()), ("ts-id", task_id.encode())]
    return [*headers, *(header for header in ours if header[1] and header[0] not in present)]


def number_attempt(headers: Sequence[Header], attempt: int, uncounted: int) -> list[Header]:
    """The headers of a record that has gone through more attempts than it says; else as they are."""
    values = dict(headers)
    if attempt == 1 or values.get("ts-attempt") == _encode_text(attempt):
        return list(headers)
    kept = [header for header in headers if header[0] not in {"ts-attempt", "ts-uncounted"}]
    numbered: list[Header] = [("ts-attempt", _encode_text(attempt))]
    return [*kept, *numbered, *([("ts-uncounted", _encode_text(uncounted))] if uncounted else [])]


def address_to(headers: Sequence[Header], group: str) -> list[Header]:
    """The headers with the consumer group that a hand-off is meant for, unless they name one."""
    if any(name == GROUP_HEADER for name, _ in headers):
        return list(headers)
    return [*headers, (GROUP_HEADER, group.encode())]


def bury(headers: Iterable[Header], death: Death, trace: Iterable[Header]) -> list[Header]:
    """The headers of a dead letter: the original ones byte for byte, readable or not, and the reason.

    Only the trace context, and the reason of an earlier death, are replaced.
    """
    replaced = {*TRACE_HEADERS, *_DEATH}
    kept = [(name, value) for name, value in headers if name not in replaced]
    return [*kept, *_death_headers(death), *trace]


def identity_of(headers: Iterable[Header]) -> tuple[bytes, bytes, bytes]:
    """Which attempt of which task a record is of: id, run and attempt as they stand there.

    A crash can leave a second copy of any hand-off. Both have the same identity, and count once.
    """
    values = dict(headers)
    return (
        values.get("ts-id") or b"",
        values.get("ts-run") or b"0",
        values.get("ts-attempt") or b"1",
    )


def death_of(headers: Iterable[Header]) -> Death | None:
    """Why a record is a dead letter, whatever else its headers hold; None where it is none."""
    return _death(
        {
            _DEATH[name]: (value or b"").decode(errors="replace")
            for name, value in headers
            if name in _DEATH
        }
    )


def _death(found: Mapping[str, str]) -> Death | None:
    if "reason" not in found:
        return None
    try:
        at = float(found.get("at") or 0)
    except ValueError:
        at = 0.0  # a dead letter must be readable whatever somebody wrote there
    return Death(found["reason"], found.get("message", ""), found.get("origin", ""), at)


def _death_headers(death: Death) -> list[Header]:
    return [
        ("ts-dead-reason", death.reason.encode()),
        ("ts-dead-message", death.message.encode(errors="replace")),
        ("ts-dead-origin", death.origin.encode()),
        ("ts-dead-at", _encode_time(death.at)),
    ]


def _encode_time(seconds: float) -> bytes:
    return f"{seconds:.6f}".encode()


def _encode_text(value: object) -> bytes:
    return str(value).encode()


@lru_cache(maxsize=1024)  # a publisher names the same one in all its tasks
def _encode_place(place: Place) -> bytes:
    return str(place).encode()


@lru_cache(maxsize=1024)  # likewise
def _encode_retry(retry: Retry) -> bytes:
    return retry.text.encode()


def _encode_flag(value: object) -> bytes:
    return b"1" if value else b"0"


def _decode_flag(text: str) -> bool:
    return text == "1"


def _decode_count(text: str) -> int:
    count = int(text)
    if not 0 <= count < 2**31:
        raise ValueError("must be a whole number from 0 to 2147483647")
    return count


def _decode_time(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < _LATEST:
        raise ValueError("must be seconds since 1970")
    return seconds


@lru_cache(maxsize=1024)  # all tasks of one publisher name the same
def _decode_place(text: str) -> Place:
    place = Place.parse(text)
    _decode_count(str(place.partition))
    return place


# (header, default, encode) of the fields after `task`, in their order.
_TEXTS: tuple[tuple[str, Any, Any], ...] = (
    ("ts-id", "", str.encode),
    ("ts-run", 0, _encode_text),
    ("ts-attempt", 1, _encode_text),
    ("ts-uncounted", 0, _encode_text),
    ("ts-priority", None, str.encode),
    ("ts-home", None, _encode_place),
    (GROUP_HEADER, None, str.encode),
    ("ts-due", None, _encode_time),
    ("ts-expires", None, _encode_time),
    ("ts-published", None, _encode_time),
    ("ts-grace", None, _encode_time),
    ("ts-since", None, _encode_time),
    (LOOKUP_HEADER, False, _encode_flag),
    ("ts-reply-to", None, _encode_place),
    ("ts-parent", None, str.encode),
    ("ts-root", None, str.encode),
    ("ts-replay-of", None, str.encode),
    (ENTERED_HEADER, None, _encode_time),
    ("ts-deferred", False, _encode_flag),
    ("ts-retry", None, _encode_retry),
)

_READERS: dict[str, tuple[str, Any]] = {
    "ts-task": ("task", str),
    "ts-id": ("id", str),
    "ts-run": ("run", _decode_count),
    "ts-attempt": ("attempt", _decode_count),
    "ts-uncounted": ("uncounted", _decode_count),
    "ts-priority": ("priority", str),
    "ts-home": ("home", _decode_place),
    GROUP_HEADER: ("group", str),
    "ts-due": ("due", _decode_time),
    "ts-expires": ("expires", _decode_time),
    "ts-published": ("published", _decode_time),
    "ts-grace": ("grace", _decode_time),
    "ts-since": ("since", _decode_time),
    LOOKUP_HEADER: ("lookup", _decode_flag),
    "ts-reply-to": ("reply_to", _decode_place),
    "ts-parent": ("parent", str),
    "ts-root": ("root", str),
    "ts-replay-of": ("replay_of", str),
    ENTERED_HEADER: ("entered", _decode_time),
    "ts-deferred": ("deferred", _decode_flag),
    "ts-retry": ("retry", Retry.parse),
}

COMMON_HEADERS = frozenset(
    ("ts-task", "ts-priority", "ts-home", GROUP_HEADER, LOOKUP_HEADER, "ts-reply-to", "ts-retry")
)
"""Those whose values many tasks have in common."""

_DEATH = {
    "ts-dead-reason": "reason",
    "ts-dead-message": "message",
    "ts-dead-origin": "origin",
    "ts-dead-at": "at",
}
