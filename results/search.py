"""What to look for among the stored tasks, and how far a look has come. Pure.

A search goes from the newest task to the oldest and stops at what it was given: so many rows, or so many
seconds. Its `Mark` says where the next one goes on, so that a page costs the same however deep it lies.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from taskstream.core.clock import Clock
from taskstream.core.errors import ConfigError
from taskstream.core.states import State
from taskstream.results.row import Row


class Mark(NamedTuple):
    """A place in the order of the tasks: all that are older than this one come behind it.

    Args:
        born: when the task came into being, seconds since 1970.
        task_id: its id, which decides between two of the same moment.
    """

    born: float
    task_id: str

    def __str__(self) -> str:
        return f"{self.born!r}~{self.task_id}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """The inverse of `str`.

        Raises:
            ConfigError: it is none.
        """
        born, tilde, task_id = text.partition("~")
        try:
            seconds = float(born)
        except ValueError:
            seconds = -1.0
        if not tilde or not 0 <= seconds < 1e11:
            raise ConfigError(f"{text!r} is no place in a list of tasks: begin at its first page")
        return cls(seconds, task_id)


def mark_of(row: Row) -> Mark:
    """The place of a row's task."""
    return Mark(row.born, row.task_id)


class Search(NamedTuple):
    """What to look for; what is left out matches everything. Times are seconds since 1970.

    Args:
        states: any of these.
        task: the task's name.
        queue: its queue.
        priority: its priority.
        key: its ordering key.
        worker: who ran it last.
        since: it came into being then or later.
        until: it came into being before.
        error: the error's type, a name or a pattern as `*Timeout`.
        text: stands in the error's type or text; small and capital letters are the same.
    """

    states: frozenset[State] = frozenset()
    task: str = ""
    queue: str = ""
    priority: str = ""
    key: str = ""
    worker: str = ""
    since: float | None = None
    until: float | None = None
    error: str = ""
    text: str = ""

    def matches(self, row: Row) -> bool:
        """Whether a task with this current row is meant."""
        return (
            (not self.states or row.state in self.states)
            and (not self.task or row.task == self.task)
            and (not self.queue or row.queue == self.queue)
            and (not self.priority or row.priority == self.priority)
            and (not self.key or row.key == self.key)
            and (not self.worker or row.worker == self.worker)
            and (self.since is None or row.born >= self.since)
            and (self.until is None or row.born < self.until)
            and (not self.error or fnmatchcase(row.error_type or "", self.error))
            and (not self.text or self._tells(row))
        )

    def _tells(self, row: Row) -> bool:
        wanted = self.text.casefold()
        return any(wanted in told.casefold() for told in (row.error_type, row.error) if told)


class Found(NamedTuple):
    """What a search has found.

    Args:
        rows: current rows, newest task first; without their results and tracebacks.
        mark: where the next search goes on; None where nothing is left.
        in_time: whether it ended before its time was up; else there may be more that match before `mark`.
        looked: how many tasks it has looked at.
    """

    rows: list[Row]
    mark: Mark | None
    in_time: bool
    looked: int


def look(
    rows: Iterable[Row | Mark],
    search: Search,
    limit: int,
    *,
    seconds: float,
    clock: Clock,
) -> Found:
    """Goes through rows, newest task first, until enough are found or time is up.

    Args:
        rows: current rows in order; a `Mark` among them says that nothing is left before it, where a
            stretch without rows took its time.
        search: what to look for.
        limit: how many rows are enough.
        seconds: how long it may take. At least one row or mark is looked at, so that whoever goes on gets on.
        clock: measures the time.
    """
    until = clock.monotonic() + seconds
    found: list[Row] = []
    looked = 0
    mark: Mark | None = None
    for row in rows:
        if isinstance(row, Mark):
            mark = row
        else:
            looked += 1
            mark = mark_of(row)
            if search.matches(row):
                found.append(row)
                if len(found) >= limit:
                    return Found(found, mark, in_time=True, looked=looked)
        if clock.monotonic() >= until:
            return Found(found, mark, in_time=False, looked=looked)
    return Found(found, None, in_time=True, looked=looked)
