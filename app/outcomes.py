"""How a handle learns where its task is and how it ended.

The worker sends the final state to the partition that the publisher named, so `result()` waits for
a message and polls nothing. The result store is the second way: read once at the start, because
the message may have gone before anybody listened, and again every few seconds, because it may be
lost or meant for another process. Without a store the replies are read from the time of the
publish on.

Pure steps (see `app.steps`): what may block is a `Call` or a `Wait`.
"""

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from taskstream.app.connections import Connections, Lifeline
from taskstream.app.steps import Call, Steps, Wait
from taskstream.app.task import decode_stored
from taskstream.core.clock import Clock
from taskstream.core.control import CANCEL, run_of
from taskstream.core.errors import (
    BrokerError,
    ConfigError,
    MissingExtra,
    PublishError,
    ResultGone,
    ResultTimeout,
    StoreUnavailable,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskstreamError,
    Undecodable,
)
from taskstream.core.ids import is_uuid7, time_of
from taskstream.core.queue_orders import PURGED
from taskstream.core.states import State
from taskstream.results.row import Row, current
from taskstream.schemas.framing import parse

if TYPE_CHECKING:
    from taskstream.app.handle import Handle
    from taskstream.results.store import ResultStore

R = TypeVar("R")

REREAD = 3.0
"""Seconds between two looks into the store while a reply is waited for."""

FIRST_REREAD = 0.1
"""The same for a task of another process, which has the reply: doubled each time, up to `REREAD`."""

HEARTBEAT_COUNTS = 60.0
"""Seconds for which what a worker said of itself is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task ended.

    Args:
        state: a final state.
        attempts: how many attempts were made.
        value: the result, framed Avro; None where there is none.
        error_type: class name of the error, or our reason.
        error: its text.
        traceback: its traceback as text.
    """

    state: State
    attempts: int
    value: bytes | None
    error_type: str | None
    error: str | None
    traceback: str | None


class Outcomes:
    """Answers the questions of an app's handles.

    Args:
        lifeline: gives the clients of this process.
        clock: the time.
    """

    def __init__(self, lifeline: Lifeline, clock: Clock) -> None:
        self._lifeline = lifeline
        self._clock = clock

    def result(self, handle: "Handle[R]", timeout: float | None) -> Steps[R]:
        """Waits for the final state and gives the result; errors as `Handle.result` tells."""
        deadline = math.inf if timeout is None else self._clock.monotonic() + timeout
        yield from self._acknowledgement(handle, deadline)
        connections: Connections = yield Call(self._lifeline.connections)
        store: ResultStore | None = yield Call(lambda: _store_for(handle, connections))
        outcome = yield from self._outcome(handle, connections, store, deadline)
        if outcome is None:
            state = yield from self._last_known(handle, connections, store)
            raise ResultTimeout(handle.id, timeout or 0.0, state)
        value: R = yield Call(lambda: _value(outcome, handle, connections))
        return value

    def state(self, handle: "Handle[Any]") -> Steps[State]:
        """Where the task is now; errors as `Handle.state` tells."""
        connections: Connections = yield Call(self._lifeline.connections)
        store: ResultStore | None = yield Call(lambda: connections.results)
        if store is None:
            raise ConfigError(
                "no result store is configured, so no state can be read: set cassandra_hosts "
                "(TASKSTREAM_CASSANDRA_HOSTS)"
            )
        rows: list[Row] = yield Call(lambda: store.read(handle.id))
        row = current(rows)
        if row is not None and row.state.final:
            return row.state
        seen = (row.run, row.attempt) if row is not None else (-1, 0)
        if (yield Call(lambda: self._is_running(handle.id, seen, connections))):
            return State.RUNNING
        return row.state if row is not None else self._published_state(handle)

    def cancel(self, handle: "Handle[Any]", reason: str) -> Steps[State]:
        """Asks for the task's end, unless it has ended; errors as `Handle.cancel` tells."""
        yield from self._acknowledgement(handle, math.inf)
        connections: Connections = yield Call(self._lifeline.connections)
        store: ResultStore | None = yield Call(lambda: _store_if_any(connections))
        row: Row | None = None
        if store is not None:
            row = current((yield Call(lambda: store.read(handle.id))))
        if row is not None and row.state.final:
            return row.state
        target = run_of(handle.id, row.run if row is not None else 0)

        def give() -> None:
            orders = connections.orders
            orders.give([orders.order(CANCEL, target, reason=reason)])

        yield Call(give)
        return row.state if row is not None else self._published_state(handle)

    def _acknowledgement(self, handle: "Handle[Any]", deadline: float) -> Steps[None]:
        """A task that Kafka didn't take has no result to wait for: raises why."""
        if handle.is_own:
            left = deadline - self._clock.monotonic()
            yield Wait(handle.delivery.future, None if math.isinf(left) else left)

    def _outcome(
        self,
        handle: "Handle[Any]",
        connections: Connections,
        store: "ResultStore | None",
        deadline: float,
    ) -> Steps[Outcome | None]:
        """The final state, or None when time is up."""
        since = handle.published if store is None else None
        pause = REREAD if handle.is_own else FIRST_REREAD
        while True:
            # Listening first, then the store, then the wait: what comes in between is not missed.
            waiting = (yield Call(lambda: connections.replies)).expect(handle.id, since)
            try:
                left = max(0.0, deadline - self._clock.monotonic())
                yield from _listening(waiting.listening, min(REREAD, left), store)
                row = yield from self._row(handle, connections, store)
                if row is not None and row.state.final:
                    return _outcome_of_row(row)
                left = max(0.0, deadline - self._clock.monotonic())
                reply: dict[str, Any] | None = yield Wait(waiting.reply, min(pause, left))
            finally:
                waiting.reply.cancel()
            if reply is not None:
                if row is None or reply["run"] >= row.run:
                    return _outcome_of_reply(reply)
                # After a redrive the reply of the run before is still about, and would come at once
                # again: so this time, wait for nobody.
                yield Wait(Future(), min(pause, left))
            if not left:
                return None
            pause = min(REREAD, 2 * pause)

    def _row(
        self, handle: "Handle[Any]", connections: Connections, store: "ResultStore | None"
    ) -> Steps[Row | None]:
        if store is None:
            return None
        try:
            rows: list[Row] = yield Call(lambda: store.read(handle.id))
        except StoreUnavailable:
            return None  # asked again in a few seconds, and the reply may come meanwhile
        if not rows and is_uuid7(handle.id):
            age = self._clock.now() - time_of(handle.id) - (handle.delay or 0.0)
            if age > connections.settings.result_ttl:
                raise ResultGone(
                    f"task {handle.id} is {age:.0f} s old, and results are kept for "
                    f"{connections.settings.result_ttl:.0f} s (result_ttl)"
                )
        return current(rows)

    def _last_known(
        self, handle: "Handle[Any]", connections: Connections, store: "ResultStore | None"
    ) -> Steps[State]:
        """The state for a time-out's message, from whatever answers."""
        try:
            if store is not None:
                return (yield from self.state(handle))
            if (yield Call(lambda: self._is_running(handle.id, (-1, 0), connections))):
                return State.RUNNING
        except (StoreUnavailable, BrokerError):
            pass
        return self._published_state(handle)

    def _published_state(self, handle: "Handle[Any]") -> State:
        """What this process knows of a task that has left no other trace yet."""
        if not handle.is_own or not handle.delivery.done():
            return State.UNKNOWN
        try:
            handle.delivery.wait()
        except PublishError:
            return State.UNKNOWN
        is_due = handle.due is None or handle.due <= self._clock.now()
        return State.WAITING if is_due else State.DELAYED

    def _is_running(self, task_id: str, seen: tuple[int, int], connections: Connections) -> bool:
        """Whether a worker says that it runs a later attempt of the task than was seen; may block."""
        from taskstream.broker.tail import read_to_end  # noqa: PLC0415 - loads the Kafka client

        heartbeats = {
            record.key: record.value
            for record in read_to_end(connections.settings, connections.names.workers)
            if record.timestamp > self._clock.now() - HEARTBEAT_COUNTS
        }
        return any(
            task["task_id"] == task_id and (task["run"], task["attempt"]) > seen
            for value in heartbeats.values()
            for task in _running_tasks(value, connections)
        )


def _listening(
    listening: "Future[None]", seconds: float, store: "ResultStore | None"
) -> Steps[None]:
    try:
        yield Wait(listening, seconds)
    except TaskstreamError:
        if store is None:
            raise
        # The store tells as well, a few seconds later.


def _store_for(handle: "Handle[Any]", connections: Connections) -> "ResultStore | None":
    """The store to wait with; None where replies alone must do. May block."""
    try:
        store = connections.results
    except MissingExtra:
        if not handle.is_own:
            raise  # nobody replies to this process: the store is the only way
        return None
    if store is None and not handle.is_own:
        raise ConfigError(
            f"task {handle.id} was not published here, and no result store is configured to read its "
            "result from: set cassandra_hosts (TASKSTREAM_CASSANDRA_HOSTS)"
        )
    return store


def _store_if_any(connections: Connections) -> "ResultStore | None":
    """The store, where this process has one and its driver. May block."""
    try:
        return connections.results
    except MissingExtra:
        return None


def _running_tasks(heartbeat: bytes | None, connections: Connections) -> list[dict[str, Any]]:
    if heartbeat is None:
        return []  # the worker has said goodbye
    try:
        tasks: list[dict[str, Any]] = connections.records.decode(heartbeat)[1]["running"]
    except Undecodable:
        return []  # a worker of another version
    return tasks


def _value(outcome: Outcome, handle: "Handle[R]", connections: Connections) -> R:
    """What `result()` gives or raises for a final state; may block on an unknown schema."""
    match outcome.state:
        case State.SUCCEEDED:
            return _decoded(outcome.value, handle, connections)
        case State.CANCELLED:
            why = f": {outcome.error}" if outcome.error_type == PURGED and outcome.error else ""
            raise TaskCancelled(f"task {handle.id} was cancelled{why}")
        case State.EXPIRED:
            raise TaskExpired(f"task {handle.id} was too old when a worker reached it")
        case _:
            raise TaskFailed(
                outcome.error_type or "Unknown",
                outcome.error or "",
                outcome.traceback or "",
                outcome.attempts,
            )


def _decoded(value: bytes | None, handle: "Handle[R]", connections: Connections) -> R:
    if value is None:
        return None  # type: ignore[return-value] # what a task without a result returns
    frame = parse(value)
    writer = connections.schemas.get(frame.reference)
    if handle.target is None:
        return decode_stored(frame.body, writer)  # type: ignore[no-any-return]
    return handle.target.decode_result(frame.body, writer)


def _outcome_of_row(row: Row) -> Outcome:
    return Outcome(
        state=row.state,
        attempts=row.attempt,
        value=row.value,
        error_type=row.error_type,
        error=row.error,
        traceback=row.traceback,
    )


def _outcome_of_reply(reply: dict[str, Any]) -> Outcome:
    return Outcome(
        state=State(reply["state"]),
        attempts=reply["attempt"],
        value=reply["value"] or None,
        error_type=reply["error_type"] or None,
        error=reply["error"] or None,
        traceback=reply["traceback"] or None,
    )
