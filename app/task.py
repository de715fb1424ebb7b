"""A task: a function with a name on the wire, a schema, and the publish methods.

It stays callable as the plain function it was, for tests and for other code.
"""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, cast

from taskstream.app.definition import Definition, Runner, key_reader
from taskstream.app.publishing import Target
from taskstream.core.errors import BadArguments, ConfigError
from taskstream.schemas.derive import TaskSchema

if TYPE_CHECKING:
    from taskstream.app.outbox import Outbox
    from taskstream.schemas.codec import ArgumentsCodec, ResultCodec
    from taskstream.schemas.schema import Schema

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Shadow:
    """What runs instead of a task's function in a shadow.

    Args:
        function: of the same signature.
        runs: where an attempt of it runs.
    """

    function: Callable[..., Any]
    runs: Runner


class Task(Target[P, R]):
    """A task of an app; made by `@app.task` and `@app.remote`.

    Attributes:
        name, queue, priority, aliases, runs, timeout, soft_timeout, retry, key, strict_order, topic,
            concurrency, rates: as in `Definition`.
        function: the function as it was written.
        schema: the schemas of its arguments and of its result.
        on_dead: the task that is published when one of this ends as `dead`.
        shadow: what runs instead of its function in a shadow; None where nothing may.
        runs_here: whether its function is here to be run.
    """

    def __init__(
        self,
        outbox: "Outbox",
        function: Callable[..., Any],
        definition: Definition,
        schema: TaskSchema,
        *,
        on_dead: "Task[..., Any] | None" = None,
        shadow: Shadow | None = None,
    ) -> None:
        update_wrapper(cast("Any", self), function)  # only those that can be called are callables
        super().__init__(outbox)
        self.name = definition.name
        self.queue = definition.queue
        self.priority = definition.priority
        self.aliases = definition.aliases
        self.runs = definition.runs
        self.timeout = definition.timeout
        self.soft_timeout = definition.soft_timeout
        self.retry = definition.retry
        self.key = definition.key
        self.keyed = definition.key is not None
        self.read_key = key_reader(
            definition.key, inspect.signature(function).parameters, task=definition.name
        )
        self.strict_order = definition.strict_order
        self.topic = definition.topic
        self.concurrency = definition.concurrency
        self.rates = definition.rates
        self.function = function
        self.schema = schema
        self.arguments_schema = schema.arguments
        self.on_dead = on_dead
        self.shadow = shadow
        self.runs_here = True

    def enter_shadow(self) -> None:
        """Puts the function for shadows in place of the task's own, for good; safe to call again.

        Where there is none, nothing is left to be run: whoever calls the task is refused.
        """
        if self.on_dead is not None and self.on_dead.shadow is None:
            self.on_dead = None
        if self.shadow is None:
            self.function = _refusing(self.name)
            self.runs_here = False
        else:
            self.function, self.runs = self.shadow.function, self.shadow.runs

    @cached_property
    def arguments(self) -> "ArgumentsCodec":
        """Between a call's arguments and bytes."""
        # Here, because it loads the Avro library, which an app that never publishes can do without.
        from taskstream.schemas.codec import ArgumentsCodec  # noqa: PLC0415

        return ArgumentsCodec(self.schema)

    @cached_property
    def result(self) -> "ResultCodec":
        """Between a result and bytes."""
        from taskstream.schemas.codec import ResultCodec  # noqa: PLC0415 - as above

        return ResultCodec(self.schema)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The Avro body of a call's arguments. Raises BadArguments."""
        return self.arguments.encode(args, kwargs)

    def decode_result(self, body: bytes, writer: "Schema") -> R:
        """The result in an Avro body that `writer` wrote. Raises Undecodable."""
        result: R = self.result.decode(body, writer)
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _refusing(task: str) -> Callable[..., NoReturn]:
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise ConfigError(
            f"task {task} has no function for shadows, and this process runs nothing else: give it one "
            "with @app.task(shadow=function)"
        )

    return refuse


class SyncTask(Task[P, R]):
    """A task whose function is a plain `def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself, here and now."""
        result: R = self.function(*args, **kwargs)
        return result


class AsyncTask(Task[P, R]):
    """A task whose function is an `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The function itself, to be awaited here."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class RemoteTask(Task[P, R]):
    """A task whose code lives elsewhere: made from a signature, or from its stored schema."""

    def __init__(
        self,
        outbox: "Outbox",
        function: Callable[..., Any],
        definition: Definition,
        schema: TaskSchema,
    ) -> None:
        super().__init__(outbox, function, definition, schema)
        self.runs_here = False

    def __call__(self, *_args: P.args, **_kwargs: P.kwargs) -> NoReturn:
        """Refused: there is no code to run."""
        raise ConfigError(
            f"task {self.name} is remote: its code is not here to be called; publish it instead"
        )


class StoredTask(Target[..., Any]):
    """A task of which nothing but its stored schema is known here: for publishing by name.

    Values are what JSON can hold, as `schemas.generic` tells.
    """

    def __init__(self, outbox: "Outbox", schema: "Schema", queue: str, priority: str) -> None:
        super().__init__(outbox)
        from taskstream.schemas.generic import GenericCodec  # noqa: PLC0415 - loads the Avro library

        self.name = schema.name
        self.queue = queue
        self.priority = priority
        self.keyed = False
        self.read_key = key_reader(None, {}, task=schema.name)
        self.arguments_schema = schema
        self._codec = GenericCodec(schema)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The Avro body of arguments by name. Raises BadArguments."""
        if args:
            raise BadArguments(
                f"task {self.name}: published by name, it takes arguments by name only"
            )
        return self._codec.encode(kwargs)

    def decode_result(self, body: bytes, writer: "Schema") -> Any:
        """The result in an Avro body that `writer` wrote, as JSON has it. Raises Undecodable."""
        return decode_stored(body, writer)


def decode_stored(body: bytes, writer: "Schema") -> Any:
    """A result as JSON has it, by nothing but the schema that wrote it. Raises Undecodable."""
    from taskstream.schemas.generic import GenericCodec  # noqa: PLC0415 - loads the Avro library

    return GenericCodec(writer).decode(body, None)["value"]
