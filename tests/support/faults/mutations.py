"""Mutations: each breaks one line of what makes the promises hold, in the processes of the workers.

A harness that finds nothing under one of them would find nothing in a bug of that kind either. Each
names the fault under which it must be found, and what the oracle must then say.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.support.faults.injection import Patch


@dataclass(frozen=True, slots=True)
class Mutation:
    """One broken line.

    Args:
        what: the line, and what is done instead.
        patches: by module.
        fault: the fault of the catalogue under which it shows.
        found: what the oracle must find, at least one of it.
        mix: the weights of tasks by kind, where the usual mix has too few of what it breaks.
    """

    what: str
    patches: Sequence[tuple[str, Patch]]
    fault: str
    found: Collection[str]
    mix: Mapping[str, int] | None = None


def _told_before_stored(state: Collection[str]) -> Patch:
    """A child that reports verdicts of these states first and writes their rows then."""

    def patch(service: Any) -> None:
        record, conclude = service.Service._record, service.Service._conclude

        def told(attempt: Any) -> bool:
            return attempt.found is None and attempt.verdict.state in state

        def recording(self: Any, attempt: Any) -> None:
            if told(attempt):
                attempt.finished = attempt.finished or self._clock.now()
                row = service.steps.row(attempt, worker=self._worker)
                conclude(self, [(attempt, row)])
            record(self, attempt)

        def concluding(self: Any, recorded: Any) -> None:
            rest = [one for one in recorded if not told(one[0])]
            if rest:
                conclude(self, rest)

        service.Service._record, service.Service._conclude = recording, concluding

    return patch


def _commit_the_position(offsets: Any) -> None:
    """A commit that says what was delivered, as a plain `commit()` does."""
    progress = offsets.Tracker.progress
    offsets.Tracker.progress = lambda self, horizon, **how: replace(
        progress(self, horizon, **how), watermark=self.position, unfinished=()
    )


def _never_look_up(envelope: Any) -> None:
    """A parent that takes every record for one that came straight from its publisher."""
    peek = envelope.peek
    # Without its id, too: a copy that comes soon after the first would be known by it.
    envelope.peek = lambda headers: peek(headers)._replace(lookup=False, task_id=b"")


def _reserve_little(partitions: Any) -> None:
    """No mutation: a horizon so near that it does not cover for what should be looked up anyway."""
    partitions.RESERVE = 20


def _reserve_nothing(partitions: Any) -> None:
    """A horizon that says what was delivered so far, and does not hold back what comes next."""
    partitions.RESERVE = 0
    partitions.Partition.within_horizon = lambda _self, _entry: True
    partitions.Partition.commit_is_urgent = False


def _expect_every_integer(offsets: Any) -> None:
    """A tracker to which offsets are consecutive, as they are until the first transaction."""
    deliver = offsets.Tracker.deliver

    def delivering(self: Any, offset: int) -> Any:
        if not self._owed:
            self._unfinished.update(dict.fromkeys(range(self.position, offset)))
        return deliver(self, offset)

    offsets.Tracker.deliver = delivering


def _let_the_last_write_win(columns: Any) -> None:
    """Rows stamped with the time of their write, as the server or the driver does by default."""
    cells = columns.cells

    def stamped(partition: Any, rows: Any) -> Any:
        now_us = time.time_ns() // 1000
        return cells(partition, [row._replace(written_us=now_us) for row in rows])

    columns.cells = stamped


def _lock_no_key(lanes: Any) -> None:
    """Lanes in which nothing waits for its key."""

    def push(self: Any, entry: Any) -> bool:
        self._lanes[entry.lane].ready.append(entry)
        return True

    lanes.Lanes.push = push


def _ignore_due_times(envelope: Any) -> None:
    """A parent and a mover to which everything is due."""
    peek, read = envelope.peek, envelope.read
    envelope.peek = lambda headers: peek(headers)._replace(due=0.0)
    envelope.read = lambda headers: read(headers)._replace(due=None)
    stay_of = envelope.stay_of
    envelope.stay_of = lambda headers: stay_of(headers)._replace(due=0.0)


_SERVICE = "taskstream.consumer.child.service"
_OFFSETS = "taskstream.broker.offsets"
_ENVELOPE = "taskstream.core.envelope"
_PARTITIONS = "taskstream.consumer.parent.partitions"

MUTATIONS: Mapping[str, Mutation] = {
    "commit before write": Mutation(
        "a result is reported, and its offset committed, before its row is stored",
        [(_SERVICE, _told_before_stored(("succeeded",)))],
        "store away",
        ("lost",),
    ),
    "hand-off before write": Mutation(
        "a retry or dead letter is produced before the row that asks for it is stored",
        [(_SERVICE, _told_before_stored(("retrying", "dead")))],
        "store away",
        ("lost",),
        mix={"naps": 30, "fatal": 30},
    ),
    "plain commit": Mutation(
        "a commit claims all that was delivered",
        [(_OFFSETS, _commit_the_position)],
        "workers killed",
        ("lost",),
    ),
    "no look-up of hand-offs": Mutation(
        "nothing is looked up because of what it is",
        [(_ENVELOPE, _never_look_up), (_PARTITIONS, _reserve_little)],
        "crash points",
        ("run again",),
    ),
    "horizon not reserved": Mutation(
        "tasks are given out above the horizon of the last acknowledged commit",
        [(_PARTITIONS, _reserve_nothing)],
        "workers killed",
        ("run again",),
    ),
    "consecutive integers": Mutation(
        "offsets are taken for consecutive integers",
        [(_OFFSETS, _expect_every_integer)],
        "none",
        ("left over",),
    ),
    "server timestamps": Mutation(
        "rows are stamped when they are written, not when their task was given out",
        [("taskstream.results.columns", _let_the_last_write_win)],
        "late writes",
        ("undone",),
    ),
    "no lock on keys": Mutation(
        "a key's tasks are given out as they come",
        [("taskstream.consumer.parent.lanes", _lock_no_key)],
        "none",
        ("key order", "key overlap"),
    ),
    "due times ignored": Mutation(
        "whatever waits is moved and run at once",
        [(_ENVELOPE, _ignore_due_times)],
        "none",
        ("fired early",),
    ),
}
"""All of them, by name."""
