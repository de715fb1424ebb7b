"""What closes a dead letter: it was redriven, or purged.

A closing stands in the topic of dead letters itself, in the partition of the letter and behind it: so
retention, which takes a partition from its beginning, never takes it before the letter.
"""

from dataclasses import asdict, dataclass
from typing import Any

REDRIVEN = "redriven"
"""The task runs again."""

PURGED = "purged"
"""Nobody wants to see the letter any more; the task stays dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """Why a dead letter counts no more.

    Args:
        id: the dead task's id.
        run: the run that died.
        how: `REDRIVEN` or `PURGED`.
        as_run: the run in which the task goes on; None for a purge.
        at: when, seconds since 1970.
        who: who did it.
        reason: why; empty where nobody said.
    """

    id: str
    run: int
    how: str
    as_run: int | None = None
    at: float
    who: str
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """It as commands with `--json` show it."""
        return asdict(self)
