"""A process of ours beside this one, for as long as this one lives.

It is started again when it dies, and ends with us however we end: it watches a pipe whose other end
only this process holds, and which the kernel closes even after a kill -9.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Self

from taskstream.observability import logs

RESTART_PAUSE = 1.0
"""Seconds before a companion that died is started again; doubled each time, up to the longest."""

LONGEST_PAUSE = 30.0
STOP_WITHIN = 10.0
"""Seconds that it has to end when it is asked to."""

BAD_USAGE = 2

_log = logs.logger(__name__)


class Companion:
    """Runs `python -m taskstream …` from `start` on, while the block lasts.

    Args:
        arguments: the command and its arguments; `--with-parent FD` is added.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._stopping = threading.Event()
        self._watched, self._held = os.pipe()
        self._thread = threading.Thread(target=self._keep, name="taskstream-companion", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Starts it; call it once. Returns at once."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        os.close(self._held)
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN)  # it has seen that its pipe is closed
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join(STOP_WITHIN)
        os.close(self._watched)

    def _keep(self) -> None:
        pause = RESTART_PAUSE
        while True:
            self._process = self._start()
            status = self._process.wait()
            if self._stopping.is_set():
                return
            if status == BAD_USAGE:
                # It can't start with what it was told, and will not a second later either.
                _log.error("the scheduler can't start; delayed tasks wait", status=status)
                return
            _log.warning("the scheduler died; it is started again", status=status, pause=pause)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "taskstream", *self._arguments]
        command += ["--with-parent", str(self._watched)]
        # A session of its own: Ctrl-C is for the worker, which says when to end.
        return subprocess.Popen(
            command,
            pass_fds=[self._watched],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


def when_parent_ends(descriptor: int, then: Callable[[], None]) -> None:
    """Calls `then`, in a thread, once the process at the other end of the pipe has gone.

    Args:
        descriptor: of the pipe's reading end.
        then: must not block for long.
    """

    def watch() -> None:
        while os.read(descriptor, 4096):
            pass
        then()

    threading.Thread(target=watch, name="taskstream-parent", daemon=True).start()
