"""Defining tasks: names, runners, keys, and what is refused when the module is imported."""

import asyncio
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest

from taskstream import App, DefinitionError, Rate, Retry
from taskstream.app.task import AsyncTask, RemoteTask, SyncTask
from taskstream.core.errors import BadArguments, ConfigError
from taskstream.core.retry import NO_RETRY


@pytest.fixture
def app() -> App:
    return App("shop", bootstrap_servers="embedded")


def add(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


async def add_later(a: int, b: int = 2) -> int:
    """Adds, later."""
    return a + b


def test_a_task_is_named_after_its_function(app: App) -> None:
    """With and without parentheses, the name is the function's, never its module's."""
    assert app.task(add).name == "add"
    assert app.task(timeout=3)(add_later).name == "add_later"
    assert set(app.tasks) == {"add", "add_later"}


def test_a_task_stays_the_function_it_was(app: App) -> None:
    """Called, it runs here and now; signature and docstring are the function's."""
    task, later = app.task(add), app.task(add_later)
    assert isinstance(task, SyncTask)
    assert isinstance(later, AsyncTask)
    assert task(1, b=3) == 4
    assert asyncio.run(later(1)) == 3
    assert inspect.signature(task) == inspect.signature(add)
    assert task.__doc__ == "Adds."


def test_a_task_is_found_by_name_and_alias(app: App) -> None:
    """`name=` replaces the function's name, aliases are found as well, both only once as a task."""
    task = app.task(name="plus", aliases=["add", "sum"])(add)
    assert app.find("plus") is app.find("add") is app.find("sum") is task
    assert list(app.tasks) == ["plus"]
    assert app.find("minus") is None


@pytest.mark.parametrize("how", [{"name": "taken"}, {"aliases": ["taken"]}, {"aliases": ["old"]}])
def test_a_name_belongs_to_one_task(app: App, how: Any) -> None:
    """The same name or alias twice is refused at definition, with both places named."""
    app.task(name="taken", aliases=["old"])(add)
    with pytest.raises(DefinitionError, match="taken twice in app shop") as caught:
        app.task(**how)(add_later)
    assert "test_app_definition.add and" in str(caught.value)
    assert "test_app_definition.add_later" in str(caught.value)
    assert list(app.tasks) == ["taken"]


def test_a_refused_alias_leaves_no_half_of_the_task(app: App) -> None:
    """Where one name is taken, the others of the refused task are free again."""
    app.task(name="taken")(add)
    with pytest.raises(DefinitionError):
        app.task(name="fresh", aliases=["taken"])(add_later)
    assert app.find("fresh") is None


def test_apps_have_names_of_their_own(app: App) -> None:
    """Two apps may both have a task of one name."""
    assert app.task(add).name == App("stock").task(add).name


def test_a_remote_task_is_published_and_not_called(app: App) -> None:
    """A signature alone makes a task that no worker of this code runs and nobody can call."""
    task = app.remote(queue="mail")(add)
    assert isinstance(task, RemoteTask)
    assert task.queue == "mail"
    assert app.find("add") is None
    assert dict(app.tasks) == {}
    with pytest.raises(ConfigError, match="task add is remote"):
        task(1)
    with pytest.raises(DefinitionError, match="taken twice"):
        app.task(add)


def test_the_runner_follows_the_function(app: App) -> None:
    """Async for `async def`, else a thread, unless a process is asked for."""
    assert app.task(add_later).runs == "async"
    assert app.task(add).runs == "thread"
    assert app.task(name="crunch", runs="process")(add).runs == "process"


def generate(a: int) -> Any:
    """No task."""
    yield a


@pytest.mark.parametrize(
    ("function", "how", "named"),
    [
        (add, {"runs": "async"}, 'runs="async" needs an async def'),
        (add_later, {"runs": "thread"}, "runs on the event loop"),
        (add_later, {"runs": "fiber"}, "must be one of async, thread, process"),
        (generate, {}, "a generator can't be a task"),
        (lambda: None, {}, "name '<lambda>' is not allowed"),
        (add, {"name": "a.b"}, "name 'a.b' is not allowed"),
        (add, {"aliases": ["2nd"]}, "name '2nd' is not allowed"),
        (add, {"timeout": 0}, "timeout=0 must be above 0"),
        (add, {"soft_timeout": -1}, "soft_timeout=-1 must be above 0"),
        (add, {"timeout": 5, "soft_timeout": 5}, "must be below timeout=5"),
        (add, {"key": "c"}, "key='c' is none of its parameters"),
        (add, {"strict_order": True}, "strict_order needs a key"),
        (add, {"concurrency": 0}, r"task add: Concurrency\(limit=0"),
        (add, {"rate": "fast"}, "task add: rate 'fast'"),
        (add, {"rate": Rate(1, scope="key")}, "needs a key"),
        (add, {"topic": "shop.tasks.normal"}, "one of this app's own"),
        (add, {"queue": "a.b"}, "queue name 'a.b'"),
        (add, {"priority": "urgent"}, "no priority 'urgent'"),
    ],
)
def test_what_cannot_work_is_refused_at_definition(
    app: App, function: Callable[..., Any], how: Any, named: str
) -> None:
    """Each wrong definition is refused when it is made, by task and by what is wrong."""
    with pytest.raises(ConfigError, match=named):
        app.task(**how)(function)
    assert dict(app.tasks) == {}


def test_a_parameter_without_an_avro_form_is_refused_by_name(app: App) -> None:
    """The task and the parameter are named."""

    def bad(order: object) -> None:
        """No hint that has an Avro form."""

    with pytest.raises(DefinitionError, match="task bad: parameter order"):
        app.task(bad)


def test_a_task_for_the_dead_takes_what_is_known_of_them(app: App) -> None:
    """An `on_dead` task takes name, id, reason and message; another argument needs a default."""

    def bury(task: str, reason: str, tone: str = "low") -> None:
        """Can be published."""

    task = app.task(bury)
    assert app.task(on_dead=task)(add).on_dead is task
    with pytest.raises(DefinitionError, match=r"on_dead=add .* its argument a;"):
        app.task(on_dead=app.tasks["add"])(add_later)


def test_retry_is_the_apps_unless_said(app: App) -> None:
    """A task has the app's policy, its own, or none."""
    generous = App("shop", retry=Retry(attempts=9))
    assert app.task(add).retry == Retry()
    assert generous.task(add).retry == Retry(attempts=9)
    assert generous.task(name="once", retry=None)(add).retry is NO_RETRY
    assert generous.task(name="twice", retry=Retry(attempts=2))(add).retry == Retry(attempts=2)
    assert App("shop", retry=None).task(add).retry is NO_RETRY


def test_routes_move_a_task_without_its_code() -> None:
    """The route of an app wins over the definition's queue, whose topics then don't exist."""
    app = App("shop", routes={"add*": "gpu"})
    assert app.task(queue="tasks")(add).queue == "gpu"
    assert list(app.queues) == ["tasks", "gpu"]


class Shop(StrEnum):
    """A text enum."""

    MAIN = "main"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("o-17", "o-17"),
        (17, "17"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Shop.MAIN, "main"),
        (None, None),
        ("", None),
    ],
)
def test_keys_are_text_that_every_language_writes_alike(
    app: App, value: object, key: str | None
) -> None:
    """Text, whole numbers and UUIDs are keys; nothing and empty text are none."""
    assert app.task(key=lambda _a, **_: value)(add).read_key((1,), {}) == key


@pytest.mark.parametrize("value", [1.5, True, b"o-17", "\ud800", ["o-17"]])
def test_what_languages_write_differently_is_no_key(app: App, value: object) -> None:
    """A key that another language would write in another way is refused with the task's name."""
    with pytest.raises(BadArguments, match="task add: the key"):
        app.task(key=lambda _a: value)(add).read_key((1,), {})


def test_a_key_is_read_by_position_by_name_and_by_default(app: App) -> None:
    """However a call gives the argument, its key is the same."""
    read = app.task(key="b")(add).read_key
    assert read((1, 7), {}) == "7"
    assert read((1,), {"b": 7}) == "7"
    assert read((), {"b": 7, "a": 1}) == "7"
    assert read((1,), {}) == "2"


def test_a_keyed_task_keeps_its_topic(app: App) -> None:
    """Another queue or priority for a keyed task needs the word `unordered`."""
    keyed, free = app.task(key="a")(add), app.task(add_later)
    app.task(name="far", queue="mail")(add)
    free.options(priority="high")
    keyed.options(priority="normal", queue="tasks", key="7")
    keyed.options(priority="high", queue="mail", unordered=True)
    for options in ({"priority": "high"}, {"queue": "mail"}):
        with pytest.raises(BadArguments, match="unordered=True"):
            keyed.options(**options)  # type: ignore[arg-type]


def test_options_are_checked_when_they_are_made(app: App) -> None:
    """A queue or priority that doesn't exist is refused before anything is published."""
    with pytest.raises(BadArguments, match="no queue 'gpu'"):
        app.task(add).options(queue="gpu")


def test_wrong_settings_are_refused_when_the_app_is_made() -> None:
    """A setting of an unknown name or of a wrong type is refused by name."""
    with pytest.raises(ConfigError, match="bootstrap_server"):
        App("shop", bootstrap_server="x:1")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="partitions"):
        App("shop", partitions="many")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"app name 'my\.shop'"):
        App("my.shop")


def test_hooks_of_the_wrong_kind_are_refused(app: App) -> None:
    """A lifespan is one async generator, an around hook a plain one."""
    with pytest.raises(DefinitionError, match="a lifespan is an async def"):
        app.lifespan(generate)  # type: ignore[arg-type]

    @app.lifespan
    async def resources() -> Any:
        yield 1

    with pytest.raises(DefinitionError, match="has a lifespan already"):
        app.lifespan(resources)
    with pytest.raises(DefinitionError, match="an around hook is a def"):
        app.around(resources)  # type: ignore[arg-type]
    assert len(app.lifespans) == 1


def test_a_lifespan_is_entered_by_whoever_runs_tasks(app: App) -> None:
    """What it yields is what its context manager gives."""

    @app.lifespan
    async def resources() -> Any:
        yield {"pool": 1}

    async def child() -> Any:
        async with app.lifespans[0]() as value:
            return value

    assert asyncio.run(child()) == {"pool": 1}
