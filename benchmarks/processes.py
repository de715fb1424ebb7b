"""Processes that the bench starts: what they use, and how they end. It ends nothing but its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

STOP_PATIENCE = 10.0
"""Seconds that a process has to end by itself."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(script: str, command: str, *options: str) -> Iterator[psutil.Process]:
    """A process of a script's `app`, as people start it; what it logs goes to BENCH_LOG, where that is set.

    Args:
        script: the script's `__file__`.
        command: of taskstream.
        options: those of the command.
    """
    path = Path(script)
    words = [sys.executable, "-m", "taskstream", command, f"{path.stem}:app", *options]
    with Path(os.environ.get("BENCH_LOG", os.devnull)).open("a") as log:
        process = subprocess.Popen(words, cwd=path.parent, stderr=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def beside(serve: Callable[[socket.socket], None]) -> Iterator[tuple[socket.socket, int]]:
    """A fork of this process at the other end of a socket, until it ends by itself, and its pid.

    Args:
        serve: what it does with its end; it must end the process.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        serve(theirs)
    theirs.close()
    with ours:
        yield ours, pid
    os.waitpid(pid, 0)


class Processes:
    """Some processes and all their descendants, as one thing that uses CPU and memory."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._roots = list(pids)

    @property
    def all(self) -> list[psutil.Process]:
        """Those that are there now."""
        found: dict[int, psutil.Process] = {}
        for pid in self._roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                for one in (root, *root.children(recursive=True)):
                    found[one.pid] = one
        return list(found.values())

    @property
    def cpu(self) -> float:
        """Seconds of CPU that those which are there have used so far."""
        total = 0.0
        for one in self.all:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system
        return total

    @property
    def memory_mib(self) -> float:
        """What they keep in memory, pages that several of them share counted once (PSS)."""
        total = 0
        for one in self.all:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += one.memory_full_info().pss
        return total / 2**20

    @property
    def roots_mib(self) -> float:
        """The resident memory of the processes themselves, without their descendants."""
        total = 0
        for pid in self._roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        return total / 2**20


class Started:
    """A process in a session of its own, with its output in a file."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], directory: Path, log: Path
    ) -> None:
        self.command = command
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, cwd=directory,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        self._asked = False

    def check(self) -> None:
        """Raises ChildProcessError where it has ended; with the last of what it said."""
        code = self._process.poll()
        if code is not None:
            raise ChildProcessError(f"{self.command[0]} ended with {code}: {self.last_words}")

    @property
    def last_words(self) -> str:
        """The last lines of its output."""
        return " | ".join(self.log.read_text("utf-8", "replace").splitlines()[-5:])

    def ask_to_end(self) -> None:
        """Sends SIGTERM, and does not wait."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._asked = True

    def stop(self) -> None:
        """Asks it to end where nobody has, gives it time, then ends it with all that it has started."""
        if not self._asked:
            self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_PATIENCE)
        # The session is our own, so nothing of anybody else's is in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
