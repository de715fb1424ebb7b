"""An obituary is repeated for as long as Kafka may still take it, and given up where it never will."""

import pytest

from taskstream.broker.failures import QueueFull, RecordTooLarge, TimedOut, UnknownTopic
from taskstream.consumer.child.obituaries import worth_repeating
from taskstream.core.errors import BadArguments, PublishError, PublishTimeout, TooLarge


def _because(error: PublishError, cause: Exception) -> PublishError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        PublishTimeout("no answer in time"),
        TimedOut("the schema topic can't be read"),
        _because(PublishError("nothing was sent"), TimedOut("Kafka can't be asked")),
        _because(PublishError("was not sent"), QueueFull("no room in time")),
        _because(PublishError("was not accepted"), UnknownTopic("not yet, after an outage")),
    ],
)
def test_an_outage_is_waited_for(error: Exception) -> None:
    """Whatever Kafka may take once it is back is published again."""
    assert worth_repeating(error, patient=True)


@pytest.mark.parametrize(
    "error",
    [
        _because(TooLarge("too large"), RecordTooLarge("refused by the broker")),
        BadArguments("message has no such parameter"),
        ValueError("from a before_publish hook"),
    ],
)
def test_what_can_never_be_published_is_given_up(error: Exception) -> None:
    """The dead letter tells the same, and the dead task's offset must not wait for ever."""
    assert not worth_repeating(error, patient=True)


def test_a_topic_that_does_not_appear_is_given_up_in_the_end() -> None:
    """It was never created: `taskstream init` was not run since the task was defined."""
    error = _because(PublishError("was not accepted"), UnknownTopic("there is none"))
    assert not worth_repeating(error, patient=False)
