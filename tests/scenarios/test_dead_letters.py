"""Dead letters are listed, shown, redriven and purged, and what was not meant stays as it is.

Broken on purpose once, and seen to fail: a redrive without closings, one without the look into the store, one
that keeps an expiry that has passed, one that goes where the key points instead of home, and a purge that
does not look for begun redrives.
"""

import getpass
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import commands
from tests.support.commands import APP
from tests.support.eventually import eventually
from tests.support.letters import bury_by_hand, dead_row, store_by_hand, value_of
from tests.support.servers import Servers
from tests.support.stage import Stage, staged

from taskstream import BadArguments, State, TaskFailed, TaskstreamError
from taskstream.admin import audit, dead, tasks
from taskstream.admin.letters import counts, letters
from taskstream.admin.queues import lanes
from taskstream.admin.redrive import redrive
from taskstream.admin.selection import Selection
from taskstream.broker.sender import Sender, unheard
from taskstream.broker.tail import read_to_end
from taskstream.core.envelope import Envelope, Place, read, write
from taskstream.core.errors import ConfigError


@pytest.fixture
def deadly(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A stage on which any number of tasks may die."""
    with staged(tmp_path, **servers.addresses, dead_limit=0) as stage:
        yield stage


def _open(stage: Stage) -> dict[str, int]:
    return counts(letters(stage.app).letters, "reason")


def _dead_column(stage: Stage) -> int:
    return sum(lane.dead for lane in lanes(stage.app))


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_one_kind_is_redriven_after_a_fix(
    deadly: Stage, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three kinds exactly one runs again and succeeds; the rest stay; a second redrive does nothing."""
    broken = deadly.task("deployed").publish_many({"n": n} for n in range(count // 2))
    hopeless = deadly.task("gives_up").publish_many({"n": n} for n in range(count // 4))
    _send_undecodable(deadly, count - len(broken) - len(hopeless))
    deadly.worker("--exit-when-empty", broken=True).wait(600)
    kinds = {"ImportError": count // 2, "Fatal": count // 4, "Undecodable": count // 4}
    started = time.monotonic()
    assert _open(deadly) == kinds
    listed = time.monotonic() - started
    started = time.monotonic()
    shown = commands.run(deadly, "dead", "list", APP, "--by", "reason", "--json").json
    at_terminal = time.monotonic() - started
    assert {one["name"]: one["count"] for one in shown["counts"]} == kinds

    deadly.worker()
    started = time.monotonic()
    done = redrive(deadly.app, Selection(reason="ImportError"), reason="forgotten module is back")
    took = time.monotonic() - started
    assert (done.selected, done.redriven, done.by_task) == (
        count // 2,
        count // 2,
        {"deployed": count // 2},
    )
    assert (done.resumed, done.already, done.refused, done.left) == (0, 0, [], 0)
    deadly.wait_for(broken, {State.SUCCEEDED: count // 2}, timeout=300)
    assert deadly.states(hopeless) == {State.DEAD: count // 4}
    assert _open(deadly) == {"Fatal": count // 4, "Undecodable": count // 4}
    assert _dead_column(deadly) == count // 2

    again = redrive(deadly.app, Selection(reason="ImportError"))
    assert (again.selected, again.redriven) == (0, 0)
    eventually(lambda: deadly.left_over() == 0, timeout=60)
    runs = Counter((one.task, one.run) for one in deadly.journal)
    assert runs == {
        ("deployed", 0): count // 2,
        ("deployed", 1): count // 2,
        ("gives_up", 0): count // 4,
    }
    with capsys.disabled():
        print(  # noqa: T201 - the figure is what this is for
            f"\n{count} dead letters: listed by reason in {listed:.2f} s ({at_terminal:.2f} s as a command), "
            f"{count // 2} redriven in {took:.2f} s"
        )


def _send_undecodable(stage: Stage, count: int) -> None:
    sender = Sender(stage.app.settings, client_id="another-producer")
    topic = stage.app.names.tasks("tasks", "normal")
    for n in range(count):
        headers = write(Envelope("add", id=f"broken-{n}"))
        sender.send(topic, b"no avro", key=b"%d" % n, headers=headers, on_done=unheard)
    assert sender.close(30.0) == 0


def test_corrected_arguments_give_the_waiting_their_result(stage: Stage) -> None:
    """Who waits by the old handle gets the new run's result; state, history and audit log tell the story."""
    worker = stage.worker()
    handle = stage.task("pays").publish("o-17", cents=-5)
    with pytest.raises(TaskFailed, match="-5 cents are no amount"):
        handle.result(timeout=30)
    eventually(lambda: len(letters(stage.app).letters) == 1)
    worker.stop()

    meant = Selection(task="pays", text="NO AMOUNT", where="cents < 0")
    with pytest.raises(BadArguments, match="task pays: argument cents"):
        redrive(stage.app, meant, changes={"cents": "a lot"})
    with pytest.raises(BadArguments, match="pence"):
        redrive(stage.app, meant, changes={"pence": 1})
    dry = redrive(stage.app, meant, changes={"cents": 100}, dry_run=True)
    assert (dry.redriven, dry.dry_run) == (1, True)
    assert handle.state() is State.DEAD
    done = redrive(stage.app, meant, changes={"cents": 100}, reason="a sign was lost")
    assert (done.selected, done.redriven) == (1, 1)
    assert handle.state() is State.WAITING
    told = tasks.show(stage.app, handle.id)
    assert (told.state, told.run, told.attempts, told.error) == (State.WAITING, 1, (), None)

    stage.worker()
    assert handle.result(timeout=30) == 100
    told = tasks.show(stage.app, handle.id)
    assert [(run.run, run.state, run.attempts) for run in told.runs] == [
        (0, State.DEAD, 3), (1, State.SUCCEEDED, 1),
    ]  # fmt: skip
    assert told.runs[0].error == "ValueError: -5 cents are no amount"
    assert told.runs[1].why == "a sign was lost"
    assert (told.runs[1].who or "").startswith(getpass.getuser())
    assert "asked for by" in "\n".join(told.lines())
    assert _dead_column(stage) == 0
    (action,) = audit.actions(stage.app)
    assert (action.verb, action.target, action.count) == ("redrive", "dead:*", 1)
    assert action.reason == "a sign was lost"
    assert action.details == {
        "task": "pays", "text": "NO AMOUNT", "where": "cents < 0", "set": "cents=100",
    }  # fmt: skip


def test_a_task_that_dies_again_is_redriven_again(stage: Stage) -> None:
    """Each death has its letter, each redrive its run; only the last one is open."""
    stage.worker()
    handle = stage.task("pays").options(key="o-17", unordered=True).publish("o-17", cents=-5)
    for run in range(3):
        eventually(lambda: [one.run for one in letters(stage.app).letters] == [run], timeout=30)  # noqa: B023
        assert redrive(stage.app).redriven == 1
    eventually(lambda: [one.run for one in letters(stage.app).letters] == [3], timeout=30)
    assert redrive(stage.app, changes={"cents": 7}).redriven == 1
    assert handle.result(timeout=30) == 7
    assert letters(stage.app).letters == ()
    closed = letters(stage.app, closed=True).letters
    assert {one.run: one.closed.as_run for one in closed if one.closed} == {0: 1, 1: 2, 2: 3, 3: 4}
    records = read_to_end(stage.app.settings, stage.app.names.tasks("tasks", "normal"))
    assert len({(one.partition, one.key) for one in records}) == 1


def test_a_letter_is_shown_with_all_that_is_known(stage: Stage) -> None:
    """Arguments, every attempt's error and traceback, origin and trace; who redrove it, and as what."""
    stage.worker()
    handle = stage.task("pays").publish("o-17", cents=-5)
    (letter,) = eventually(lambda: letters(stage.app).letters, timeout=30)
    shown = dead.show(stage.app, handle.id)
    assert shown.arguments == {"order_id": "o-17", "cents": -5}
    assert (shown.state, shown.key, shown.letter) == (State.DEAD, None, letter)
    assert [(one.run, one.attempt, one.state) for one in shown.tries] == [
        (0, 1, State.RETRYING), (0, 2, State.RETRYING), (0, 3, State.DEAD),
    ]  # fmt: skip
    assert all("jobs.py" in (one.traceback or "") for one in shown.tries)
    assert shown.letter.origin == stage.rows(handle)[-1].source
    assert shown.home == letter.origin.rpartition("/")[0]
    assert shown.trace_id == stage.rows(handle)[-1].trace_id
    text = "\n".join(shown.lines())
    for part in (
        "cents = -5",
        "ValueError: -5 cents are no amount",
        "run 0 attempt 3 dead",
        letter.origin,
    ):
        assert part in text

    redrive(stage.app, changes={"cents": 5}, reason="why not")
    assert handle.result(timeout=30) == 5
    document = commands.run(stage, "dead", "show", APP, handle.id, "--json").json
    assert (document["state"], document["run"]) == ("succeeded", 0)
    assert (document["closed"]["how"], document["closed"]["as_run"]) == ("redriven", 1)
    assert [one["run"] for one in document["tries"]] == [0, 0, 0, 1, 1]
    assert document["tries"][3]["error"] == "why not"
    missing = commands.run(stage, "dead", "show", APP, "nobody")
    assert (missing.code, missing.stdout) == (1, "")
    assert "task nobody has no dead letter" in missing.stderr


def test_what_can_not_be_read_is_shown_as_bytes_and_redriven_as_it_is(stage: Stage) -> None:
    """Byte for byte; only corrected arguments need to be read first, and only whole ones do without."""
    bury_by_hand(stage, Envelope("pays", id="o-17"), b"no avro", reason="Undecodable")
    shown = dead.show(stage.app, "o-17")
    assert (shown.arguments, shown.value) == (None, b"no avro")
    assert "6e 6f 20 61 76 72 6f" in "\n".join(shown.lines())
    assert shown.as_json()["bytes"] == "bm8gYXZybw=="
    refused = redrive(stage.app, changes={"cents": 1}, dry_run=True)
    assert (refused.redriven, len(refused.refused)) == (0, 1)
    assert "its arguments can't be corrected: the value starts with" in refused.refused[0].why
    assert (
        redrive(stage.app, arguments={"order_id": "o-17", "cents": 1}, dry_run=True).redriven == 1
    )
    assert redrive(stage.app).redriven == 1
    (record,) = read_to_end(stage.app.settings, stage.app.names.tasks("tasks", "normal"))
    assert (record.value, record.partition) == (b"no avro", 1)


def test_where_it_goes_and_what_stays_behind(stage: Stage) -> None:
    """Home, key, foreign headers and who waits for it stay; expiry, due time and attempts begin anew."""
    home = Place(stage.app.names.tasks("tasks", "high"), 3)
    before = Envelope(
        "pays", id="o-17", run=0, attempt=4, uncounted=1, priority="high", home=home, group="g",
        due=5.0, expires=6.0, published=4.0, reply_to=Place(stage.app.names.replies, 2), parent="p",
        root="r", others=(("theirs", b"1"), ("theirs", None)),
    )  # fmt: skip
    value = value_of(stage, "pays", order_id="o-17", cents=1)
    bury_by_hand(stage, before, value)
    done = redrive(stage.app)
    assert (done.redriven, done.unexpired) == (1, 1)
    (record,) = read_to_end(stage.app.settings, home.topic)
    assert (record.partition, record.key, record.value) == (3, b"o-17", value)
    after = read(record.headers)
    assert after._replace(trace=()) == before._replace(
        run=1, attempt=1, uncounted=0, due=None, expires=None, lookup=True
    )
    (row,) = stage.rows(stage.app.handle("o-17"))
    assert (row.state, row.run, row.attempt, row.priority) == (State.WAITING, 1, 0, "high")


def test_what_can_not_be_redriven_says_why_and_the_rest_is(stage: Stage) -> None:
    """A letter without a home, one of a topic that is gone, one whose run did not die, one unreadable."""
    value = value_of(stage, "pays", order_id="o", cents=1)
    delay = f"{stage.app.names.delay(5.0)}/0/1"
    bury_by_hand(stage, Envelope("pays", id="homeless"), value, origin=delay)
    bury_by_hand(stage, Envelope("pays", id="moved", home=Place("gone.tasks.high", 0)), value)
    bury_by_hand(stage, Envelope("pays", id="fine"), value)
    bury_by_hand(stage, Envelope("pays", id="odd", others=(("ts-due", b"soon"),)), value)
    bury_by_hand(stage, Envelope("pays", id="alive"), value)
    store_by_hand(stage, dead_row("alive")._replace(state=State.SUCCEEDED))
    done = commands.run(stage, "dead", "redrive", APP, "--yes", "--json")
    assert done.code == 1
    assert done.json["redriven"] == 1
    whys = {one["id"]: one["why"] for one in done.json["refused"]}
    assert "does not say where it belongs" in whys.pop("homeless")
    assert "its topic gone.tasks.high does not exist" in whys.pop("moved")
    assert "its headers can't be read: header ts-due" in whys.pop("odd")
    assert "its run 0 is succeeded" in whys.pop("alive")
    assert not whys
    assert {one.id for one in letters(stage.app).letters} == {"homeless", "moved", "odd", "alive"}
    assert "4 dead letters refused" in done.stderr


def test_a_condition_that_can_not_be_told_is_reported(stage: Stage) -> None:
    """Letters whose arguments lack a name, or can't be read, are left out and counted."""
    bury_by_hand(stage, Envelope("pays", id="a"), value_of(stage, "pays", order_id="a", cents=1))
    bury_by_hand(stage, Envelope("pays", id="b"), value_of(stage, "pays", order_id="b", cents=9))
    bury_by_hand(stage, Envelope("add", id="c"), value_of(stage, "add", n=1))
    bury_by_hand(stage, Envelope("pays", id="d"), b"no avro")
    found = letters(stage.app, Selection(where="cents > 1"))
    assert ([one.id for one in found.letters], found.untold) == (["b"], 2)
    listed = commands.run(stage, "dead", "list", APP, "--where", "cents > 1")
    assert listed.code == 0
    assert "of 2 dead letters it can't be told, and they are left out: task" in listed.stderr
    with pytest.raises(ConfigError, match="one task at a time, and these letters are of add, pays"):
        redrive(stage.app, changes={"cents": 1})
    with pytest.raises(ConfigError, match="one letter, and these are 4"):
        redrive(stage.app, arguments={"cents": 1})


def test_what_is_purged_is_out_of_sight_and_stays_dead(stage: Stage) -> None:
    """Only what was meant; not what a redrive has begun; with a record of who and why."""
    for name in ("a", "b", "c"):
        bury_by_hand(
            stage, Envelope("pays", id=name), b"x", reason="Timeout" if name == "a" else "Fatal"
        )
        store_by_hand(stage, dead_row(name))
    begun = dead_row("c", run=1, attempt=0)._replace(state=State.WAITING)
    store_by_hand(stage, begun)
    nobody = commands.run(stage, "dead", "purge", APP)
    assert (nobody.code, _open(stage)) == (2, {"Fatal": 2, "Timeout": 1})
    assert "say --yes" in nobody.stderr
    dry = commands.run(stage, "dead", "purge", APP, "--error", "T*", "--dry-run", "--json")
    assert (dry.json["purged"], _open(stage)) == (1, {"Fatal": 2, "Timeout": 1})
    done = commands.run(
        stage, "dead", "purge", APP, "--error", "T*", "--yes", "--reason", "old", "--json"
    )
    assert (done.code, done.json["purged"], _open(stage)) == (0, 1, {"Fatal": 2})
    rest = dead.purge(stage.app)
    assert (rest.purged, [one.id for one in rest.refused]) == (1, ["c"])
    assert [one.id for one in letters(stage.app).letters] == ["c"]
    assert stage.app.handle("a").state() is State.DEAD
    assert redrive(stage.app, Selection(ids=frozenset({"a"}))).selected == 0
    assert redrive(stage.app).resumed == 1
    (shown,) = [one for one in letters(stage.app, closed=True).letters if one.id == "a"]
    assert shown.closed is not None
    assert (shown.closed.how, shown.closed.reason) == ("purged", "old")
    first, *_ = audit.actions(stage.app)
    assert (first.verb, first.count, first.reason, first.details["error"]) == (
        "purge",
        1,
        "old",
        "T*",
    )


def test_letters_are_corrected_in_an_editor(stage: Stage) -> None:
    """`--edit` opens the arguments of one letter as JSON; what is no JSON changes nothing."""
    bury_by_hand(
        stage, Envelope("pays", id="o-17"), value_of(stage, "pays", order_id="o", cents=-1)
    )
    store_by_hand(stage, dead_row("o-17"))
    script = stage.directory / "edit.py"
    script.write_text(
        "import json, sys, pathlib\nfile = pathlib.Path(sys.argv[1])\n"
        "arguments = json.loads(file.read_text())\nassert arguments == {'order_id': 'o', 'cents': -1}\n"
        "file.write_text(json.dumps({**arguments, 'cents': 3}))\n"
    )
    edit = ("dead", "redrive", APP, "o-17", "--edit", "--yes", "--json")
    stage.environment["VISUAL"] = (
        f'{sys.executable} -c \'import sys; open(sys.argv[1], "w").write("{{")\''
    )
    spoilt = commands.run(stage, *edit)
    assert (spoilt.code, "is no JSON" in spoilt.stderr) == (2, True)
    stage.environment["VISUAL"] = f"{sys.executable} {script}"
    assert commands.run(stage, *edit).json["redriven"] == 1
    stage.worker()
    assert stage.app.handle("o-17").result(timeout=30) == 3


def test_ctrl_c_leaves_a_good_order_and_the_same_command_does_the_rest(stage: Stage) -> None:
    """Interrupted in the middle of a slow redrive, it says how many are left; none runs twice."""
    count = 60
    handles = stage.task("pays").publish_many({"order_id": "o", "cents": -n} for n in range(count))
    worker = stage.worker()
    stage.wait_for(handles, {State.DEAD: count})
    assert worker.stop() == 0
    words = ("dead", "redrive", APP, "--set", "cents=1", "--yes", "--json")
    process = commands.start(stage, *words, "--rate", "10")

    def some_are_closed() -> bool:
        return len(letters(stage.app).letters) < count

    eventually(some_are_closed, timeout=60)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    left = len(letters(stage.app).letters)
    assert 0 < left < count
    assert f"interrupted: {left} are left; the same command does the rest" in stderr
    assert f'"redriven": {count - left}' in stdout
    rest = commands.run(stage, *words)
    assert (rest.code, rest.json["redriven"], rest.json["resumed"]) == (0, left, 0)
    stage.worker("--exit-when-empty").wait()
    assert stage.states(handles) == {State.SUCCEEDED: count}
    assert sum(one.run == 1 for one in stage.journal) == count
    assert [one.count for one in audit.actions(stage.app)] == [count - left, left]


def test_a_late_copy_of_the_first_run_is_dropped(stage: Stage) -> None:
    """While the new run waits, a record of the old one is neither run nor buried again."""
    envelope = Envelope("pays", id="o-17", lookup=True)
    value = value_of(stage, "pays", order_id="o", cents=-1)
    store_by_hand(
        stage, dead_row("o-17"), dead_row("o-17", run=1, attempt=0)._replace(state=State.WAITING)
    )
    sender = Sender(stage.app.settings, client_id="late")
    sender.send(
        stage.app.names.tasks("tasks", "normal"), value,
        key=b"o-17", headers=write(envelope), on_done=unheard,
    )  # fmt: skip
    assert sender.close(10.0) == 0
    assert stage.worker("--exit-when-empty").wait() == 0
    assert stage.left_over() == 0
    assert (stage.journal, stage.dead_letters()) == ([], [])
    assert stage.app.handle("o-17").state() is State.WAITING


def test_without_a_letter_there_is_nothing_to_do(stage: Stage) -> None:
    """An empty topic is no error, and leaves nothing in the audit log."""
    assert (redrive(stage.app).selected, dead.purge(stage.app).selected) == (0, 0)
    done = commands.run(stage, "dead", "redrive", APP, "--yes")
    assert (done.code, "0 dead letters would be redriven" in done.stderr) == (0, True)
    listed = commands.run(stage, "dead", "list", APP, "--json")
    assert (listed.code, listed.json["total"], listed.json["letters"]) == (0, 0, [])
    assert audit.actions(stage.app) == []
    with pytest.raises(TaskstreamError, match="no dead letter"):
        dead.show(stage.app, "nobody")


def test_the_letters_are_listed_at_the_terminal(stage: Stage) -> None:
    """Counts first, then the newest, in a table; the app may come from the environment."""
    for number in range(5):
        bury_by_hand(
            stage, Envelope("pays", id=f"o-{number}"), b"x",
            at=float(number), reason="Timeout" if number else "Fatal", message="too\nslow",
        )  # fmt: skip
    listed = commands.run(stage, "dead", "list", APP, "--limit", "2").stdout.splitlines()
    assert [line.split() for line in listed[:3]] == [
        ["letters", "reason"],
        ["4", "Timeout"],
        ["1", "Fatal"],
    ]
    assert [line.split()[1] for line in listed[5:]] == ["o-4", "o-3"]
    assert "Timeout: too" in listed[5]
    stage.environment["TASKSTREAM_APP"] = APP
    done = commands.run(stage, "dead", "redrive", "o-1", "o-2", "--yes", "--json")
    assert done.json["redriven"] == 2
    by_task = commands.run(stage, "dead", "list", APP, "--by", "task", "--json").json
    assert by_task["counts"] == [{"name": "pays", "count": 3}]
