"""Hooks: what users hang onto the life of a task. Hooks observe, they never decide.

`@app.around` wraps every attempt where it runs, on the event loop or in a thread, so a hook is a
plain generator function with one `yield`. Whatever it does, raise or swallow, the attempt's own
outcome goes on unchanged.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any

from taskstream.app.current import Context
from taskstream.core.envelope import Envelope

AroundFunction = Callable[[Context], Iterator[None]]
"""A generator function with one `yield`: before it, the attempt is about to run; after it, it ran.
An error of the attempt is raised at the `yield`."""

Around = Callable[[Context], AbstractContextManager[None]]
"""The same as a factory of context managers."""

LifespanFunction = Callable[[], AsyncIterator[Any]]
"""An async generator function with one `yield`, whose value becomes `current().resources`."""

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
"""The same as a factory of async context managers."""

BeforePublish = Callable[[Envelope], Mapping[str, str] | None]
"""Sees the envelope of every publish; may return headers of the user's own to add. What it raises
reaches the publisher, and nothing is sent."""

_LOG = logging.getLogger("taskstream.hooks")


class Observed:
    """Enters the hooks of one attempt, and leaves them in reverse order; use with `with`.

    A hook that fails is logged and left out. Leaving never swallows and never replaces the
    attempt's error, so no hook can change a verdict.
    """

    def __init__(self, hooks: Sequence[Around], context: Context) -> None:
        self._hooks = hooks
        self._context = context
        self._entered: list[AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        for hook in self._hooks:
            try:
                manager = hook(self._context)
                manager.__enter__()
            except Exception:  # noqa: BLE001 - a hook is any code of the user's
                self._log_failure()
            else:
                self._entered.append(manager)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._entered:
            manager = self._entered.pop()
            try:
                manager.__exit__(kind, error, traceback)
            except Exception as failure:  # noqa: BLE001 - as above
                if failure is not error:
                    self._log_failure()

    def _log_failure(self) -> None:
        _LOG.exception(
            "an @app.around hook failed around task %s, id %s; the attempt goes on without it",
            self._context.task,
            self._context.id,
        )
