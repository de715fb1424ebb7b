"""A process of ours beside this one, for as long as this one lives.

It is started again when it dies, and ends with us however we end: it watches a pipe whose other end
only this process holds, and which the kernel closes even after a kill -9.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from taskstream.observability import logs
from taskstream.observability.metrics import Metrics, Told

RESTART_PAUSE = 1.0
"""Seconds before a companion that died is started again; doubled each time, up to the longest."""

LONGEST_PAUSE = 30.0
STOP_WITHIN = 10.0
"""Seconds that it has to end when it is asked to."""

LISTEN_WITHIN = 2.0
"""Seconds for what one that has ended has said last: a process of its own may hold the pipe open."""

TELL_EVERY = 2.0
"""Seconds between two words on what a companion has counted."""

BAD_USAGE = 2

_log = logs.logger(__name__)


class Companion:
    """Runs `python -m taskstream …` from `start` on, while the block lasts.

    Args:
        arguments: the command and its arguments; `--with-parent FD` is added.
        hear: takes what it has counted, from a thread of ours; then `--tell FD` is added as well. None is told
            where it has died.
    """

    def __init__(
        self, arguments: Sequence[str], hear: Callable[[Told | None], None] | None = None
    ) -> None:
        self._arguments = list(arguments)
        self._hear = hear
        self._listening: threading.Thread | None = None
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
        self.stop()
        os.close(self._watched)

    def stop(self) -> None:
        """Ends it, and hears its last words; safe to call again, or without a start."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.close(self._held)
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN)  # it has seen that its pipe is closed
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join(STOP_WITHIN)

    def _keep(self) -> None:
        pause = RESTART_PAUSE
        while True:
            self._process = self._start()
            status = self._process.wait()
            if self._hear is not None and self._listening is not None:
                # What it has said last would else come after the word that it has died, and stay.
                self._listening.join(LISTEN_WITHIN)
                self._hear(None)
            if self._stopping.is_set():
                return
            if status == BAD_USAGE:
                # It can't start with what it was told, and will not a second later either.
                _log.error(
                    "the scheduler can't start; delayed tasks wait",
                    status=status,
                    advice="run `taskstream scheduler APP` by itself: it says what it lacks",
                )
                return
            _log.warning(
                "the scheduler died; it is started again",
                status=status,
                pause=pause,
                advice="nothing if it stays; if it goes on, run `taskstream scheduler APP` by "
                "itself to see what ends it",
            )
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "taskstream", *self._arguments]
        command += ["--with-parent", str(self._watched)]
        passed = [self._watched]
        listening, told = os.pipe() if self._hear is not None else (None, None)
        if told is not None:
            command += ["--tell", str(told)]
            passed.append(told)
        # A session of its own: Ctrl-C is for the worker, which says when to end.
        process = subprocess.Popen(
            command,
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        if told is not None and listening is not None:
            os.close(told)
            self._listening = threading.Thread(
                target=self._listen,
                args=(listening,),
                name="taskstream-companion-told",
                daemon=True,
            )
            self._listening.start()
        return process

    def _listen(self, listening: int) -> None:
        """Takes in what one process tells, until it ends."""
        assert self._hear is not None
        with os.fdopen(listening, encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError, TypeError):  # cut off by its end
                    self._hear(Told(*json.loads(line)))


def tell(metrics: Metrics, descriptor: int, stopping: threading.Event) -> None:
    """Tells the process at the other end of the pipe what is counted here, until it has gone. Blocks.

    Args:
        metrics: what is counted.
        descriptor: of the pipe's writing end.
        stopping: set at the end; what is left is told then.
    """
    with suppress(OSError), os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        while True:
            stopped = stopping.wait(TELL_EVERY)
            pipe.write(json.dumps(metrics.take()) + "\n")
            pipe.flush()
            if stopped:
                return


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
