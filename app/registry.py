"""The tasks of an app: defining them, and finding them by name or alias.

Invariant: a name or alias belongs to one task.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from taskstream.app.definition import (
    DEAD_ARGUMENTS,
    Definition,
    Runner,
    runner_for,
    shadow_runner,
)
from taskstream.app.options import KeyFunction
from taskstream.app.outbox import Outbox
from taskstream.app.queues import Queues
from taskstream.app.task import AsyncTask, RemoteTask, Shadow, SyncTask, Task
from taskstream.core.errors import ConfigError, DefinitionError
from taskstream.core.limits import ConcurrencyLike, RateLike, concurrencies, rates
from taskstream.core.retry import NO_RETRY, Retry
from taskstream.schemas.derive import TaskSchema, derive

P = ParamSpec("P")
R = TypeVar("R")


class RemoteArguments(TypedDict, total=False):
    """The keyword arguments of `@app.remote`, told in `Definition`."""

    name: str
    queue: str
    priority: str
    key: str | KeyFunction | None


class TaskArguments(RemoteArguments, total=False):
    """The keyword arguments of `@app.task`, told in `Definition`."""

    aliases: Sequence[str]
    runs: Runner
    timeout: float | None
    soft_timeout: float | None
    retry: Retry | Literal["app"] | None
    strict_order: bool
    topic: str | None
    concurrency: ConcurrencyLike
    rate: RateLike
    on_dead: Task[..., Any] | None
    shadow: Callable[..., Any] | None


class DefineTask(Protocol):
    """What `@app.task(...)` returns: takes the function, gives the task."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap] # a coroutine is a value too: the first match is meant
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class DefineRemote(Protocol):
    """What `@app.remote(...)` returns: takes the signature, gives the task."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> RemoteTask[P, R]: ...


class Registry:
    """The tasks of one app.

    Args:
        app: the app's name.
        queues: where tasks may go.
        retry: for tasks that say "app".
        outbox: what their publish methods use.
    """

    def __init__(self, app: str, queues: Queues, retry: Retry, outbox: Outbox) -> None:
        self._app = app
        self._queues = queues
        self._retry = retry
        self._outbox = outbox
        self._owners: dict[str, Task[..., Any]] = {}
        self._in_shadow = False

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks whose code is here, by name, without aliases."""
        return {task.name: task for task in self.all if task.runs_here}

    @property
    def all(self) -> Iterable[Task[..., Any]]:
        """Every task once, remote ones too, in the order of their definition."""
        return tuple(dict.fromkeys(self._owners.values()))

    def find(self, name: str) -> Task[..., Any] | None:
        """The task of that name or alias, remote ones too."""
        return self._owners.get(name)

    def define(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: str | None = None,
        aliases: Sequence[str] = (),
        runs: Runner | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        retry: Retry | Literal["app"] | None = "app",
        key: str | KeyFunction | None = None,
        strict_order: bool = False,
        topic: str | None = None,
        concurrency: ConcurrencyLike = None,
        rate: RateLike = None,
        on_dead: Task[..., Any] | None = None,
        shadow: Callable[..., Any] | None = None,
    ) -> Task[..., Any]:
        """Makes and keeps the task of a function. Raises DefinitionError."""
        name = name or function.__name__
        runner = runner_for(function, task=name, runs=runs)
        queue, priority = self._queues.assign(name, queue, priority)
        try:
            limits = concurrencies(concurrency), rates(rate)
        except ConfigError as error:
            raise DefinitionError(f"task {name}: {error}") from error
        definition = Definition(
            name=name,
            queue=queue,
            priority=priority,
            aliases=tuple(aliases),
            runs=runner,
            timeout=timeout,
            soft_timeout=soft_timeout,
            retry=self._retry if retry == "app" else retry or NO_RETRY,
            key=key,
            strict_order=strict_order,
            topic=topic,
            concurrency=limits[0],
            rates=limits[1],
        )
        if topic is not None and topic.startswith(f"{self._app}."):
            raise DefinitionError(
                f"task {name}: topic={topic!r} is one of this app's own; bind a topic that others write"
            )
        if on_dead is not None:
            _check_on_dead(name, on_dead)
        kind = AsyncTask if runner == "async" else SyncTask
        schema = derive(function, task=name)
        in_shadow = None if shadow is None else _shadow(shadow, schema, runner)
        return self._keep(
            kind(self._outbox, function, definition, schema, on_dead=on_dead, shadow=in_shadow)
        )

    def enter_shadow(self) -> None:
        """Gives every task its function for shadows, and takes it away where there is none: for good."""
        self._in_shadow = True
        for task in self.all:
            task.enter_shadow()

    def define_remote(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: str | None = None,
        key: str | KeyFunction | None = None,
    ) -> Task[..., Any]:
        """Makes and keeps the task of a signature. Raises DefinitionError."""
        name = name or function.__name__
        queue, priority = self._queues.assign(name, queue, priority)
        definition = Definition(name=name, queue=queue, priority=priority, key=key)
        schema = derive(function, task=name)
        return self._keep(RemoteTask(self._outbox, function, definition, schema))

    def _keep(self, task: Task[..., Any]) -> Task[..., Any]:
        for name in (task.name, *task.aliases):
            other = self._owners.get(name)
            if other is not None:
                raise DefinitionError(
                    f"task name {name!r} is taken twice in app {self._app}: by {_place(other)} and by "
                    f"{_place(task)}; give one of them another name="
                )
        for name in (task.name, *task.aliases):
            self._owners[name] = task
        if self._in_shadow:
            task.enter_shadow()
        return task


def _shadow(function: Callable[..., Any], schema: TaskSchema, runs: Runner) -> Shadow:
    """A task's function for shadows, checked. Raises DefinitionError."""
    name = schema.task
    if isinstance(function, Task):
        raise DefinitionError(
            f"task {name}: shadow={function.name} is a task itself; give a plain function"
        )
    theirs = derive(function, task=name)
    for ours, other, what in (
        (schema.arguments, theirs.arguments, "takes other arguments than the task"),
        (schema.result, theirs.result, "returns another type than the task"),
    ):
        if ours != other:
            raise DefinitionError(
                f"task {name}: shadow={function.__qualname__} {what}: both need the same signature, "
                "defaults and return hint included"
            )
    return Shadow(function, shadow_runner(function, task=name, runs=runs))


def _check_on_dead(name: str, on_dead: Task[..., Any]) -> None:
    for field in on_dead.schema.parameters:
        if field.name not in DEAD_ARGUMENTS and not field.default:
            raise DefinitionError(
                f"task {name}: on_dead={on_dead.name} can't be published, as nobody knows its argument "
                f"{field.name}; it is given {', '.join(sorted(DEAD_ARGUMENTS))}"
            )


def _place(task: Task[..., Any]) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"
