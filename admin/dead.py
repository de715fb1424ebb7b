"""One dead letter told in full, and letters that nobody wants to see any more.

What reads them all is `admin.letters`; what runs their tasks again is `admin.redrive`.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from taskstream.admin import audit
from taskstream.admin.letters import Letter, letter_of, letters, records_of, send_closing
from taskstream.admin.redrive import Again, Refusal, go_through, home_of, never, rule, unwatched
from taskstream.admin.resend import Resender
from taskstream.admin.selection import Selection
from taskstream.broker.records import Record
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.closing import PURGED, Closing
from taskstream.core.envelope import Envelope, read
from taskstream.core.errors import SchemaError, TaskstreamError, Undecodable
from taskstream.core.moments import moment
from taskstream.core.states import State
from taskstream.observability import tracing
from taskstream.results.row import Row, current

if TYPE_CHECKING:
    from taskstream.app.app import App

AT_ONCE = 1000
"""How many letters are closed together."""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt of one run, or the redrive that began a run. Times are seconds since 1970.

    Args:
        run: 0 for the first publish, +1 for each redrive or replay.
        attempt: 1 is the first; 0 for a redrive.
        state: how it ended; `waiting` for a redrive.
        worker: who ran it; who asked for a redrive.
        started: when it started; None if it never did.
        finished: when it was judged.
        error_type: the error's type; None where there was none.
        error: its text; for a redrive why it was asked for.
        traceback: its traceback; None where there is none.
    """

    run: int
    attempt: int
    state: State
    worker: str
    started: float | None
    finished: float | None
    error_type: str | None
    error: str | None
    traceback: str | None


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """All that is known of a dead letter. Times are seconds since 1970.

    Args:
        letter: what a list shows of it.
        message: the error's whole text.
        state: where the task is now; `unknown` where the store has nothing of it.
        arguments: the decoded arguments; None where they can't be read.
        unreadable: why they can't be read; empty where they can.
        value: the bytes of the record's value; None for none at all.
        key: the ordering key; None where the record is keyed by the task's id alone, or has no key.
        priority: the priority it was published with; None where the record doesn't say.
        home: the partition that a redrive gives it back to, `topic/partition`; None where nobody knows.
        published: when it was first published.
        expires: not to be run after.
        trace_id: 32 hex digits; None where nobody recorded a trace.
        tries: every attempt of every run that the store still has, the first one first.
    """

    letter: Letter
    message: str
    state: State
    arguments: dict[str, Any] | None
    unreadable: str
    value: bytes | None
    key: str | None
    priority: str | None
    home: str | None
    published: float | None
    expires: float | None
    trace_id: str | None
    tries: tuple[Try, ...]

    def as_json(self) -> dict[str, Any]:
        """The letter as `dead show --json` shows it; bytes that can't be read as base64."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        del shown["letter"], shown["value"], shown["tries"]
        unread = None if self.arguments is not None or self.value is None else self.value
        return {
            **self.letter.as_json(),
            **shown,
            "bytes": None if unread is None else base64.b64encode(unread).decode(),
            "tries": [asdict(one) for one in self.tries],
        }

    def lines(self) -> Iterator[str]:
        """The letter for people."""
        letter = self.letter
        told = {
            "id": letter.id,
            "task": letter.task,
            "state": self.state,
            "run": str(letter.run),
            "error": f"{letter.reason}: {self.message}",
            "died": moment(letter.at),
            "published": None if self.published is None else moment(self.published),
            "expires": None if self.expires is None else moment(self.expires),
            "origin": letter.origin,
            "home": self.home,
            "key": self.key,
            "priority": self.priority,
            "trace": self.trace_id,
            "closed": None if letter.closed is None else _closed(letter.closed),
        }
        yield from (f"{name:<10} {text}" for name, text in told.items() if text)
        yield from self._argument_lines()
        for one in self.tries:
            yield ""
            yield from _try_lines(one)

    def _argument_lines(self) -> Iterator[str]:
        if self.arguments is None:
            value = self.value or b""
            told = [
                f"can't be read: {self.unreadable}",
                f"{len(value)} bytes: {value[:64].hex(' ')}",
            ]
        else:
            told = [f"{name} = {value!r}" for name, value in self.arguments.items()]
        for number, line in enumerate(told):
            yield f"{'' if number else 'arguments':<10} {line}"


@dataclass(slots=True)
class Purged:
    """What came of a purge, or would come of it.

    Args:
        dry_run: whether nothing was done.
        selected: letters that were meant.
        purged: those that count no more.
        refused: those that a redrive has begun and not brought to its end.
        left: those that were not reached, because somebody wanted it to stop.
        untold: of how many more it could not be told whether they are meant.
        why_untold: what was wrong with the first of those.
    """

    dry_run: bool
    selected: int = 0
    purged: int = 0
    refused: list[Refusal] = field(default_factory=list)
    left: int = 0
    untold: int = 0
    why_untold: str = ""

    def as_json(self) -> dict[str, Any]:
        """It as `dead purge --json` shows it."""
        return asdict(self)


def show(app: "App", task_id: str, *, run: int | None = None) -> ShownLetter:
    """The dead letter of a task in full, whether it is open or not.

    Args:
        app: the app.
        task_id: the task's id.
        run: which run of it; the last one that died by default.

    Raises:
        TaskstreamError: there is no such letter, or not any more.
        StoreError: the result store did not answer.
        BrokerError: Kafka refused or can't be reached.
    """
    found = letters(app, Selection(ids=frozenset({task_id})), closed=True).letters
    asked = [one for one in found if run is None or one.run == run]
    last = max(asked, key=lambda one: one.run, default=None)
    if last is None:
        which = "" if run is None else f", run {run}"
        raise TaskstreamError(f"task {task_id}{which} has no dead letter, or none any more")
    for letter, record in records_of(app, [last]):
        store = app.result_store()
        return _shown(app, letter, record, [] if store is None else store.read(task_id))
    raise TaskstreamError(f"the dead letter of task {task_id} has just been deleted by Kafka")


def purge(
    app: "App",
    selection: Selection | None = None,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    reason: str = "",
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> Purged:
    """Closes dead letters that nobody wants to see any more; their tasks stay dead.

    Args:
        app: the app.
        selection: which letters; all that are open by default.
        dry_run: whether to look only.
        progress: told how many letters are through, and of how many.
        stop: asked between two steps whether to end early, in good order.
        reason: why, for the audit log.
        who: who asks, for the same; whoever runs this process, unless given.
        clock: the time.

    Raises:
        ConfigError: a condition is no expression.
        StoreError: the result store did not answer.
        BrokerError: Kafka refused or can't be reached.
    """
    wanted = Selection() if selection is None else selection
    chosen = letters(app, wanted)
    done = Purged(
        dry_run, selected=len(chosen.letters), untold=chosen.untold, why_untold=chosen.why
    )
    with Resender[Letter](app, client_id="taskstream-dead", clock=clock) as closings:
        done.left = go_through(
            app,
            chosen.letters,
            _closer(app, done, closings, reason=reason, who=who, clock=clock),
            at_once=AT_ONCE,
            progress=progress or unwatched,
            stop=stop or never,
        )
    if done.purged and not dry_run:
        target = f"dead:{next(iter(wanted.ids))}" if len(wanted.ids) == 1 else "dead:*"
        audit.record(
            app,
            "purge",
            target,
            reason=reason,
            count=done.purged,
            details=wanted.described(),
            who=who,
        )
    return done


def _closer(
    app: "App", done: Purged, closings: Resender[Letter], *, reason: str, who: str, clock: Clock
) -> Callable[[Sequence[tuple[Letter, Record]]], None]:
    from taskstream.schemas.records import Records  # noqa: PLC0415 - loads the Avro library

    ours = Records()
    store = app.result_store()
    who = app.orders().action("purge", "dead:*", who=who).who

    def close(batch: Sequence[tuple[Letter, Record]]) -> None:
        rows = {} if store is None else store.read_many([letter.id for letter, _ in batch])
        for letter, record in batch:
            refusal = _refusal(letter, rows.get(letter.id, []))
            if refusal is not None:
                done.refused.append(refusal)
                continue
            done.purged += 1
            if not done.dry_run:
                closing = Closing(
                    id=letter.id, run=letter.run, how=PURGED, at=clock.now(), who=who, reason=reason
                )
                send_closing(app, closings, letter, records=ours, key=record.key, closing=closing)
        closings.flush()

    return close


def _refusal(letter: Letter, rows: Sequence[Row]) -> Refusal | None:
    """A task that waits for a redrive to be brought to its end would wait for ever."""
    ruling = rule(letter, rows)
    if isinstance(ruling, Again) and ruling.begun:
        return Refusal(
            letter.id, letter.run, letter.task,
            "a redrive of it has begun and not come to its end: redrive it again",
        )  # fmt: skip
    return None


def _shown(app: "App", letter: Letter, record: Record, rows: Sequence[Row]) -> ShownLetter:
    envelope, (arguments, unreadable) = _envelope(record), _arguments(app, record)
    last = current(rows)
    key = None if record.key is None else record.key.decode(errors="replace")
    home = home_of(envelope, letter)
    of_run = current(row for row in rows if row.run == letter.run)
    published = next((row.published for row in rows if row.published is not None), None)
    return ShownLetter(
        letter=letter,
        message=letter_of(record)[1],
        state=State.UNKNOWN if last is None else last.state,
        arguments=arguments,
        unreadable=unreadable,
        value=record.value,
        key=None if key == letter.id else key,
        priority=envelope.priority,
        home=None if home is None else str(home),
        published=envelope.published or published,
        expires=envelope.expires,
        trace_id=(of_run.trace_id if of_run is not None else None)
        or tracing.trace_id_of(record.headers),
        tries=tuple(_try(row) for row in rows),
    )


def _envelope(record: Record) -> Envelope:
    """What the headers say; where they can't be read, nothing but that there are some."""
    with suppress(Undecodable):
        return read(record.headers)
    return Envelope(task="")


def _arguments(app: "App", record: Record) -> tuple[dict[str, Any] | None, str]:
    from taskstream.admin.payloads import Payloads  # noqa: PLC0415 - loads the Avro library

    try:
        return Payloads(app).decode(record.value), ""
    except SchemaError as error:
        return None, str(error)


def _try(row: Row) -> Try:
    return Try(
        row.run, row.attempt, row.state, row.worker, row.started, row.finished,
        row.error_type, row.error, row.traceback,
    )  # fmt: skip


def _try_lines(one: Try) -> Iterator[str]:
    if one.attempt == 0:
        why = f": {one.error}" if one.error else ""
        yield f"run {one.run} asked for by {one.worker}{why}"
        return
    took = ""
    if one.started is not None and one.finished is not None:
        took = f" in {one.finished - one.started:.3f} s"
    yield f"run {one.run} attempt {one.attempt} {one.state}{took} on {one.worker}"
    if one.traceback:
        yield from one.traceback.rstrip().splitlines()
    elif one.error_type or one.error:
        yield f"{one.error_type or 'Error'}: {one.error or ''}"


def _closed(closing: Closing) -> str:
    as_run = "" if closing.as_run is None else f" as run {closing.as_run}"
    why = f": {closing.reason}" if closing.reason else ""
    return f"{closing.how}{as_run} by {closing.who} at {moment(closing.at)}{why}"
