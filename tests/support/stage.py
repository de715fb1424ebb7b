"""A stage for scenarios: a fresh app on the real servers, and workers as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taskstream import App, Handle, State, Task
from taskstream.admin.provision import init
from taskstream.broker.records import Record
from taskstream.broker.tail import read_to_end
from taskstream.broker.topics import Topics
from taskstream.results.row import Row, current
from tests.support.cql import drop_keyspace
from tests.support.eventually import eventually
from tests.support.jobs import BROKEN, JOURNAL, NAME, WITHOUT, build
from tests.support.servers import Servers

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the journal: one start of a task's function.

    Args:
        task: the task's name.
        id: the task's id.
        run: as in the envelope.
        attempt: as the task saw it.
        pid: of the process it ran in.
        at: seconds since 1970.
        more: what the task added.
    """

    task: str
    id: str
    run: int
    attempt: int
    pid: int
    at: float
    more: dict[str, str]


@dataclass(slots=True)
class Worker:
    """A worker process, and where its log goes."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and the exit code once it has drained."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL: no goodbye to anyone."""
        self.process.kill()
        self.process.wait(10.0)

    def wait(self, timeout: float = 60.0) -> int:
        """The exit code, for one that ends by itself."""
        return self.process.wait(timeout)

    @property
    def children(self) -> list[int]:
        """The pids of its child processes that run tasks."""
        listed = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = listed.stdout.splitlines()
        return [int(line.split()[0]) for line in lines if "taskstream.consumer.child" in line]


@dataclass(slots=True)
class Stage:
    """A fresh app, its topics and tables, and what runs on it."""

    app: App
    directory: Path
    environment: dict[str, str]
    workers: list[Worker] = field(default_factory=list)

    def task(self, name: str) -> Task[..., Any]:
        """A task of the app."""
        task = self.app.find(name)
        assert task is not None, name
        return task

    def worker(self, *options: str, without: str = "", broken: bool = False) -> Worker:
        """Starts a worker of two children.

        Args:
            options: of the command line.
            without: names of tasks that it does not know.
            broken: whether it is the bad deploy of `jobs.deployed`.
        """
        more = {WITHOUT: without, **({BROKEN: "1"} if broken else {})}
        return self._start("worker", *options, environment=more)

    def scheduler(self) -> Worker:
        """Starts a scheduler in a process of its own."""
        return self._start("scheduler")

    def _start(self, command: str, *options: str, environment: Mapping[str, str] = {}) -> Worker:
        log = self.directory / f"{command}-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskstream", command, "tests.support.jobs:app", *options],
                cwd=ROOT,
                env={**os.environ, **self.environment, **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        started = Worker(process, log)
        self.workers.append(started)
        return started

    @property
    def journal(self) -> list[Run]:
        """Every start of a task's function so far."""
        path = Path(self.environment[JOURNAL])
        lines = path.read_text().splitlines() if path.exists() else []
        return [_run(line.split("\t")) for line in lines]

    def states(self, handles: Iterable[Handle[Any]]) -> Counter[State]:
        """How many tasks are in which state by the result store."""
        store = self.app.result_store()
        assert store is not None
        rows = store.read_many([handle.id for handle in handles])
        return Counter(_state(found) for found in rows.values())

    def rows(self, handle: Handle[Any]) -> list[Row]:
        """The rows of one task."""
        store = self.app.result_store()
        assert store is not None
        return store.read(handle.id)

    def wait_for(
        self, handles: Iterable[Handle[Any]], states: dict[State, int], timeout: float = 60
    ) -> None:
        """Waits until the result store has exactly these states."""
        listed = list(handles)

        def look() -> None:
            assert self.states(listed) == states

        eventually(look, timeout, every=0.2)

    def dead_letters(self) -> list[Record]:
        """All dead letters."""
        return read_to_end(self.app.settings, self.app.names.dead)

    def left_over(self) -> int:
        """Records of the task topics above the committed offsets."""
        with Topics(self.app.settings) as topics:
            return sum(
                sum(
                    topics.lag(
                        self.app.names.group(queue, priority), self.app.names.tasks(queue, priority)
                    ).values()
                )
                for queue, priorities in self.app.queues.items()
                for priority in priorities
            )

    def logs(self) -> str:
        """The logs of all workers, for a failing test."""
        return "\n".join(worker.log.read_text() for worker in self.workers)


def _run(words: list[str]) -> Run:
    task, task_id, run, attempt, pid, at, *more = words
    pairs = dict(word.split("=", 1) for word in more)
    return Run(task, task_id, int(run), int(attempt), int(pid), float(at), pairs)


def _state(rows: list[Row]) -> State:
    found = current(rows)
    return State.UNKNOWN if found is None else found.state


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A fresh app on the real servers; its workers, topics and keyspace go away with the test."""
    with staged(tmp_path, **servers.addresses) as stage:
        yield stage


@contextmanager
def staged(directory: Path, **settings: Any) -> Iterator[Stage]:
    """A fresh app with these settings, its workers being given the same by their environment."""
    name = f"t{uuid.uuid4().hex[:10]}"
    settings = {"keyspace": name, "partitions": 4, "unknown_grace": 30.0, **settings}
    environment = {
        NAME: name,
        JOURNAL: str(directory / "journal"),
        **{
            f"TASKSTREAM_{setting.upper()}": value if isinstance(value, str) else json.dumps(value)
            for setting, value in settings.items()
        },
    }
    app = build(name, **settings)
    init(app)
    stage = Stage(app, directory, environment)
    try:
        yield stage
    finally:
        for worker in stage.workers:
            with suppress(ProcessLookupError):
                worker.kill()
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{name}."))
        app.close()
        drop_keyspace(app.settings.cassandra_hosts, name)
