"""What a person did, for those who ask later: one record of the events topic for each action.

Orders (`core.control`) say what holds; actions say what happened, and are never taken back.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action.

    Args:
        verb: what was done.
        target: to what: a task's id, `queue:NAME`, `task:NAME`, `schedule:NAME`; `*` for all.
        at: when it was asked for, seconds since 1970.
        who: who asked.
        reason: why; empty where nobody said.
        count: how many tasks it concerned; None where nobody knows.
        details: what else was said, as text.
    """

    verb: str
    target: str
    at: float
    who: str
    reason: str = ""
    count: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The action as commands with `--json` show it."""
        return {**asdict(self), "details": dict(self.details)}
