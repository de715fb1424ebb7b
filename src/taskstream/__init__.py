"""taskstream: a distributed task queue for Python on the Kafka you already run.

    from taskstream import App

    app = App("shop")

    @app.task
    async def charge(order_id: str, cents: int) -> str: ...

    handle = charge.publish("o-17", cents=1200)
    handle.result(timeout=10)

This is the whole public list; what is not here, or in `taskstream.testing`, may change. Importing it
loads no Kafka client, no database driver and no OpenTelemetry SDK.
"""

from taskstream._version import __version__
from taskstream.app.app import App
from taskstream.app.current import Context, current
from taskstream.app.handle import Handle
from taskstream.app.queues import Queue
from taskstream.app.task import Task
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
]
