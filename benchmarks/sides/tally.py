"""What the tasks of a run leave behind: how many have run, since when, and how long they waited.

Every contender's task body calls `ran()`, which costs some 0.2 µs, so that a drain is timed by the
same clock for all, without asking any server while it goes on. The counts live in a file that all
processes map: one slot for each thread, so that none waits for another.

Standard library only: it runs in the peers' environment as well as in ours.
"""

import fcntl
import mmap
import os
import struct
import threading
import time
from pathlib import Path

SLOTS = 4096
FIELDS = 2
"""Of a slot: tasks run, and the monotonic time in ns of the first of them."""

PATH = "BENCH_TALLY"
"""The environment variable that names the file; the waits stand in the file beside it."""

_SIZE = 8 * (1 + SLOTS * FIELDS)  # the first number is how many slots are taken


def waits_of(path: Path) -> Path:
    """Where the waits are noted, a line each."""
    return path.with_suffix(".waits")


class Tally:
    """The file that all tasks of a run count in; made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.truncate(_SIZE)
        self._numbers = memoryview(mmap.mmap(self._file.fileno(), _SIZE)).cast("Q")
        self._waits = os.open(waits_of(path), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._mine = threading.local()
        self._lock = threading.Lock()
        # A forked process counts in slots of its own.
        os.register_at_fork(after_in_child=self._forget)

    def ran(self) -> None:
        """A task has run, in this thread, now."""
        try:
            slot = self._mine.slot
        except AttributeError:
            slot = self._mine.slot = self._take()
        numbers = self._numbers
        if not numbers[slot]:
            numbers[slot + 1] = time.monotonic_ns()
        numbers[slot] += 1

    def waited(self, published: float) -> None:
        """A task has run that was published then, seconds since 1970."""
        os.write(self._waits, struct.pack("<d", time.time() - published))
        self.ran()

    @property
    def count(self) -> int:
        """How many tasks have run since the last `clear`."""
        return sum(self._of_all(0))

    @property
    def first(self) -> float:
        """When the first of them ran, seconds of the monotonic clock; 0 where none has."""
        return min((first for first in self._of_all(1) if first), default=0) / 1e9

    def clear(self) -> None:
        """Forgets all; only while no task runs."""
        for index in range(1, len(self._numbers)):
            self._numbers[index] = 0
        os.truncate(self._waits, 0)

    def _of_all(self, field: int) -> memoryview:
        """One field of all slots that are taken."""
        return self._numbers[1 + field : 1 + self._numbers[0] * FIELDS : FIELDS]

    def _take(self) -> int:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                taken = self._numbers[0]
                if taken == SLOTS:
                    raise RuntimeError("more threads than slots of the tally")
                self._numbers[0] = taken + 1
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        return 1 + taken * FIELDS

    def _forget(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()


def read_waits(path: Path) -> list[float]:
    """The waits noted since the last `clear`, in seconds."""
    content = waits_of(path).read_bytes()
    return [wait for (wait,) in struct.iter_unpack("<d", content)]


_opened: list[Tally] = []


def tally() -> Tally:
    """The tally of this process, opened once."""
    if not _opened:
        _opened.append(Tally(Path(os.environ[PATH])))
    return _opened[0]
