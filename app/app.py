"""The App: what a user's module creates once, and hangs tasks, hooks and settings on.

Creating one and defining tasks touches no server: clients are opened by the first call that needs
them, in the process that makes it.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from inspect import isasyncgenfunction, isgeneratorfunction
from threading import Lock
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

from taskstream.app.blocking import refuse_on_loop
from taskstream.app.connections import Lifeline
from taskstream.app.handle import Handle
from taskstream.app.hooks import Around, AroundFunction, BeforePublish, Lifespan, LifespanFunction
from taskstream.app.modules import import_module
from taskstream.app.options import OptionArguments, Options
from taskstream.app.outbox import Outbox
from taskstream.app.outcomes import Outcomes
from taskstream.app.publishing import Target
from taskstream.app.queues import Queue, Queues
from taskstream.app.registry import (
    DefineRemote,
    DefineTask,
    Registry,
    RemoteArguments,
    TaskArguments,
)
from taskstream.app.steps import Call, Steps, run, run_async
from taskstream.app.task import AsyncTask, RemoteTask, SyncTask, Task
from taskstream.app.timetable import Planned, ScheduleArguments, Timetable
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.cron import Every
from taskstream.core.errors import ConfigError, DefinitionError
from taskstream.core.names import Names, check_part
from taskstream.core.retry import NO_RETRY, Retry
from taskstream.core.settings import Layer, Settings, resolve
from taskstream.core.shadow import shadow_app, shadow_settings

if TYPE_CHECKING:
    from taskstream.app.configure import SettingArguments
    from taskstream.app.orders import Orders
    from taskstream.core.replay import ReplayArguments, ReplayProgress, ReplayReport
    from taskstream.observability.metrics import Metrics
    from taskstream.results.store import ResultStore
    from taskstream.schemas.store import SchemaStore

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=Task[..., Any])

DEFAULT_RETRY = Retry()
"""For tasks of an app that says nothing else."""


class App:
    """An app: a name, tasks, queues, hooks and settings.

    Args:
        name: the first part of every topic's and group's name.
        include: modules with tasks, imported by workers, `dev` and `schemas`; never by a publish.
        routes: by pattern of task names, the queue they go to, whatever their definition says.
        queues: by queue, the weight of each priority, or a `Queue`; None for whatever tasks and
            routes name, with high 6, normal 3, low 1.
        retry: for tasks that say nothing of their own; None is a single attempt.
        clock: the time; for tests.
        settings: see `taskstream.core.settings.Settings`.

    Attributes:
        name: as given.
        names: of all its topics and groups.
        include: as given.

    Raises:
        ConfigError: a name, queue or setting is wrong.
    """

    def __init__(
        self,
        name: str,
        include: Iterable[str] = (),
        *,
        routes: Mapping[str, str] | None = None,
        queues: Mapping[str, Mapping[str, int] | Queue] | None = None,
        retry: Retry | None = DEFAULT_RETRY,
        clock: Clock = SYSTEM_CLOCK,
        **settings: "Unpack[SettingArguments]",
    ) -> None:
        resolve([Layer("App(...)", settings)])  # a wrong name or type is refused here, not later
        self.name = check_part("app", name)
        self.names = Names(name)
        self.include = tuple(include)
        self._arguments: Mapping[str, Any] = dict(settings)
        self._settings: Settings | None = None
        self._configuring = Lock()
        self._shadow = ""
        self._lifespans: list[Lifespan] = []
        self._arounds: list[Around] = []
        self._before_publish: list[BeforePublish] = []
        self._queues = Queues(queues, routes)
        self._lifeline = Lifeline(self.names, lambda: self.settings, clock)
        self._outcomes = Outcomes(self._lifeline, clock)
        self._outbox = Outbox(
            self._lifeline, self._queues, self._outcomes, self._before_publish, clock
        )
        self._registry = Registry(name, self._queues, retry or NO_RETRY, self._outbox)
        self._timetable = Timetable(name)

    # --- defining tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap] # a coroutine is a value too: the first match is meant
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, /, **how: Unpack[TaskArguments]) -> DefineTask: ...
    def task(
        self, function: Callable[..., Any] | None = None, /, **how: Unpack[TaskArguments]
    ) -> Any:
        """Makes a task of a function; with or without parentheses.

        Args:
            function: its type hints become the task's schema, its name the task's.
            how: see `taskstream.app.definition.Definition`. `name` replaces the function's name;
                `retry` is the app's policy unless given, None a single attempt; `concurrency` is a
                number, or one or more `Concurrency`; `rate` is a number a second, "100/m", or one or
                more `Rate`; `on_dead` is a task
                that is published when one of this ends as `dead`, with those of the arguments
                `task`, `id`, `reason` and `message` that it has parameters for; `shadow` is a
                function of the same signature that runs instead in a shadow (see docs/replay.md).

        Raises:
            DefinitionError: the task can't be defined so; names it and the parameter.
        """
        if function is not None:
            return self._registry.define(function, **how)
        return lambda function: self._registry.define(function, **how)

    @overload
    def remote(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteTask[P, R]: ...
    @overload
    def remote(self, function: Callable[P, R], /) -> RemoteTask[P, R]: ...
    @overload
    def remote(self, /, **how: Unpack[RemoteArguments]) -> DefineRemote: ...
    def remote(
        self, function: Callable[..., Any] | None = None, /, **how: Unpack[RemoteArguments]
    ) -> Any:
        """Makes a task of a signature, for a service without the worker's code.

        It is published like any other, and can't be called. `name`, `queue`, `priority` and `key`
        must be those of the worker's definition.

        Raises:
            DefinitionError: the task can't be defined so; names it and the parameter.
        """
        if function is not None:
            return self._registry.define_remote(function, **how)
        return lambda function: self._registry.define_remote(function, **how)

    def schedule(self, when: str | Every, /, **how: Unpack[ScheduleArguments]) -> Callable[[T], T]:
        """Publishes a task again and again; stands above `@app.task`, or is called with a task.

            @app.schedule("*/5 * * * *", tz="Europe/Berlin", kwargs={"shop": "north"})
            @app.task
            def clean(shop: str) -> None: ...

            app.schedule(every(30), kwargs={"shop": "south"}, name="south")(clean)

        Args:
            when: a cron line of five fields, or `every(seconds)`.
            how: `tz`, the time zone of a cron line (UTC); `args` and `kwargs`, the task's arguments; `name`,
                the task's unless given; `catch_up`, what is made up for after a stop: nothing ("skip"),
                the latest one ("once", the default), or "all"; `overlap`, what happens where the last
                firing has not ended: "allow", "skip" or "queue"; `queue`, `priority`, `key` and `unordered`
                as for a publish; `expires`, seconds after its instant from which on a task is too old to
                run.

        Raises:
            DefinitionError: the line, the zone, the arguments or a policy can't be, or the name is taken.
        """
        return self._timetable.decorator(when, **how)

    # --- hooks

    def lifespan(self, function: LifespanFunction) -> LifespanFunction:
        """Runs an async generator around the life of each worker child.

        What it yields is `current().resources` in every task.

        Raises:
            DefinitionError: it is no async generator function, or there is a lifespan already.
        """
        if not isasyncgenfunction(function):
            raise DefinitionError(f"{_told(function)}: a lifespan is an async def with one yield")
        if self._lifespans:
            raise DefinitionError(
                f"{_told(function)}: app {self.name} has a lifespan already; enter both in one"
            )
        self._lifespans.append(asynccontextmanager(function))
        return function

    def around(self, function: AroundFunction) -> AroundFunction:
        """Runs a generator around every attempt, in the thread or on the loop where that runs.

        It takes the attempt's `Context` and yields once; an error of the attempt is raised at the
        `yield`. It can't change the verdict.

        Raises:
            DefinitionError: it is no plain generator function.
        """
        if not isgeneratorfunction(function):
            raise DefinitionError(
                f"{_told(function)}: an around hook is a def with one yield (no async def: it wraps "
                "attempts in threads as well)"
            )
        self._arounds.append(contextmanager(function))
        return function

    def before_publish(self, function: BeforePublish) -> BeforePublish:
        """Calls a function with the `Envelope` of every publish, before it is sent.

        It may return headers of its own to add, by name. What it raises reaches the publisher, and
        nothing is sent.
        """
        self._before_publish.append(function)
        return function

    # --- publishing by name, and handles

    def publish(
        self, name: str, arguments: Mapping[str, Any], /, **options: Unpack[OptionArguments]
    ) -> Handle[Any]:
        """Publishes a task by its name, checked against its schema; else as `Task.publish`.

        Where this process knows no such task, the stored schema of that name is taken, and `queue`,
        `priority` and `key` are what the options say.

        Raises:
            UnknownTask: no task of that name is known here or in the schema store.
        """
        refuse_on_loop("app.publish")
        return run(self._named(name, options)).options(**options).publish(**arguments)

    async def publish_async(
        self, name: str, arguments: Mapping[str, Any], /, **options: Unpack[OptionArguments]
    ) -> Handle[Any]:
        """`publish` for a running event loop."""
        task = await run_async(self._named(name, options))
        return await task.options(**options).publish_async(**arguments)

    def publish_nowait(
        self, name: str, arguments: Mapping[str, Any], /, **options: Unpack[OptionArguments]
    ) -> Handle[Any]:
        """`publish` without waiting for the acknowledgement; see `Task.publish_nowait`."""
        return run(self._named(name, options)).options(**options).publish_nowait(**arguments)

    def publish_many(
        self,
        name: str,
        arguments: Iterable[Mapping[str, Any]],
        /,
        **options: Unpack[OptionArguments],
    ) -> list[Handle[Any]]:
        """Publishes one task per dict of arguments; see `Task.publish_many`."""
        refuse_on_loop("app.publish_many")
        return run(self._named(name, options)).options(**options).publish_many(arguments)

    async def publish_many_async(
        self,
        name: str,
        arguments: Iterable[Mapping[str, Any]],
        /,
        **options: Unpack[OptionArguments],
    ) -> list[Handle[Any]]:
        """`publish_many` for a running event loop."""
        task = await run_async(self._named(name, options))
        return await task.options(**options).publish_many_async(arguments)

    def handle(self, task_id: str) -> Handle[Any]:
        """A handle on a task that somebody published, by its id alone."""
        return Handle(task_id, self._outcomes)

    def _named(self, name: str, options: OptionArguments) -> Steps[Target[..., Any]]:
        known = self._registry.find(name)
        if known is not None:
            return known
        stored: Target[..., Any] = yield Call(
            lambda: self._outbox.stored_task(name, Options(**options))
        )
        return stored

    # --- replaying

    def replay(
        self,
        *,
        dry_run: bool = False,
        reason: str = "",
        progress: "Callable[[ReplayProgress], None] | None" = None,
        **what: "Unpack[ReplayArguments]",
    ) -> "ReplayReport":
        """Publishes tasks again that stand in the app's topics; back when Kafka has acknowledged all.

        `app.replay(since="2h ago", tasks=["charge"], where="cents > 100", dry_run=True)` says what would
        be. A KeyboardInterrupt passes through once all that was published is on record;
        `taskstream replay --resume NAME` goes on.

        Args:
            dry_run: publishes nothing.
            reason: why, for the audit log.
            progress: hears how far it is, some times a second; must not block for long.
            what: which ones, and as what: see `taskstream.core.replay.ReplayRequest`.

        Raises:
            ConfigError: it can't be meant; says why.
            BrokerError: Kafka refused or can't be reached; what was published before stands.
            StoreError: tasks keep their ids, and the result store did not answer.
            MissingExtra: conditions need the extra `cli`.
            BlockingCall: called on a running event loop; use `replay_async`.
        """
        refuse_on_loop("app.replay")
        return self._replay(dry_run, reason, progress, what)

    async def replay_async(
        self,
        *,
        dry_run: bool = False,
        reason: str = "",
        progress: "Callable[[ReplayProgress], None] | None" = None,
        **what: "Unpack[ReplayArguments]",
    ) -> "ReplayReport":
        """`replay` for a running event loop; `progress` is called in another thread.

        A cancellation is what a KeyboardInterrupt is there.
        """
        stopping: list[None] = []

        def tell(how_far: "ReplayProgress") -> None:
            if stopping:
                stopping.clear()
                raise KeyboardInterrupt
            if progress is not None:
                progress(how_far)

        try:
            return await run_async(_called(partial(self._replay, dry_run, reason, tell, what)))
        except BaseException:
            stopping.append(None)  # in case it goes on in its thread
            raise

    def _replay(
        self,
        dry_run: bool,
        reason: str,
        progress: "Callable[[ReplayProgress], None] | None",
        what: "ReplayArguments",
    ) -> "ReplayReport":
        from taskstream.core.replay import ReplayRequest  # noqa: PLC0415 - rarely needed

        # What people do to an app stands above it, so it is found by name, as an app's modules are.
        above = import_module("taskstream.admin.replay", wanted_by="app.replay")
        request = ReplayRequest(**what)
        report: ReplayReport = above.run(self, request, dry=dry_run, reason=reason, tell=progress)
        return report

    # --- connecting, flushing, closing

    def connect(self) -> None:
        """Opens the clients and stores the schemas of all known tasks now, not at the first publish.

        Raises:
            BrokerError: Kafka can't be reached.
            ConfigError: none is configured.
            SchemaConflict: a stored schema has the fingerprint of one of these, and another text.
            BlockingCall: called on a running event loop; use `connect_async`.
        """
        refuse_on_loop("app.connect")
        run(self._connect())

    async def connect_async(self) -> None:
        """`connect` for a running event loop."""
        await run_async(self._connect())

    def flush(self, timeout: float | None = None) -> int:
        """Waits until Kafka has acknowledged, or refused, all that was published here.

        Args:
            timeout: seconds; None is `publish_timeout`.

        Returns:
            How many are still under way.

        Raises:
            BlockingCall: called on a running event loop; use `flush_async`.
        """
        refuse_on_loop("app.flush")
        return self._lifeline.flush(timeout)

    async def flush_async(self, timeout: float | None = None) -> int:
        """`flush` for a running event loop."""
        return await run_async(_called(lambda: self._lifeline.flush(timeout)))

    def close(self, timeout: float | None = None) -> int:
        """Flushes and closes the clients; a later call that needs them opens new ones.

        Args:
            timeout: seconds; None is `publish_timeout`.

        Returns:
            How many were still under way, and so are lost to this process.

        Raises:
            BlockingCall: called on a running event loop; use `close_async`.
        """
        refuse_on_loop("app.close")
        return self._lifeline.close(timeout)

    async def close_async(self, timeout: float | None = None) -> int:
        """`close` for a running event loop."""
        return await run_async(_called(lambda: self._lifeline.close(timeout)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def _connect(self) -> Steps[None]:
        for task in self._registry.all:
            yield from self._outbox.prepare(task)

    # --- what workers and the command line ask

    @property
    def settings(self) -> Settings:
        """The settings, merged from all layers at the first look.

        Raises:
            ConfigError: one of them is wrong; says in which layer.
        """
        if self._settings is None:
            with self._configuring:  # threads that look at the same time would all say it
                if self._settings is None:
                    self.configure()
        assert self._settings is not None
        return self._settings

    def configure(self, *, quiet: bool = False, **flags: Any) -> None:
        """Sets what the command line was told, before anything is opened.

        Args:
            quiet: says nothing of the servers of `taskstream up`; another process has said it.
            flags: by setting name; None values are skipped.

        Raises:
            ConfigError: a name or a value is wrong, or the clients are open already.
        """
        if self._lifeline.opened is not None:
            raise ConfigError(
                f"app {self.name} has opened its clients already: no module may publish while it is "
                "being imported"
            )
        # Here, because files and paths are half of what an app costs that nobody has used yet.
        from pathlib import Path  # noqa: PLC0415

        from taskstream.app.configure import configure  # noqa: PLC0415

        settings = configure(
            flags=flags,
            arguments=self._arguments,
            environment=os.environ,
            directory=Path.cwd(),
            running=_running_servers,
            say=_say_nothing if quiet else _say,
        )
        self._settings = shadow_settings(settings, self._shadow) if self._shadow else settings

    def enter_shadow(self, shadow: str) -> None:
        """Makes this process a part of the app's shadow of that name, before anything is opened.

        From here on names, topics, groups and keyspace are the shadow's, and a task's function is the
        one that it names as `shadow=`; a task without one can't be run here, not even by a call.

        Raises:
            ConfigError: the name is not allowed, the clients are open already, or the broker is the
                embedded one.
        """
        if self._lifeline.opened is not None or self._shadow:
            raise ConfigError(
                f"app {self.name} can't enter shadow {shadow}: it is in use already; choose one shadow, "
                "before anything is published or read"
            )
        self.name = shadow_app(self.name, shadow)
        self.names = self._lifeline.names = Names(self.name)
        self._shadow = shadow
        if self._settings is not None:
            self._settings = shadow_settings(self._settings, shadow)
        self._registry.enter_shadow()

    def count_in(self, metrics: "Metrics") -> None:
        """Counts in `metrics` what this process publishes, before anything is opened.

        For a process that shows or tells them itself, as a worker does; elsewhere see docs/metrics.md.
        """
        self._lifeline.count_in(metrics)

    @property
    def shadow(self) -> str:
        """The name of the shadow that this process is a part of; empty where it is none."""
        return self._shadow

    def load_tasks(self) -> None:
        """Imports the modules of `include`, which define their tasks on this app.

        Raises:
            ConfigError: a module does not exist or fails to import; names it.
        """
        for module in self.include:
            import_module(module, wanted_by=f"App({self.name!r}, include=...)")

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks whose code is here, by name; without aliases and remote ones."""
        return self._registry.tasks

    def find(self, name: str) -> Task[..., Any] | None:
        """The task of that name or alias; None where no such task has its code here."""
        task = self._registry.find(name)
        return None if task is None or not task.runs_here else task

    @property
    def queues(self) -> Mapping[str, Mapping[str, int]]:
        """By queue, the weight of each of its priorities."""
        return self._queues.weights

    def partitions_of(self, queue: str) -> int:
        """How many partitions `init` gives each topic of a queue."""
        return self._queues.partitions.get(queue, self.settings.partitions)

    @property
    def lifespans(self) -> tuple[Lifespan, ...]:
        """The lifespan, if there is one: a factory of async context managers."""
        return tuple(self._lifespans)

    @property
    def arounds(self) -> tuple[Around, ...]:
        """The hooks around attempts; `hooks.Observed` enters them."""
        return tuple(self._arounds)

    @property
    def schedules(self) -> Mapping[str, Planned]:
        """The schedules that the code here defines, by name; none in a shadow, whose tasks are replays."""
        return {} if self._shadow else self._timetable.planned

    def place_of(
        self, task: str, queue: str | None = None, priority: str | None = None
    ) -> tuple[str, str]:
        """The queue and the priority that a task is published to.

        Args:
            task: its name; known here or not.
            queue: another queue than its own.
            priority: another priority.

        Raises:
            BadArguments: there is no such queue, or no such priority in it.
        """
        known = self._registry.find(task)
        if known is None:
            return self._queues.place(task, queue, priority)
        place = queue or known.queue, priority or known.priority
        self._queues.check(*place, task=task)
        return place

    def schema_store(self) -> "SchemaStore":
        """The schema store, opened at the first call in this process."""
        return self._lifeline.connections().schemas

    def result_store(self) -> "ResultStore | None":
        """The result store, opened at the first call in this process; None where none is set.

        Raises:
            MissingExtra: its driver is not installed.
        """
        return self._lifeline.connections().results

    def orders(self) -> "Orders":
        """What takes orders to workers and schedulers, opened at the first call in this process."""
        return self._lifeline.connections().orders

    def __repr__(self) -> str:
        return f"<App {self.name}>"


def _called(function: Callable[[], R]) -> Steps[R]:
    answer: R = yield Call(function)
    return answer


def _running_servers() -> Mapping[str, Any] | None:
    # Here, because a process with settings of its own need not know that servers can be started.
    from taskstream.infra.state import running  # noqa: PLC0415

    found = running()
    if found is not None:
        # A registry changes where schemas are and how values are framed: what was published before
        # `up --registry` could not be read any more. So that is said by the user alone.
        found.pop("schema_registry_url", None)
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - for people, as DESIGN says


def _say_nothing(_line: str) -> None:
    """Another process of the same worker has said it."""


def _told(function: Callable[..., Any]) -> str:
    return f"hook {function.__module__}.{function.__qualname__}"
