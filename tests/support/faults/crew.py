"""The workers of a run: started, killed, frozen and thawed, and watched all the while."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from taskstream.core import faultpoints
from tests.support.stage import ROOT

INJECT = Path(__file__).parent / "inject"

WRITE_HELD = "import sys; from tests.support.faults.held import main; main(sys.argv[1])"

LOOK_EVERY = 0.25
"""Seconds between two looks at the processes."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker: its parent process, and whatever that has started."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        """Of the parent process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the parent process is there."""
        return self.process.poll() is None

    @property
    def began(self) -> bool:
        """Whether it has got as far as its work."""
        return "worker started" in self.log.read_text(errors="replace")

    @property
    def tree(self) -> list[psutil.Process]:
        """The parent process, its children and its scheduler, as far as they are there."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        return []

    @property
    def children(self) -> list[int]:
        """Pids of the processes that run tasks."""
        return [process.pid for process in self.tree if _runs_tasks(process)]


@dataclass(slots=True)
class Watched:
    """What was seen of all processes of all workers.

    Args:
        seen: by pid, when it was last alive, in seconds since 1970.
        parents: by pid, the worker it belongs to.
        peak_bytes: the most memory that a parent process has held.
    """

    seen: dict[int, float] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    peak_bytes: int = 0


class Crew:
    """Worker processes; all of them are gone when the block ends.

    Args:
        app: as `module:attribute`.
        directory: where logs and the faults of fault points lie.
        environment: what the workers see beside the environment of this process.
    """

    def __init__(self, app: str, directory: Path, environment: Mapping[str, str]) -> None:
        self._app = app
        self._directory = directory
        self.faults = directory / "faults"
        self.faults.mkdir()
        self._environment = {
            **environment,
            "PYTHONPATH": os.pathsep.join((str(INJECT), str(ROOT))),
            faultpoints.VARIABLE: str(self.faults),
        }
        self.members: list[Member] = []
        self.watched = Watched()
        self._leaving = threading.Event()
        self._watch = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._watch.join()
        for member in self.members:
            # A frozen process would not notice that its parent has gone.
            for process in member.tree:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            member.process.wait()

    @property
    def alive(self) -> list[Member]:
        """The workers that are there."""
        return [member for member in self.members if member.alive]

    def start(
        self, *options: str, children: int = 2, environment: Mapping[str, str] = {}
    ) -> Member:
        """Starts one worker; it sees `environment` beside what all of them see."""
        log = self._directory / f"worker-{len(self.members)}.log"
        command = [sys.executable, "-m", "taskstream", "worker", self._app]
        command += ["--children", str(children), "--concurrency", "20", *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **self._environment, **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        member = Member(process, log)
        self.members.append(member)
        return member

    def keep(self, count: int) -> None:
        """Starts workers until so many are there."""
        while len(self.alive) < count:
            self.start()

    def kill(self, member: Member) -> list[int]:
        """SIGKILL to the parent process, whose children end by themselves; returns all their pids."""
        pids = [member.pid, *member.children]
        member.process.kill()
        member.process.wait()
        return pids

    def write_held(self, file: Path) -> None:
        """Writes the rows that a worker was made to hold back; see `held`."""
        subprocess.run(
            [sys.executable, "-c", WRITE_HELD, str(file)],
            check=True,
            cwd=ROOT,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            timeout=60.0,
        )

    def stop(self, timeout: float = 60.0) -> list[int]:
        """SIGTERM to all that are there; returns the exit codes of those that we have not killed.

        One that does not end in time is killed, and -9 stands for it.
        """
        killed = [member for member in self.members if not member.alive and _was_killed(member)]
        for member in self.alive:
            member.process.terminate()
        until = time.monotonic() + timeout
        codes = []
        for member in self.members:
            if member in killed:
                continue
            try:
                code = member.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL
            # A SIGTERM before Python has come to our handlers ends it at once: it had nothing yet.
            codes.append(0 if code == -signal.SIGTERM and not member.began else code)
        return codes

    @contextlib.contextmanager
    def frozen(self, member: Member, *, whole: bool) -> Iterator[list[int]]:
        """SIGSTOP to a worker for the length of the block; gives the pids that stand still.

        Args:
            member: the worker.
            whole: all of its processes, as when their host freezes; else the parent process alone.
        """
        tree = member.tree if whole else [psutil.Process(member.pid)]
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.suspend()
        try:
            yield [process.pid for process in member.tree]
        finally:
            for process in tree:
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def a_child(self, chance: random.Random) -> int | None:
        """The pid of one of the processes that run tasks."""
        pids = [pid for member in self.alive for pid in member.children]
        return chance.choice(pids) if pids else None

    def logs(self) -> str:
        """The logs of all workers."""
        return "\n".join(
            f"--- {member.log.name} (pid {member.pid})\n{member.log.read_text(errors='replace')}"
            for member in self.members
        )

    def _look(self) -> None:
        while not self._leaving.wait(LOOK_EVERY):
            now = time.time()
            for member in self.alive:
                for process in member.tree:
                    self.watched.seen[process.pid] = now
                    if process.pid != member.pid:
                        self.watched.parents[process.pid] = member.pid
                self.watched.peak_bytes = max(self.watched.peak_bytes, _peak_bytes(member.pid))


def _was_killed(member: Member) -> bool:
    return member.process.returncode == -signal.SIGKILL


def _runs_tasks(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "taskstream.consumer.child" in process.cmdline()
    return False


def _peak_bytes(pid: int) -> int:
    """The most that a process has held in memory so far; 0 once it is gone."""
    with contextlib.suppress(OSError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
