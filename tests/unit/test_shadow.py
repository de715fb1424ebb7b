"""Shadows: an app under another name, in which no function of the app's own can run.

Broken on purpose once, and seen to fail: `Task.enter_shadow` that leaves the function of a task without
one for shadows; `enter_shadow` of the registry for the tasks of the moment alone.
"""

import asyncio
from typing import Any

import pytest

from taskstream import App, ConfigError, DefinitionError, State
from taskstream.admin.shadow import Ending, Match, beside, match
from taskstream.app.loader import load
from taskstream.core.settings import Settings
from taskstream.core.shadow import shadow_app, shadow_settings


@pytest.fixture
def app() -> App:
    """An app on real servers that nobody asks."""
    return App("shop", bootstrap_servers="nowhere:1", cassandra_hosts="nowhere", keyspace="ks")


def add(a: int, b: int = 2) -> int:
    """The real thing."""
    return a + b


def add_apart(a: int, b: int = 2) -> int:
    """What runs in a shadow."""
    return a - b


async def add_apart_later(a: int, b: int = 2) -> int:
    """The same as a coroutine."""
    return a - b


def test_a_shadow_has_names_and_a_keyspace_of_its_own(app: App) -> None:
    """Topics, groups and tables: all that is written."""
    app.task(add)
    app.enter_shadow("nightly")
    assert app.shadow == "nightly"
    assert app.name == "shop-shadow-nightly"
    assert app.names.tasks("tasks", "normal") == "shop-shadow-nightly.tasks.normal"
    assert app.names.control == "shop-shadow-nightly.control"
    assert app.settings.keyspace == "ks_shadow_nightly"


def test_settings_that_come_later_are_the_shadows_too(app: App) -> None:
    """A worker's child enters first, and is configured then; the order makes no difference."""
    app.enter_shadow("nightly")
    app.configure(quiet=True)
    assert app.settings.keyspace == "ks_shadow_nightly"


def test_in_a_shadow_a_task_is_its_other_function(app: App) -> None:
    """However it is called, and whether it was defined before or after."""
    before = app.task(shadow=add_apart)(add)
    app.enter_shadow("nightly")
    after = app.task(name="later", shadow=add_apart)(add)
    assert before(5, 1) == after(5, 1) == 4
    assert set(app.tasks) == {"add", "later"}


def test_a_shadow_fires_no_schedules(app: App) -> None:
    """What the code defines fires in the app; a shadow has what is replayed into it, and nothing else."""
    app.schedule("0 3 * * *", args=(1,))(app.task(shadow=add_apart)(add))
    assert set(app.schedules) == {"add"}
    app.enter_shadow("nightly")
    assert not app.schedules


def test_in_a_shadow_no_function_of_the_apps_own_is_left(app: App) -> None:
    """A task without one for shadows is unknown there, and refuses to be called."""

    @app.task
    def charge(cents: int) -> int:
        raise AssertionError("charged")

    app.enter_shadow("nightly")

    @app.task
    def refund(cents: int) -> int:
        raise AssertionError("refunded")

    for task in (charge, refund):
        assert app.find(task.name) is None
        with pytest.raises(ConfigError, match="no function for shadows"):
            task(1)
        with pytest.raises(ConfigError, match="no function for shadows"):
            task.function(1)
    assert dict(app.tasks) == {}


@pytest.mark.parametrize(
    ("runs", "function", "there"),
    [
        (None, add_apart, "thread"),
        ("process", add_apart, "process"),
        ("process", add_apart_later, "async"),
        (None, add_apart_later, "async"),
    ],
)
def test_a_shadow_function_runs_where_the_task_does_as_far_as_it_can(
    app: App, runs: Any, function: Any, there: str
) -> None:
    """A coroutine runs on the loop; a plain function where the task's own would."""
    task = app.task(runs=runs, shadow=function)(add)
    assert task.runs == (runs or "thread")
    app.enter_shadow("nightly")
    assert task.runs == there
    result = task(5, 1)
    assert (asyncio.run(result) if there == "async" else result) == 4  # type: ignore[arg-type]


def test_a_coroutine_may_have_a_plain_function_for_shadows(app: App) -> None:
    """It runs in a thread then."""
    task = app.task(name="add", shadow=add_apart)(add_apart_later)
    app.enter_shadow("nightly")
    assert task.runs == "thread"


def test_another_signature_is_refused_at_definition(app: App) -> None:
    """Another argument, type, default or result: the payloads of the one must be those of the other."""

    def renamed(a: int, c: int = 2) -> int: ...  # type: ignore[empty-body]
    def retyped(a: str, b: int = 2) -> int: ...  # type: ignore[empty-body]
    def other_default(a: int, b: int = 3) -> int: ...  # type: ignore[empty-body]
    def other_result(a: int, b: int = 2) -> str: ...  # type: ignore[empty-body]

    for function in (renamed, retyped, other_default, other_result):
        with pytest.raises(DefinitionError, match=f"task add: shadow=.*{function.__name__}"):
            app.task(shadow=function)(add)
    with pytest.raises(DefinitionError, match="is a task itself"):
        app.task(name="sum", shadow=app.task(name="apart")(add_apart))(add)
    assert "add" not in app.tasks


def test_an_on_dead_task_without_a_shadow_function_hears_nothing_there(app: App) -> None:
    """It would wait in the shadow for a worker that knows it."""

    def bury(task: str) -> None: ...

    loud = app.task(on_dead=app.task(bury), shadow=add_apart)(add)
    app.enter_shadow("nightly")
    assert loud.on_dead is None


@pytest.mark.parametrize("name", ["", "Nightly", "a.b", "a-b", "2nd", "x" * 21])
def test_a_shadow_needs_a_name_that_fits_topics_and_keyspaces(name: str) -> None:
    """Refused before anything is made."""
    with pytest.raises(ConfigError, match="shadow name"):
        shadow_app("shop", name)


def test_what_gets_too_long_is_refused() -> None:
    """An app's name has 63 characters at most, a keyspace's 48."""
    with pytest.raises(ConfigError, match="app name"):
        shadow_app("s" * 50, "nightly")
    with pytest.raises(ConfigError, match="keyspace"):
        shadow_settings(Settings(keyspace="k" * 40), "nightly")


def test_the_embedded_broker_has_no_shadows() -> None:
    """It has one file of results for all."""
    with pytest.raises(ConfigError, match="real servers"):
        shadow_settings(Settings(bootstrap_servers="embedded"), "nightly")


def test_a_process_is_part_of_one_shadow(app: App) -> None:
    """A second one, or one beside open clients, would mix what is written."""
    app.enter_shadow("nightly")
    with pytest.raises(ConfigError, match="in use already"):
        app.enter_shadow("weekly")


def test_beside_an_app_stands_one_that_only_has_the_shadows_names(app: App) -> None:
    """For who reads the one and writes the other; the app itself stays what it is."""
    app.task(shadow=add_apart)(add)
    there = beside(app, "nightly")
    assert (there.name, there.settings.keyspace) == ("shop-shadow-nightly", "ks_shadow_nightly")
    assert there.settings.bootstrap_servers == "nowhere:1"
    assert dict(there.tasks) == {}
    assert (app.name, app.settings.keyspace) == ("shop", "ks")


def test_an_app_is_loaded_with_its_shadow(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:attribute@name` stands for the shadow wherever an app can be named."""
    (tmp_path / "shadowed_app.py").write_text(
        'from taskstream import App\napp = App("shop", bootstrap_servers="nowhere:1")\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("shadowed_app:app@nightly", directory=tmp_path).name == "shop-shadow-nightly"


def ended(value: Any = 1, *, state: State = State.SUCCEEDED, error: str | None = None) -> Ending:
    """An outcome."""
    return Ending(state, value, error, None if error is None else f"{error} at 12:00")


@pytest.mark.parametrize(
    ("own", "shadow", "how"),
    [
        (ended(), ended(), Match.SAME),
        (ended(1), ended(2), Match.DIFFERENT),
        (ended(), ended(None, state=State.DEAD, error="ValueError"), Match.DIFFERENT),
        (
            Ending(State.DEAD, None, "ValueError", "at 12:00"),
            Ending(State.DEAD, None, "ValueError", "at 13:00"),
            Match.SAME,
        ),
        (
            ended(None, state=State.DEAD, error="ValueError"),
            ended(None, state=State.DEAD, error="KeyError"),
            Match.DIFFERENT,
        ),
        (ended(), None, Match.MISSING),
        (None, ended(), Match.ALONE),
        (None, None, Match.MISSING),
    ],
)
def test_outcomes_are_the_same_in_state_value_and_kind_of_error(
    own: Ending | None, shadow: Ending | None, how: Match
) -> None:
    """An error's text may hold a time or an id, and makes no difference."""
    assert match(own, shadow) is how
