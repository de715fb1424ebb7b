"""The life of one attempt, as a line of small steps over one record.

    open_ -> recall -> withdraw -> weigh -> resolve -> check -> decode
                                                        (until one of them reaches a verdict)
    -> run (a runner's) -> judge_outcome -> row

Each step takes the attempt and returns it; after the verdict none changes it. None of them does I/O
but `decode`, through the schema store, and only for a schema not met before; the rows that `recall`
judges by are read before, for many attempts at once.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskstream.app.current import Stop
from taskstream.app.task import Task
from taskstream.consumer.child.writers import Writers
from taskstream.consumer.pipe import Given
from taskstream.consumer.suspicion import Ruling, Suspicion, rule
from taskstream.consumer.verdict import (
    Again,
    Dead,
    Done,
    Verdict,
    judge,
    judge_late,
    judge_unknown,
    text_of,
)
from taskstream.core.envelope import Envelope, peek, read_at
from taskstream.core.errors import SchemaError, Undecodable, UnknownSchema
from taskstream.core.names import queue_and_priority
from taskstream.core.queue_orders import PURGED
from taskstream.core.retry import NO_RETRY, Retry
from taskstream.core.states import State
from taskstream.observability.table import LOG_ATTEMPT, LOG_ID, LOG_RUN, LOG_TASK
from taskstream.observability.tracing import Failure, ProcessSpan, StoreSpan
from taskstream.results.row import Row

UNKNOWN = ("UnknownTask", "UnknownSchema")
"""Reasons that are put off during `unknown_grace` before they kill."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt on its way; steps fill it in. Times are seconds since 1970.

    Args:
        given: the task as the parent gave it.
        envelope: its metadata.
        task: what runs it; None while unknown.
        arguments: decoded.
        verdict: None until one is reached.
        found: its row, or a later one, that is in the store already.
        late: whether it came up after the time limit of its task, and is dead for it.
        written_us: the timestamp of its row; that of a row written before it runs is one less.
        last: the row of the last attempt before this one that failed; None where none is known.
        strikes: how often it has been a suspect in the death of a process.
        started: when it began to run.
        finished: when it was judged.
        value: the encoded result.
        error: what it raised.
        stop: set when it should end.
        abandoned: whether it is somebody else's by now: it ends, and nothing of it is recorded.
        cancelled: whether somebody asked for its end: unless it returns, it ends as cancelled.
        claimed: whether it has begun, or been judged without: the parent can't take it back any more.
        recalled: whether the parent has taken it back before that: it is nobody's business here.
        span: its trace span.
        write_span: the span of its row's write.
        refusals: how often the store refused its row.
    """

    given: Given
    envelope: Envelope
    task: Task[..., Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    found: Row | None = None
    late: bool = False
    written_us: int = 0
    last: Row | None = None
    strikes: int = 0
    started: float | None = None
    finished: float | None = None
    value: bytes | None = None
    error: BaseException | None = None
    stop: Stop = field(default_factory=Stop)
    abandoned: bool = False
    cancelled: bool = False
    claimed: bool = False
    recalled: bool = False
    span: ProcessSpan | None = None
    write_span: StoreSpan | None = None
    refusals: int = 0

    @property
    def told(self) -> dict[str, object]:
        """What a log line says of it; never anything of its arguments or its result."""
        one = self.envelope
        return {
            LOG_TASK.name: one.task, LOG_ID.name: one.id, LOG_RUN.name: one.run,
            LOG_ATTEMPT.name: one.counted_attempt,
        }  # fmt: skip

    @property
    def policy(self) -> Retry:
        """When it is tried again: what its publisher chose, else what its task says."""
        if self.envelope.retry is not None:
            return self.envelope.retry
        return NO_RETRY if self.task is None else self.task.retry


def open_(given: Given) -> Attempt:
    """Reads the headers; what they don't say is derived, what can't be read ends the attempt."""
    record = given.record
    try:
        envelope = read_at(record.headers, record.timestamp)
        verdict = None
    except Undecodable as error:
        envelope = Envelope(task=peek(record.headers).task, since=record.timestamp)
        verdict = Dead("Undecodable", str(error))
    if not envelope.id:
        envelope = envelope._replace(id=record.identity[0])
    return Attempt(
        given,
        envelope,
        verdict=verdict,
        written_us=given.given_us + 1,
        cancelled=given.cancelled,
    )


def recall(attempt: Attempt, rows: Sequence[Row], *, strict: bool, now: float) -> Attempt:
    """Finds out from the task's rows whether this attempt has been judged before.

    If so, what its row asks for is done again, or nothing where a later attempt has been there; the
    task itself is not run again. But where retries hold their key, they have no record of their own:
    all attempts are of this one, and once the last one's retry is due, the next one runs.

    Args:
        attempt: an opened attempt.
        rows: all that the store has of its task.
        strict: whether the retries of its task hold their key.
        now: seconds since 1970.
    """
    run, first = attempt.envelope.run, attempt.envelope.attempt
    source = attempt.given.record.source
    failed = [row for row in rows if row.run == run and row.error_type]
    attempt.last = max(failed, key=lambda row: row.attempt, default=None)
    own = [
        row
        for row in rows
        if row.run == run
        and (row.attempt == first or (row.attempt > first and row.source == source))
    ]
    mine = max(own, key=lambda row: row.attempt, default=None)
    number = first if mine is None else mine.attempt
    for row in rows:
        if row.run > run or (row.run == run and row.attempt > number):
            return _recorded(attempt, Done(row.state), row)
        if row.run == run and row.attempt < first and row.state.final:
            return _recorded(attempt, Done(row.state), row)
    if mine is None:
        return attempt
    free = [row for row in own if not row.counts and row is not mine]
    attempt.envelope = attempt.envelope._replace(
        attempt=number,
        uncounted=attempt.envelope.uncounted + len(free),
        since=max([attempt.envelope.since or 0.0, *(row.due or 0.0 for row in free)]),
    )
    # Ours must win over what an earlier owner, whose clock may run ahead, has written.
    attempt.written_us = max(attempt.written_us, mine.written_us + 2)
    attempt.strikes = mine.strikes
    if mine.state is State.RETRYING and mine.due is not None:
        unknown = [row.finished for row in own if row.error_type in UNKNOWN and row.finished]
        grace = attempt.envelope.grace or (
            min(unknown) if mine.error_type in UNKNOWN and unknown else None
        )
        verdict = Again(mine.due, mine.counts, grace)
        if not strict or (now < mine.due and not attempt.given.cancelled):
            return _recorded(attempt, verdict, mine)
        attempt.envelope = attempt.envelope.next_attempt(
            due=mine.due, counts=mine.counts, grace=grace
        )
        attempt.strikes = 0  # those were the last one's
        return attempt
    if mine.state is State.DEAD:
        return _recorded(attempt, Dead(mine.error_type or "", mine.error or ""), mine)
    return _recorded(attempt, Done(mine.state), mine) if mine.state.final else attempt


def withdraw(attempt: Attempt) -> Attempt:
    """Ends what was cancelled before it could begin, whether its task is known here or not."""
    if attempt.verdict is None and attempt.cancelled:
        attempt.verdict = Done(State.CANCELLED)
    return attempt


def weigh(attempt: Attempt) -> Ruling:
    """Rules on what has been under suspicion; what has cost too many processes ends here."""
    ruling = rule(attempt.given.suspicion, attempt.strikes)
    attempt.strikes = ruling.strikes
    if ruling.dead:
        message = (
            f"{ruling.strikes} processes died that were running it, the last one with nothing else in hand"
            if attempt.given.suspicion is Suspicion.CAUGHT
            else f"{ruling.strikes} times the worker that was running it has died"
        )
        attempt.verdict = Dead("WorkerLost", message)
    return ruling


def resolve(attempt: Attempt, task: Task[..., Any] | None, *, now: float, grace: float) -> Attempt:
    """Finds the task; one that nobody here knows is put off for a while."""
    attempt.task = task
    if attempt.verdict is None and task is None:
        message = f"no task {attempt.envelope.task!r} is known to this worker"
        attempt.verdict = judge_unknown("UnknownTask", message, attempt.envelope, now, grace)
    return attempt


def check(attempt: Attempt, *, now: float) -> Attempt:
    """Ends what is too old to run, or to be tried again."""
    expires = attempt.envelope.expires
    if attempt.verdict is None and expires is not None and now > expires:
        attempt.verdict = Done(State.EXPIRED)
    if attempt.verdict is None:
        last = attempt.last
        error = None if last is None else (last.error_type or "", last.error or "")
        attempt.verdict = judge_late(attempt.envelope, attempt.policy, error, now)
        attempt.late = attempt.verdict is not None
    return attempt


def decode(attempt: Attempt, writers: Writers, *, now: float, grace: float) -> Attempt:
    """Decodes the arguments; an unknown schema is put off for a while, unreadable bytes die at once.

    Raises:
        SchemaError, BrokerError: the schema store can't be read: nothing is known of the bytes.
    """
    if attempt.verdict is None:
        assert attempt.task is not None
        try:
            attempt.arguments = writers.decode(attempt.task, attempt.given.record.value)
        except UnknownSchema as error:
            attempt.verdict = judge_unknown(
                "UnknownSchema", str(error), attempt.envelope, now, grace
            )
        except Undecodable as error:
            attempt.verdict = Dead("Undecodable", str(error))
    return attempt


def judge_outcome(
    attempt: Attempt, value: Any, error: BaseException | None, prefix: bytes, now: float
) -> Attempt:
    """Judges what the task returned or raised, and encodes the result.

    Args:
        attempt: an attempt that has run.
        value: what it returned.
        error: what it raised; None if it returned.
        prefix: the frame of its results: which schema they are written with.
        now: seconds since 1970.
    """
    assert attempt.task is not None
    attempt.finished, attempt.error = now, error
    if attempt.cancelled and error is not None:
        # Whatever it raised after it was told to end, it is never tried again; a return stands.
        attempt.verdict = Done(State.CANCELLED)
        return attempt
    attempt.verdict = judge(error, attempt.envelope, attempt.policy, now)
    if error is None:
        try:
            attempt.value = prefix + attempt.task.result.encode(value)
        except SchemaError as failure:
            # Its effects have happened, so it is not tried again.
            attempt.error, attempt.verdict = failure, Dead("ResultError", str(failure))
    return attempt


def row(attempt: Attempt, *, worker: str) -> Row:
    """The attempt's row: with the verdict in it, or, for a suspect that is about to run, `running`.

    Of the two the verdict's is the later one: it wins whenever it arrives.
    """
    envelope, record, verdict = attempt.envelope, attempt.given.record, attempt.verdict
    error_type, error, trace = _error(attempt)
    queue, priority = queue_and_priority(record.topic)
    again = verdict if isinstance(verdict, Again) else None
    # By position: by name it takes three times as long, for every attempt.
    return Row(
        envelope.id,
        envelope.run,
        envelope.attempt,
        State.RUNNING if verdict is None else verdict.state,
        envelope.task,
        attempt.written_us - (verdict is None),
        queue,
        envelope.priority or priority,
        key_of(attempt),
        worker,
        envelope.published or record.timestamp,
        attempt.started,
        attempt.finished,
        None if again is None else again.due,
        again is None or again.counts,
        attempt.value,
        error_type,
        error,
        trace,
        attempt.span.trace_id if attempt.span is not None else None,
        record.source,
        attempt.strikes,
    )


def failure(attempt: Attempt) -> Failure | None:
    """What went wrong in a judged attempt, as its span says it; None where nothing did.

    An end that somebody asked for is no failure, nor is a snooze, or the wait for a deploy.
    """
    verdict = attempt.verdict
    if isinstance(verdict, Dead) or (isinstance(verdict, Again) and verdict.counts):
        kind, message, _ = _error(attempt)
        return Failure(kind or "", message or "", attempt.error)
    return None


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - it asks a user's __str__, which may raise anything
        text = "".join(traceback.format_tb(error.__traceback__))
    return text.encode("utf-8", "backslashreplace").decode()


def key_of(attempt: Attempt) -> str | None:
    """The ordering key; None where the record is keyed by the task's id alone."""
    key = attempt.given.record.key
    if key is None:
        return None
    text = key.decode(errors="replace")
    return None if text == attempt.envelope.id else text


def _recorded(attempt: Attempt, verdict: Verdict, found: Row) -> Attempt:
    attempt.verdict, attempt.found = verdict, found
    return attempt


def _error(attempt: Attempt) -> tuple[str | None, str | None, str | None]:
    if attempt.error is not None:
        # What ends a task may have more to say than its last error has.
        verdict = attempt.verdict
        text = verdict.message if isinstance(verdict, Dead) else text_of(attempt.error)
        return type(attempt.error).__name__, text, _traceback(attempt.error)
    if isinstance(attempt.verdict, Dead):
        trace = attempt.last.traceback if attempt.late and attempt.last is not None else None
        return attempt.verdict.reason, attempt.verdict.message, trace
    if isinstance(attempt.verdict, Again) and attempt.verdict.grace is not None:
        return UNKNOWN[attempt.task is not None], "put off: unknown here so far", None
    if attempt.given.why:
        return PURGED, attempt.given.why, None
    return None, None, None
