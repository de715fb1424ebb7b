"""The filters of the list of tasks, as they stand in its address. Pure, and its own inverse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from urllib.parse import urlencode

from taskstream.admin.dashboard.flaws import Flaws
from taskstream.core.errors import ConfigError
from taskstream.core.moments import instant
from taskstream.core.states import JUDGED, State
from taskstream.results.search import Mark, Search

FINDABLE = (
    State.SUCCEEDED, State.RETRYING, State.DEAD, State.CANCELLED, State.EXPIRED, State.RUNNING, State.WAITING,
)  # fmt: skip
"""States that a row can be in."""

LONGEST = 1000
"""Characters of a filter; more is nobody's question."""


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody wants to see. Times are as they were typed, as `core.moments.instant` reads them.

    Args:
        states: names of states, any of them.
        task: the task's name.
        queue: its queue.
        priority: its priority.
        key: its ordering key.
        worker: who ran it last.
        since: not older than this.
        until: older than this.
        error: the error's type, a name or a pattern as `*Timeout`.
        text: in the error's type or text.
        after: where the page before ended; empty for the first page.
    """

    states: tuple[str, ...] = ()
    task: str = ""
    queue: str = ""
    priority: str = ""
    key: str = ""
    worker: str = ""
    since: str = ""
    until: str = ""
    error: str = ""
    text: str = ""
    after: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Sequence[str]]) -> "Query":
        """The query in an address's parameters; what is not known there is left alone."""
        texts = {
            name: given[name][-1].strip()[:LONGEST] for name in _TEXTS if given.get(name)
        }  # fmt: skip
        return cls(states=tuple(dict.fromkeys(given.get("state", ()))), **texts)

    @property
    def parameters(self) -> str:
        """The same as an address's parameters; empty where nothing is asked."""
        pairs = [("state", state) for state in self.states]
        pairs += [(name, getattr(self, name)) for name in _TEXTS if getattr(self, name)]
        return urlencode(pairs)

    @property
    def as_replay(self) -> str:
        """The same as a replay asks for it, as far as it can.

        Empty where only states are asked for in which no attempt ends: without them it would mean all others.
        """
        ended = [state for state in self.states if state in JUDGED]
        if self.states and not ended:
            return ""
        told = {name: getattr(self, name) for name in _AS_REPLAY}
        told["task"] = escape(self.task)
        told["since"] = self.since or "1h"
        pairs = [(name, text) for name, text in told.items() if text]
        return urlencode([*pairs, *(("state", state) for state in ended)])

    @property
    def as_letters(self) -> str:
        """The same as dead letters are asked for by it, as far as they can; their reason is the error's type."""
        told = {
            "task": escape(self.task),
            "reason": self.error,
            "since": self.since,
            "until": self.until,
        }
        return urlencode({name: text for name, text in told.items() if text})

    @property
    def narrows(self) -> bool:
        """Whether it leaves any task out."""
        return replace(self, after="") != Query()

    def at(self, mark: Mark | None) -> "Query":
        """The same from another place on."""
        return replace(self, after="" if mark is None else str(mark))

    def flaws(self, now: float) -> dict[str, str]:
        """What can't be read of it, by the name of its field."""
        flaws = Flaws()
        given = {"since": self.since, "until": self.until, "after": self.after}
        flaws.read("since", given, lambda text: _moment(text, now))
        flaws.read("until", given, lambda text: _moment(text, now))
        flaws.read("after", given, Mark.parse)
        for name in self.states:
            flaws.read("state", {"state": name}, _state)
        return flaws.told

    def search(self, now: float) -> Search:
        """What to look for.

        Args:
            now: seconds since 1970.

        Raises:
            ConfigError: a state or a time can't be read; names it.
        """
        return Search(
            states=frozenset(_state(name) for name in self.states),
            task=self.task,
            queue=self.queue,
            priority=self.priority,
            key=self.key,
            worker=self.worker,
            since=_moment(self.since, now),
            until=_moment(self.until, now),
            error=self.error,
            text=self.text,
        )

    def mark(self) -> Mark | None:
        """Where to go on; None for the first page. Raises ConfigError."""
        return Mark.parse(self.after) if self.after else None


_AS_REPLAY = ("queue", "priority", "key", "until", "error", "text")
_TEXTS = ("task", "queue", "priority", "key", "worker", "since", "until", "error", "text", "after")


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        raise ConfigError(f"state {name!r} is none: use {', '.join(FINDABLE)}") from None


def _moment(text: str, now: float) -> float | None:
    if not text:
        return None
    seconds = instant(text, now)
    if not 0 <= seconds < 1e11:
        raise ConfigError(f"{text!r} is not a time that a task can have")
    return seconds
