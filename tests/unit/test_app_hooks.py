"""Hooks around attempts observe, whatever they do."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.unit.test_app_current import context

from taskstream.app.current import Context
from taskstream.app.hooks import Around, Observed


def hook(name: str, told: list[str]) -> Around:
    @contextmanager
    def around(it: Context) -> Iterator[None]:
        told.append(f"{name} before {it.id}")
        try:
            yield
        except ValueError as error:
            told.append(f"{name} saw {error}")
            raise
        told.append(f"{name} after")

    return around


def test_hooks_wrap_an_attempt_like_layers() -> None:
    """The first hook is the outermost; each sees the attempt's context."""
    told: list[str] = []
    with Observed([hook("a", told), hook("b", told)], context()):
        told.append("attempt")
    assert told == ["a before id-1", "b before id-1", "attempt", "b after", "a after"]


def test_every_hook_sees_the_error_and_it_goes_on() -> None:
    """An attempt's error is raised at each hook's yield and reaches the worker unchanged."""
    told: list[str] = []
    failure = ValueError("no")
    with (
        pytest.raises(ValueError, match="no") as caught,
        Observed([hook("a", told), hook("b", told)], context()),
    ):
        raise failure
    assert caught.value is failure
    assert told[2:] == ["b saw no", "a saw no"]


@contextmanager
def swallows(_: Context) -> Iterator[None]:
    with suppress(ValueError):
        yield


@contextmanager
def replaces(_: Context) -> Iterator[None]:
    try:
        yield
    finally:
        raise KeyError("mine")


@contextmanager
def fails_before(it: Context) -> Iterator[None]:
    if it.task == "charge":
        raise KeyError("mine")
    yield


@contextmanager
def yields_twice(_: Context) -> Iterator[None]:
    yield
    yield


@pytest.mark.parametrize("bad", [swallows, replaces, fails_before, yields_twice])
def test_no_hook_can_change_a_failure(bad: Around) -> None:
    """A hook that swallows or replaces the error, or fails itself, changes nothing."""
    told: list[str] = []
    failure = ValueError("no")
    with (
        pytest.raises(ValueError, match="no") as caught,
        Observed([hook("outer", told), bad, hook("inner", told)], context()),
    ):
        raise failure
    assert caught.value is failure
    assert told[-2:] == ["inner saw no", "outer saw no"]


@pytest.mark.parametrize("bad", [replaces, fails_before, yields_twice])
def test_no_hook_can_change_a_success(bad: Around, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that fails is logged with the task's name and id, and the attempt stays a success."""
    told: list[str] = []
    with caplog.at_level(logging.ERROR), Observed([bad, hook("inner", told)], context()):
        told.append("attempt")
    assert told == ["inner before id-1", "attempt", "inner after"]
    assert "task charge, id id-1" in caplog.text
