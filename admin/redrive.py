"""Dead letters that run again: their tasks keep id, key, place and trace, and begin a new run.

For each one, in this order:

1. the result store is asked how the task stands: only a run that died, and was not redriven, runs again;
2. a `waiting` row of the new run is written, which says who redrives it and why;
3. its record goes to the partition where the task is at home;
4. once Kafka has that, a closing is written behind the letter (`core.closing`).

Invariant: no letter is redriven twice, whatever dies in between and however many redrive at once. Whoever
comes later finds a closing, or a later run in the store; or the row alone, and then sends the very same
record again, of which a worker runs one and drops the copy by its look into the store.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing as closing_at_end
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from taskstream.admin import audit
from taskstream.admin.letters import Letter, letters, records_of, send_closing
from taskstream.admin.rerun import Asker, Further, announcement
from taskstream.admin.resend import Resender, trace_resent
from taskstream.admin.selection import Selection
from taskstream.admin.stores import store_of, store_rows
from taskstream.broker.records import Record
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.closing import REDRIVEN, Closing
from taskstream.core.envelope import Envelope, Header, Place, read, write
from taskstream.core.errors import (
    BadArguments,
    ConfigError,
    SchemaError,
    TaskstreamError,
    Undecodable,
    UnknownTask,
)
from taskstream.core.faultpoints import (
    AFTER_REDRIVE_CLOSING,
    AFTER_REDRIVE_RECORD,
    AFTER_REDRIVE_ROW,
    AFTER_REDRIVE_SEND,
    fault_point,
)
from taskstream.core.names import queue_and_priority
from taskstream.core.states import State
from taskstream.observability import tracing
from taskstream.results.row import Row, current

if TYPE_CHECKING:
    from taskstream.app.app import App

Steps = Callable[[Sequence[tuple[Letter, Record]]], None]
"""What a batch of letters goes through."""

AT_ONCE = 500
"""How many letters go through the steps together, at most; with a rate, those of one second."""


@dataclass(frozen=True, slots=True)
class Again:
    """The task runs again.

    Args:
        run: the new run.
        begun: whether a redrive has begun it before and not come to its end.
    """

    run: int
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Already:
    """The task has gone on long since.

    Args:
        run: the run that followed.
    """

    run: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A letter that can't be redriven.

    Args:
        id: the task's id.
        run: the run that died.
        task: the task's name.
        why: what is in the way, and what to do.
    """

    id: str
    run: int
    task: str
    why: str


@dataclass(slots=True)
class Redriven:
    """What came of a redrive, or would come of it.

    Args:
        dry_run: whether nothing was done.
        selected: letters that were meant.
        redriven: those whose tasks run again.
        by_task: the same by the tasks' names.
        resumed: those of them that an earlier redrive had begun and not brought to its end.
        already: those that had gone on before, and were only not closed yet.
        unexpired: those of them that were past their `expires`, which is left out.
        refused: those that can't be redriven, and why.
        left: those that were not reached, because somebody wanted it to stop.
        untold: of how many more it could not be told whether they are meant.
        why_untold: what was wrong with the first of those.
    """

    dry_run: bool
    selected: int = 0
    redriven: int = 0
    by_task: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    already: int = 0
    unexpired: int = 0
    refused: list[Refusal] = field(default_factory=list)
    left: int = 0
    untold: int = 0
    why_untold: str = ""

    def as_json(self) -> dict[str, Any]:
        """It as `dead redrive --json` shows it."""
        return asdict(self)


def redrive(
    app: "App",
    selection: Selection | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    rate: float | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    reason: str = "",
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> Redriven:
    """Runs the tasks of dead letters again; back when Kafka has them all.

    What was interrupted, or killed, is brought to its end by the same call again.

    Args:
        app: the app.
        selection: which letters; all that are open by default.
        changes: arguments to be corrected, by name; checked against the task's newest schema.
        arguments: all arguments of a single letter, instead of those it has.
        rate: how many a second at most; None for as fast as it goes.
        dry_run: whether to look only. It asks for the same and counts the same.
        progress: told how many letters are through, and of how many.
        stop: asked between two steps whether to end early, in good order.
        reason: why, for the audit log and the tasks' histories.
        who: who asks, for the same; whoever runs this process, unless given.
        clock: the time.

    Raises:
        ConfigError: no result store is configured, a condition is no expression, or arguments are to be
            changed and the letters are not of one task.
        BadArguments: the changed arguments fit none of the letters; names the task and the field.
        StoreError: the result store did not answer, or refused a row.
        BrokerError: Kafka refused or can't be reached. What was sent until then stands, and is counted in
            the audit log.
    """
    wanted = Selection() if selection is None else selection
    chosen = letters(app, wanted)
    _refuse_mixture(chosen.letters, changes, arguments)
    done = Redriven(
        dry_run, selected=len(chosen.letters), untold=chosen.untold, why_untold=chosen.why
    )
    work = _Redrive(
        app,
        done,
        changes=changes or {},
        arguments=arguments,
        reason=reason,
        who=who,
        clock=clock,
    )

    def through(steps: Steps, at_once: int) -> None:
        done.left = go_through(
            app,
            chosen.letters,
            steps,
            at_once=at_once,
            progress=progress or unwatched,
            stop=stop or never,
        )

    if dry_run:
        through(work.judge, AT_ONCE)
    else:
        trace_resent(app)
        try:
            with (
                Resender[_Resent](
                    app, rate=rate, client_id="taskstream-redrive", clock=clock
                ) as tasks,
                Resender[Letter](app, client_id="taskstream-dead", clock=clock) as closings,
            ):
                through(work.steps(tasks, closings), _at_once(rate))
        except BaseException:
            with suppress(TaskstreamError):  # what went wrong first is what must be told
                _note(app, wanted, done, changes=changes, rate=rate, reason=reason, who=who)
            raise
        _note(app, wanted, done, changes=changes, rate=rate, reason=reason, who=who)
    _refuse_bad_changes(done, work.bad_arguments)
    return done


def rule(letter: Letter, rows: Sequence[Row]) -> Again | Already | Refusal:
    """Whether a letter's task may run again, by what the store knows of it. Pure.

    A letter whose run has left no final row is redriven as well: rows are kept for a shorter time than
    letters, and what can't even be brought home dies without one. The letter is the proof.

    Args:
        letter: an open letter.
        rows: all rows of its task.
    """
    last = current(rows)
    if last is None or last.run < letter.run:
        return Again(letter.run + 1)
    if last.run > letter.run:
        begun = last.run == letter.run + 1 and last.attempt == 0 and last.state is State.WAITING
        return Again(last.run, begun=True) if begun else Already(letter.run + 1)
    unrecorded = not last.state.final and last.attempt < letter.attempt
    if last.state is State.DEAD or unrecorded:
        return Again(letter.run + 1)
    return Refusal(
        letter.id, letter.run, letter.task,
        f"its run {letter.run} is {last.state} in the result store, not dead",
    )  # fmt: skip


def home_of(envelope: Envelope, letter: Letter) -> Place | None:
    """The partition where a dead task is at home: where its first record stood. None where nobody knows."""
    if envelope.home is not None:
        return envelope.home
    try:
        return Place.parse(letter.origin.rpartition("/")[0])
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Resent:
    """A task on its way: what its letter is closed with."""

    letter: Letter
    key: bytes | None
    run: int
    unexpired: bool
    begun: bool


@dataclass(frozen=True, slots=True)
class _Ready:
    """A task that may be sent."""

    resent: _Resent
    envelope: Envelope
    home: Place
    key: bytes
    value: bytes | None
    trace: tuple[Header, ...]


class _Redrive:
    """Takes letters through the steps, and counts what comes of them.

    Args:
        app: the app.
        done: where it is counted.
        changes: arguments to be corrected.
        arguments: all arguments, instead of those of the letter.
        reason: why.
        who: who asks; empty for whoever runs this process.
        clock: the time.

    Attributes:
        bad_arguments: the first time that changed arguments did not fit.
    """

    def __init__(
        self,
        app: "App",
        done: Redriven,
        *,
        changes: Mapping[str, Any],
        arguments: Mapping[str, Any] | None,
        reason: str,
        who: str,
        clock: Clock,
    ) -> None:
        # Here, because they load the Avro library.
        from taskstream.admin.payloads import Payloads  # noqa: PLC0415
        from taskstream.schemas.records import Records  # noqa: PLC0415

        self._app = app
        self._done = done
        self._changes = changes
        self._arguments = arguments
        self._payloads = Payloads(app)
        self._records = Records()
        self._store = store_of(app, "nobody can tell whether a task has run again")
        self._clock = clock
        self._reason = reason
        self._who = app.orders().action("redrive", "*", who=who).who
        self._delays = app.names.delays
        with Topics(app.settings, client_id="taskstream-redrive") as topics:
            self._topics = frozenset(topics.names())
        self.bad_arguments: BadArguments | None = None

    def judge(self, batch: Sequence[tuple[Letter, Record]]) -> None:
        """Counts what would come of these letters."""
        ready, gone = self._judged(batch)
        for one in ready:
            self._count(one.resent)
        self._done.already += len(gone)

    def steps(self, tasks: Resender[_Resent], closings: Resender[Letter]) -> Steps:
        """What takes letters through all steps.

        Args:
            tasks: sends their records.
            closings: sends what closes them.
        """

        def carry_out(batch: Sequence[tuple[Letter, Record]]) -> None:
            ready, gone = self._judged(batch)
            store_rows(self._store, [self._row(one) for one in ready])
            fault_point(AFTER_REDRIVE_ROW)
            try:
                try:
                    for one in ready:
                        self._send(tasks, one)
                        fault_point(AFTER_REDRIVE_SEND)
                finally:
                    tasks.flush()
                fault_point(AFTER_REDRIVE_RECORD)
            finally:
                # Also where Kafka refused one of them: what it has is closed.
                sent = tasks.acknowledged()
                for resent in [*sent, *gone]:
                    self._close(closings, resent)
                for resent in sent:
                    self._count(resent)
                self._done.already += len(gone)
            closings.flush()
            fault_point(AFTER_REDRIVE_CLOSING)

        return carry_out

    def _judged(self, batch: Sequence[tuple[Letter, Record]]) -> tuple[list[_Ready], list[_Resent]]:
        """Those that may be sent, and those that have gone on before; counts the refused ones."""
        rows = self._store.read_many([letter.id for letter, _ in batch])
        ready: list[_Ready] = []
        gone: list[_Resent] = []
        for letter, record in batch:
            ruling = rule(letter, rows[letter.id])
            if isinstance(ruling, Again):
                made = self._ready(letter, record, rows[letter.id], begun=ruling.begun)
                if isinstance(made, _Ready):
                    ready.append(made)
                else:
                    self._done.refused.append(made)
            elif isinstance(ruling, Already):
                gone.append(_Resent(letter, record.key, ruling.run, unexpired=False, begun=False))
            else:
                self._done.refused.append(ruling)
        return ready, gone

    def _ready(
        self, letter: Letter, record: Record, rows: Sequence[Row], *, begun: bool
    ) -> _Ready | Refusal:
        def refused(why: str) -> Refusal:
            return Refusal(letter.id, letter.run, letter.task, why)

        try:
            before = read(record.headers)
        except Undecodable as error:
            return refused(f"its headers can't be read: {error}")
        home = home_of(before, letter)
        if home is None or home.topic in self._delays:
            return refused(
                "it does not say where it belongs (ts-home), and died before it got there"
            )
        if home.topic not in self._topics:
            return refused(f"its topic {home.topic} does not exist any more")
        try:
            value = self._value(letter, record)
        except BadArguments as error:
            self.bad_arguments = self.bad_arguments or error
            return refused(str(error))
        except (SchemaError, UnknownTask) as error:
            return refused(f"its arguments can't be corrected: {error}")
        after = before.next_run(home=home, now=self._clock.now())
        published = next((row.published for row in rows if row.published is not None), None)
        after = after._replace(
            id=letter.id, run=letter.run + 1, published=before.published or published
        )
        unexpired = before.expires is not None and after.expires is None
        return _Ready(
            _Resent(letter, record.key, after.run, unexpired, begun),
            after, home, letter.id.encode() if record.key is None else record.key, value, before.trace,
        )  # fmt: skip

    def _value(self, letter: Letter, record: Record) -> bytes | None:
        if self._arguments is not None:
            return self._payloads.encode(letter.task, self._arguments)
        if not self._changes:
            return record.value
        corrected = {**self._payloads.decode(record.value), **self._changes}
        return self._payloads.encode(letter.task, corrected)

    def _row(self, one: _Ready) -> Row:
        """What tells of the new run until its first attempt has ended: who wants it, and why."""
        envelope, letter = one.envelope, one.resent.letter
        queue, priority = queue_and_priority(one.home.topic)
        key = one.key.decode(errors="replace")
        further = Further(
            id=envelope.id,
            task=envelope.task,
            run=letter.run,
            queue=queue,
            priority=envelope.priority or priority,
            key=None if key == envelope.id else key,
            published=envelope.published,
        )
        source = f"{self._app.names.dead}/{letter.partition}/{letter.offset}"
        asker = Asker(source, self._who, self._reason)
        row = announcement(further, envelope.run, asker=asker, now=self._clock.now())
        return row._replace(trace_id=tracing.trace_id_of(one.trace))

    def _send(self, tasks: Resender[_Resent], one: _Ready) -> None:
        envelope = one.envelope
        span = tracing.publish_span(
            one.home.topic,
            task=envelope.task,
            task_id=envelope.id,
            key=one.key.decode(errors="replace"),
            parent=one.trace,
            name="redrive",
            about=partial(tracing.task_attributes, State.WAITING, run=envelope.run),
        )
        tasks.send(
            one.home.topic,
            one.home.partition,
            key=one.key,
            value=one.value,
            headers=[*write(envelope), *span.headers],
            ticket=one.resent,
            span=span,
        )

    def _close(self, closings: Resender[Letter], resent: _Resent) -> None:
        letter = resent.letter
        closing = Closing(
            id=letter.id,
            run=letter.run,
            how=REDRIVEN,
            as_run=resent.run,
            at=self._clock.now(),
            who=self._who,
            reason=self._reason,
        )
        send_closing(
            self._app, closings, letter, records=self._records, key=resent.key, closing=closing
        )

    def _count(self, resent: _Resent) -> None:
        done, task = self._done, resent.letter.task
        done.redriven += 1
        done.by_task[task] = done.by_task.get(task, 0) + 1
        done.resumed += resent.begun
        done.unexpired += resent.unexpired


def go_through(
    app: "App",
    chosen: Sequence[Letter],
    steps: Steps,
    *,
    at_once: int,
    progress: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> int:
    """Takes letters with their records through some steps, a batch at a time.

    Returns:
        How many were not reached, because `stop` said so.
    """
    through, total = 0, len(chosen)
    progress(through, total)
    with closing_at_end(records_of(app, chosen)) as records:
        while not stop():
            batch = list(islice(records, at_once))
            if not batch:
                return 0
            steps(batch)
            through += len(batch)
            progress(through, total)
    return total - through


def _refuse_mixture(
    found: Sequence[Letter],
    changes: Mapping[str, Any] | None,
    arguments: Mapping[str, Any] | None,
) -> None:
    """Arguments are corrected for one task at a time, and given whole for one letter."""
    tasks = sorted({letter.task for letter in found})
    if changes and len(tasks) > 1:
        raise ConfigError(
            f"arguments can be corrected for one task at a time, and these letters are of "
            f"{', '.join(tasks)}: choose one, by its name"
        )
    if arguments is not None and len(found) > 1:
        raise ConfigError(
            f"all arguments can be given for one letter, and these are {len(found)}: choose one, by its id"
        )


def _refuse_bad_changes(done: Redriven, error: BadArguments | None) -> None:
    """Where corrected arguments fit no letter at all, they are what is wrong."""
    if error is not None and len(done.refused) == done.selected:
        raise error


def _at_once(rate: float | None) -> int:
    """How many rows are written before their records follow: a second's worth, so that few wait."""
    return AT_ONCE if rate is None else max(1, min(AT_ONCE, int(rate)))


def _note(
    app: "App",
    selection: Selection,
    done: Redriven,
    *,
    changes: Mapping[str, Any] | None,
    rate: float | None,
    reason: str,
    who: str,
) -> None:
    """Writes what was done to the audit log, if anything was."""
    if not done.redriven and not done.already:
        return
    details = selection.described()
    if changes:
        details["set"] = ", ".join(f"{name}={value!r}" for name, value in changes.items())
    if rate is not None:
        details["rate"] = f"{rate:g}"
    for name in ("resumed", "already", "left"):
        if getattr(done, name):
            details[name] = str(getattr(done, name))
    if done.refused:
        details["refused"] = str(len(done.refused))
    target = f"dead:{next(iter(selection.ids))}" if len(selection.ids) == 1 else "dead:*"
    audit.record(
        app, "redrive", target, reason=reason, count=done.redriven, details=details, who=who
    )


def unwatched(_through: int, _total: int) -> None:
    """Progress that nobody watches."""


def never() -> bool:
    """Nobody wants it to stop."""
    return False
