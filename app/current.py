"""What a running task can ask about itself: `current()`.

A context variable, not a parameter: a parameter would spoil the task's type, its schema and its
tests. The worker's child sets it around each attempt; `publish` reads it to say who published.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Lock
from typing import Any, NamedTuple

from taskstream.core.errors import TaskstreamError


class Stop:
    """A flag that is set once, with the methods of an event; light, since every attempt has one.

    Safe to use from any thread.
    """

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: Event | None = None  # only once somebody waits

    def set(self) -> None:
        """Sets the flag, and wakes those who wait."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the flag is set, `timeout` seconds at most; whether it is."""
        with _WAITING:
            self._event = self._event or Event()
        # After it is there to be found by `set`, which does the two steps in the other order.
        if self._is_set:
            self._event.set()
        return self._event.wait(timeout)


Report = Callable[[float, str], None]
"""Takes a task's progress: the fraction done (0 to 1) and a note."""


class Context(NamedTuple):
    """One attempt, as seen from inside. A tuple, since to make a frozen dataclass takes three times as long.

    Args:
        id: the task's id.
        task: the task's name.
        run: 0 for the first publish, +1 for each redrive or replay.
        attempt: which try of this run it is; 1 is the first. Snoozes don't count.
        key: the ordering key; None where the task has none.
        fence: grows with each owner of the partition. Hand it to what you write to: a store that
            refuses a smaller number than the last one is safe from a worker that was frozen.
        root: id of the first task of the chain that published this one; its own id at the start.
        deadline: when the hard limit ends the attempt, seconds since 1970; None without a limit.
        resources: what the app's lifespan yielded.
        stop: set when the attempt should end: soft limit, cancellation, or a lost partition.
        report: where `progress` goes.
    """

    id: str
    task: str
    run: int
    attempt: int
    key: str | None
    fence: int
    root: str
    deadline: float | None
    resources: Any
    stop: Stop
    report: Report

    @property
    def cancelled(self) -> bool:
        """Whether the attempt should end now. The only word a thread gets: look at it in loops."""
        return self.stop.is_set()

    def progress(self, fraction: float, note: str = "") -> None:
        """Tells those who watch how far the task is.

        Args:
            fraction: what is done, from 0 to 1; beyond that it is cut.
            note: a few words for people.
        """
        self.report(min(1.0, max(0.0, fraction)), note)

    @property
    def log(self) -> logging.Logger:
        """The task's logger; its records carry the task's and the trace's ids."""
        return logging.getLogger(f"taskstream.task.{self.task}")


def current() -> Context:
    """The attempt that is running here.

    Raises:
        TaskstreamError: called outside a task.
    """
    context = _CONTEXT.get()
    if context is None:
        raise TaskstreamError(
            "current() has an answer only inside a task that a worker runs; in a test, wrap the call "
            "in taskstream.app.current.activate(context)"
        )
    return context


def running() -> Context | None:
    """The attempt that is running here, or None outside a task."""
    return _CONTEXT.get()


def enter(context: Context) -> None:
    """Makes `context` the current one for as long as this thread's or task's context variables last."""
    _CONTEXT.set(context)


@contextmanager
def activate(context: Context) -> Iterator[Context]:
    """Makes `context` the current one inside the block, for this thread or asyncio task."""
    token = _CONTEXT.set(context)
    try:
        yield context
    finally:
        _CONTEXT.reset(token)


_CONTEXT: ContextVar[Context | None] = ContextVar("taskstream_context", default=None)
_WAITING = Lock()
