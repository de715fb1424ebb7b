"""What a child makes of the rows that it finds: run, repeat the hand-off, or drop."""

from typing import Any

import pytest

from taskstream import App, Retry
from taskstream.broker.records import Record
from taskstream.consumer.child.attempt import (
    Attempt,
    check,
    failure,
    judge_outcome,
    open_,
    recall,
    resolve,
    row,
    weigh,
)
from taskstream.consumer.pipe import Given
from taskstream.consumer.suspicion import LOST_UNSEEN, Suspicion
from taskstream.consumer.verdict import Again, Dead, Done
from taskstream.core.envelope import Envelope, Header, write
from taskstream.core.ids import new_id
from taskstream.core.states import State
from taskstream.results.row import Row

ID = new_id()
NOW_US = 1_700_000_000_000_000


def given_(headers: list[Header], suspicion: Suspicion = Suspicion.NONE) -> Given:
    """A task as the parent gives it."""
    record = Record("shop.tasks.normal", 3, 42, b"k", b"v", tuple(headers), 1_700_000_000.0)
    return Given(1, record, NOW_US, 7, "shop.tasks.normal", lookup=True, suspicion=suspicion)


def attempt_(attempt: int = 2, run: int = 0, suspicion: Suspicion = Suspicion.NONE) -> Attempt:
    """An opened attempt."""
    return open_(given_(write(Envelope("charge", id=ID, attempt=attempt, run=run)), suspicion))


def found(attempt: int, state: State, run: int = 0, **more: Any) -> Row:
    """A row in the store."""
    return Row(
        task_id=ID,
        run=run,
        attempt=attempt,
        state=state,
        task="charge",
        written_us=NOW_US - 5,
        **more,
    )


def recalled(
    attempt: Attempt, rows: list[Row], *, strict: bool = False, now: float = 100.0
) -> Attempt:
    """An attempt that has looked at its task's rows."""
    return recall(attempt, rows, strict=strict, now=now)


def test_an_earlier_attempt_does_not_stop_this_one() -> None:
    """The row of the attempt before asks for this one: it runs."""
    assert recalled(attempt_(2), [found(1, State.RETRYING, due=1.0)]).verdict is None
    assert (
        recalled(attempt_(1, run=1), [found(1, State.DEAD), found(0, State.WAITING, run=1)]).verdict
        is None
    )


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELLED, State.EXPIRED])
def test_a_judged_attempt_is_dropped(state: State) -> None:
    """What ended is not run again, and needs no hand-off."""
    recalled_ = recalled(attempt_(2), [found(1, State.RETRYING, due=1.0), found(2, state)])
    assert recalled_.verdict == Done(state)
    assert recalled_.found is not None


def test_a_judged_attempt_repeats_its_handoff_only() -> None:
    """A retry is due when its row says, a dead letter has its row's reason; the task is not run."""
    retried = recalled(attempt_(1), [found(1, State.RETRYING, due=9.5, counts=False)])
    assert retried.verdict == Again(9.5, counts=False)
    buried = recalled(attempt_(2), [found(2, State.DEAD, error_type="ValueError", error="no")])
    assert buried.verdict == Dead("ValueError", "no")


SOURCE = "shop.tasks.normal/3/42"


def held(attempt: int, state: State, **more: Any) -> Row:
    """A row of an attempt that had no record of its own: its retries hold their key."""
    return found(attempt, state, source=SOURCE, **more)


def test_a_held_retry_goes_on_with_the_next_attempt() -> None:
    """Once it is due by the clock: snoozes stay uncounted, and the policy sees what it saw before."""
    rows = [
        held(1, State.RETRYING, due=90.0),
        held(2, State.RETRYING, due=95.0, counts=False),
        held(3, State.RETRYING, due=99.0),
    ]
    goes_on = recalled(attempt_(1), rows, strict=True)
    assert goes_on.verdict is None
    assert (goes_on.envelope.attempt, goes_on.envelope.counted_attempt) == (4, 3)
    waits = recalled(attempt_(1), rows, strict=True, now=98.0)
    assert waits.verdict == Again(99.0)
    assert (waits.envelope.attempt, waits.envelope.uncounted) == (3, 1)


def test_a_held_task_that_is_over_is_not_run_again() -> None:
    """Its last row decides, and a dead letter that may be missing is made again."""
    done = recalled(
        attempt_(1), [held(1, State.RETRYING, due=9.0), held(2, State.SUCCEEDED)], strict=True
    )
    assert done.verdict == Done(State.SUCCEEDED)
    dead = recalled(
        attempt_(1), [held(1, State.RETRYING, due=9.0), held(2, State.DEAD, error_type="E")]
    )
    assert dead.verdict == Dead("E", "")
    assert dead.envelope.attempt == 2


def test_a_held_retry_survives_that_its_task_holds_them_no_more() -> None:
    """After a deploy without `strict_order`, what waited in memory is handed off, not dropped."""
    rows = [held(1, State.RETRYING, due=9.0, counts=False), held(2, State.RETRYING, due=9.5)]
    handed_off = recalled(attempt_(1), rows, strict=False)
    assert handed_off.verdict == Again(9.5)
    assert (handed_off.envelope.attempt, handed_off.envelope.uncounted) == (2, 1)


def test_a_held_task_with_an_unknown_schema_keeps_its_grace() -> None:
    """The grace counts from the first attempt that did not know it."""
    rows = [
        held(1, State.RETRYING, due=9.0, error_type="UnknownSchema", finished=5.0, counts=False),
        held(2, State.RETRYING, due=14.0, error_type="UnknownSchema", finished=9.5, counts=False),
    ]
    goes_on = recalled(attempt_(1), rows, strict=True)
    assert (goes_on.envelope.grace, goes_on.envelope.counted_attempt) == (5.0, 1)


@pytest.mark.parametrize(
    "later",
    [
        found(3, State.RETRYING, due=1.0),
        found(3, State.DEAD),
        found(1, State.SUCCEEDED, run=1),
        found(1, State.SUCCEEDED),
    ],
)
def test_where_a_later_one_has_been_nothing_is_done(later: Row) -> None:
    """A copy of a record whose task went on, in this run or another, is dropped."""
    assert isinstance(recalled(attempt_(2), [later]).verdict, Done)


def test_an_unfinished_row_is_written_over() -> None:
    """A row without a verdict, even of a clock ahead of ours, loses against this attempt's."""
    ahead = Row(
        task_id=ID,
        run=0,
        attempt=2,
        state=State.WAITING,
        task="charge",
        written_us=NOW_US + 1_000_000,
    )
    recalled_ = recalled(attempt_(2), [ahead])
    assert recalled_.verdict is None
    assert recalled_.written_us == NOW_US + 1_000_002


def test_a_foreign_record_has_the_same_id_for_all_who_read_it() -> None:
    """Without `ts-id` the id follows from topic, partition and offset."""
    one, other = open_(given_([("ts-task", b"charge")])), open_(given_([("ts-task", b"charge")]))
    assert one.envelope.id == other.envelope.id != ""


def test_unreadable_headers_end_the_attempt() -> None:
    """Headers that can't be read make a dead letter with a row under a derived id."""
    opened = open_(given_([("ts-task", b"charge"), ("ts-run", b"x")]))
    assert isinstance(opened.verdict, Dead)
    assert opened.verdict.reason == "Undecodable"
    assert opened.envelope.id
    assert row(opened, worker="w").state is State.DEAD


def test_strikes_are_added_to_those_of_the_row() -> None:
    """What an earlier owner wrote down counts, also where its clock was ahead; ours wins over it."""
    before = found(2, State.RUNNING, strikes=1)
    suspect = recalled(attempt_(2, suspicion=Suspicion.SUSPECT), [before])
    ruling = weigh(suspect)
    assert (ruling.strikes, ruling.alone, suspect.verdict) == (2, True, None)
    written = row(suspect, worker="w")
    assert (written.state, written.strikes) == (State.RUNNING, 2)
    assert before.written_us < written.written_us < suspect.written_us


def test_the_outcome_of_a_suspect_wins_over_its_strikes() -> None:
    """The two rows of one attempt: the second one has the higher timestamp, and keeps the strikes."""
    suspect = attempt_(2, suspicion=Suspicion.SUSPECT)
    weigh(suspect)
    struck = row(suspect, worker="w")
    suspect.verdict = Done()
    judged = row(suspect, worker="w")
    assert judged.written_us == struck.written_us + 1
    assert (judged.state, judged.strikes) == (State.SUCCEEDED, 1)


def test_strikes_belong_to_an_attempt() -> None:
    """A retry begins without those of the attempt before."""
    retried = recalled(attempt_(2), [found(1, State.RETRYING, due=1.0, strikes=2)])
    assert weigh(retried).strikes == 0


@pytest.mark.parametrize(
    ("suspicion", "recorded"), [(Suspicion.CAUGHT, 2), (Suspicion.SUSPECT, LOST_UNSEEN - 1)]
)
def test_a_task_that_kills_its_processes_is_dead(suspicion: Suspicion, recorded: int) -> None:
    """Caught alone at the third death, or unseen too often: it is not run again, and says why."""
    last = recalled(attempt_(2, suspicion=suspicion), [found(2, State.RUNNING, strikes=recorded)])
    weigh(last)
    assert isinstance(last.verdict, Dead)
    assert last.verdict.reason == "WorkerLost"
    assert f"{recorded + 1}" in last.verdict.message
    assert row(last, worker="w").strikes == recorded + 1


def test_the_unknown_is_put_off_with_its_reason() -> None:
    """The row of an unknown task says so, and does not count."""
    put_off = resolve(attempt_(1), None, now=100.0, grace=600.0)
    assert put_off.verdict == Again(105.0, counts=False, grace=100.0)
    written = row(put_off, worker="w")
    assert (written.state, written.counts, written.error_type) == (
        State.RETRYING,
        False,
        "UnknownTask",
    )


APP = App("shop", bootstrap_servers="nowhere:1")


@APP.task(retry=Retry(attempts=9, delays=[0], within=60))
def charge() -> None:
    """What is to be tried again."""


def failed(attempt: Attempt, now: float) -> Attempt:
    """One that has run, and raised."""
    attempt.task = charge
    return judge_outcome(attempt, None, ConnectionError("no route"), b"", now)


def test_a_publish_may_have_a_policy_of_its_own() -> None:
    """It counts instead of the task's, not beside it."""
    assert failed(attempt_(1), 1_700_000_000.0).verdict == Again(1_700_000_000.0)
    own = open_(given_(write(Envelope("charge", id=ID, retry=Retry(attempts=1)))))
    assert failed(own, 1_700_000_000.0).verdict == Dead("ConnectionError", "no route")


def test_the_row_says_that_the_time_is_up() -> None:
    """In the error's text, with its traceback: what a user reads is why there was no further attempt."""
    late = failed(attempt_(1), 1_700_000_061.0)
    assert late.verdict is not None
    written = row(late, worker="w")
    assert (written.state, written.error_type) == (State.DEAD, "ConnectionError")
    assert (written.error or "").startswith("no route (no further attempt")
    assert "ConnectionError" in (written.traceback or "")


def test_a_retry_that_comes_up_too_late_dies_of_the_last_error() -> None:
    """That error is in the row of the attempt before; nothing is run."""
    told: dict[str, Any] = {
        "error_type": "OSError",
        "error": "no route",
        "traceback": "Traceback ...",
    }
    rows = [found(1, State.RETRYING, due=1.0, **told)]
    late = recalled(attempt_(2), rows)
    late.task = charge
    check(late, now=1_700_000_061.0)
    assert isinstance(late.verdict, Dead)
    assert late.verdict.reason == "OSError"
    assert late.verdict.message.startswith("no route (no further attempt")
    written = row(late, worker="w")
    assert (written.attempt, written.started, written.error_type) == (2, None, "OSError")
    assert written.traceback == "Traceback ..."
    in_time = recalled(attempt_(2), rows)
    in_time.task = charge
    assert check(in_time, now=1_700_000_059.0).verdict is None


def test_the_time_of_held_retries_counts_anew_from_a_snooze() -> None:
    """They have one record; the ends of their snoozes are in their rows."""
    rows = [
        held(1, State.RETRYING, due=1_700_000_500.0, counts=False),
        held(2, State.RETRYING, due=1_700_000_520.0, error_type="OSError", error="no route"),
    ]
    goes_on = recalled(attempt_(1), rows, strict=True, now=1_700_000_521.0)
    assert (goes_on.envelope.counted_attempt, goes_on.envelope.since) == (2, 1_700_000_500.0)
    assert goes_on.last == rows[1]


@pytest.mark.parametrize(
    ("verdict", "error", "kind"),
    [
        (Done(State.SUCCEEDED), None, None),
        (Done(State.CANCELLED), InterruptedError("told to end"), None),
        (Done(State.EXPIRED), None, None),
        (Again(1.0, counts=True, grace=None), OSError("away"), "OSError"),
        (Again(1.0, counts=False, grace=None), OSError("a snooze"), None),
        (Again(1.0, counts=False, grace=9.0), None, None),
        (Dead("OSError", "away"), OSError("away"), "OSError"),
        (Dead("Undecodable", "no header"), None, "Undecodable"),
    ],
)
def test_what_counts_as_a_failure_is_one_in_the_trace(
    verdict: Done | Again | Dead, error: Exception | None, kind: str | None
) -> None:
    """A retry that counts, and a death, with or without an exception; not an end that was asked for, or a wait."""
    attempt = attempt_()
    attempt.verdict, attempt.error = verdict, error
    told = failure(attempt)
    assert (None if told is None else told.kind) == kind
    assert told is None or told.error is error


def test_a_task_is_ready_from_its_publish_or_its_due_time() -> None:
    """A later run from its arrival, a foreign record from when it was appended."""
    assert Envelope("charge", published=5.0).ready_from(7.0) == 5.0
    assert Envelope("charge", published=5.0, due=9.0).ready_from(7.0) == 9.0
    assert Envelope("charge", published=5.0, run=1).ready_from(7.0) == 7.0
    assert Envelope("charge").ready_from(7.0) == 7.0
