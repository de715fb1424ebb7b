"""A worker in a process of its own, for as long as a block lasts: for the demo and for users' tests."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from taskstream.core.errors import TaskstreamError

STOP_WITHIN = 20.0
"""Seconds that it has to finish what it runs, and to end."""

LAST_WORDS = 20
"""How many lines of its log an error tells."""


class WorkerProcess:
    """Runs `python -m taskstream worker …`.

    Args:
        app: the app as `module:attribute`, which the process can import.
        log: the file that its log goes to.
        environment: variables that it sees beside those of this process.
        arguments: further options of `taskstream worker`.
        directory: its working directory, where the app is looked for first.
    """

    def __init__(
        self,
        app: str,
        *,
        log: Path,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        directory: Path | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "taskstream", "worker", app, *arguments]
        self._log = log
        self._environment = {**os.environ, **environment}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for this process, which stops the worker in order.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raises TaskstreamError, with the end of its log, where the worker has ended."""
        if self._process is not None and self._process.poll() is not None:
            lines = self._log.read_text("utf-8", "replace").splitlines()[-LAST_WORDS:]
            raise TaskstreamError(
                f"the worker ended with exit code {self._process.returncode}:\n" + "\n".join(lines)
            )

    def stop(self) -> None:
        """Lets running tasks end, and waits until the worker has gone; safe to call again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
