"""What `@app.task(...)` was told, checked: everything about a task except its function's code.

Pure. A definition that can't work is refused here, when the module is imported, not when the first
task runs.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from uuid import UUID

from taskstream.app.options import KeyFunction
from taskstream.core.errors import BadArguments, DefinitionError
from taskstream.core.limits import Concurrency, Rate
from taskstream.core.retry import NO_RETRY, Retry

Runner = Literal["async", "thread", "process"]
"""Where an attempt runs: on the child's event loop, in one of its threads, or in a process of its
own, one at a time."""

DEAD_ARGUMENTS = frozenset({"task", "id", "reason", "message"})
"""What an `on_dead` task may take, all text: name and id of the dead task, why, and the error's text."""

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")

KeyReader = Callable[[tuple[Any, ...], Mapping[str, Any]], str | None]
"""From a call's arguments, already checked, to the ordering key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A task as it was defined. Times are in seconds.

    Args:
        name: its name on the wire.
        queue: the queue it is published to.
        priority: the priority it is published with.
        aliases: older names that are accepted as well.
        runs: where an attempt runs.
        timeout: the hard limit of an attempt; None is no limit.
        soft_timeout: when an attempt is asked to end; None is never.
        retry: when a failed attempt is tried again.
        key: the parameter whose value is the ordering key, or a function of the arguments.
        strict_order: whether a task that waits for its retry holds up the ones behind its key.
        topic: a foreign topic whose records are this task's arguments as well.
        concurrency: how many of it may run at once.
        rates: how many of it may start in a time.

    Raises:
        DefinitionError: names the task and what can't be.
    """

    name: str
    queue: str
    priority: str
    aliases: tuple[str, ...] = ()
    runs: Runner = "thread"
    timeout: float | None = None
    soft_timeout: float | None = None
    retry: Retry = NO_RETRY
    key: str | KeyFunction | None = None
    strict_order: bool = False
    topic: str | None = None
    concurrency: tuple[Concurrency, ...] = ()
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.aliases):
            if not _NAME.match(name):
                raise DefinitionError(
                    f"task name {name!r} is not allowed: use 1 to 128 letters, digits or '_', not "
                    "starting with a digit (it names an Avro record); set one with name="
                )
        for what in ("timeout", "soft_timeout"):
            limit = getattr(self, what)
            if limit is not None and not limit > 0:
                raise DefinitionError(f"task {self.name}: {what}={limit} must be above 0 seconds")
        if self.timeout and self.soft_timeout and self.soft_timeout >= self.timeout:
            raise DefinitionError(
                f"task {self.name}: soft_timeout={self.soft_timeout:g} must be below "
                f"timeout={self.timeout:g}"
            )
        if self.strict_order and self.key is None:
            raise DefinitionError(
                f"task {self.name}: strict_order needs a key: order exists within a key only"
            )
        for rate in self.rates:
            if rate.scope == "key" and self.key is None:
                raise DefinitionError(f"task {self.name}: {rate} needs a key")


def runner_for(function: Callable[..., Any], *, task: str, runs: Runner | None) -> Runner:
    """Where the function's attempts run: as asked, or by its kind.

    Raises:
        DefinitionError: it can't run there.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"task {task}: a generator can't be a task; return a value instead")
    is_async = inspect.iscoroutinefunction(function)
    if runs is None:
        return "async" if is_async else "thread"
    if runs not in get_args(Runner):
        raise DefinitionError(
            f"task {task}: runs={runs!r} must be one of {', '.join(get_args(Runner))}"
        )
    if is_async and runs != "async":
        raise DefinitionError(
            f"task {task}: an async def runs on the event loop, not runs={runs!r}"
        )
    if not is_async and runs == "async":
        raise DefinitionError(
            f'task {task}: runs="async" needs an async def; a plain def would hold up the event loop'
        )
    return runs


def shadow_runner(function: Callable[..., Any], *, task: str, runs: Runner) -> Runner:
    """Where a task's function for shadows runs: where the task itself does, as far as its kind allows.

    Raises:
        DefinitionError: it can't run anywhere.
    """
    plain = not inspect.iscoroutinefunction(function)
    keeps = plain and runs != "async"
    return runner_for(function, task=task, runs=runs if keeps else None)


def key_reader(
    key: str | KeyFunction | None, parameters: Mapping[str, inspect.Parameter], *, task: str
) -> KeyReader:
    """How the ordering key is read from a call's arguments.

    Args:
        key: a parameter's name, a function of the arguments, or None.
        parameters: the task's parameters in order.
        task: the task's name, for error messages.

    Raises:
        DefinitionError: no parameter has that name.
    """
    if key is None:
        return lambda _args, _kwargs: None
    if callable(key):
        return lambda args, kwargs: key_text(key(*args, **kwargs), task=task)
    if key not in parameters:
        raise DefinitionError(
            f"task {task}: key={key!r} is none of its parameters ({', '.join(parameters) or 'it has none'})"
        )
    position = list(parameters).index(key)
    default = parameters[key].default

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        value = args[position] if position < len(args) else kwargs.get(key, default)
        return key_text(value, task=task)

    return read


def key_text(value: object, *, task: str) -> str | None:
    """An ordering key as the text whose UTF-8 bytes key the record; None and "" are no key.

    Raises:
        BadArguments: it is neither text, a whole number nor a UUID: such keys would differ between
            languages, and so lose their order.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        _check_utf8(value, task=task)
        return str.__str__(value)  # the value of a text enum, not its name
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    raise BadArguments(
        f"task {task}: the key must be text, a whole number or a UUID, not {type(value).__name__}"
    )


def _check_utf8(key: str, *, task: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise BadArguments(f"task {task}: the key {key!r} has no UTF-8 form") from error
