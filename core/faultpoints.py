"""Named points between two steps of a promise, where a test lets a process die or stand still.

Outside tests a point is one look at a variable that is None. A test names a directory in
`TASKSTREAM_FAULTS`, in the environment of the worker. While a file with a point's name lies there, the
next process that comes by takes it away and does to itself what the file says: `kill` (SIGKILL) or
`stop` (SIGSTOP; it goes on from there after a SIGCONT). So each file strikes one process, once, and
what it leaves behind, `<point>.<pid>`, says which one and when.

Here, at the bottom, because parent, child and scheduler have nothing else in common that knows no I/O.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

VARIABLE: Final = "TASKSTREAM_FAULTS"
"""Names the directory; empty or unset turns every point off, which is read once at the start."""

BEFORE_RUN: Final = "child.before-run"
"""Decoded, and about to start."""

AFTER_RUN: Final = "child.after-run"
"""The task has returned or raised; its row is not on its way yet."""

AFTER_WRITE: Final = "child.after-write"
"""Its row is stored; the parent doesn't know yet."""

BEFORE_EVENTS: Final = "parent.before-events"
"""The parent knows; the events topic has not been told."""

BEFORE_HANDOFF: Final = "parent.before-handoff"
"""The parent knows, and has not produced the retry or dead letter."""

AFTER_HANDOFF: Final = "parent.after-handoff"
"""Kafka has acknowledged the retry or dead letter; its offset is not finished."""

BEFORE_COMMIT: Final = "parent.before-commit"
"""Offsets are about to be committed."""

AFTER_COMMIT: Final = "parent.after-commit"
"""Kafka has acknowledged a commit."""

BEFORE_MOVE: Final = "scheduler.before-move"
"""A record is about to leave its delay topic."""

AFTER_MOVE: Final = "scheduler.after-move"
"""Kafka has acknowledged its next stop; its offset is not finished."""

BEFORE_MOVER_COMMIT: Final = "scheduler.before-commit"
"""Offsets of delay topics are about to be committed."""

AFTER_MOVER_COMMIT: Final = "scheduler.after-commit"
"""Kafka has acknowledged a commit of delay topics."""

AFTER_REPLAY_ROWS: Final = "replay.after-rows"
"""The runs of some replayed tasks are announced in the store; their records are not sent."""

AFTER_REPLAY_SEND: Final = "replay.after-send"
"""One of them was given to the client; Kafka may have it or not."""

BEFORE_REPLAY_COMMIT: Final = "replay.before-commit"
"""Kafka has acknowledged all that was sent; no offset tells of it."""

AFTER_REPLAY_COMMIT: Final = "replay.after-commit"
"""The offsets of a replay are committed; the audit log knows nothing."""

REPLAY_POINTS: Final = (
    AFTER_REPLAY_ROWS,
    AFTER_REPLAY_SEND,
    BEFORE_REPLAY_COMMIT,
    AFTER_REPLAY_COMMIT,
)
"""Those of a replay, in their order."""

BEFORE_FIRE: Final = "scheduler.before-fire"
"""Schedules are due, and their tasks are about to be published."""

AFTER_FIRE: Final = "scheduler.after-fire"
"""Kafka has acknowledged these tasks; that they were published is not noted."""

AFTER_NOTE: Final = "scheduler.after-note"
"""Kafka has acknowledged the note."""

POINTS: Final = (
    BEFORE_RUN,
    AFTER_RUN,
    AFTER_WRITE,
    BEFORE_EVENTS,
    BEFORE_HANDOFF,
    AFTER_HANDOFF,
    BEFORE_COMMIT,
    AFTER_COMMIT,
    BEFORE_MOVE,
    AFTER_MOVE,
    BEFORE_MOVER_COMMIT,
    AFTER_MOVER_COMMIT,
)
"""All that a task passes by itself, in that order."""

AFTER_REDRIVE_ROW: Final = "redrive.after-row"
"""The rows of some redriven tasks are stored; their records are not sent."""

AFTER_REDRIVE_SEND: Final = "redrive.after-send"
"""One of their records was given to the client; Kafka may have it or not."""

AFTER_REDRIVE_RECORD: Final = "redrive.after-record"
"""Kafka has acknowledged their records; their dead letters are not closed."""

AFTER_REDRIVE_CLOSING: Final = "redrive.after-closing"
"""Their dead letters are closed; the audit log knows nothing."""

REDRIVE_POINTS: Final = (
    AFTER_REDRIVE_ROW,
    AFTER_REDRIVE_SEND,
    AFTER_REDRIVE_RECORD,
    AFTER_REDRIVE_CLOSING,
)
"""Those of a redrive, in their order."""

FIRING_POINTS: Final = (BEFORE_FIRE, AFTER_FIRE, AFTER_NOTE)
"""Those that only a schedule passes."""

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_directory = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def fault_point(name: str) -> None:
    """Does nothing, unless a test has laid a fault at this point.

    Raises:
        KeyError: the test's file says neither `kill` nor `stop`.
    """
    if _directory is not None:
        _meet(name, _directory)


def _meet(name: str, directory: Path) -> None:
    taken = directory / f"{name}.{os.getpid()}"
    # Of all processes that come by at once only one can rename the file.
    with suppress(FileNotFoundError):
        (directory / name).rename(taken)
        os.kill(os.getpid(), _SIGNALS[taken.read_text().strip()])
