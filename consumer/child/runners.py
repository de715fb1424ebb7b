"""Where attempts run: on an event loop, in threads, or one at a time in the main thread.

A runner is given attempts and tells their outcome once, by `ended`: whoever takes an attempt out of
`Running` first, the runner or the watchdog at its time limit, has the word; the other is ignored.
"""

import asyncio
import contextlib
import contextvars
import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

from taskstream.app.app import App
from taskstream.app.current import Context, enter
from taskstream.app.hooks import Observed
from taskstream.consumer.begun import Begun
from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.child.line import Line
from taskstream.consumer.verdict import Cancelled, Timeout
from taskstream.core.clock import Clock
from taskstream.core.faultpoints import BEFORE_RUN, fault_point
from taskstream.observability import logs
from taskstream.observability.table import LOG_ATTEMPT, LOG_ID, LOG_RUN, LOG_TASK

Ended = Callable[[Attempt, Any, BaseException | None], None]
"""Takes an attempt with what it returned or raised; from any thread."""

_log = logs.logger(__name__)

WATCH_EVERY = 0.05
"""Seconds between looks at the time limits."""

LEAVE_WITHIN = 5.0
"""Seconds that the app's lifespan gets to end."""

STUBBORN = 1.0
"""Seconds that an attempt gets to end after it was cancelled or interrupted at its hard limit."""


class Running:
    """The attempts that run, and the watchdog over their limits.

    Args:
        ended: takes the outcome of those that pass their hard limit.
        stuck: called before that: this process should be replaced.
        begun: where those that have begun are noted for the parent.
        clock: the time.
    """

    def __init__(
        self, ended: Ended, stuck: Callable[[Attempt], None], begun: Begun, clock: Clock
    ) -> None:
        self._ended = ended
        self._stuck = stuck
        self._begun = begun
        self._clock = clock
        self._attempts: dict[int, Attempt] = {}
        self._claiming = threading.Lock()
        self._debugging = _log.debugging  # once: each look costs, and a child's level stays
        self._limited = threading.Event()
        self._watchdog = threading.Thread(
            target=self._watch, name="taskstream-watchdog", daemon=True
        )
        self._watchdog.start()

    def __len__(self) -> int:
        return len(self._attempts)

    def claim(self, attempt: Attempt) -> bool:
        """Notes that an attempt is about to begin, or is judged without; whether it is still ours to do so.

        What the parent has taken back may be with another child by now: not a word is to be said of it.
        """
        with self._claiming:
            attempt.claimed = not attempt.recalled
            return attempt.claimed

    def recall(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Lets the parent take back those of these attempts that have not begun; returns them."""
        recalled = []
        for attempt in attempts:
            with self._claiming:
                if not attempt.claimed and not attempt.recalled:
                    attempt.recalled = True
                    recalled.append(attempt)
        return recalled

    def begin(self, attempt: Attempt) -> None:
        """Notes that an attempt starts now.

        Raises:
            Cancelled: its end was ordered while it waited; to be told by `end`, like any outcome.
        """
        fault_point(BEFORE_RUN)
        assert attempt.task is not None
        self._attempts[attempt.given.number] = attempt
        if attempt.abandoned or attempt.cancelled:
            raise Cancelled
        self._begun.begin(attempt.given.number)
        attempt.started = self._clock.now()
        if self._debugging:
            _log.debug("an attempt starts", **attempt.told)
        if attempt.task.timeout is not None or attempt.task.soft_timeout is not None:
            self._limited.set()

    def end(self, attempt: Attempt, value: Any, error: BaseException | None) -> bool:
        """Tells an outcome; False where the attempt had been given up before."""
        if not self._take_out(attempt):
            return False
        self._ended(attempt, value, error)
        return True

    def _take_out(self, attempt: Attempt) -> bool:
        # This is what decides who has the word, and is one step under the interpreter's lock.
        return self._attempts.pop(attempt.given.number, None) is not None

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            self._limited.wait()
            # Cleared before the look: an attempt that begins after it sets it again.
            self._limited.clear()
            if any(_is_limited(attempt) for attempt in list(self._attempts.values())):
                self._limited.set()
            now = self._clock.now()
            for attempt in list(self._attempts.values()):
                self._enforce(attempt, now)
            pause.wait(WATCH_EVERY)

    def _enforce(self, attempt: Attempt, now: float) -> None:
        task, started = attempt.task, attempt.started
        if task is None or started is None:
            return
        if task.soft_timeout is not None and now >= started + task.soft_timeout:
            attempt.stop.set()
        if task.timeout is None or now < started + task.timeout:
            return
        attempt.stop.set()
        # A thread can't be stopped from outside; the other two are being stopped, and get a moment.
        patience = 0.0 if task.runs == "thread" else STUBBORN
        if now >= started + task.timeout + patience and self._take_out(attempt):
            # First: a verdict that overtook this would bring the next task here, behind a stuck one.
            self._stuck(attempt)
            self._ended(attempt, None, _timeout(task.timeout))


class AsyncRunner:
    """Runs coroutines on an event loop in a thread of its own; the app's lifespan lives there too.

    Args:
        app: for its lifespan and hooks.
        running: where attempts are noted.
        line: who of them is next, and how many run at once.
    """

    def __init__(self, app: App, running: Running, line: Line[tuple[Attempt, Context]]) -> None:
        self._app = app
        self._running = running
        self._line = line
        self._tasks: dict[int, asyncio.Task[None]] = {}
        # Those that have not come to their first step; to ask asyncio for the current one takes longer. Not by
        # number: one that was recalled may still stand here beside the attempt that has its number now.
        self._created: dict[Attempt, asyncio.Task[None]] = {}
        self._variables = contextvars.copy_context()
        self._loop = asyncio.new_event_loop()
        self._lifespan = AsyncExitStack()
        self._turns = 0
        self._asked = 0
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="taskstream-async", daemon=True
        )

    def open(self) -> Any:
        """Starts the loop and enters the app's lifespan; returns what it yields, None without one."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._enter(), self._loop).result()

    def close(self) -> None:
        """Leaves the lifespan; the loop ends with the process."""
        leaving = asyncio.run_coroutine_threadsafe(self._lifespan.aclose(), self._loop)
        with contextlib.suppress(TimeoutError):  # a task may hold up the loop for ever
            leaving.result(LEAVE_WITHIN)

    def submit(self, attempts: list[tuple[Attempt, Context]]) -> None:
        """Runs them as soon as there is room."""
        self._loop.call_soon_threadsafe(self._start, attempts)

    def cancel(self, attempt: Attempt) -> None:
        """Raises CancelledError in the task, if it has begun; from any thread."""
        self._loop.call_soon_threadsafe(self._cancel, attempt.given.number)

    def _cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    async def _enter(self) -> Any:
        resources = None
        for lifespan in self._app.lifespans:
            resources = await self._lifespan.enter_async_context(lifespan())
        return resources

    def _start(self, attempts: list[tuple[Attempt, Context]]) -> None:
        for attempt, context in attempts:
            self._line.push((attempt, context), attempt.given.turn)
        while (following := self._line.pop()) is not None:
            attempt, context = following
            # Not in the variables of whoever makes room here: that is the attempt before.
            self._created[attempt] = self._loop.create_task(
                self._run(attempt, context), context=self._variables.copy()
            )

    async def _run(self, attempt: Attempt, context: Context) -> None:
        task = self._created.pop(attempt)
        if not self._running.claim(attempt):
            self._make_room(attempt)
            return
        value: Any = None
        error: BaseException | None = None
        # Only now: a task that is cancelled before its first step would end without a word.
        self._tasks[attempt.given.number] = task
        try:
            self._running.begin(attempt)
            _surround(attempt, context)
            if self._app.arounds:
                with Observed(self._app.arounds, context):
                    value = await _called(attempt)
            else:
                value = await _called(attempt)
        # Whatever a task raises is its outcome. SystemExit too: let through, it would end the loop.
        except BaseException as raised:  # noqa: BLE001
            error = raised
        self._tasks.pop(attempt.given.number, None)
        if self._running.end(attempt, value, error):
            self._make_room(attempt)

    def make_room(self, attempt: Attempt) -> None:
        """Lets the next one begin in place of an attempt that was given up and goes on."""
        self._loop.call_soon_threadsafe(self._make_room, attempt)

    def turned(self) -> int:
        """How often the loop has come round; asks it to do so again. For one thread."""
        if self._asked == self._turns:
            self._asked += 1
            self._loop.call_soon_threadsafe(self._turn)
        return self._turns

    def running_now(self) -> tuple[int | None, str]:
        """The number of the attempt that the loop is in at this moment, and the loop's stack."""
        task = asyncio.current_task(self._loop)
        number = next((number for number, one in list(self._tasks.items()) if one is task), None)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - its only name
        return number, "".join(traceback.format_stack(frame)) if frame else ""

    def turns(self, within: float) -> bool:
        """Whether the loop comes to its next turn within so many seconds; waits for it."""
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(within)

    def _turn(self) -> None:
        self._turns += 1

    def _make_room(self, attempt: Attempt) -> None:
        self._line.free(attempt.given.turn)
        self._start([])


class ThreadRunner:
    """Runs functions in threads, started as they are needed.

    One thread is called at a time, and calls the next one if there is still work when it comes. So short
    functions stay with the few threads that are at it, where a crowd would fight for the interpreter,
    and as soon as one of them waits the next one is on its way.

    Args:
        app: for its hooks.
        running: where attempts are noted.
        line: who of them is next, and how many run at once.
    """

    def __init__(self, app: App, running: Running, line: Line[tuple[Attempt, Context]]) -> None:
        self._app = app
        self._running = running
        self._line = line
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._called = False
        """Whether a thread was called that has not come yet."""

    def submit(self, attempts: list[tuple[Attempt, Context]]) -> None:
        """Runs them as soon as a thread is free."""
        with self._changed:
            for attempt, context in attempts:
                self._line.push((attempt, context), attempt.given.turn)
            self._call()

    def make_room(self, _attempt: Attempt) -> None:
        """Lets the next one begin in place of an attempt that was given up and holds its thread."""
        with self._changed:
            self._line.slots += 1
            self._call()

    def _call(self) -> None:
        """Calls a thread if there is work for one more; for who holds the condition."""
        if self._called or not len(self._line):
            return
        if self._idle:
            self._called = True
            self._changed.notify()
        elif self._threads < self._line.slots:
            thread = threading.Thread(target=self._work, name="taskstream-task", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the machine has no more of them: those that there are come to it
                if not self._threads:
                    raise
            else:
                self._called = True
                self._threads += 1

    def _work(self) -> None:
        with self._changed:
            self._called = False
        last = None
        while True:
            last, context = self._next(last)
            run_here(self._app, self._running, last, context)

    def _next(self, last: Attempt | None) -> tuple[Attempt, Context]:
        """The next one to run here, once the last one has left its slot."""
        with self._changed:
            if last is not None:
                self._line.free(last.given.turn)
            while (found := self._line.pop()) is None:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
                self._called = False
            self._call()
            return found


class MainRunner:
    """Runs functions in the main thread, one at a time, where a signal can interrupt them.

    Args:
        app: for its hooks.
        running: where attempts are noted.
    """

    def __init__(self, app: App, running: Running) -> None:
        self._app = app
        self._running = running
        self._queue: SimpleQueue[tuple[Attempt, Context] | None] = SimpleQueue()
        self._interrupts = Interrupts()

    def submit(self, attempts: list[tuple[Attempt, Context]]) -> None:
        """Runs them one after the other."""
        for attempt in attempts:
            self._queue.put(attempt)

    def cancel(self) -> None:
        """Raises `Cancelled` in the function that runs, if its end was ordered; from any thread."""
        self._interrupts.look()

    def stop(self) -> None:
        """Ends `work` once what was submitted is done."""
        self._queue.put(None)

    def work(self) -> None:
        """Runs attempts until it is stopped; belongs to the main thread."""
        self._interrupts.install()
        while (submitted := self._queue.get()) is not None:
            run_here(self._app, self._running, *submitted, self._interrupts)


class Interrupts:
    """Raises errors in what the main thread runs, by SIGALRM: at its time limit, or when it is cancelled.

    Once for each attempt at most, and only inside the block: the handler runs between two steps of the
    main thread, so whether it may still raise is decided there, not by whoever sends.
    """

    def __init__(self) -> None:
        self._attempt: Attempt | None = None
        self._limit = 0.0
        self._late_at = math.inf
        self._installed = False

    def install(self) -> None:
        """Takes the signal, also from a task that took it; call it in the main thread."""
        signal.signal(signal.SIGALRM, self._interrupt)
        self._installed = True

    def look(self) -> None:
        """Makes the main thread look whether its attempt is to end; from any thread."""
        ident = threading.main_thread().ident
        if self._installed and ident is not None:
            signal.pthread_kill(ident, signal.SIGALRM)

    @contextmanager
    def within(self, attempt: Attempt) -> Iterator[None]:
        """Lets the block be interrupted for this attempt."""
        assert attempt.task is not None
        self.install()
        self._limit = attempt.task.soft_timeout or attempt.task.timeout or 0.0
        self._late_at = time.monotonic() + self._limit if self._limit else math.inf
        try:
            self._attempt = attempt
            signal.setitimer(signal.ITIMER_REAL, self._limit)
            if attempt.cancelled or attempt.abandoned:
                self.look()  # the word came before there was anything to interrupt
            yield
        finally:
            self._attempt = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.cancelled or attempt.abandoned:
            self._attempt = None
            raise Cancelled
        if time.monotonic() >= self._late_at:
            self._attempt = None
            raise _timeout(self._limit)


def run_here(
    app: App,
    running: Running,
    attempt: Attempt,
    context: Context,
    interrupts: Interrupts | None = None,
) -> None:
    """Runs a function in this thread and tells its outcome.

    Args:
        app: for its hooks.
        running: where the attempt is noted.
        attempt: what to run.
        context: what `current()` gives it.
        interrupts: interrupts it where it must end; in the main thread only.
    """
    assert attempt.task is not None
    if not running.claim(attempt):
        return
    value: Any = None
    error: BaseException | None = None
    try:
        running.begin(attempt)
        block = contextlib.nullcontext() if interrupts is None else interrupts.within(attempt)
        # In context variables of its own: whatever it sets there, the thread's next attempt won't see.
        value = contextvars.copy_context().run(_call, app, attempt, context, block)
    except BaseException as raised:  # noqa: BLE001 - whatever a task raises is its outcome
        error = raised
    running.end(attempt, value, error)


def _call(app: App, attempt: Attempt, context: Context, block: AbstractContextManager[None]) -> Any:
    assert attempt.task is not None
    _surround(attempt, context)
    with Observed(app.arounds, context), block:
        return attempt.task.function(**attempt.arguments)


def _surround(attempt: Attempt, context: Context) -> None:
    """What a task finds around itself: its context, its span, its log fields.

    Nothing is put back afterwards: each attempt has context variables of its own.
    """
    assert attempt.span is not None
    enter(context)
    attempt.span.enter()
    logs.bound.set(
        {
            LOG_TASK.name: context.task, LOG_ID.name: context.id, LOG_RUN.name: context.run,
            LOG_ATTEMPT.name: context.attempt,
        }
    )  # fmt: skip


def _called(attempt: Attempt) -> Awaitable[Any]:
    assert attempt.task is not None
    limit = attempt.task.timeout
    called: Awaitable[Any] = attempt.task.function(**attempt.arguments)
    return called if limit is None else _called_within(called, limit)


async def _called_within(called: Awaitable[Any], limit: float) -> Any:
    try:
        async with asyncio.timeout(limit) as scope:
            return await called
    except TimeoutError as error:
        if scope.expired():
            raise _timeout(limit) from error
        raise


def _is_limited(attempt: Attempt) -> bool:
    assert attempt.task is not None
    return attempt.task.timeout is not None or attempt.task.soft_timeout is not None


def _timeout(limit: float) -> Timeout:
    return Timeout(f"the attempt passed its limit of {limit:g} s")
