"""Retry policies: what they refuse, how a header tells them, and which errors they cover.

Broken on purpose once, and seen to fail: a policy's text without `within`, numbers told with six digits, a
list of one exception taken for its letters, `never` looked at after `on`.
"""

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from tests.support.policies import policies

from taskstream import ConfigError, Fatal, Retry, RetryAfter, Snooze
from taskstream.core.retry import LONGEST_TEXT_BYTES, MOST_ATTEMPTS, NO_RETRY
from taskstream.core.tiers import LONGEST_DELAY

NOW = 1_700_000_000.0


class Declined(Exception):
    """An error of a user's own."""


class CardDeclined(Declined):
    """A kind of it."""


@given(policies)
def test_what_a_header_says_is_the_policy(policy: Retry) -> None:
    """Every policy comes back from its text as it was."""
    assert Retry.parse(policy.text) == policy


def test_a_header_says_what_is_not_the_default() -> None:
    """Short, readable, and easy to write in any language."""
    assert Retry().text == ""
    assert NO_RETRY.text == "attempts=1"
    policy = Retry(attempts=5, delays=[1, 5, 30.5], on=[OSError, "Declined"], within=3600)
    assert policy.text == "attempts=5; delays=1,5,30.5; on=OSError,Declined; within=3600"
    assert Retry(jitter=False).text == "jitter=0"


def test_a_header_may_be_written_by_hand() -> None:
    """Blanks don't matter, nor does a last semicolon."""
    assert Retry.parse(" attempts = 2 ;delays= 1, 5;") == Retry(attempts=2, delays=[1, 5])
    assert Retry.parse("on=;never=") == Retry.parse("") == Retry()


@pytest.mark.parametrize(
    "text",
    ["atempts=5", "attempts", "attempts=0", "attempts=many", "attempts=1.5", "first=nan", "first=inf",
     "jitter=yes", "delays=1;delays=x", "delays=-1", "on=a.b", "within=0", "longest=1e99",
     f"attempts={MOST_ATTEMPTS + 1}", "on=" + "x" * LONGEST_TEXT_BYTES],
)  # fmt: skip
def test_a_header_that_can_not_be_meant_is_refused(text: str) -> None:
    """An unknown word is an error: a typing error must not go on as another policy."""
    with pytest.raises(ValueError, match=r"."):
        Retry.parse(text)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"attempts": 0}, "attempts=0"),
        ({"attempts": 2.5}, "attempts=2.5"),
        ({"first": -1}, "first=-1"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"longest": LONGEST_DELAY + 1}, "longest="),
        ({"delays": [1, -1]}, "delays=-1"),
        ({"delays": [LONGEST_DELAY + 1]}, "delays="),
        ({"delays": 5}, "delays=5"),
        ({"on": "OSError"}, "on='OSError'.*a list"),
        ({"on": OSError}, "on=OSError.*a list"),
        ({"on": [int]}, "on=int"),
        ({"never": ["httpx.ReadTimeout"]}, "without its module"),
        ({"within": 0}, "within=0"),
        ({"within": float("inf")}, "within=inf"),
    ],
)
def test_a_policy_that_can_not_be_meant_is_refused(wrong: dict[str, Any], named: str) -> None:
    """Where it is made, with the field's name."""
    with pytest.raises(ConfigError, match=named):
        Retry(**wrong)


def test_exceptions_are_kept_by_name() -> None:
    """So a policy is plain data: it can be hashed, sent, and compared."""
    policy = Retry(on=[OSError, "Declined"], never=[CardDeclined])
    assert policy == Retry(on=("OSError", Declined), never=["CardDeclined"])
    assert hash(policy) == hash(Retry.parse(policy.text))


def test_on_and_never_go_by_class_and_base_class() -> None:
    """For builtins and a user's own alike; `never` comes first, and an error of ours is known by its name."""
    policy = Retry(on=[OSError, Declined], never=["CardDeclined"])
    assert policy.covers(ConnectionResetError())
    assert policy.covers(Declined())
    assert not policy.covers(CardDeclined())
    assert not policy.covers(KeyError())
    # A time limit is a TimeoutError, and Python counts those among the OSErrors.
    from taskstream.consumer.verdict import Timeout

    assert policy.covers(Timeout())
    assert not Retry(never=["Timeout"]).covers(Timeout())


@pytest.mark.parametrize(
    ("when", "wait"),
    [
        (30, 30.0),
        (0.5, 0.5),
        ("120", 120.0),
        (datetime.fromtimestamp(NOW + 90, timezone(timedelta(hours=5))), 90.0),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120.0),
        ("Tue, 14 Nov 2023 22:15:20 -0000", 120.0),
        (datetime.fromtimestamp(NOW - 90, UTC), 0.0),
        (-5, 0.0),
        (float("nan"), 0.0),
        (float("inf"), LONGEST_DELAY),
        (datetime.fromtimestamp(NOW + 2 * LONGEST_DELAY, UTC), LONGEST_DELAY),
    ],
)
def test_a_wait_is_seconds_or_a_moment_or_what_http_says(when: Any, wait: float) -> None:
    """All forms mean an instant, within what a delay can be."""
    assert RetryAfter(when).due(NOW) == Snooze(when).due(NOW) == NOW + wait


@pytest.mark.parametrize("when", ["soon", "", datetime(2026, 1, 1)])  # noqa: DTZ001 - what is refused
def test_a_moment_that_is_none_is_refused(when: Any) -> None:
    """A text that is neither seconds nor a date, and a datetime without a time zone."""
    with pytest.raises(ValueError, match=r"."):
        RetryAfter(when)


def test_words_of_a_task_read_well_and_can_be_pickled() -> None:
    """Their text is the attempt's error, and a process pool of the task's own may raise them."""
    assert str(RetryAfter(30)) == "retry after 30 s"
    assert str(Snooze(30, "no file yet")) == "no file yet"
    for word in (RetryAfter("120", "busy"), Snooze(2.5), Fatal("why")):
        again = pickle.loads(pickle.dumps(word))
        assert (type(again), str(again)) == (type(word), str(word))
