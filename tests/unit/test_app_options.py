"""Options of a publish: what they mean in time, and what they refuse."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.app.options import LONGEST_ID_BYTES, Options
from taskstream.core.errors import BadArguments
from taskstream.core.retry import NO_RETRY, Retry
from taskstream.core.tiers import LONGEST_DELAY

NOW = 1_700_000_000.0


@given(st.floats(min_value=0.001, max_value=LONGEST_DELAY - 1))
def test_a_delay_counts_from_the_publish(delay: float) -> None:
    """A delay is due that many seconds after the publish."""
    assert Options(delay=delay).due(NOW) == NOW + delay


def test_at_takes_a_datetime_or_seconds() -> None:
    """Both forms of `at` mean the same instant, whatever the time zone."""
    instant = datetime.fromtimestamp(NOW + 90, timezone(timedelta(hours=5)))
    assert Options(at=instant).due(NOW) == NOW + 90
    assert Options(at=NOW + 90).due(NOW) == NOW + 90


@pytest.mark.parametrize("options", [Options(), Options(delay=0), Options(at=NOW - 5)])
def test_what_is_due_already_waits_nowhere(options: Options) -> None:
    """No delay, none left, and a time in the past all mean: at once."""
    assert options.due(NOW) is None


def test_expires_counts_from_the_publish_or_names_an_instant() -> None:
    """A number is seconds from the publish, a datetime the instant itself."""
    assert Options(expires=60).expiry(NOW) == NOW + 60
    assert Options(expires=datetime.fromtimestamp(NOW + 60, UTC)).expiry(NOW) == NOW + 60
    assert Options().expiry(NOW) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delay": 1, "at": NOW}, "delay=, at="),
        ({"delay": -1}, "delay=-1"),
        ({"delay": float("nan")}, "delay=nan"),
        ({"at": datetime(2024, 1, 1)}, "at=2024"),  # noqa: DTZ001 - what is refused
        ({"expires": datetime(2024, 1, 1)}, "expires=2024"),  # noqa: DTZ001
        ({"id": ""}, "id=''"),
        ({"id": "two\nlines"}, "id='two"),
        ({"id": "\ud800"}, "id="),
        ({"id": "x" * (LONGEST_ID_BYTES + 1)}, f"at most {LONGEST_ID_BYTES}"),
        ({"id": 7}, "id=7"),
        ({"retry": 5}, "retry=5"),
        ({"retry": "app"}, "retry=.app"),
        ({"retry": Retry(on=[f"Error{n}" for n in range(200)])}, "retry=.*1024"),
        ({"delay": timedelta(minutes=5)}, "delay=.*seconds"),
        ({"at": "tomorrow"}, "at=.tomorrow"),
        ({"expires": "60"}, "expires=.60"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    """Each option that makes no sense is refused with its name when the options are made."""
    with pytest.raises(BadArguments, match=named):
        Options(**options)


@pytest.mark.parametrize("ahead", [LONGEST_DELAY + 1, float("nan"), float("inf")])
def test_more_than_a_year_ahead_is_refused(ahead: float) -> None:
    """Delay topics carry a task for a year at most, and time that is no number not at all."""
    with pytest.raises(BadArguments, match="a year"):
        Options(at=NOW + ahead).due(NOW)


@pytest.mark.parametrize(
    "options", [Options(expires=0), Options(expires=60, delay=60), Options(expires=float("nan"))]
)
def test_a_task_that_would_expire_unrun_is_refused(options: Options) -> None:
    """An expiry that isn't after the due time can't be meant."""
    with pytest.raises(BadArguments, match="expire"):
        options.expiry(NOW)


def test_a_policy_of_its_own_is_carried_and_the_tasks_is_not() -> None:
    """None is a policy, too: a single attempt."""
    assert Options().policy is None
    assert Options(retry="task").policy is None
    assert Options(retry=None).policy == NO_RETRY
    assert Options(retry=Retry(attempts=5)).policy == Retry(attempts=5)
