"""What /ready says, and when it says nothing."""

from dataclasses import replace

import pytest

from taskstream.consumer.parent.readiness import Condition, not_ready

WELL = Condition(
    children=2,
    storeless=0,
    assigned=True,
    ordered=True,
    draining=False,
    commit_ages={"tasks.high": 0.3, "tasks.low": 15.0},
    commit_limit=15.0,
    halted=(),
)


def test_a_worker_that_works_is_ready() -> None:
    """A commit may be as late as its limit; before it has joined, nothing is missed."""
    assert not_ready(WELL) == []
    assert not_ready(replace(WELL, assigned=None, ordered=None, commit_ages={})) == []


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (replace(WELL, children=0), "no child is ready"),
        (replace(WELL, storeless=1), "the result store does not answer 1 of 2 children"),
        (replace(WELL, assigned=False), "no partition is assigned"),
        (replace(WELL, ordered=False), "the control topic has not been read to its end yet"),
        (replace(WELL, draining=True), "it is draining"),
        (
            replace(WELL, commit_ages={"tasks.low": 17.2}),
            "Kafka has acknowledged no commit of tasks.low for 17 s",
        ),
        (replace(WELL, halted=("tasks.low",)), "tasks.low is halted: too many of its tasks died"),
    ],
)
def test_each_trouble_has_its_sentence(condition: Condition, reason: str) -> None:
    """One sentence, which names what is away."""
    assert not_ready(condition) == [reason]
