"""The states of a task, and which of them are final.

A stored row gives `retrying` and the final states; a worker's heartbeat gives `running`; what a
handle saw acknowledged gives `waiting` and `delayed`; no trace at all is `unknown`.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a task is in its life."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    DELAYED = "delayed"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    # An enumeration's own is a function of Python, and states are keys wherever tasks are counted.
    __hash__ = str.__hash__

    @property
    def final(self) -> bool:
        """Whether nothing follows this state without a redrive or replay."""
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED})
"""The states that end a run."""

JUDGED = FINAL | {State.RETRYING}
"""The states that end an attempt."""
