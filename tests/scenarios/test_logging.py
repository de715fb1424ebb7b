"""What a worker's processes log, read from outside: in JSON each line is an object, with the ids of its task.

Broken on purpose once, and seen to fail: prints that go past the log, ids that are bound in one runner only, a
step without its line, and a task's arguments in one.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support import speaking
from tests.support.cql import drop_keyspace
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.stage import ROOT

from taskstream import State
from taskstream.admin.provision import init
from taskstream.broker.topics import Topics
from taskstream.consumer.process import WorkerProcess

pytestmark = pytest.mark.servers("kafka", "cassandra")

RUNNERS = {"in_loop": "in the loop", "in_thread": "in a thread", "in_process": "in a process"}
ARGUMENT = "the-argument-4711"
PASSWORD = "the-password-4711"
STEPS = (
    "a task is taken in", "a task is given out", "an attempt starts", "an attempt has ended",
    "a result is stored",
)  # fmt: skip

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Logged:
    """What a worker has logged at debug, from its start to its end.

    Args:
        lines: all of it.
        ids: by task name, the id of the one that ran.
    """

    lines: Sequence[str]
    ids: dict[str, str]

    @property
    def records(self) -> list[Record]:
        """The lines, read."""
        return [json.loads(line) for line in self.lines]

    def of(self, task: str) -> list[Record]:
        """Those that bear the id of that task."""
        return [one for one in self.records if one.get("task_id") == self.ids[task]]


@pytest.fixture(scope="module")
def logged(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A worker that has run each task once."""
    name, log = f"t{uuid.uuid4().hex[:10]}", tmp_path_factory.mktemp("logging") / "worker.log"
    settings: dict[str, Any] = {**servers.addresses, "keyspace": name, "partitions": 1}
    environment = {
        speaking.NAME: name,
        speaking.PASSWORD: PASSWORD,  # the local server asks for none, but the worker has to start with it
        "TASKSTREAM_LOG_FORMAT": "json",
        **{f"TASKSTREAM_{key.upper()}": str(value) for key, value in settings.items()},
    }
    app = speaking.build(name, **settings)
    init(app)
    arguments = ("--log-level", "debug", "--children", "1")
    worker = WorkerProcess(
        "tests.support.speaking:app", log=log, environment=environment, arguments=arguments,
        directory=ROOT,
    )  # fmt: skip
    try:
        with worker:
            handles = {task: app.publish(task, {"secret": ARGUMENT}) for task in app.tasks}
            store = app.result_store()
            assert store is not None

            def all_done() -> bool:
                worker.check()
                found = store.read_many([one.id for one in handles.values()])
                return all(
                    any(row.state is State.SUCCEEDED for row in rows) for rows in found.values()
                )

            eventually(all_done, 90, 0.2)
        yield Logged(log.read_text().splitlines(), {task: one.id for task, one in handles.items()})
    finally:
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{name}."))
        app.close()
        drop_keyspace(app.settings.cassandra_hosts, name)


def test_every_line_is_an_object(logged: Logged) -> None:
    """Tracebacks, warnings of Python, a thread's last error and prints of tasks among them."""
    for line in logged.lines:
        assert json.loads(line).keys() >= {"time", "level", "logger", "event"}, line
    said = [one["event"] for one in logged.records]
    assert any("out of fashion" in event for event in said)
    (broken,) = [one for one in logged.records if one.get("thread") == "broken"]
    assert "ZeroDivisionError" in broken["traceback"]


@pytest.mark.parametrize(("task", "word"), RUNNERS.items())
def test_what_a_task_says_bears_its_ids(logged: Logged, task: str, word: str) -> None:
    """Whichever way it runs: logged, printed and complained; with its trace, as it has one."""
    found = {one["event"]: one for one in logged.of(task)}
    for event in (f"logged {word}", f"printed {word}", f"complained {word}", f"caught {word}"):
        one = found[event]
        assert (one["task"], one["run"], one["attempt"]) == (task, 0, 1)
        assert len(one["trace_id"]) == 32
    assert f"ValueError: {word}" in found[f"caught {word}"]["traceback"]
    assert found[f"complained {word}"]["stream"] == "stderr"


@pytest.mark.parametrize("task", RUNNERS)
def test_each_step_of_a_task_is_a_line_at_debug(logged: Logged, task: str) -> None:
    """In the order of its life, each once."""
    said = [one["event"] for one in logged.of(task) if one["level"] == "debug"]
    assert [event for event in said if event in STEPS] == list(STEPS)


def test_a_retry_is_seen_to_be_handed_off(logged: Logged) -> None:
    """And each of its attempts, with its number and the state that it ended in."""
    ended = [one for one in logged.of("fails_once") if one["event"] == "an attempt has ended"]
    assert [(one["attempt"], one["state"]) for one in ended] == [(1, "retrying"), (2, "succeeded")]
    (handed_off,) = [
        one for one in logged.of("fails_once") if one["event"] == "a task is handed off"
    ]
    assert handed_off["to"] == "retrying"


def test_what_happens_around_tasks_is_told_too(logged: Logged) -> None:
    """Children, partitions and commits."""
    said = {one["event"] for one in logged.records}
    assert said >= {
        "a child is started", "a child takes tasks", "a child has ended", "partitions are ours",
        "an offset is committed", "worker started", "worker ended",
    }  # fmt: skip


def test_at_info_no_line_is_about_a_task(logged: Logged) -> None:
    """But those that the task wrote itself."""
    ids = set(logged.ids.values())
    ours = [one for one in logged.records if one["logger"].startswith("taskstream.")]
    about = [one for one in ours if one.get("task_id") in ids and one["level"] != "debug"]
    assert {one["logger"] for one in about} <= {"taskstream.printed"}


def test_no_line_shows_an_argument_or_the_password(logged: Logged) -> None:
    """At no level, though the task has returned it as well."""
    assert not [line for line in logged.lines if ARGUMENT in line or PASSWORD in line]
