"""One task, told from its rows in the result store."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from taskstream.admin import audit
from taskstream.admin.stores import store_of
from taskstream.core.errors import (
    ResultTimeout,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
)
from taskstream.core.moments import moment
from taskstream.core.states import State
from taskstream.results.row import Row, current

if TYPE_CHECKING:
    from taskstream.app.app import App


@dataclass(frozen=True, slots=True)
class ShownAttempt:
    """One attempt. Times are seconds since 1970.

    Args:
        number: 1 is the first.
        state: how it ended.
        worker: who ran it.
        started: when it started; None if it never did.
        finished: when it was judged.
        error: the error's type and text; None where there was none.
    """

    number: int
    state: State
    worker: str
    started: float | None
    finished: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ShownRun:
    """One run: the first publish, or what a redrive or a replay made of the task.

    Args:
        run: 0 is the first publish.
        state: how it ended, or where it is.
        attempts: how many of its attempts have left a row.
        error: the last error's type and text; None where there was none.
        who: who asked for it; None where nobody did, or nobody knows.
        why: what they said; None where they said nothing.
    """

    run: int
    state: State
    attempts: int
    error: str | None
    who: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class ShownTask:
    """What is known of a task. Times are seconds since 1970.

    Args:
        id: its id.
        task: its name; empty while it has left no row.
        state: where it is.
        value: its result as JSON has it; None while there is none.
        error: the last error's type and text; None where there is none.
        attempts: of the current run, first to last.
        run: which run that is; 0 is the first publish.
        runs: all of them, first to last.
        key: the ordering key.
        priority: the priority it was published with.
        published: when it was first published.
        finished: when it reached its final state.
        trace_id: 32 hex digits.
    """

    id: str
    task: str
    state: State
    value: Any
    error: str | None
    attempts: tuple[ShownAttempt, ...]
    run: int
    runs: tuple[ShownRun, ...]
    key: str | None
    priority: str
    published: float | None
    finished: float | None
    trace_id: str | None

    def as_json(self) -> dict[str, Any]:
        """The task as `result --json` shows it."""
        return {
            **asdict(self),
            "attempts": [asdict(one) for one in self.attempts],
            "runs": [asdict(one) for one in self.runs],
        }

    def lines(self) -> Iterator[str]:
        """The task for people."""
        told = {
            "id": self.id,
            "task": self.task,
            "state": self.state,
            "value": None if self.value is None else repr(self.value),
            "error": self.error,
            "key": self.key,
            "priority": self.priority,
            "published": _moment(self.published),
            "finished": _moment(self.finished),
            "trace": self.trace_id,
        }
        yield from (f"{name:<10} {value}" for name, value in told.items() if value)
        if len(self.runs) > 1:
            yield from (_run_line(one) for one in self.runs)
        for one in self.attempts:
            took = ""
            if one.started is not None and one.finished is not None:
                took = f" in {one.finished - one.started:.3f} s"
            error = f": {one.error}" if one.error else ""
            yield f"attempt {one.number:<2} {one.state}{took} on {one.worker}{error}"


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What came of asking for a task's end.

    Args:
        id: the task's id.
        requested: whether a request was written; False for a task that has ended.
        state: where the task was.
    """

    id: str
    requested: bool
    state: State

    def as_json(self) -> dict[str, Any]:
        """It as `cancel --json` shows it."""
        return asdict(self)


def cancel(app: "App", task_id: str, *, reason: str = "", who: str = "") -> Cancellation:
    """Asks for a task's end, unless it has ended; back when the request is durable.

    Args:
        app: the app.
        task_id: its id.
        reason: why, for whoever reads the request.
        who: who asks, for the audit log; whoever runs this process, unless given.

    Raises:
        BrokerError: Kafka did not take the request, or `init` was never run.
        StoreError: the result store did not answer.
    """
    before = app.handle(task_id).state()
    if before.final:
        return Cancellation(task_id, requested=False, state=before)
    then = app.handle(task_id).cancel(reason)
    if not then.final:
        audit.record(app, "cancel", task_id, reason=reason, who=who)
    # The handle has not looked whether it runs; the state has.
    return Cancellation(task_id, requested=not then.final, state=then if then.final else before)


def show(app: "App", task_id: str, *, wait: float = 0.0) -> ShownTask:
    """The task of that id.

    Args:
        app: the app.
        task_id: its id.
        wait: seconds to wait for a final state at most.

    Raises:
        StoreError: the result store did not answer.
        ConfigError: none is configured.
        MissingExtra: its driver is not installed.
    """
    store = store_of(app, "no task can be looked up")
    if wait > 0:
        _wait(app, task_id, wait)
    rows = store.read(task_id)
    row = current(rows)
    state = row.state if row is not None and row.state.final else app.handle(task_id).state()
    return shown(task_id, rows, state, value=_value(app, row))


def shown(task_id: str, rows: Sequence[Row], state: State, *, value: Any = None) -> ShownTask:
    """A task from its rows; pure.

    Args:
        task_id: its id.
        rows: all of its rows, lowest (run, attempt) first.
        state: where it is.
        value: its result, decoded.
    """
    row = current(rows)
    if row is None:
        return ShownTask(task_id, "", state, None, None, (), 0, (), None, "", None, None, None)
    published = next((one.published for one in rows if one.published is not None), None)
    return ShownTask(
        id=task_id,
        task=row.task,
        state=state,
        value=value,
        error=_error(row),
        # A redrive's row before its first attempt has the number 0, and is none.
        attempts=tuple(_attempt(one) for one in rows if one.run == row.run and one.attempt > 0),
        run=row.run,
        runs=tuple(_runs(rows, state)),
        key=row.key,
        priority=row.priority,
        published=published,
        finished=row.finished if row.state.final else None,
        trace_id=row.trace_id,
    )


def _wait(app: "App", task_id: str, seconds: float) -> None:
    # The rows tell how it ended, and more.
    with suppress(TaskFailed, TaskCancelled, TaskExpired, ResultTimeout):
        app.handle(task_id).result(seconds)


def _value(app: "App", row: Row | None) -> Any:
    if row is None or row.value is None:
        return None
    from taskstream.admin.payloads import Payloads  # noqa: PLC0415 - loads the Avro library

    return Payloads(app).decode(row.value)["value"]


def _attempt(row: Row) -> ShownAttempt:
    return ShownAttempt(row.attempt, row.state, row.worker, row.started, row.finished, _error(row))


def _runs(rows: Sequence[Row], state: State) -> Iterator[ShownRun]:
    """The runs that have left a row, the first one first; of the last one the state is `state`."""
    last = max(row.run for row in rows)
    for run, some in groupby(rows, key=lambda row: row.run):
        *_, latest = found = list(some)
        asked = found[0] if found[0].attempt == 0 else None
        yield ShownRun(
            run=run,
            state=state if run == last else latest.state,
            attempts=sum(row.attempt > 0 for row in found),
            error=_error(latest),
            who=None if asked is None else asked.worker,
            why=None if asked is None else asked.error,
        )


def _error(row: Row) -> str | None:
    if row.state is State.WAITING:
        return None  # what it says is why somebody asked for the run
    if row.error_type is None:
        return row.error
    return f"{row.error_type}: {row.error}" if row.error else row.error_type


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)


def _run_line(one: ShownRun) -> str:
    asked = f", asked for by {one.who}" if one.who else ""
    why = f" ({one.why})" if one.why else ""
    error = f": {one.error}" if one.error else ""
    attempts = "1 attempt" if one.attempts == 1 else f"{one.attempts} attempts"
    after = f" after {attempts}" if one.attempts else ""
    return f"run {one.run:<6} {one.state}{after}{asked}{why}{error}"
