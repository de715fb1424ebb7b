"""`taskstream queues …` as people type it, on real servers.

Broken on purpose once, and seen to fail: a purge without its question; `resume` that leaves a priority's
order standing.
"""

from tests.support.terminal import Terminal

from taskstream.broker.topics import Topics
from taskstream.core.names import Names
from taskstream.core.settings import Settings


def test_pause_and_resume_say_what_they_concern(terminal: Terminal) -> None:
    """In words and as JSON; an order twice is one; a priority is not resumed while its queue is paused."""
    assert terminal.run("init").code == 0
    paused = terminal.run("queues", "pause", "tasks.low", "--reason", "a test", "--json").json
    assert (paused["verb"], paused["target"], paused["changed"]) == (
        "pause",
        "queue:tasks.low",
        True,
    )
    assert [(lane["priority"], lane["paused"]) for lane in paused["lanes"]] == [("low", True)]
    assert paused["workers"] == []
    assert terminal.run("queues", "pause", "main:app", "tasks").code == 0
    narrow = terminal.run("queues", "resume", "tasks.high")
    assert narrow.code == 1
    assert "resume queue:tasks" in narrow.stderr
    listed = terminal.run("queues", "list")
    assert "queue:tasks.low is paused by" in listed.stderr
    assert ": a test" in listed.stderr
    assert terminal.run("queues", "resume", "tasks").code == 0
    lanes = terminal.run("queues", "list", "--json").json
    assert not any(lane["paused"] for lane in lanes)
    assert "nothing held it back" in terminal.run("queues", "resume", "tasks").stderr


def test_a_purge_counts_first_and_wants_a_word_where_nobody_can_be_asked(
    terminal: Terminal,
) -> None:
    """Exit 2 and nothing done; with --yes all that waits is cancelled, and --wait sees it."""
    assert terminal.run("init").code == 0
    lines = "".join(f'{{"n": {n}}}\n' for n in range(50))
    ids = terminal.run("publish", "flaky", "-", typed=lines).stdout.split()
    kept = terminal.run("publish", "add", '{"a": 40}').stdout.strip()
    refused = terminal.run("queues", "purge", "--task", "flaky")
    assert refused.code == 2
    assert "End 50 tasks of task:flaky" in refused.stderr
    assert "--yes" in refused.stderr
    done = terminal.run("queues", "purge", "--task", "flaky", "--yes", "--json").json
    assert done["waiting"] == {"queued": 50, "retrying": 0, "delayed": 0}
    with terminal.start("worker", "--children", "1", "--log-level", "warning"):
        waited = terminal.run("queues", "purge", "--task", "flaky", "--yes", "--wait", "--json")
        assert waited.json["left"] == {"queued": 0, "retrying": 0, "delayed": 0}
        assert terminal.run("result", kept, "--wait", "30", "--json").json["value"] == 42
        shown = terminal.run("result", ids[0], "--json").json
        assert shown["state"] == "cancelled"
        assert "task:flaky is purged by" in shown["error"]


def test_a_drain_waits_until_what_was_there_is_done(terminal: Terminal) -> None:
    """Retries among it; what comes later waits."""
    assert terminal.run("init").code == 0
    lines = "".join(f'{{"n": {n}}}\n' for n in range(50))
    ids = terminal.run("publish", "flaky", "-", typed=lines).stdout.split()
    with terminal.start("worker", "--children", "1", "--log-level", "warning"):
        drained = terminal.run("queues", "drain", "tasks", "--wait", "--json").json
        assert drained["left"] == {"queued": 0, "retrying": 0, "delayed": 0}
        states = {terminal.run("result", one, "--json").json["state"] for one in ids[::25]}
        assert states == {"succeeded"}
        late = terminal.run("publish", "add", '{"a": 1}').stdout.strip()
        (told,) = terminal.run("workers", "list", "--json").json
        assert told["paused"] == ["queue:tasks"]
        assert terminal.run("result", late, "--json").json["state"] == "unknown"
        terminal.run("queues", "resume", "tasks")
        assert terminal.run("result", late, "--wait", "30", "--json").json["value"] == 3


def test_what_waits_for_other_workers_is_counted_by_their_group(
    terminal: Terminal, kafka: str
) -> None:
    """Workers of `--group NAME` have offsets of their own: theirs are done, the app's own are not."""
    assert terminal.run("init", "--group", "other").code == 0
    terminal.run("publish", "add", '{"a": 40}')
    names = Names(terminal.environment["TEST_APP_NAME"])
    topic, group = names.tasks("tasks", "high"), names.group("tasks", "high", "other")
    with Topics(Settings(bootstrap_servers=kafka)) as topics:
        topics.commit(group, topics.end_offsets(topic))

    def lag(*words: str) -> int:
        lanes = terminal.run("queues", "list", "--json", *words).json
        return int(next(one["lag"] for one in lanes if one["priority"] == "high"))

    assert (lag(), lag("--group", "other")) == (1, 0)
    refused = terminal.run("queues", "list", "--group", "a.b")
    assert (refused.code, "group name 'a.b'" in refused.stderr) == (2, True)
