"""The journal: one line for each start of a task, each stored row and each look-up, as they happen.

Every process of every worker appends to the same file, each entry with one `O_APPEND` write, so that
no line is torn whoever dies when. Times are those of the machine's one clock, in seconds since 1970.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskstream import Context
    from taskstream.results.row import Row

JOURNAL = "TASKSTREAM_TEST_JOURNAL"
"""Names the file in a worker's environment."""


@dataclass(frozen=True, slots=True)
class Start:
    """A task's function began to run.

    Args:
        id: the task's id.
        run: as in the envelope.
        attempt: likewise.
        task: the task's name.
        pid: of the child process.
        parent: pid of its worker.
        fence: which ownership of the partition gave it out; the time of its assignment in
            microseconds.
        key: the ordering key; None for none.
        at: when.
    """

    id: str
    run: int
    attempt: int
    task: str
    pid: int
    parent: int
    fence: int
    key: str | None
    at: float


@dataclass(frozen=True, slots=True)
class End:
    """A task's function returned or raised."""

    id: str
    run: int
    attempt: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Stored:
    """The store has acknowledged a row.

    Args:
        id: the task's id.
        run: of the row.
        attempt: likewise.
        pid: who wrote it.
        state: what it says.
        written_us: its timestamp.
        started: when the attempt began; None if it never ran.
        due: when the next attempt is due; None where there is none.
        at: when the acknowledgement came.
    """

    id: str
    run: int
    attempt: int
    pid: int
    state: str
    written_us: int
    started: float | None
    due: float | None
    at: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A child is about to look in the store for a task's rows."""

    id: str
    pid: int
    at: float


@dataclass(slots=True)
class Journal:
    """All entries, in the order of the file."""

    starts: list[Start] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)


def note_start(me: "Context") -> None:
    """Notes a start; call it first of all in a task."""
    pids, now = (os.getpid(), os.getppid()), time.time()
    _append([("start", me.id, me.run, me.attempt, me.task, *pids, me.fence, me.key, now)])


def note_end(me: "Context") -> None:
    """Notes an end; call it last of all in a task."""
    _append([("end", me.id, me.run, me.attempt, os.getpid(), time.time())])


def note_stored(rows: "Iterable[Row]") -> None:
    """Notes rows that are in the store."""
    pid, now = os.getpid(), time.time()
    _append(
        [
            ("stored", row.task_id, row.run, row.attempt, pid, row.state, row.written_us,
             row.started, row.due, now)
            for row in rows
        ]
    )  # fmt: skip


def note_asked(ids: Iterable[str]) -> None:
    """Notes that the store is going to be asked for these tasks."""
    pid, now = os.getpid(), time.time()
    _append([("asked", task_id, pid, now) for task_id in ids])


def read(path: Path) -> Journal:
    """The journal so far."""
    journal = Journal()
    kinds: dict[str, tuple[Any, list[Any]]] = {
        "start": (Start, journal.starts),
        "end": (End, journal.ends),
        "stored": (Stored, journal.stored),
        "asked": (Asked, journal.asked),
    }
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # it is being written at this moment
                kind, *values = json.loads(line)
                make, entries = kinds[kind]
                entries.append(make(*values))
    return journal


def _append(entries: Sequence[tuple[Any, ...]]) -> None:
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    if text:
        # Opened each time: a descriptor kept in a module would have to survive forks and limits.
        file = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
