"""What becomes of a task, from its outcome and its policy."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.verdict import Again, Dead, Done, judge, judge_late, judge_unknown
from taskstream.core.envelope import Envelope
from taskstream.core.retry import Fatal, Retry, RetryAfter, Snooze
from taskstream.core.states import State
from taskstream.core.tiers import LONGEST_DELAY

NOW = 1_700_000_000.0
TASK = Envelope("charge", id="0198c1d2-0000-7000-8000-000000000000")


def test_a_return_is_done() -> None:
    """A task that returns has succeeded."""
    assert judge(None, TASK, Retry(), NOW) == Done(State.SUCCEEDED)


@given(attempt=st.integers(1, 20), attempts=st.integers(1, 20))
def test_a_failure_is_tried_again_until_the_last_attempt(attempt: int, attempts: int) -> None:
    """The attempt that uses the policy up dies, any earlier one is due again in its jittered time."""
    policy = Retry(attempts=attempts, first=2.0, longest=60.0)
    verdict = judge(ValueError("no"), TASK._replace(attempt=attempt), policy, NOW)
    if attempt >= attempts:
        assert verdict == Dead("ValueError", "no")
    else:
        assert isinstance(verdict, Again)
        assert verdict.counts
        assert NOW <= verdict.due <= NOW + min(60.0, 2.0 * 2.0 ** (attempt - 1)) + 0.001


def test_the_same_attempt_is_always_due_at_the_same_time() -> None:
    """Jitter depends on (id, run, attempt) alone, so a repeated hand-off is the same hand-off."""
    again = [judge(ValueError(), TASK, Retry(first=100.0), NOW) for _ in range(5)]
    assert len(set(again)) == 1
    assert judge(ValueError(), TASK._replace(run=1), Retry(first=100.0), NOW) != again[0]


def test_words_of_the_task() -> None:
    """Fatal dies at once, RetryAfter counts, Snooze doesn't and outlives the last attempt."""
    last = TASK._replace(attempt=3)
    assert judge(Fatal("never"), TASK, Retry(), NOW) == Dead("Fatal", "never")
    assert judge(RetryAfter(30), TASK, Retry(), NOW) == Again(NOW + 30)
    assert judge(RetryAfter(30), last, Retry(attempts=3), NOW) == Dead(
        "RetryAfter", "retry after 30 s"
    )
    assert judge(Snooze(30), last, Retry(attempts=3), NOW) == Again(NOW + 30, counts=False)


def test_uncounted_attempts_leave_the_policy_untouched() -> None:
    """After two snoozes the third try is still the first in the eyes of the policy."""
    snoozed = TASK._replace(attempt=3, uncounted=2)
    assert isinstance(judge(ValueError(), snoozed, Retry(attempts=2), NOW), Again)


def test_never_and_on_go_by_class_and_base_class() -> None:
    """`never` ends at once, `on` limits what is tried again; a base class covers its subclasses."""
    policy = Retry(on=[OSError], never=["FileNotFoundError"])
    assert isinstance(judge(ConnectionError("x"), TASK, policy, NOW), Again)
    assert isinstance(judge(FileNotFoundError("x"), TASK, policy, NOW), Dead)
    assert isinstance(judge(KeyError("x"), TASK, policy, NOW), Dead)


def test_the_unknown_gets_its_grace_first() -> None:
    """An unknown task is put off, uncounted, until its grace is over, and then dies."""
    first = judge_unknown("UnknownTask", "charge", TASK, NOW, 600.0)
    assert first == Again(NOW + 5.0, counts=False, grace=NOW)
    later = TASK._replace(grace=NOW)
    assert judge_unknown("UnknownTask", "charge", later, NOW + 599, 600.0) == Again(
        NOW + 600, False, NOW
    )
    assert isinstance(judge_unknown("UnknownTask", "charge", later, NOW + 600, 600.0), Dead)


class Unspeakable(Exception):
    """An error whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def test_any_error_has_a_text_that_can_be_sent() -> None:
    """Surrogates, as file names have them, are escaped, and a __str__ that raises is survived."""
    assert judge(ValueError("no \udcff.txt"), TASK, Retry(attempts=1), NOW) == Dead(
        "ValueError", "no \\udcff.txt"
    )
    verdict = judge(Unspeakable(), TASK, Retry(attempts=1), NOW)
    assert isinstance(verdict, Dead)
    verdict.message.encode()


def test_waits_that_make_no_sense_are_bounded() -> None:
    """A task may ask for an endless wait, or for none that is a number, and gets one that can be kept."""
    for seconds in (float("inf"), float("nan"), -5.0, 1e300):
        verdict = judge(RetryAfter(seconds), TASK, Retry(), NOW)
        assert isinstance(verdict, Again)
        assert NOW <= verdict.due <= NOW + LONGEST_DELAY + 0.001


def test_snoozes_do_not_lengthen_the_first_wait() -> None:
    """After eight snoozes the first failure waits as the first one does."""
    snoozed = TASK._replace(attempt=9, uncounted=8)
    verdict = judge(ValueError(), snoozed, Retry(first=1.0), NOW)
    assert isinstance(verdict, Again)
    assert verdict.due <= NOW + 1.001


@given(
    since=st.floats(NOW - 1000, NOW),
    within=st.floats(0.001, 2000),
    wait=st.floats(0, 2000),
    asked=st.booleans(),
)
def test_no_attempt_is_due_after_the_time_limit(
    since: float, within: float, wait: float, asked: bool
) -> None:
    """Whoever chose the wait, policy or task: what would begin too late is dead, with its error and why."""
    policy = Retry(attempts=99, delays=[wait], within=within)
    error: Exception = RetryAfter(wait, "busy") if asked else ValueError("busy")
    verdict = judge(error, TASK._replace(since=since), policy, NOW)
    if NOW + wait > since + within:
        assert isinstance(verdict, Dead)
        assert verdict.reason == type(error).__name__
        assert verdict.message.startswith("busy (no further attempt")
        assert f"{within:g} s" in verdict.message
    else:
        assert isinstance(verdict, Again)
        assert NOW + wait <= verdict.due < NOW + wait + 0.0011


def test_a_snooze_outlives_the_time_limit() -> None:
    """It is no failure, and the time counts anew from its end."""
    snoozed = judge(Snooze(50), TASK._replace(since=NOW - 100), Retry(within=10), NOW)
    assert snoozed == Again(NOW + 50, counts=False)
    later = TASK._replace(since=NOW - 100).next_attempt(due=NOW + 50, counts=False)
    assert later.since == NOW + 50


def test_an_attempt_that_comes_up_too_late_does_not_begin() -> None:
    """A retry that waited in a backlog dies of the error before it; a first attempt always runs."""
    policy = Retry(within=60)
    second = TASK._replace(attempt=2, since=NOW - 61)
    late = judge_late(second, policy, ("ConnectionError", "no route"), NOW)
    assert isinstance(late, Dead)
    assert late.reason == "ConnectionError"
    assert late.message.startswith("no route (no further attempt")
    assert judge_late(second, policy, ("ConnectionError", "no route"), NOW - 2) is None
    assert judge_late(TASK._replace(since=NOW - 61), policy, None, NOW) is None
    assert judge_late(second._replace(uncounted=1), policy, None, NOW) is None
    assert judge_late(second, Retry(), None, NOW) is None
    forgotten = judge_late(second, policy, None, NOW)
    assert forgotten is not None
    assert forgotten.reason == "Timeout"


def test_the_time_counts_from_when_a_run_could_begin_first() -> None:
    """From the publish; a delayed one from its due time; a later run from its arrival; carried by retries."""
    published = TASK._replace(published=NOW)
    assert published.time_from(NOW + 5) == NOW
    assert published._replace(due=NOW + 60).time_from(NOW + 65) == NOW + 60
    assert TASK.time_from(NOW + 5) == NOW + 5
    again = published._replace(run=1, due=NOW + 60, since=NOW + 60)
    assert again.time_from(NOW + 500) == NOW + 500
    second = published._replace(due=NOW + 60, since=NOW + 60).next_attempt(due=NOW + 90)
    assert second.time_from(NOW + 91) == NOW + 60
    assert published.next_attempt(due=NOW + 90).time_from(NOW + 91) == NOW
