"""From "module:attribute" to an App, and from `include` to its tasks."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskstream.app.app import App
from taskstream.app.loader import load
from taskstream.core.errors import ConfigError, DefinitionError

MAIN = """
from taskstream import App
app = App("shop", include=["{package}.tasks"])
other = App("other")
text = "no app"
"""

TASKS = """
from {package}.main import app

@app.task
def add(a: int, b: int) -> int:
    return a + b
"""


@pytest.fixture
def package(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A package of a name of its own, so that no test sees another's modules."""
    name = "pkg_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "main.py").write_text(MAIN.format(package=name))
    (tmp_path / name / "tasks.py").write_text(TASKS.format(package=name))
    path = list(sys.path)
    yield name
    sys.path[:] = path
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def test_an_app_is_loaded_from_a_directory(package: str, tmp_path: Path) -> None:
    """Module and attribute name the App; without an attribute it is `app`."""
    app = load(f"{package}.main:app", directory=tmp_path)
    assert isinstance(app, App)
    assert load(f"{package}.main", directory=tmp_path) is app
    assert load(f"{package}.main:other", directory=tmp_path).name == "other"


def test_tasks_come_with_their_modules_only_when_asked(package: str, tmp_path: Path) -> None:
    """Loading an App imports no module of tasks; `load_tasks` does, and again does no harm."""
    app = load(f"{package}.main", directory=tmp_path)
    assert dict(app.tasks) == {}
    app.load_tasks()
    app.load_tasks()
    assert list(app.tasks) == ["add"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("{package}.missing", "no module named '{package}.missing'"),
        ("{package}.main:nothing", "found {package}.main:app, {package}.main:other"),
        ("{package}.main:text", "'text' in module {package}.main is no App"),
        ("{package}.tasks2", "imports 'not_there_at_all', which is not installed"),
        ("{package}.broken", "failed to import: ZeroDivisionError"),
        ("{package}:app", "the module holds none"),
    ],
)
def test_what_is_no_app_is_refused_with_what_was_found(
    package: str, tmp_path: Path, path: str, named: str
) -> None:
    """The error tells a missing module from a missing dependency, and lists the Apps there are."""
    (tmp_path / package / "tasks2.py").write_text("import not_there_at_all\n")
    (tmp_path / package / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError) as caught:
        load(path.format(package=package), directory=tmp_path)
    assert named.format(package=package) in str(caught.value)


def test_an_error_of_ours_in_a_module_is_raised_as_it_is(package: str, tmp_path: Path) -> None:
    """A wrong definition reads the same whoever imports its module."""
    tasks = tmp_path / package / "tasks.py"
    tasks.write_text(tasks.read_text().replace("a: int", "a"))
    app = load(f"{package}.main", directory=tmp_path)
    with pytest.raises(DefinitionError, match="task add: parameter a"):
        app.load_tasks()
