"""What a child does with the tasks it is given: prepare, run, judge, record, report.

The order is the promise: a verdict is reported to the parent only after its row is in the store, and
only the parent's acknowledgement chain after that may finish the offset.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from taskstream.app.app import App
from taskstream.app.current import Context
from taskstream.consumer.begun import Begun
from taskstream.consumer.child import attempt as steps
from taskstream.consumer.child import obituaries
from taskstream.consumer.child.answers import replies
from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.child.figures import Figures
from taskstream.consumer.child.history import events
from taskstream.consumer.child.line import Line
from taskstream.consumer.child.link import Link
from taskstream.consumer.child.obituaries import Obituaries
from taskstream.consumer.child.runners import AsyncRunner, MainRunner, Running, ThreadRunner
from taskstream.consumer.child.writers import Writers
from taskstream.consumer.pipe import (
    BLAMELESS,
    Given,
    Judged,
    Verdicts,
    pack_dropped,
    pack_quarantined,
    pack_retiring,
    pack_verdicts,
    succeeded,
)
from taskstream.consumer.suspicion import Suspicion
from taskstream.consumer.verdict import SUCCEEDED, Again, Dead, text_of
from taskstream.core.clock import Clock
from taskstream.core.envelope import Header
from taskstream.core.errors import BrokerError, SchemaConflict, SchemaError, StoreError
from taskstream.core.faultpoints import AFTER_RUN, AFTER_WRITE, fault_point
from taskstream.core.states import State
from taskstream.observability import logs, tracing
from taskstream.observability.metrics import Metrics
from taskstream.results.batching import Batcher
from taskstream.results.row import Row
from taskstream.results.store import ResultStore
from taskstream.schemas.records import Records

UNREADABLE_PAUSE = 1.0
"""Seconds before a store that can't be read is asked again; nothing is judged meanwhile."""

BLOCKED_AFTER = 5.0
"""Seconds without a turn after which an event loop counts as blocked by a task past its limit."""

_log = logs.logger(__name__)


class Service:
    """Carries tasks through their attempts.

    Args:
        app: the app, its tasks loaded.
        store: where rows go.
        link: the parent.
        worker: the worker's name.
        concurrency: how many tasks run at once.
        reserved: how many of these only urgent ones may be.
        solo: whether tasks run in the main thread, one at a time.
        begun: where the parent sees which tasks have begun.
        metrics: where attempts and batches of rows are counted.
        clock: the time.
    """

    def __init__(
        self,
        app: App,
        store: ResultStore,
        link: Link,
        *,
        worker: str,
        concurrency: int,
        reserved: int,
        solo: bool,
        begun: Begun,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._app = app
        self._store = store
        self._link = link
        self._worker = worker
        self._solo = solo
        self._begun = begun
        self._clock = clock
        self._debugging = _log.debugging  # once: each look costs, and a child's level stays
        self._grace = app.settings.unknown_grace
        self._tells = app.settings.events
        self._system = "cassandra" if app.settings.cassandra_hosts else "sqlite"
        self._figures = Figures(metrics)
        self._writers = Writers(app.schema_store())
        self._records = Records()
        self._prefixes: dict[str, bytes] = {}
        self._resources: Any = None
        self._idle = threading.Condition()
        self._attempts: dict[int, Attempt] = {}
        self._is_stuck = False
        self._store_is_unread = False
        self._struck = threading.Semaphore(0)
        self._obituaries = Obituaries(self._report)
        self._batcher: Batcher[tuple[Attempt, Row]] = Batcher(
            store,
            stored=self._stored,
            refused=self._refused,
            metrics=metrics,
            system=self._system,
            clock=clock,
        )
        self._running = Running(self._ended, self._stuck, begun, clock)
        self._async = AsyncRunner(app, self._running, Line(concurrency, reserved))
        self._threads = ThreadRunner(app, self._running, Line(concurrency, reserved))
        self.main = MainRunner(app, self._running)

    def open(self) -> None:
        """Enters the app's lifespan; what it raises is the user's error."""
        self._resources = self._async.open()

    def take(self, tasks: list[Given]) -> None:
        """Prepares tasks and hands them to their runners, or straight to the record."""
        attempts = [steps.open_(given) for given in tasks]
        with self._idle:
            self._attempts.update({one.given.number: one for one in attempts})
        self._recall(attempts)
        for attempt in attempts:
            steps.withdraw(attempt)
        attempts = self._weigh(attempts)
        submitted: dict[
            Callable[[list[tuple[Attempt, Context]]], None], list[tuple[Attempt, Context]]
        ] = {}
        maker = tracing.current_maker()
        for attempt in attempts:
            if attempt.recalled:
                continue
            self._begun.prepare(attempt.given.number)
            self._prepare(attempt, maker)
            if attempt.verdict is None:
                submitted.setdefault(self._runner(attempt), []).append(
                    (attempt, self._context(attempt))
                )
            elif self._running.claim(attempt):
                self._record(attempt)
        self._begun.prepare(0)
        for submit, ready in submitted.items():
            submit(ready)

    def cancel(self, numbers: Collection[int], *, record: bool) -> None:
        """Ends attempts: a coroutine is cancelled, a process's function interrupted, a thread told.

        Never blocks, and is harmless to repeat.

        Args:
            numbers: as in `Given`; those that are not held here are passed over.
            record: whether their end is recorded. False where they are somebody else's by now: then
                what they do counts for nothing.
        """
        with self._idle:
            ours = [self._attempts[number] for number in numbers if number in self._attempts]
        for attempt in ours:
            told = attempt.cancelled or attempt.abandoned
            attempt.cancelled = attempt.cancelled or record
            attempt.abandoned = attempt.abandoned or not record
            if told:  # a second word would break into what it does on the first
                continue
            attempt.stop.set()
            runs = None if attempt.task is None else attempt.task.runs
            if runs == "async":
                self._async.cancel(attempt)
            elif runs == "process":
                self.main.cancel()

    def recall(self, numbers: Collection[int]) -> None:
        """Gives attempts back that have not begun, unrecorded; what runs goes on. Never blocks.

        Suspects stay: the row of their strike may be under way, and they are fed one by one anyhow.

        Args:
            numbers: as in `Given`; those that are not held here are passed over.
        """
        with self._idle:
            ours = [self._attempts[number] for number in numbers if number in self._attempts]
        recalled = self._running.recall(
            attempt for attempt in ours if attempt.given.suspicion is Suspicion.NONE
        )
        if recalled:
            # Forgotten here first: the parent may give one of them to this very child again.
            self._let_go(recalled)
            self._link.send(pack_dropped([attempt.given.number for attempt in recalled]))

    def abandon(self) -> None:
        """Ends everything here, unrecorded."""
        with self._idle:
            numbers = list(self._attempts)
        self.cancel(numbers, record=False)

    @property
    def rows_pending(self) -> int:
        """How many rows wait for the store."""
        return self._batcher.pending

    @property
    def store_healthy(self) -> bool:
        """Whether the store answers, to writes and to reads."""
        return self._batcher.healthy and not self._store_is_unread

    def loop_turns(self) -> int:
        """How often the event loop has come round when asked; asks again. For one thread."""
        return self._async.turned()

    def tell_what_blocks(self, seconds: float) -> None:
        """Logs which task has held up the event loop for so long, and where it is."""
        number, stack = self._async.running_now()
        attempt = self._attempts.get(number) if number is not None else None
        _log.stacks(
            "a task holds up the event loop, and with it all other coroutines of its process",
            stack,
            **(attempt.told if attempt else {}),
            seconds=round(seconds),
            pid=os.getpid(),
            advice="let it await what blocks, make it a plain function, or give it a timeout",
        )

    def drain(self) -> None:
        """Waits until nothing is held any more, then leaves the lifespan."""
        with self._idle:
            self._idle.wait_for(lambda: not self._attempts)
        self._batcher.close(timeout=10.0)
        self._async.close()

    # Prepare

    def _recall(self, attempts: list[Attempt]) -> None:
        asked = [
            attempt for attempt in attempts if attempt.given.lookup and attempt.verdict is None
        ]
        if not asked:
            return
        ids = list({attempt.envelope.id for attempt in asked})
        found = self._until_readable(partial(self._store.read_many, ids), StoreError)
        for attempt in asked:
            task = self._app.find(attempt.envelope.task)
            strict = task is not None and task.strict_order
            steps.recall(attempt, found[attempt.envelope.id], strict=strict, now=self._clock.now())

    def _weigh(self, attempts: list[Attempt]) -> list[Attempt]:
        """Applies the rules on crashes; returns those that stay here."""
        struck, quarantined = [], set()
        for attempt in attempts:
            if not attempt.given.lookup or attempt.verdict is not None:
                continue
            ruling = steps.weigh(attempt)
            if ruling.alone and not ruling.dead and not self._solo:
                if self._running.claim(attempt):
                    quarantined.add(attempt)
            elif ruling.record:
                struck.append(attempt)
        if quarantined:
            self._link.send(pack_quarantined([attempt.given.number for attempt in quarantined]))
            self._let_go(quarantined)
        if struck:
            self._strike(struck)
        return [attempt for attempt in attempts if attempt not in quarantined]

    def _strike(self, attempts: list[Attempt]) -> None:
        """Waits until the strikes of these suspects are in the store: whatever they do next, they count."""
        rows = [steps.row(attempt, worker=self._worker) for attempt in attempts]
        self._batcher.add(
            [(row, (attempt, row)) for attempt, row in zip(attempts, rows, strict=True)]
        )
        for _ in attempts:
            self._struck.acquire()

    def _prepare(self, attempt: Attempt, maker: tracing.SpanMaker | None) -> None:
        now = self._clock.now()
        task = self._app.find(attempt.envelope.task)
        steps.resolve(attempt, task, now=now, grace=self._grace)
        steps.check(attempt, now=now)
        try:
            steps.decode(attempt, self._writers, now=now, grace=self._grace)
        except (BrokerError, SchemaError):
            decode = partial(steps.decode, attempt, self._writers, now=now, grace=self._grace)
            self._until_readable(decode, BrokerError, SchemaError)
        if attempt.found is None:
            attempt.span = tracing.process_span(
                maker,
                topic=attempt.given.record.topic,
                headers=attempt.envelope.trace,
                describe=partial(self._described, attempt),
            )
        if attempt.verdict is None and task is not None and task.name not in self._prefixes:
            with suppress(SchemaConflict):  # it will say so when it has something to encode
                self._prefix(attempt)

    def _described(self, attempt: Attempt) -> tracing.Attributes:
        """What the attempt's span says, once it is known that somebody records it."""
        envelope, record = attempt.envelope, attempt.given.record
        began = attempt.started or attempt.finished or self._clock.now()
        return tracing.attempt_attributes(
            task=envelope.task,
            task_id=envelope.id,
            run=envelope.run,
            attempt=envelope.attempt,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            group=attempt.given.group,
            key=None if record.key is None else record.key.decode(errors="replace"),
            worker=self._worker,
            waited=began - envelope.ready_from(record.timestamp),
        )

    def _until_readable(self, read: Callable[[], Any], *kinds: type[Exception]) -> Any:
        """What `read` returns, however long its store is away: without it nothing can be judged."""
        while True:
            try:
                found = read()
            except SchemaConflict:
                raise  # asking again would not help
            except kinds as error:
                self._store_is_unread = isinstance(error, StoreError)
                _log.warning(
                    "a store can't be read; tasks wait", error=str(error), advice=logs.LOOK_AT_STORE
                )
                time.sleep(UNREADABLE_PAUSE)
            else:
                self._store_is_unread = False
                return found

    def _runner(self, attempt: Attempt) -> Callable[[list[tuple[Attempt, Context]]], None]:
        assert attempt.task is not None
        if attempt.task.runs == "async":
            return self._async.submit
        return self.main.submit if self._solo else self._threads.submit

    def _context(self, attempt: Attempt) -> Context:
        envelope, task, given = attempt.envelope, attempt.task, attempt.given
        assert task is not None
        return Context(
            id=envelope.id,
            task=task.name,
            run=envelope.run,
            attempt=envelope.counted_attempt,
            key=steps.key_of(attempt),
            fence=given.fence,
            root=envelope.root or envelope.id,
            deadline=None if task.timeout is None else self._clock.now() + task.timeout,
            resources=self._resources,
            stop=attempt.stop,
            report=_unwatched,
        )

    # Judge and record

    def _ended(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        fault_point(AFTER_RUN)
        assert attempt.task is not None
        try:
            prefix = self._prefix(attempt) if error is None else b""
            steps.judge_outcome(attempt, value, error, prefix, self._clock.now())
        except Exception as failure:  # noqa: BLE001 - an outcome that can't be judged is one, too
            attempt.value, attempt.error = None, failure
            attempt.verdict = Dead(type(failure).__name__, text_of(failure))
        if self._debugging:
            _log.debug("an attempt has ended", **attempt.told, state=_state_of(attempt))
        self._record(attempt)

    def _prefix(self, attempt: Attempt) -> bytes:
        """The frame of a task's results; its schema is stored before the first of them.

        Asked for before the task runs, for the event loop must not wait for the schema store.
        """
        assert attempt.task is not None
        name = attempt.task.name
        prefix = self._prefixes.get(name)
        if prefix is None:
            schema = attempt.task.schema.result
            put = partial(self._app.schema_store().put, schema)
            prefix = self._prefixes[name] = self._until_readable(put, BrokerError, SchemaError)
        return prefix

    def _record(self, attempt: Attempt) -> None:
        if attempt.abandoned:
            self._drop(attempt)
            return
        if attempt.found is not None:
            self._conclude([(attempt, attempt.found)])
            return
        attempt.finished = attempt.finished or self._clock.now()
        row = self._close_span(attempt)
        self._batcher.add([(row, (attempt, row))])

    def _close_span(self, attempt: Attempt) -> Row:
        """Ends the attempt's span, begins that of its row, and gives the row."""
        assert attempt.span is not None
        failure = steps.failure(attempt)
        attempt.span.decide(failed=failure is not None)
        row = steps.row(attempt, worker=self._worker)
        attempt.write_span = tracing.store_span(
            attempt.span, keyspace=self._app.settings.keyspace, table="results", system=self._system
        )
        attempt.span.finish(row.state, failure)
        return row

    def _stored(self, stored: list[tuple[Attempt, Row]]) -> None:
        fault_point(AFTER_WRITE)
        judged = [one for one in stored if one[1].state is not State.RUNNING]
        if len(judged) < len(stored):
            self._struck.release(len(stored) - len(judged))
        for attempt, _ in judged:
            assert attempt.write_span is not None
            attempt.write_span.finish(len(stored))
        if self._debugging:
            for attempt, row in judged:
                _log.debug("a result is stored", **attempt.told, state=str(row.state))
        if judged:
            self._conclude(judged)

    def _conclude(self, recorded: list[tuple[Attempt, Row]]) -> None:
        """Reports what is recorded; a death that another task is to hear of, after its publish."""
        told = [one for one in recorded if obituaries.wanted(one[0])]
        for attempt, row in told:
            self._obituaries.publish(attempt, row)
        if len(told) < len(recorded):
            self._report(
                [one for one in recorded if not obituaries.wanted(one[0])] if told else recorded
            )

    def _refused(self, ticket: tuple[Attempt, Row], error: StoreError) -> None:
        """The store does not take this row: the task dies of it, with a row that it can take."""
        attempt, row = ticket
        if row.state is State.RUNNING:
            self._struck.release()  # what refuses this row will refuse the next one, and end the task
            return
        attempt.refusals += 1
        if attempt.refusals > 1:
            # Running it again at every restart would be worse than a dead letter without its row.
            _log.error(
                "the store refuses even the row of a failure; only the dead letter tells of the task",
                task=attempt.envelope.task,
                task_id=attempt.envelope.id,
                error=str(error),
                advice="look the dead letter up: `taskstream dead show APP ID`; and look at the "
                "tables: `taskstream doctor APP`",
            )
            self._conclude([ticket])
            return
        attempt.value, attempt.error = None, None
        attempt.verdict = Dead("ResultTooLarge", str(error)[:1000])
        assert attempt.write_span is not None
        attempt.write_span.finish(1, error)
        row = self._close_span(attempt)
        self._batcher.add([(row, (attempt, row))])

    def _report(self, recorded: list[tuple[Attempt, Row]]) -> None:
        try:
            judged = [_judged(attempt) for attempt, _ in recorded]
            told = replies(recorded, self._records)
            history = events([row for _, row in recorded], self._records) if self._tells else []
            seconds = self._write_seconds(recorded)
            self._link.send(pack_verdicts(Verdicts(judged, told, history, seconds)))
        except Exception:  # noqa: BLE001 - see below
            # In silence this child would be fed for ever. Its end is heard, and what it held is
            # looked up by another one.
            _log.exception("a child can't report; it ends", advice=logs.REPORT_IT)
            os._exit(1)
        self._figures.note(recorded)
        self._let_go([attempt for attempt, _ in recorded])

    def _drop(self, attempt: Attempt) -> None:
        """Gives an attempt back that has ended on the parent's order, unrecorded."""
        if attempt.span is not None:
            attempt.span.abandon()
        self._link.send(pack_dropped([attempt.given.number]))
        self._let_go([attempt])

    def _let_go(self, attempts: Iterable[Attempt]) -> None:
        with self._idle:
            for attempt in attempts:
                self._attempts.pop(attempt.given.number, None)
                self._begun.forget(attempt.given.number)
            self._idle.notify_all()
        self._leave_if_stuck()

    def _write_seconds(self, recorded: list[tuple[Attempt, Row]]) -> float:
        """How long the last of these waited for its row to be stored."""
        finished = recorded[-1][0].finished
        return 0.0 if finished is None else max(0.0, self._clock.now() - finished)

    def _stuck(self, attempt: Attempt) -> None:
        """An attempt goes on past its limit, and can't be stopped: this process is to be replaced."""
        assert attempt.task is not None
        in_loop = attempt.task.runs == "async"
        self._link.send(pack_retiring(serves=not (in_loop or self._solo)))
        if not self._solo:  # what was given us behind it still has to run
            (self._async if in_loop else self._threads).make_room(attempt)
            if in_loop:
                threading.Thread(
                    target=self._leave_if_blocked,
                    args=(attempt,),
                    name="taskstream-blocked",
                    daemon=True,
                ).start()
        self._is_stuck = True
        self._leave_if_stuck()

    def _leave_if_stuck(self) -> None:
        # A solo child's main thread is in the task, and nothing else is held: the process is the task.
        if self._solo and self._is_stuck and not self._attempts:
            os._exit(BLAMELESS)

    def _leave_if_blocked(self, attempt: Attempt) -> None:
        """Ends a process whose event loop a task holds up: the others on it would wait for ever."""
        # Its verdict first: without it this task would be run again as well, and block the next one.
        with self._idle:
            self._idle.wait_for(lambda: attempt.given.number not in self._attempts)
        if not self._async.turns(BLOCKED_AFTER):
            _log.error(
                "a task past its limit holds up the event loop; its process ends, the others run again",
                pid=os.getpid(),
                advice="let the task await what blocks, or make it a plain function",
            )
            os._exit(BLAMELESS)


def _state_of(attempt: Attempt) -> str:
    return "" if attempt.verdict is None else str(attempt.verdict.state)


def _judged(attempt: Attempt) -> Judged:
    envelope = attempt.envelope
    assert attempt.verdict is not None
    if attempt.verdict is SUCCEEDED and attempt.found is None:
        return succeeded(attempt.given.number)
    return Judged(
        attempt.given.number,
        attempt.verdict,
        _trace_onward(attempt),
        envelope.id,
        envelope.task,
        attempt.found is not None,
        envelope.attempt,
        envelope.uncounted,
    )


def _trace_onward(attempt: Attempt) -> tuple[Header, ...]:
    """The trace headers of what follows the attempt; most have nothing that follows."""
    if not isinstance(attempt.verdict, Again | Dead):
        return ()
    return attempt.envelope.trace if attempt.span is None else attempt.span.headers


def _unwatched(_fraction: float, _note: str) -> None:
    """Progress that nobody watches yet."""
