"""Which tasks a person means: by name, error, time, text, id, or a condition over the arguments.

`Selection` is plain data and decides by what the headers say; a `Sieve` decodes arguments as well, where a
condition asks for it. What it can't tell it leaves out, and counts: nothing is dropped in silence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from taskstream.admin.where import Where, WhereFailed
from taskstream.core.errors import SchemaError
from taskstream.core.moments import moment


@dataclass(frozen=True, slots=True)
class Facts:
    """What a selection looks at without decoding anything.

    Args:
        id: the task's id.
        task: its name.
        at: when it happened, seconds since 1970.
        reason: the error's type; empty where there was none.
        message: the error's text.
    """

    id: str
    task: str
    at: float
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tasks are meant: those for which all that is given holds; without anything, all.

    Args:
        task: a pattern of names, as in `thumb_*`.
        reason: a pattern of error types, as in `*Timeout`.
        since: not before, seconds since 1970.
        until: before, seconds since 1970.
        text: stands in the error's text, in small or capital letters.
        where: a condition over the decoded arguments, as `admin.where` tells.
        ids: these tasks alone; empty for all.
    """

    task: str | None = None
    reason: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    where: str | None = None
    ids: frozenset[str] = frozenset()

    def matches(self, facts: Facts) -> bool:
        """Whether all that is given holds, but for `where`."""
        return (
            (not self.ids or facts.id in self.ids)
            and (self.task is None or fnmatchcase(facts.task, self.task))
            and (self.reason is None or fnmatchcase(facts.reason, self.reason))
            and (self.since is None or facts.at >= self.since)
            and (self.until is None or facts.at < self.until)
            and (self.text is None or self.text.casefold() in facts.message.casefold())
        )

    def described(self) -> dict[str, str]:
        """What is given, as text, for the audit log."""
        told = {
            "task": self.task,
            "error": self.reason,
            "since": None if self.since is None else moment(self.since),
            "until": None if self.until is None else moment(self.until),
            "text": self.text,
            "where": self.where,
            "ids": " ".join(sorted(self.ids)) or None,
        }
        return {name: text for name, text in told.items() if text is not None}


class Sieve:
    """Applies a selection to one task after the other. For one thread.

    Args:
        selection: which tasks are meant.
        decode: gives the arguments in a record's value; called only where a condition asks for them.

    Attributes:
        untold: of how many it could not be told whether the condition holds; those are left out.
        why: what was wrong with the first of them; empty where there was none.

    Raises:
        ConfigError: the condition is no expression.
    """

    def __init__(
        self, selection: Selection, decode: Callable[[bytes | None], Mapping[str, Any]]
    ) -> None:
        self._selection = selection
        self._decode = decode
        self._where = None if selection.where is None else Where(selection.where)
        self.untold = 0
        self.why = ""

    def passes(self, facts: Facts, value: bytes | None) -> bool:
        """Whether a task is meant.

        Args:
            facts: of the task.
            value: of its record.

        Raises:
            BrokerError: the schema store can't be read.
        """
        if not self._selection.matches(facts):
            return False
        if self._where is None:
            return True
        try:
            return self._where.matches(self._decode(value))
        except (WhereFailed, SchemaError) as error:
            self.untold += 1
            self.why = self.why or f"task {facts.task} ({facts.id}): {error}"
            return False
