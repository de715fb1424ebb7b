"""The tree of all errors that taskstream raises at its border.

    TaskstreamError
    ├── ConfigError               a setting, name or definition is wrong
    │   └── DefinitionError       a task can't be defined as written
    ├── MissingExtra              an optional part is not installed
    ├── BlockingCall              a blocking method was called on a running event loop
    ├── PublishError              the task was not accepted
    │   ├── PublishTimeout        Kafka did not acknowledge in time: it may or may not be there
    │   ├── BadArguments          the arguments don't fit the task's schema
    │   ├── TooLarge              the record would not fit the topic
    │   └── UnknownTask           no task of that name is known here or in the schema store
    ├── BrokerError               Kafka refused or can't be reached
    ├── SchemaError               a schema is unknown, unreadable or in conflict
    │   ├── UnknownSchema         no stored schema has that fingerprint or id
    │   ├── SchemaConflict        a stored schema has this fingerprint and another text
    │   └── Undecodable           the bytes are not what their schema says
    ├── StoreError                the result store refused or can't be reached
    │   └── StoreUnavailable      it may answer later: the write is kept and tried again
    ├── TaskFailed                the task ended as `dead`
    ├── TaskCancelled             the task was cancelled before it finished
    ├── TaskExpired               the task was too old to run
    ├── ResultTimeout             no final state in time; carries the last known one
    ├── ResultGone                the task finished, but its result is not kept any more
    └── ServerError               a local server (`taskstream up`) can't be started or reached

A foreign exception (Kafka client, database driver, Avro library) never crosses this border; it
is chained as `__cause__`. Inside a task, `Fatal`, `RetryAfter` and `Snooze` (see `core.retry`) are
not errors of ours but words to the worker, and stand apart.
"""

from taskstream.core.states import State


class TaskstreamError(Exception):
    """Base of every error raised by taskstream."""


class ConfigError(TaskstreamError):
    """A setting, a name or a definition is wrong; the message says which and what to do."""


class DefinitionError(ConfigError):
    """A task can't be defined as written: names the task and the parameter."""


class MissingExtra(TaskstreamError):
    """An optional part of taskstream is not installed.

    Args:
        what: what was asked for, as a noun ("the Cassandra result store").
        extra: the extra that brings it ("cassandra").
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'taskstream[{extra}]'")
        self.extra = extra


class BlockingCall(TaskstreamError):
    """A blocking method was called on a running event loop.

    Args:
        method: the method that was called, as the user wrote it ("charge.publish").
    """

    def __init__(self, method: str) -> None:
        super().__init__(
            f"{method}() would block the running event loop: use 'await {method}_async()' instead"
        )


class PublishError(TaskstreamError):
    """The task was not accepted; nothing was lost, the caller still holds it."""


class PublishTimeout(PublishError):
    """Kafka did not acknowledge in time.

    The record may still arrive: publishing again with the same `id` is safe, it counts once.
    """


class BadArguments(PublishError):
    """The arguments don't fit the task's schema: names the task and the field."""


class TooLarge(PublishError):
    """The record would not fit the topic, or would leave no room for hand-off headers."""


class UnknownTask(PublishError):
    """No task of that name is known here or in the schema store."""


class BrokerError(TaskstreamError):
    """Kafka refused a request or can't be reached."""


class SchemaError(TaskstreamError):
    """A schema is unknown, unreadable or in conflict."""


class UnknownSchema(SchemaError):
    """No stored schema has that fingerprint or id."""


class SchemaConflict(SchemaError):
    """A stored schema has the same fingerprint and another full text (a decimal's scale, say)."""


class Undecodable(SchemaError):
    """The bytes are not what their schema says they are."""


class StoreError(TaskstreamError):
    """The result store refused a request."""


class StoreUnavailable(StoreError):
    """The result store did not answer: the outcome is unknown, and the same write is safe again."""


class TaskFailed(TaskstreamError):
    """The task ended as `dead`. The task's own exception class is never re-raised here.

    Attributes:
        type: the exception's class name in the worker ("ValueError"), or our reason ("Undecodable").
        message: its text.
        traceback: the worker's traceback as text; empty where none exists.
        attempts: how many attempts were made.
    """

    def __init__(self, type: str, message: str, traceback: str = "", attempts: int = 1) -> None:  # noqa: A002 - the contract's name
        counted = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"{type}: {message} (after {counted})")
        self.type = type
        self.message = message
        self.traceback = traceback
        self.attempts = attempts


class TaskCancelled(TaskstreamError):
    """The task was cancelled before it finished."""


class TaskExpired(TaskstreamError):
    """The task was older than its `expires` when a worker reached it."""


class ResultTimeout(TaskstreamError):
    """No final state within the time-out.

    Attributes:
        state: the last known state.
    """

    def __init__(self, task_id: str, timeout: float, state: State) -> None:
        super().__init__(
            f"task {task_id} has no result after {timeout:g} s; its last known state is {state}"
        )
        self.state = state


class ResultGone(TaskstreamError):
    """The task finished, but its result is not kept any more."""


class ServerError(TaskstreamError):
    """A local server can't be started or reached; the message says what to do."""
