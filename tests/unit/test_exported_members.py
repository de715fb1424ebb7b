"""The front door: one short list, and it is true."""

import inspect
import types

import taskstream
from taskstream.core import errors, retry


def test_the_list_is_what_is_there() -> None:
    """`__all__` names every public member, sorted, and nothing that is missing."""
    public = {
        name
        for name, value in vars(taskstream).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(taskstream.__all__) == public | {"__version__"}
    assert taskstream.__all__ == sorted(taskstream.__all__)


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
