"""The front door: one short list, and it is true."""

import ast
import inspect

import taskstream
from taskstream.core import errors, retry


def test_the_list_is_what_is_there() -> None:
    """`__all__` names every public member, sorted, and nothing that is missing."""
    public = {name for names in taskstream._HOMES.values() for name in names}
    assert set(taskstream.__all__) == public | {"__version__"}
    assert taskstream.__all__ == sorted(taskstream.__all__)
    assert set(taskstream.__all__) <= set(dir(taskstream))
    for name in public:
        assert getattr(taskstream, name) is vars(taskstream)[name]


def test_type_checkers_see_what_is_there() -> None:
    """What they read, which never runs, names the same members from the same homes."""
    tree = ast.parse(inspect.getsource(taskstream))
    (seen,) = (
        node.body
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    told = {
        one.module: tuple(alias.name for alias in one.names)
        for one in seen
        if isinstance(one, ast.ImportFrom)
    }
    assert told == taskstream._HOMES


def test_a_name_that_is_not_there_is_refused() -> None:
    """As by any module: `from taskstream import nonsense` fails, and `hasattr` says no."""
    assert not hasattr(taskstream, "nonsense")


def test_every_error_of_the_tree_is_exported() -> None:
    """What users may have to catch, they can import from the front."""
    tree = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.TaskstreamError)
    }
    assert tree <= set(taskstream.__all__)


def test_every_word_to_the_worker_is_exported() -> None:
    """What a task may raise to steer its retries can be imported from the front."""
    words = {
        name
        for name, value in vars(retry).items()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__ == retry.__name__
        and not name.startswith("_")
    }
    assert words == {"Fatal", "RetryAfter", "Snooze"}
    assert words <= set(taskstream.__all__)


def test_every_public_member_is_documented() -> None:
    """Whatever is exported tells in its docstring what it is for."""
    undocumented = [
        name
        for name in taskstream.__all__
        if not name.startswith("_") and not inspect.getdoc(getattr(taskstream, name))
    ]
    assert undocumented == []


def test_the_whole_tree_is_drawn() -> None:
    """The docstring of the errors' module shows each error, so that it can be read as a map."""
    drawn = errors.__doc__ or ""
    missing = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value)
        and value.__module__ == errors.__name__
        and f" {name}" not in drawn
    ]
    assert missing == []
