"""One contender at work: its publishing side, its workers, and the tally of what has run."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.contenders import PEERS, Contender
from benchmarks.processes import Processes, Started, free_port
from benchmarks.servers import MissingServer, Servers
from benchmarks.sides import tally

HERE = Path(__file__).parent
SIDES = HERE / "sides"
PEERS_FOLDER = HERE / "peers"
PEERS_PROGRAMS = PEERS_FOLDER / ".venv" / "bin"
PATIENCE = 60.0
"""Seconds without a task run after which a drain has failed."""

SIDE_PATIENCE = 600.0
"""Seconds that a side may take to answer; a million publishes are one request."""


class MissingPeer(Exception):
    """A peer that is not installed here."""


class Failed(Exception):
    """A side or a worker did not do what it was asked for."""


class Stage:
    """A contender with servers of its choice, under a name that nobody else uses.

    Args:
        contender: who.
        servers: started as far as it needs them.
        folder: for logs and the tally.
        environment: more of what its side and its workers are told.
        options: appended to its workers' command.

    Raises:
        MissingPeer: it is not installed.
        MissingServer: a server of it can't be had.
        Failed: its side did not start.
    """

    def __init__(
        self,
        contender: Contender,
        servers: Servers,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        if contender.peer and not (PEERS_PROGRAMS / "python").exists():
            raise MissingPeer("the peers are not installed: `make bench-peers`")
        servers.require(contender.servers)
        self.contender = contender
        self.name = f"bench{uuid.uuid4().hex[:8]}"
        self.servers = servers.processes(contender.servers)
        self._folder = folder / self.name
        self._folder.mkdir()
        self._tally_file = self._folder / "tally"
        self.tally = tally.Tally(self._tally_file)
        self._options = options
        self._environment = {
            **servers.environment,
            "BENCH_NAME": self.name,
            "BENCH_VARIANT": contender.variant,
            tally.PATH: str(self._tally_file),
            "PYTHONPATH": f"{SIDES}{os.pathsep}{PEERS_FOLDER}",
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._workers: list[Started] = []
        self._side = _Side(self._python, contender, self._environment, self._folder / "side.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(*(() if kind is None else (Failed,))):
            self.stop()
            self._side.close()

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """The side's answer to a request. Raises Failed."""
        return self._side.ask(what, **arguments)

    def start(self) -> None:
        """Starts the workers; they are not ready yet when this returns."""
        for number, command in enumerate(self.contender.workers):
            words = [
                word.replace(PEERS, str(PEERS_PROGRAMS))
                .replace("{python}", sys.executable)
                .replace("{port}", str(free_port()))
                for word in (*command, *self._options)
            ]
            self._workers.append(
                Started(
                    words,
                    environment=self._environment,
                    directory=PEERS_FOLDER if self.contender.peer else SIDES,
                    log=self._folder / f"worker{number}.log",
                )
            )

    def stop(self) -> None:
        """Ends the workers."""
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.stop()
        self._workers = []

    @property
    def workers(self) -> Processes:
        """The worker processes that are there."""
        return Processes(worker.pid for worker in self._workers)

    @property
    def side_pid(self) -> int:
        """The publishing side's process."""
        return self._side.pid

    def await_runs(self, n: int, look: float = 0.002) -> None:
        """Until so many task bodies have run since the tally was cleared, looking so often.

        Raises:
            Failed: a worker ended, or nothing ran for a minute.
        """
        before, give_up_at = -1, 0.0
        while (count := self.tally.count) < n:
            if count > before:
                before, give_up_at = count, time.monotonic() + PATIENCE
            elif time.monotonic() > give_up_at:
                raise Failed(f"{count} of {n} tasks ran, then none in {PATIENCE:g} s")
            for worker in self._workers:
                try:
                    worker.check()
                except ChildProcessError as error:
                    raise Failed(str(error)) from error
            time.sleep(look)

    def settle(self, n: int) -> float:
        """Until the results of n tasks are stored; the monotonic time when they were."""
        self.ask("settle", n=n)
        return time.monotonic()

    def forget(self) -> None:
        """What has run and is stored by now counts no more."""
        self.tally.clear()
        self.ask("reset")

    @property
    def waits(self) -> list[float]:
        """How long the tasks waited that note it, in seconds."""
        return tally.read_waits(self._tally_file)

    @property
    def _python(self) -> str:
        return str(PEERS_PROGRAMS / "python") if self.contender.peer else sys.executable


class _Side:
    """The bench's end of a side's process."""

    def __init__(
        self, python: str, contender: Contender, environment: Mapping[str, str], log: Path
    ) -> None:
        self._title = contender.title
        self._log = log
        folder = PEERS_FOLDER if contender.peer else SIDES
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "serving", contender.side], cwd=folder,
                env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, bufsize=1,
                start_new_session=True,  # a Ctrl-C is for the bench, which lets it tidy up
            )  # fmt: skip
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        except BrokenPipeError as error:
            raise Failed(f"{self._title}: its side has ended: {self._said}") from error
        return self._answer()

    def close(self) -> None:
        """Lets it remove what it made, and ends it."""
        try:
            if self._process.poll() is None:
                self.ask("close")
        finally:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(20.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SIDE_PATIENCE)
        if not ready:
            raise Failed(f"{self._title}: its side gave no answer in {SIDE_PATIENCE:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self._title}: its side has ended: {self._said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self._title}: {answer['error'].strip().splitlines()[-1]}")
        return answer

    @property
    def _said(self) -> str:
        return " | ".join(self._log.read_text("utf-8", "replace").splitlines()[-3:])


__all__ = ["Failed", "MissingPeer", "MissingServer", "Stage"]
