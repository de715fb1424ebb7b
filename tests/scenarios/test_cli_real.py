"""The command line on real servers: init, publish, worker, result, queues, doctor."""

import os
import signal
from contextlib import suppress

import psutil
from tests.support.eventually import eventually
from tests.support.terminal import Terminal


def test_init_creates_once_and_reports_drift(terminal: Terminal) -> None:
    """A second run finds everything; a third with other settings changes nothing, and says so."""
    first = terminal.run("init", "--json").json
    assert all(topic["created"] for topic in first["topics"])
    assert all(first["offsets"].values())
    assert first["schemas"] == ["add", "flaky", "remind"]

    second = terminal.run("init", "--json")
    assert second.code == 0
    assert not any(topic["created"] for topic in second.json["topics"])
    assert not any(second.json["offsets"].values())

    shorter = Terminal(terminal.directory, {**terminal.environment, "TASKSTREAM_RETENTION": "3600"})
    third = shorter.run("init")
    assert third.code == 1
    assert "retention.ms is 604800000, not 3600000" in third.stderr


def test_init_refuses_results_that_go_before_their_tasks(terminal: Terminal) -> None:
    """Exit 2, before anything is created."""
    hasty = Terminal(terminal.directory, {**terminal.environment, "TASKSTREAM_RESULT_TTL": "60"})
    done = hasty.run("init")
    assert done.code == 2
    assert "result_ttl" in done.stderr


def test_publish_work_result(terminal: Terminal) -> None:
    """What `publish` prints, `worker` runs, and `result` shows, in the shapes that scripts rely on."""
    assert terminal.run("init").code == 0
    (sum_id,) = terminal.run("publish", "add", '{"a": 40}').stdout.split()
    lines = "".join(f'{{"n": {n}}}\n' for n in range(20))
    flaky_ids = terminal.run("publish", "main:app", "flaky", "-", typed=lines).stdout.split()
    assert len(set(flaky_ids)) == 20
    (dead_id,) = terminal.run(
        "publish", "remind", '{"when": "2026-01-31T12:00:00Z"}'
    ).stdout.split()

    waiting = {lane["priority"]: lane for lane in terminal.run("queues", "list", "--json").json}
    assert [waiting[name]["lag"] for name in ("high", "normal", "low")] == [1, 21, 0]
    assert waiting["normal"]["oldest_s"] > 0
    assert waiting["low"]["oldest_s"] is None

    with terminal.start("worker", "--children", "1", "--log-level", "warning") as worker:
        succeeded = terminal.run("result", sum_id, "--wait", "30", "--json")
        assert succeeded.code == 0
        varying = {"published": 0, "finished": 0, "attempts": [], "runs": [], "trace_id": ""}
        assert succeeded.json | varying == {
            "id": sum_id, "task": "add", "state": "succeeded", "value": 42, "error": None,
            "attempts": [], "run": 0, "runs": [], "key": None, "priority": "high", "published": 0,
            "finished": 0, "trace_id": "",
        }  # fmt: skip
        retried = terminal.run("result", flaky_ids[-1], "--wait", "30", "--json").json
        assert [one["state"] for one in retried["attempts"]] == [
            "retrying",
            "retrying",
            "succeeded",
        ]
        assert [one["number"] for one in retried["attempts"]] == [1, 2, 3]
        failed = terminal.run("result", dead_id, "--wait", "30", "--json")
        assert (failed.code, failed.json["state"]) == (1, "dead")
        assert failed.json["error"] == "ValueError: never at 2026-01-31T12:00:00+00:00"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0

    lanes = {lane["priority"]: lane for lane in terminal.run("queues", "list", "--json").json}
    assert {lane["lag"] for lane in lanes.values()} == {0}
    assert [lanes[name]["dead"] for name in ("high", "normal", "low")] == [0, 1, 0]
    assert terminal.run("doctor").code == 0


def test_workers_are_listed_and_scaled(terminal: Terminal) -> None:
    """A running worker gets another child on command, a later one starts so; `--reset` ends it."""
    assert terminal.run("init").code == 0
    assert terminal.run("workers", "list", "--json").json == []

    def children(wanted: int) -> str:
        found = terminal.run("workers", "list", "--json").json
        assert [one["children"] for one in found] == [wanted]
        return str(found[0]["worker"])

    with terminal.start("worker", "--children", "1", "--log-level", "error"):
        name = eventually(lambda: children(1), 30, 1.0)
        (told,) = terminal.run("workers", "scale", "2", "--reason", "more work", "--json").json
        assert (told["worker"], told["queues"], told["running"]) == (name, ["tasks"], [])
        eventually(lambda: children(2), 30, 1.0)
        assert terminal.run("workers", "scale", "--reset").code == 0
        eventually(lambda: children(1), 30, 1.0)
    nobody = terminal.run("workers", "scale", "2", "--worker", "nobody")
    assert (nobody.code, "no worker 'nobody' is alive" in nobody.stderr) == (1, True)


def test_cancel_at_the_terminal(terminal: Terminal) -> None:
    """A waiting task is asked for its end; one that has ended says so, with exit code 1."""
    assert terminal.run("init").code == 0
    (task_id,) = terminal.run("publish", "add", '{"a": 1}').stdout.split()
    asked = terminal.run("cancel", task_id, "--reason", "a slip", "--json")
    assert (asked.code, asked.json) == (
        0,
        {"id": task_id, "requested": True, "state": "unknown"},
    )
    with terminal.start("worker", "--children", "1", "--log-level", "error"):
        ended = terminal.run("result", task_id, "--wait", "30", "--json").json
        assert ended["state"] == "cancelled"
    again = terminal.run("cancel", task_id)
    assert (again.code, again.stdout) == (1, "nothing to cancel; the task is cancelled\n")


def test_refusals_at_the_terminal(terminal: Terminal) -> None:
    """A task that can't be is refused with its field's name; a line says its number; exit 1."""
    assert terminal.run("init").code == 0
    wrong = terminal.run("publish", "add", '{"a": "x"}')
    assert (wrong.code, wrong.stdout) == (1, "")
    assert "task add: argument a" in wrong.stderr
    third = terminal.run("publish", "add", "-", typed='{"a": 1}\n\n{"c": 1}\n')
    assert (third.code, len(third.stdout.split())) == (1, 1)
    assert "line 3: task add" in third.stderr
    unknown = terminal.run("result", "no-such-id", "--json")
    assert (unknown.code, unknown.json["state"], unknown.json["attempts"]) == (1, "unknown", [])


def test_a_killed_worker_leaves_no_scheduler_behind(terminal: Terminal) -> None:
    """A kill -9 on the worker's parent ends the scheduler beside it, and the children."""
    assert terminal.run("init").code == 0
    with terminal.start("worker", "--children", "1", "--log-level", "error") as worker:
        parent = psutil.Process(worker.pid)

        def beside() -> list[psutil.Process]:
            found = parent.children(recursive=True)
            assert any("scheduler" in one.cmdline() for one in found)
            assert any("taskstream.consumer.child" in one.cmdline() for one in found)
            return found

        found = eventually(beside, 20)
        # Only once it runs our code does it watch its parent.
        eventually(lambda: all(one.num_threads() > 1 for one in found), 20)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        _, alive = psutil.wait_procs(found, timeout=20)
        assert not alive


def test_a_scheduler_that_dies_is_started_again(terminal: Terminal) -> None:
    """Delayed tasks go on although somebody ended the scheduler beside the worker."""
    assert terminal.run("init").code == 0
    with terminal.start("worker", "--children", "1", "--log-level", "error") as worker:
        parent = psutil.Process(worker.pid)

        def look() -> int:
            for one in parent.children():
                with suppress(psutil.Error):  # it may be gone, or a zombie, by now
                    if "scheduler" in one.cmdline():
                        return one.pid
            return 0

        first = eventually(look, 20)
        assert first
        os.kill(first, signal.SIGKILL)
        eventually(lambda: (look() or first) != first, 20)
        (delayed,) = terminal.run("publish", "add", '{"a": 1}', "--delay", "0.5").stdout.split()
        assert terminal.run("result", delayed, "--wait", "30", "--json").json["value"] == 3
        worker.terminate()
        assert worker.wait(30) == 0
