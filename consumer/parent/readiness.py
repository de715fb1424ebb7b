"""Why a worker does no work now, in words for /ready: pure, and true again by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a worker is.

    Args:
        children: how many children are ready.
        storeless: how many of them get no answer from the result store.
        assigned: whether it has partitions; None before it has joined.
        ordered: whether it has read what was ordered before it started; None before it has joined.
        draining: whether it was told to stop.
        commit_ages: seconds since the last acknowledged commit, by lane.
        commit_limit: without one for so many seconds, nothing new of a lane starts.
        halted: the lanes that are halted because their tasks only die.
    """

    children: int
    storeless: int
    assigned: bool | None
    ordered: bool | None
    draining: bool
    commit_ages: Mapping[str, float]
    commit_limit: float
    halted: Sequence[str]


def not_ready(condition: Condition) -> list[str]:
    """Why it does no work now, a sentence each; empty if it does."""
    reasons = []
    if not condition.children:
        reasons.append("no child is ready")
    if condition.storeless:
        reasons.append(
            f"the result store does not answer {condition.storeless} of {condition.children} children"
        )
    if condition.assigned is False:
        reasons.append("no partition is assigned")
    if condition.ordered is False:
        reasons.append("the control topic has not been read to its end yet")
    reasons += (
        f"Kafka has acknowledged no commit of {lane} for {age:.0f} s"
        for lane, age in condition.commit_ages.items()
        if age > condition.commit_limit
    )
    reasons += (f"{lane} is halted: too many of its tasks died" for lane in condition.halted)
    if condition.draining:
        reasons.append("it is draining")
    return reasons
