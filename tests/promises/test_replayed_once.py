"""A replay that is killed between two steps and resumed publishes each task once, and loses none.

Broken on purpose once, and seen to fail: offsets that are committed before what was sent is acknowledged; a
run whose number follows from the store's rows alone, not from who has announced it; new ids that are not derived.
"""

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.support import commands
from tests.support.commands import APP
from tests.support.stage import Stage

from taskstream.admin.replay import replays
from taskstream.broker.tail import read_to_end
from taskstream.core.envelope import Envelope, read
from taskstream.core.faultpoints import (
    AFTER_REPLAY_COMMIT,
    AFTER_REPLAY_ROWS,
    AFTER_REPLAY_SEND,
    BEFORE_REPLAY_COMMIT,
)

COUNT = 2000


def replayed(stage: Stage) -> list[Envelope]:
    """What replays have brought to the normal priority."""
    topic = stage.app.names.tasks("tasks", "normal")
    envelopes = [read(one.headers) for one in read_to_end(stage.app.settings, topic)]
    return [one for one in envelopes if one.replay_of]


@pytest.mark.parametrize(
    ("point", "ids"),
    [
        (AFTER_REPLAY_SEND, "--new-ids"),
        (BEFORE_REPLAY_COMMIT, "--new-ids"),
        (AFTER_REPLAY_COMMIT, "--new-ids"),
        (AFTER_REPLAY_ROWS, "--same-ids"),
        (BEFORE_REPLAY_COMMIT, "--same-ids"),
    ],
)
def test_killed_at_any_point_each_runs_once(
    stage: Stage, tmp_path: Path, point: str, ids: str
) -> None:
    """Kill -9 between rows, record, acknowledgement and commit; then `--resume`, and a worker."""
    handles = stage.task("add").publish_many([{"n": n} for n in range(COUNT)])
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / point).write_text("kill")
    words = ("replay", APP, "--from", "0", ids, "--name", "once", "--yes", "--json")
    # What is not waited for leaves late: so a kill would lose what was committed too early.
    stage.environment["TASKSTREAM_KAFKA"] = json.dumps({"linger.ms": 3000})
    assert commands.run(stage, *words, faults=faults).code == -9
    del stage.environment["TASKSTREAM_KAFKA"]
    # Where the kill came behind the last commit, nothing is left to be done.
    (known,) = replays(stage.app)
    assert point == AFTER_REPLAY_COMMIT or not known.finished
    rest = commands.run(stage, "replay", APP, "--resume", "once", "--json")
    assert rest.code == (2 if known.finished else 0), rest.stderr
    if not known.finished:
        assert rest.json["count"] == COUNT
    assert [one.finished for one in replays(stage.app)] == [True]
    again = replayed(stage)
    assert {one.replay_of for one in again} == {one.id for one in handles}
    assert len({(one.id, one.run) for one in again}) == COUNT
    assert {one.run for one in again} == {int(ids == "--same-ids")}
    stage.worker("--exit-when-empty").wait()
    runs = Counter((run.id, run.run) for run in stage.journal)
    assert set(runs.values()) == {1}
    assert len(runs) == 2 * COUNT
