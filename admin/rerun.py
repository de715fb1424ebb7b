"""Further runs of tasks that keep their ids: which number a run has, and the row that announces it.

A run is announced by a row `waiting` with attempt 0, before its record is sent. The row says who asked
(`source`), so whoever does the same again after a crash finds the number that he gave the run, and sends
the same record: its identity decides, and a worker runs it once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taskstream.admin.stores import store_rows
from taskstream.core.states import State
from taskstream.results.row import Row
from taskstream.results.store import ResultStore


class Further(NamedTuple):
    """A task that is to run again.

    Args:
        id: its id.
        task: its name.
        run: the last run that its record knows of; -1 where there need not have been one.
        queue: where it is published.
        priority: with which it is published.
        key: its ordering key; None where it has none.
        published: when it was first published, seconds since 1970.
    """

    id: str
    task: str
    run: int
    queue: str
    priority: str
    key: str | None
    published: float | None


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for further runs.

    Args:
        marker: stands in the `source` of the rows that announce his runs; the same for the same request.
        who: a person, for the tasks' histories.
        why: what for; likewise.
    """

    marker: str
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Announced:
    """Which run a task begins.

    Args:
        run: its number.
        known: whether it was announced before, by the same asker.
    """

    run: int
    known: bool


def next_run(rows: Iterable[Row], told: int, marker: str) -> Announced:
    """The run that an asker begins; the same however often he asks. Pure.

    Args:
        rows: all that the store has of the task.
        told: the last run that is known without them; -1 for none.
        marker: names the asker, in the `source` of the rows that announce his runs.
    """
    highest = told
    for row in rows:
        if row.attempt == 0 and row.source == marker:
            return Announced(row.run, known=True)
        highest = max(highest, row.run)
    return Announced(highest + 1, known=False)


def announcement(further: Further, run: int, *, asker: Asker, now: float) -> Row:
    """The row that announces a run. Pure; `now` in seconds since 1970."""
    return Row(
        task_id=further.id,
        run=run,
        attempt=0,
        state=State.WAITING,
        task=further.task,
        written_us=round(now * 1e6),
        queue=further.queue,
        priority=further.priority,
        key=further.key,
        worker=asker.who,
        published=further.published,
        error=asker.why or None,
        source=asker.marker,
    )


def announce(
    store: ResultStore, tasks: Sequence[Further], *, asker: Asker, now: float
) -> Mapping[str, int]:
    """Announces a run of each task, and gives its number by the task's id; safe to call again.

    Args:
        store: where rows are kept.
        tasks: each id once.
        asker: who asks.
        now: seconds since 1970.

    Raises:
        StoreError: the store did not answer, or refused a row.
    """
    rows = store.read_many([one.id for one in tasks])
    runs = {one.id: next_run(rows[one.id], one.run, asker.marker) for one in tasks}
    store_rows(
        store,
        [
            announcement(one, runs[one.id].run, asker=asker, now=now)
            for one in tasks
            if not runs[one.id].known
        ],
    )
    return {task_id: begun.run for task_id, begun in runs.items()}
