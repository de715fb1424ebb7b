"""taskstream: a distributed task queue for Python on the Kafka you already run.

    from taskstream import App

    app = App("shop")

    @app.task
    async def charge(order_id: str, cents: int) -> str: ...

    handle = charge.publish("o-17", cents=1200)
    handle.result(timeout=10)

This is the whole public list; what is not here, or in `taskstream.testing`, may change. Importing it
loads no Kafka client, no database driver and no OpenTelemetry SDK; and each name only when it is first
asked for, because a worker's parent, which never runs a task, passes through this door too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskstream._version import __version__

if TYPE_CHECKING:
    from taskstream.app.app import App
    from taskstream.app.current import Context, current
    from taskstream.app.handle import Handle
    from taskstream.app.queues import Queue
    from taskstream.app.task import Task
    from taskstream.core.cron import every
    from taskstream.core.errors import (
        BadArguments,
        BlockingCall,
        BrokerError,
        ConfigError,
        DefinitionError,
        MissingExtra,
        PublishError,
        PublishTimeout,
        ResultGone,
        ResultTimeout,
        SchemaConflict,
        SchemaError,
        ServerError,
        StoreError,
        StoreUnavailable,
        TaskCancelled,
        TaskExpired,
        TaskFailed,
        TaskstreamError,
        TooLarge,
        Undecodable,
        UnknownSchema,
        UnknownTask,
    )
    from taskstream.core.limits import Concurrency, Rate
    from taskstream.core.retry import Fatal, Retry, RetryAfter, Snooze
    from taskstream.core.states import State
    from taskstream.schemas.scale import Scale

__all__ = [
    "App",
    "BadArguments",
    "BlockingCall",
    "BrokerError",
    "Concurrency",
    "ConfigError",
    "Context",
    "DefinitionError",
    "Fatal",
    "Handle",
    "MissingExtra",
    "PublishError",
    "PublishTimeout",
    "Queue",
    "Rate",
    "ResultGone",
    "ResultTimeout",
    "Retry",
    "RetryAfter",
    "Scale",
    "SchemaConflict",
    "SchemaError",
    "ServerError",
    "Snooze",
    "State",
    "StoreError",
    "StoreUnavailable",
    "Task",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskstreamError",
    "TooLarge",
    "Undecodable",
    "UnknownSchema",
    "UnknownTask",
    "__version__",
    "current",
    "every",
]

_HOMES = {
    "taskstream.app.app": ("App",),
    "taskstream.app.current": ("Context", "current"),
    "taskstream.app.handle": ("Handle",),
    "taskstream.app.queues": ("Queue",),
    "taskstream.app.task": ("Task",),
    "taskstream.core.cron": ("every",),
    "taskstream.core.errors": (
        "BadArguments", "BlockingCall", "BrokerError", "ConfigError", "DefinitionError",
        "MissingExtra", "PublishError", "PublishTimeout", "ResultGone", "ResultTimeout",
        "SchemaConflict", "SchemaError", "ServerError", "StoreError", "StoreUnavailable",
        "TaskCancelled", "TaskExpired", "TaskFailed", "TaskstreamError", "TooLarge", "Undecodable",
        "UnknownSchema", "UnknownTask",
    ),
    "taskstream.core.limits": ("Concurrency", "Rate"),
    "taskstream.core.retry": ("Fatal", "Retry", "RetryAfter", "Snooze"),
    "taskstream.core.states": ("State",),
    "taskstream.schemas.scale": ("Scale",),
}  # fmt: skip

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a checker would take it for a promise that every name is there

    def __getattr__(name: str) -> Any:
        """A public name, from where it is at home; asked for once, for it stays here then."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
