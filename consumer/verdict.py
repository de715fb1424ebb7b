"""What becomes of a task after an attempt: pure, from the attempt's outcome and the retry policy.

There are three verdicts, and a worker does nothing else with a task than to carry one out: `Done`
needs only its row; `Again` and `Dead` need their row first, and then a record that Kafka has
acknowledged.
"""

import math
from dataclasses import dataclass
from typing import Final

from taskstream.core.envelope import Envelope
from taskstream.core.retry import Fatal, Retry, RetryAfter, Snooze
from taskstream.core.states import State

GRACE_PAUSE = 5.0
"""Seconds between two looks at a task that nobody here knows yet."""


@dataclass(frozen=True, slots=True)
class Done:
    """The run is over, and nothing follows."""

    state: State = State.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Again:
    """One more attempt is due.

    Args:
        due: not before, seconds since 1970.
        counts: whether the attempt that just ended counts for the policy.
        grace: when a worker first met the task without knowing it; None for a known one.
    """

    due: float
    counts: bool = True
    grace: float | None = None

    @property
    def state(self) -> State:
        """The state that the row of this attempt shows."""
        return State.RETRYING


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt: the record goes to the dead letters.

    Args:
        reason: one word for counting, the error's class name or ours.
        message: the error's text.
    """

    reason: str
    message: str

    @property
    def state(self) -> State:
        """The state that the row of this attempt shows."""
        return State.DEAD


Verdict = Done | Again | Dead

SUCCEEDED: Final = Done()
"""One for all."""


class Timeout(TimeoutError):
    """The attempt passed its time limit; users see this name as `error_type`."""


class Cancelled(BaseException):
    """Ends an attempt that somebody cancelled. No Exception, so that a task doesn't take it for one."""


def judge(error: BaseException | None, envelope: Envelope, policy: Retry, now: float) -> Verdict:
    """The verdict on one attempt.

    Args:
        error: what the task raised; None if it returned.
        envelope: the attempt's metadata, `since` among it.
        policy: the retry policy of the task, or of its publish.
        now: seconds since 1970.
    """
    if error is None:
        return SUCCEEDED
    if isinstance(error, Snooze):
        return Again(_instant(error.due(now)), counts=False)
    dead = Dead(type(error).__name__, text_of(error))
    if isinstance(error, Fatal) or envelope.counted_attempt >= policy.attempts:
        return dead
    if isinstance(error, RetryAfter):
        due = error.due(now)
    elif policy.covers(error):
        due = now + policy.wait(
            envelope.id, envelope.run, envelope.attempt, envelope.counted_attempt
        )
    else:
        return dead
    if _time_is_up(envelope, policy, due):
        return Dead(dead.reason, f"{dead.message}{_told(policy)}")
    return Again(_instant(due))


def judge_late(
    envelope: Envelope, policy: Retry, last: tuple[str, str] | None, now: float
) -> Dead | None:
    """The verdict on an attempt that comes up after the time limit of its task: it does not begin.

    Args:
        envelope: the attempt's metadata.
        policy: the task's retry policy.
        last: class name and text of the error before it; None where the store does not know it any more.
        now: seconds since 1970.
    """
    if envelope.counted_attempt == 1 or not _time_is_up(envelope, policy, now):
        return None
    reason, message = last or ("Timeout", "the error of the attempt before is not known any more")
    return Dead(reason, f"{message}{_told(policy)}")


def text_of(error: BaseException) -> str:
    """An error's text, whatever it holds: one that can be sent, stored and shown."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = f"<{type(error).__name__} whose text can't be had>"
    return text.encode("utf-8", "backslashreplace").decode()


def judge_unknown(
    reason: str, message: str, envelope: Envelope, now: float, grace: float
) -> Verdict:
    """The verdict on a task whose name or schema nobody here knows: put off, dead after `grace`.

    A rolling deploy brings publishers before workers, so what is unknown now may be known soon.

    Args:
        reason: "UnknownTask" or "UnknownSchema".
        message: what is unknown.
        envelope: the record's metadata.
        now: seconds since 1970.
        grace: for how long it is put off, in seconds.
    """
    first_met = envelope.grace if envelope.grace is not None else now
    if now - first_met >= grace:
        return Dead(reason, f"{message}, also after {grace:g} s of grace")
    pause = min(GRACE_PAUSE, max(0.0, first_met + grace - now))
    return Again(_instant(now + pause), counts=False, grace=first_met)


def _time_is_up(envelope: Envelope, policy: Retry, at: float) -> bool:
    return (
        policy.within is not None
        and envelope.since is not None
        and at > envelope.since + policy.within
    )


def _told(policy: Retry) -> str:
    return f" (no further attempt: it would begin after the {policy.within:g} s of Retry(within=))"


def _instant(seconds: float) -> float:
    """A due time as the result store can keep it, in whole milliseconds, and never earlier.

    So a hand-off that is repeated from the stored row is due at the very same time.
    """
    return math.ceil(seconds * 1000) / 1000
