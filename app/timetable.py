"""The schedules that an app's code defines: `@app.schedule(...)`, checked where the module is imported.

Nothing is written here: `taskstream init`, and each scheduler when it starts, bring them to Kafka.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from taskstream.app.definition import key_text
from taskstream.app.options import KeyFunction
from taskstream.app.task import Task
from taskstream.core.cron import Cron, Every, When, check
from taskstream.core.errors import BadArguments, ConfigError, DefinitionError, MissingExtra
from taskstream.core.schedule import CatchUp, Overlap, Schedule

T = TypeVar("T", bound=Task[..., Any])


class ScheduleArguments(TypedDict, total=False):
    """The keyword arguments of `@app.schedule`, told in `App.schedule`."""

    tz: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    name: str
    catch_up: CatchUp
    overlap: Overlap
    queue: str
    priority: str
    key: str | KeyFunction
    unordered: bool
    expires: float


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule in code.

    Args:
        task: what it publishes.
        schedule: all of it, but for the frame of its arguments, which only the schema store knows.
    """

    task: Task[..., Any]
    schedule: Schedule


class Timetable:
    """The schedules that the code of one app defines.

    Args:
        app: the app's name, for errors.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self._planned: dict[str, Planned] = {}

    @property
    def planned(self) -> Mapping[str, Planned]:
        """All of them by name, in the order of their definition."""
        return self._planned

    def decorator(self, when: str | Every, **how: Any) -> Callable[[T], T]:
        """What `@app.schedule(...)` returns: takes the task, keeps its schedule, gives it back."""

        def keep(task: T) -> T:
            given: object = task  # whatever a type checker would say to it
            if not isinstance(given, Task):
                raise DefinitionError(
                    f"app.schedule({when!r}): {getattr(given, '__name__', given)!r} is no task: put "
                    "@app.schedule above @app.task"
                )
            self.add(task, when, **how)
            return task

        return keep

    def add(
        self,
        task: Task[..., Any],
        when: str | Every,
        *,
        tz: str = "UTC",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        catch_up: CatchUp = "once",
        overlap: Overlap = "allow",
        queue: str | None = None,
        priority: str | None = None,
        key: str | KeyFunction | None = None,
        unordered: bool = False,
        expires: float | None = None,
    ) -> None:
        """Keeps a schedule. Raises DefinitionError."""
        named = name or task.name
        if named in self._planned:
            other = self._planned[named].task.name
            raise DefinitionError(
                f"schedule {named} of task {task.name}: app {self._app} has a schedule of that name "
                f"already, of task {other}; give one of them another name="
            )
        try:
            times = read_when(when, tz)
            task.options(queue=queue, priority=priority, expires=expires, unordered=unordered)
            positional, by_name = tuple(args), dict(kwargs or {})
            schedule = Schedule(
                name=named,
                task=task.name,
                when=times,
                value=task.encode(positional, by_name),
                queue=queue or task.queue,
                priority=priority or task.priority,
                key=_key(task, key, positional, by_name),
                expires=expires,
                catch_up=catch_up,
                overlap=overlap,
                package=task.function.__module__.partition(".")[0],
            )
        except (ConfigError, BadArguments) as error:
            raise DefinitionError(f"schedule {named} of task {task.name}: {error}") from error
        self._planned[named] = Planned(task, schedule)


def read_when(when: str | Every, tz: str) -> When:
    """When a schedule fires, checked.

    Where the library for cron lines is not installed, as in a service that only publishes, they are
    taken as they are: whoever brings them to Kafka checks them.

    Raises:
        ConfigError: a line can't be read or never comes, or its zone is not known.
    """
    times = when if isinstance(when, Every) else Cron(" ".join(str(when).split()), tz)
    with suppress(MissingExtra):
        check(times)
    return times


def _key(
    task: Task[..., Any],
    key: str | KeyFunction | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str | None:
    if key is None:
        return task.read_key(args, kwargs)
    return key_text(key(*args, **kwargs) if callable(key) else key, task=task.name)
