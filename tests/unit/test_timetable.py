"""Schedules in code: what `@app.schedule` keeps, and what it refuses when the module is imported.

Broken on purpose once, and seen to fail: a name that is taken twice; arguments that nobody checks.
"""

import sys
from typing import Any

import pytest

from taskstream import App, DefinitionError, every
from taskstream.core.cron import Cron, Every
from taskstream.core.schedule import version_of


@pytest.fixture
def app() -> App:
    return App("shop", bootstrap_servers="embedded", queues={"tasks": {"high": 6, "normal": 3}})


def clean(shop: str, days: int = 7) -> None:
    """Cleans."""


def test_it_stands_above_a_task(app: App) -> None:
    """The task stays what it was; its name is the schedule's; defaults are filled in."""
    task = app.task(clean)
    assert app.schedule("*/5  * * * *", tz="Europe/Berlin", args=("north",))(task) is task
    planned = app.schedules["clean"]
    assert planned.task is task
    one = planned.schedule
    assert (one.name, one.task, one.when) == (
        "clean",
        "clean",
        Cron("*/5 * * * *", "Europe/Berlin"),
    )
    assert one.value == task.encode(("north", 7), {})
    assert (one.queue, one.priority, one.key) == ("tasks", "normal", None)
    assert (one.catch_up, one.overlap, one.package) == ("once", "allow", "tests")
    assert one.origin == "code"


def test_several_stand_above_one_another_with_names_of_their_own(app: App) -> None:
    """One task, two times, two kinds of arguments."""
    task = app.task(clean)
    app.schedule(every(30), kwargs={"shop": "north"}, name="north")(
        app.schedule("@daily", kwargs={"shop": "south"}, name="south", priority="high")(task)
    )
    assert list(app.schedules) == ["south", "north"]
    assert app.schedules["north"].schedule.when == Every(30)
    assert app.schedules["south"].schedule.priority == "high"


def test_a_remote_task_can_be_scheduled(app: App) -> None:
    """Its signature is enough; the worker that runs it is elsewhere."""

    @app.schedule("@hourly")
    @app.remote
    def refund() -> None: ...

    assert app.schedules["refund"].task is refund


def test_a_key_follows_from_the_arguments(app: App) -> None:
    """As in a publish, unless another is given."""
    task = app.task(key="shop")(clean)
    app.schedule("@daily", kwargs={"shop": "north"})(task)
    app.schedule("@daily", kwargs={"shop": "north"}, name="other", key="k")(task)
    app.schedule("@daily", kwargs={"shop": "n"}, name="made", key=lambda shop: shop * 2)(task)
    assert [app.schedules[name].schedule.key for name in ("clean", "other", "made")] == [
        "north",
        "k",
        "nn",
    ]


@pytest.mark.parametrize(
    ("when", "how", "told"),
    [
        ("61 * * * *", {}, "Bad minute"),
        ("@daily", {"tz": "Mars"}, "no time zone 'Mars'"),
        ("@daily", {"kwargs": {}}, "missing argument: shop"),
        ("@daily", {"kwargs": {"shop": 1}}, "argument shop"),
        ("@daily", {"kwargs": {"shop": "n", "shops": 1}}, "did you mean shop"),
        ("@daily", {"queue": "gpu"}, "no queue 'gpu'"),
        ("@daily", {"priority": "low"}, "no priority 'low'"),
        ("@daily", {"catch_up": "twice"}, "catch_up='twice'"),
        ("@daily", {"overlap": "never"}, "overlap='never'"),
        ("@daily", {"expires": -1}, "expire"),
        ("@daily", {"name": "a b"}, "schedule name 'a b'"),
    ],
)
def test_what_can_not_be_is_refused_at_definition(
    app: App, when: str, how: dict[str, Any], told: str
) -> None:
    """The error names the schedule, its task, and what is wrong."""
    how = {"kwargs": {"shop": "north"}, **how}
    with pytest.raises(DefinitionError, match=told):
        app.schedule(when, **how)(app.task(clean))
    assert not app.schedules


def test_a_name_belongs_to_one_schedule(app: App) -> None:
    """The second one is told to take another."""
    task = app.task(clean)
    app.schedule("@daily", kwargs={"shop": "n"})(task)
    with pytest.raises(DefinitionError, match="of that name already, of task clean"):
        app.schedule("@hourly", kwargs={"shop": "n"})(task)


def test_below_the_task_it_is_refused(app: App) -> None:
    """A plain function is no task yet."""
    with pytest.raises(DefinitionError, match=r"put @app\.schedule above @app\.task"):
        app.schedule("@daily")(clean)  # type: ignore[type-var]


def test_a_keyed_task_goes_nowhere_else_by_accident(app: App) -> None:
    """Another priority loses its order, as in a publish."""
    task = app.task(key="shop")(clean)
    with pytest.raises(DefinitionError, match="unordered=True"):
        app.schedule("@daily", kwargs={"shop": "n"}, priority="high")(task)
    app.schedule("@daily", kwargs={"shop": "n"}, priority="high", unordered=True)(task)


def test_the_same_code_is_the_same_version(app: App) -> None:
    """Two starts of one program say the same."""
    other = App("shop", bootstrap_servers="embedded")
    for one in (app, other):
        one.schedule("@daily", kwargs={"shop": "n"})(one.task(clean))
    mine, theirs = (one.schedules["clean"].schedule for one in (app, other))
    assert version_of(mine) == version_of(theirs)


def test_without_its_library_a_service_still_starts(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that only publishes need not be able to read cron lines."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    app.schedule("61 * * * *", kwargs={"shop": "n"})(app.task(clean))
    assert list(app.schedules) == ["clean"]
