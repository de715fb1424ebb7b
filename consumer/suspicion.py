"""When a task is blamed for the death of its process: the rules on crashes, pure.

A process that dies takes along all the tasks it had begun, and does not say which of them killed it. So
each of them is a suspect, and its record is given out again as one. Before it runs, the strike is
written into the store, where it survives the whole worker; from the second strike on it runs in a child
of its own, where nobody else can be to blame. If that child dies, and the parent lives to see it, the
task has killed three times, the last time alone: it is dead.

The death of the whole worker is seen by nobody. It may be the task's doing (it fills the container's
memory), or nobody's (kill -9), so it counts, but takes many to convict.
"""

from dataclasses import dataclass
from enum import IntEnum

ALONE_FROM = 2
"""From so many strikes on a task runs in a child of its own."""

LOST_FOR_GOOD = 3
"""So many strikes, the last one for a child that it had to itself, and it is dead."""

LOST_UNSEEN = 10
"""So many strikes, and it is dead though its worker died with it each time, and nobody saw of what.

A task of a second or two under workers that are killed every two seconds should outlive this; one that
takes its container down should not do so for ever.
"""


class Suspicion(IntEnum):
    """What the parent knows of a task that it gives out; a number on the wire."""

    NONE = 0
    """No process died of it, as far as one knows."""
    SUSPECT = 1
    """A process died that had begun it, or may have."""
    CAUGHT = 2
    """A child died that had begun it and held nothing else."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to be done with a task.

    Args:
        strikes: how often it has been a suspect by now.
        record: whether that must be in the store before it runs.
        alone: whether it must run in a child of its own.
        dead: whether it must not run at all.
    """

    strikes: int
    record: bool
    alone: bool
    dead: bool


def rule(suspicion: Suspicion, recorded: int) -> Ruling:
    """Rules on a task that is about to run.

    One that is no suspect now, but has strikes from before (its worker was stopped in order since then),
    runs as it would have run there.

    Args:
        suspicion: what the parent knows.
        recorded: the strikes in the attempt's row; 0 where there is none.
    """
    strikes = recorded + (suspicion is not Suspicion.NONE)
    dead = strikes >= LOST_UNSEEN or (suspicion is Suspicion.CAUGHT and strikes >= LOST_FOR_GOOD)
    return Ruling(
        strikes, record=strikes > recorded and not dead, alone=strikes >= ALONE_FROM, dead=dead
    )
