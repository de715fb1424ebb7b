"""Schedules that code defines: `init` and schedulers bring them to Kafka, deploys change them; the commands.

Broken on purpose once, and seen to fail: a scheduler that decides like `init`.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.terminal import Terminal

from taskstream.broker.topics import Topics
from taskstream.core.settings import Settings
from taskstream.testing import embedded

CODE = """
import os
from taskstream import App, every

app = App(os.environ.get("TEST_APP_NAME", "scheduled"), partitions=2)

{schedules}
@app.task
async def add(a: int, b: int = 2) -> int:
    return a + b
"""

OFTEN = '@app.schedule(every(1), kwargs={"a": 1}, name="often")\n'
NIGHTLY = '@app.schedule("0 3 * * *", tz="Europe/Berlin", args=(40,), name="nightly")\n'


@pytest.fixture
def terminal(tmp_path: Path, kafka: str, cassandra: str) -> Iterator[Terminal]:
    """A terminal with an app of a fresh name; its topics go away with the test."""
    name = f"cron{uuid.uuid4().hex[:10]}"
    yield Terminal(
        tmp_path,
        {
            "TEST_APP_NAME": name,
            "TASKSTREAM_APP": "main:app",
            "TASKSTREAM_BOOTSTRAP_SERVERS": kafka,
            "TASKSTREAM_CASSANDRA_HOSTS": cassandra,
        },
    )
    with Topics(Settings(bootstrap_servers=kafka)) as topics:
        topics.delete(topics.names(f"{name}."))


def deploy(terminal: Terminal, *schedules: str) -> None:
    """Other code."""
    (terminal.directory / "main.py").write_text(CODE.format(schedules="".join(schedules)))


def listed(terminal: Terminal) -> dict[str, dict[str, object]]:
    """What the list says, by name."""
    return {one["name"]: one for one in terminal.run("schedules", "list", "--json").json}


def test_init_brings_changes_and_removes_what_code_defines(terminal: Terminal) -> None:
    """What was paused stays so; a scheduler of older code changes nothing."""
    deploy(terminal, OFTEN, NIGHTLY)
    first = terminal.run("init", "--json")
    assert first.json["schedules"]["added"] == ["nightly", "often"], first.stderr
    nightly = listed(terminal)["nightly"]
    assert nightly["arguments"] == {"a": 40, "b": 2}
    assert (nightly["cron"], nightly["tz"]) == ("0 3 * * *", "Europe/Berlin")
    assert (nightly["origin"], nightly["last"], nightly["last_state"]) == ("code", None, None)
    assert terminal.run("init", "--json").json["schedules"]["same"] == ["nightly", "often"]
    assert terminal.run("schedules", "pause", "often", "--reason", "calm").code == 0

    deploy(terminal, OFTEN.replace("every(1)", "every(2)"))
    second = terminal.run("init")
    assert "changed now: often" in second.stdout
    assert "removed now: nightly" in second.stdout
    often = listed(terminal)
    assert list(often) == ["often"]
    assert (often["often"]["every"], often["often"]["paused"]) == (2.0, True)

    deploy(terminal, OFTEN, NIGHTLY)
    older = terminal.run("schedules", "bring")
    assert "older than those that are in force" in older.stderr
    assert listed(terminal)["often"]["every"] == 2.0
    assert "nightly" not in listed(terminal)
    assert terminal.run("init").code == 0
    assert {name: one["every"] for name, one in listed(terminal).items()} == {
        "often": 1.0,
        "nightly": None,
    }


def test_a_scheduler_that_starts_brings_what_is_new(terminal: Terminal) -> None:
    """Without another `init`, new code's schedules fire: here beside a worker."""
    deploy(terminal)
    assert terminal.run("init").code == 0
    deploy(terminal, OFTEN)
    with terminal.start("worker", "--children", "1", "--log-level", "error"):

        def ended() -> object:
            return listed(terminal).get("often", {}).get("last_state") == "succeeded"

        eventually(ended, 60, 1.0)


def test_schedules_at_the_terminal(terminal: Terminal) -> None:
    """Add, list, run, pause, resume, remove, in the shapes that scripts rely on."""
    deploy(terminal)
    assert terminal.run("init").code == 0
    assert terminal.run("schedules", "list", "--json").json == []
    added = terminal.run(
        "schedules", "add", "add", "*/5 * * * *", '{"a": 1}', "--tz", "Europe/Berlin", "--json"
    )
    assert (added.code, added.json) == (0, {"name": "add"})
    every = terminal.run("schedules", "add", "add", '{"a": 2}', "--every", "30", "--name", "pulse")
    assert every.stdout == "pulse: add every 30 s\n"
    assert set(listed(terminal)) == {"add", "pulse"}
    shown = terminal.run("schedules", "list")
    assert "*/5 * * * * Europe/Berlin" in shown.stdout
    twice = terminal.run("schedules", "add", "add", "@daily", '{"a": 1}')
    assert (twice.code, "there is a schedule add already" in twice.stderr) == (2, True)
    wrong = terminal.run("schedules", "add", "add", "@daily", '{"a": "x"}', "--name", "w")
    assert (wrong.code, "argument a" in wrong.stderr) == (1, True)
    policy = terminal.run(
        "schedules", "add", "add", "@daily", '{"a": 1}', "--name", "w", "--overlap", "x"
    )
    assert (policy.code, "must be one of allow, skip, queue" in policy.stderr) == (2, True)
    ran = terminal.run("schedules", "run", "pulse", "--reason", "now, please")
    (task_id,) = ran.stdout.split()
    with terminal.start("worker", "--children", "1", "--log-level", "error"):
        assert terminal.run("result", task_id, "--wait", "30", "--json").json["value"] == 4
    assert terminal.run("schedules", "pause", "pulse").stdout == "pulse is paused\n"
    assert listed(terminal)["pulse"]["next"] is None
    assert terminal.run("schedules", "resume", "pulse").stdout == "pulse goes on\n"
    assert terminal.run("schedules", "remove", "pulse", "--yes").stdout == "pulse is removed\n"
    gone = terminal.run("schedules", "pause", "pulse")
    assert (gone.code, "no schedule 'pulse'" in gone.stderr) == (1, True)
    assert set(listed(terminal)) == {"add"}


def test_code_schedules_run_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Callable[[str], str]
) -> None:
    """Without any server, too: each second a task, whose result can be read by its firing's id."""
    with embedded(written(OFTEN), arguments=("--children", "1")) as app:
        from taskstream.admin.schedules import schedules

        def ended() -> bool:
            return any(one.last_state == "succeeded" for one in schedules(app))

        eventually(ended, 60, 0.5)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes the code to a fresh module in the working directory; gives the app's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(schedules: str) -> str:
        module = f"cron_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{module}.py").write_text(CODE.format(schedules=schedules))
        return f"{module}:app"

    return write
