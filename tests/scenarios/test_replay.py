"""Replays on real servers: what is published, under which ids, and what becomes of it.

Broken on purpose once, and seen to fail: `_take` without the look whether a record is left to be
published; `announce` without its rows.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.eventually import eventually
from tests.support.servers import Jaeger
from tests.support.stage import ROOT, Stage

from taskstream import BlockingCall, ConfigError, Handle, State
from taskstream.admin import audit
from taskstream.admin.replay import dry_run, replay, replays, settle
from taskstream.broker.records import Record
from taskstream.broker.tail import read_to_end
from taskstream.broker.topics import Topics
from taskstream.core.envelope import Envelope, read
from taskstream.core.replay import ReplayProgress, ReplayRequest, Skip


def records(stage: Stage, priority: str = "normal") -> list[tuple[Record, Envelope]]:
    """All records of a task topic."""
    topic = stage.app.names.tasks("tasks", priority)
    return [(one, read(one.headers)) for one in read_to_end(stage.app.settings, topic)]


def newest(stage: Stage) -> float:
    """The time of the last record of the normal priority."""
    return max(one.timestamp for one, _ in records(stage))


def finished(stage: Stage, handles: list[Handle[Any]]) -> None:
    """Waits until all have succeeded."""
    stage.wait_for(handles, {State.SUCCEEDED: len(handles)})


def test_what_a_dry_run_counts_is_published_and_runs_once(stage: Stage) -> None:
    """By time, task and condition, under new ids, beside what had run before; all of it on record."""
    app, charges = stage.app, stage.task("charges")
    stage.worker()
    early = charges.publish_many([{"order_id": "early", "cents": 99}])
    finished(stage, early)
    since = newest(stage) + 0.001
    handles = charges.publish_many([{"order_id": f"o-{n}", "cents": n} for n in range(30)])
    others = stage.task("add").publish_many([{"n": n} for n in range(5)])
    finished(stage, [*handles, *others])
    until = newest(stage) + 0.001
    late = charges.publish_many([{"order_id": "late", "cents": 99}])
    finished(stage, late)

    asked: dict[str, Any] = {
        "since": since, "until": until, "tasks": ["charg*"], "where": "cents >= 20",
    }  # fmt: skip
    counted = app.replay(dry_run=True, **asked)
    assert (counted.count, dict(counted.tasks)) == (10, {"charges": 10})
    assert counted.skipped == {Skip.CONDITION: 20, Skip.TASK: 5}
    assert {one.arguments["cents"] for one in counted.samples if one.arguments} == {*range(20, 30)}
    before = len(records(stage))

    told: list[ReplayProgress] = []
    done = app.replay(reason="the bad deploy", name="monday", progress=told.append, **asked)
    assert (done.count, dict(done.tasks), done.skipped) == (10, {"charges": 10}, counted.skipped)
    assert told[-1] == (done.plan.total, done.plan.total, 10)

    again = [one for one in records(stage) if one[1].replay_of]
    assert len(records(stage)) == before + 10
    assert {envelope.replay_of for _, envelope in again} == {one.id for one in handles[20:]}
    assert all(envelope.lookup and envelope.run == 0 for _, envelope in again)
    new = [app.handle(envelope.id) for _, envelope in again]
    finished(stage, new)
    assert sorted(one.result(timeout=10) for one in new) == list(range(20, 30))
    runs = Counter((run.id, run.run, run.attempt) for run in stage.journal)
    assert len(runs) == 1 + 30 + 5 + 1 + 10
    assert set(runs.values()) == {1}

    begun, end = [one for one in audit.actions(app) if one.verb == "replay"]
    assert (begun.target, begun.reason, begun.details["state"]) == (
        "replay:monday", "the bad deploy", "begun",
    )  # fmt: skip
    assert (end.target, end.count, end.details["state"]) == ("replay:monday", 10, "done")
    with pytest.raises(ConfigError, match="there was a replay named monday"):
        app.replay(name="monday", **asked)


def test_with_the_same_ids_each_replay_is_a_further_run(stage: Stage) -> None:
    """A task's history goes on: run 1, run 2, each announced while it waits."""
    app = stage.app
    handles = stage.task("keyed").publish_many(
        [{"customer": f"c-{n % 2}", "n": n} for n in range(6)]
    )
    worker = stage.worker("--exit-when-empty")
    assert worker.wait() == 0
    done = app.replay(since=0, ids="same", key="c-1")
    assert done.count == 3
    odd = [handle for number, handle in enumerate(handles) if number % 2]
    assert {handle.state() for handle in odd} == {State.WAITING}
    placed = {
        (one.partition, one.key)
        for one, envelope in records(stage)
        if envelope.id in {h.id for h in odd}
    }
    assert len(placed) == 1
    assert stage.worker("--exit-when-empty").wait() == 0
    assert app.replay(since=0, ids="same", key="c-1").count == 3
    assert stage.worker("--exit-when-empty").wait() == 0
    for handle in odd:
        assert [(row.run, row.attempt, row.state) for row in stage.rows(handle)] == [
            (0, 1, State.SUCCEEDED), (1, 0, State.WAITING), (1, 1, State.SUCCEEDED),
            (2, 0, State.WAITING), (2, 1, State.SUCCEEDED),
        ]  # fmt: skip
    counted = Counter((run.id, run.run) for run in stage.journal)
    assert set(counted.values()) == {1}
    assert len(counted) == 6 + 3 + 3


def test_what_stands_there_more_than_once_counts_once(stage: Stage) -> None:
    """A task that came home after a delay, one that was retried, and a further run."""
    handles = [
        stage.task("add").options(delay=0.3).publish(1),
        stage.task("fails_twice").publish(1),
        stage.task("add").publish(2),
    ]
    stage.worker()
    finished(stage, handles)
    stage.app.replay(since=0, ids="same", tasks=["add"])
    eventually(lambda: len(stage.journal) == 7)
    counted = stage.app.replay(since=0, dry_run=True)
    assert counted.tasks == {"add": 2, "fails_twice": 1}
    assert counted.skipped == {Skip.LATER_ATTEMPT: 2, Skip.COPY: 2}


def test_tasks_are_chosen_by_how_they_had_ended_when_the_replay_was_settled(stage: Stage) -> None:
    """By state, error and its text; that they end otherwise meanwhile changes nothing for the same plan."""
    app = stage.app
    stage.worker()
    finished(stage, stage.task("add").publish_many([{"n": n} for n in range(4)]))
    unpaid = stage.task("pays").publish_many(
        [{"order_id": f"o-{n}", "cents": -n} for n in range(3)]
    )
    hopeless = [stage.task("gives_up").publish(n) for n in range(2)]
    stage.wait_for([*unpaid, *hopeless], {State.DEAD: 5})

    died = app.replay(since=0, states=["dead"], dry_run=True)
    assert (died.tasks, died.skipped[Skip.OUTCOME]) == ({"pays": 3, "gives_up": 2}, 4)
    assert app.replay(since=0, error="Fat*", dry_run=True).tasks == {"gives_up": 2}
    plan = settle(app, ReplayRequest(since=0, error="ValueError", text="-1 CENTS", ids="same"))
    assert replay(app, plan).count == 1
    eventually(
        lambda: [row.run for row in stage.rows(unpaid[1]) if row.state is State.DEAD] == [0, 1]
    )
    assert dry_run(app, plan).count == 1


def test_offsets_and_partitions_name_the_records_themselves(stage: Stage) -> None:
    """And another priority takes them, at a rate."""
    app = stage.app
    stage.task("add").publish_many([{"n": n} for n in range(200)])
    sizes = Counter(one.partition for one, _ in records(stage))
    done = app.replay(
        queue="tasks",
        priority="normal",
        offsets={0: (2, 7), 1: (0, None)},
        to_priority="high",
        rate=100,
    )
    assert done.count == 5 + sizes[1]
    moved = records(stage, "high")
    assert len(moved) == done.count
    assert {envelope.priority for _, envelope in moved} == {"high"}
    assert {envelope.replay_of for _, envelope in moved} == {
        envelope.id
        for one, envelope in records(stage)
        if one.partition == 1 or (one.partition == 0 and 2 <= one.offset < 7)
    }
    assert app.replay(partitions=[1], priority="normal", dry_run=True).count == sizes[1]


@contextmanager
def replaying(stage: Stage, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`taskstream replay …` as a process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "taskstream", "replay", *words],
        cwd=ROOT, env={**os.environ, **stage.environment, "TASKSTREAM_APP": "tests.support.jobs:app"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def published(stage: Stage) -> int:
    """Records of the high priority."""
    topic = stage.app.names.tasks("tasks", "high")
    with Topics(stage.app.settings) as topics:
        return sum(topics.end_offsets(topic).values())


def test_interrupted_and_killed_it_goes_on_where_it_was(stage: Stage) -> None:
    """Ctrl-C ends it in order, kill -9 does not; the total is exact, and each task runs once."""
    handles = stage.task("add").publish_many([{"n": n} for n in range(900)])
    words = ("--from", "0", "--to-priority", "high", "--rate", "120", "--name", "big", "--yes")
    with replaying(stage, *words) as first:
        eventually(lambda: published(stage) >= 100, 60)
        first.send_signal(signal.SIGINT)
        _, told = first.communicate(timeout=30)
        assert first.returncode == 130
        assert "--resume big" in told
    in_order = [envelope.id for _, envelope in records(stage, "high")]
    after_ctrl_c = len(in_order)
    (known,) = replays(stage.app)
    assert (known.finished, known.notice.plan.name) == (False, "big")
    with replaying(stage, "--resume", "big") as second:
        eventually(lambda: published(stage) >= after_ctrl_c + 150, 60)
        second.kill()
        second.communicate(timeout=30)
    with replaying(stage, "--resume", "big", "--rate", "900", "--json") as third:
        shown, told = third.communicate(timeout=60)
        assert third.returncode == 0, told
    assert '"count": 900' in shown
    again = [envelope for _, envelope in records(stage, "high")]
    assert {one.replay_of for one in again} == {one.id for one in handles}
    assert len({(one.id, one.run) for one in again}) == 900
    # What ended in order is not sent again; the kill repeats what no commit had told of.
    copies = Counter(one.id for one in again)
    assert {copies[task_id] for task_id in in_order} == {1}
    assert max(copies.values()) <= 2
    with replaying(stage, "--resume", "big") as fourth:
        assert fourth.wait(30) == 2
    assert [one.finished for one in replays(stage.app)] == [True]

    assert stage.worker("--exit-when-empty").wait() == 0
    runs = Counter(run.id for run in stage.journal)
    assert len(runs) == 1800
    assert set(runs.values()) == {1}
    states = [one.details["state"] for one in audit.actions(stage.app) if one.verb == "replay"]
    assert states == ["begun", "interrupted", "resumed", "resumed", "done"]


def test_a_resumed_further_run_keeps_its_number(stage: Stage) -> None:
    """A run is announced before it is sent, so a kill in between begins no other one."""
    handles = stage.task("add").publish_many([{"n": n} for n in range(300)])
    words = ("--from", "0", "--same-ids", "--rate", "50", "--name", "same", "--yes")
    start = sum(1 for _ in records(stage))
    with replaying(stage, *words) as first:
        eventually(lambda: len(records(stage)) >= start + 60, 60)
        first.kill()
        first.communicate(timeout=30)
    with replaying(stage, "--resume", "same") as second:
        second.communicate(timeout=60)
        assert second.returncode == 0
    again = [envelope for _, envelope in records(stage) if envelope.replay_of]
    assert {(one.id, one.run) for one in again} == {(one.id, 1) for one in handles}
    assert stage.worker("--exit-when-empty").wait() == 0
    runs = Counter((run.id, run.run) for run in stage.journal)
    # A copy that the kill left is dropped; of a first run that its announcement overtook, too.
    assert set(runs.values()) == {1}
    assert {key for key in runs if key[1] == 1} == {(one.id, 1) for one in handles}


def test_a_stop_in_the_progress_call_ends_it_in_order(stage: Stage) -> None:
    """What a KeyboardInterrupt is: committed, on record, to be resumed; however often it comes."""
    stage.task("add").publish_many([{"n": n} for n in range(100)])

    def stop(how_far: ReplayProgress) -> None:
        if 20 <= how_far.tasks < 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.app.replay(since=0, to_priority="high", rate=20, name="stopped", progress=stop)
    (known,) = replays(stage.app)
    assert 0 < known.read < known.notice.plan.total
    assert [one.details["state"] for one in audit.actions(stage.app)][-1] == "interrupted"
    with replaying(stage, "--resume", "stopped") as rest:
        assert rest.wait(60) == 0
    assert published(stage) == 100


def test_it_does_not_block_a_loop(stage: Stage) -> None:
    """There is a twin for it."""
    stage.task("add").publish(1)

    async def both() -> int:
        with pytest.raises(BlockingCall, match="replay_async"):
            stage.app.replay(since=0)
        return (await stage.app.replay_async(since=0, dry_run=True)).count

    assert asyncio.run(both()) == 1


def test_a_replay_begins_a_trace_that_is_linked_to_the_old_one(
    stage: Stage, jaeger: Jaeger
) -> None:
    """Two traces, one for each life of the task, and the way from the one to the other."""
    stage.worker()
    handle = stage.task("add").publish(1)
    assert handle.result(timeout=30) == 2
    stage.app.flush()
    stage.app.replay(since=0)
    ((_, again),) = [one for one in records(stage) if one[1].replay_of]
    assert stage.app.handle(again.id).result(timeout=30) == 2
    old, new = stage.rows(handle)[-1].trace_id, stage.rows(stage.app.handle(again.id))[-1].trace_id
    assert old is not None
    assert new is not None
    assert new != old
    spans = jaeger.wait_for(
        new,
        lambda spans: {"replay", "process", "INSERT"} <= {span.name.split()[0] for span in spans},
        timeout=30,
    )
    (root,) = [span for span in spans if span.parent_id is None]
    assert root.name.split()[0] == "replay"
    assert [trace_id for trace_id, _ in root.links] == [old]


def test_the_command_line_shows_what_it_does(stage: Stage, tmp_path: Path) -> None:
    """Counts first, asks, and tells the same as JSON."""
    stage.task("charges").publish_many([{"order_id": "o", "cents": n} for n in range(4)])
    with replaying(stage, "--from", "1h ago", "--where", "cents > 1", "--dry-run") as dry:
        shown, _ = dry.communicate(timeout=60)
    assert dry.returncode == 0
    assert "2 charges" in shown
    assert "2 left out: condition not met" in shown
    assert "2 tasks would be published" in shown
    with replaying(
        stage, "--from", "1h ago", "--where", "pence > 1", "--dry-run", "--json"
    ) as untold:
        shown, _ = untold.communicate(timeout=60)
    assert '"count": 0' in shown
    assert "pence" in shown
    with replaying(stage, "--from", "1h ago") as unasked:
        _, told = unasked.communicate(timeout=60)
    assert unasked.returncode == 2
    assert "say --yes" in told
    with replaying(stage, "--from", "1h ago", "--reason", "to see", "--yes") as done:
        shown, _ = done.communicate(timeout=60)
    assert "4 tasks published" in shown
    with replaying(stage, "list") as listed:
        shown, _ = listed.communicate(timeout=60)
    assert "to see" in shown
    assert "done" in shown
