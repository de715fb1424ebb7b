"""The events topic tells of every attempt, and no commit passes one of which it doesn't.

Broken on purpose once, and seen to fail: `Service._report` without the rows it has found. `Journal.keeps` that
always says no is what tests/unit/test_settling.py finds.
"""

import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tests.support.commands import APP, run
from tests.support.cql import truncate
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State
from taskstream.admin import audit
from taskstream.admin.events import events, rebuild, rows
from taskstream.core import faultpoints
from taskstream.core.audit import Action
from taskstream.results.history import newest
from taskstream.results.row import Row


def _history(stage: Stage) -> dict[tuple[str, int, int], Row]:
    return newest(rows(stage.app))


def _stored(stage: Stage, ids: Iterable[str]) -> dict[tuple[str, int, int], Row]:
    store = stage.app.result_store()
    assert store is not None
    return {
        (row.task_id, row.run, row.attempt): row for task_id in ids for row in store.read(task_id)
    }


def _timeless(row: Row) -> Row:
    return row._replace(published=None, started=None, finished=None, due=None)


def _same(some: dict[tuple[str, int, int], Row], others: dict[tuple[str, int, int], Row]) -> None:
    """The same rows, to the millisecond, which is what Cassandra keeps of times."""
    assert set(some) == set(others)
    for key, row in some.items():
        other = others[key]
        for name in ("published", "started", "finished", "due"):
            one, two = getattr(row, name), getattr(other, name)
            assert (one is None) == (two is None), (name, row, other)
            assert one is None or abs(one - two) < 0.0015, (name, row, other)
        assert _timeless(row) == _timeless(other)


def test_every_attempt_is_told_as_it_is_stored(stage: Stage) -> None:
    """Successes, retries, deaths and cancels: the topic holds the very rows of the store."""
    handles = [
        *stage.task("add").publish_many({"n": n} for n in range(50)),
        stage.task("fails_twice").publish(1),
        stage.task("gives_up").publish(1),
        stage.task("add").options(delay=3600).publish(1),
    ]
    handles[-1].cancel()
    stage.worker()
    final = {State.SUCCEEDED: 51, State.DEAD: 1, State.CANCELLED: 1}
    stage.wait_for(handles, final)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    told = _history(stage)
    stored = _stored(stage, [handle.id for handle in handles])
    _same(told, stored)
    assert len(told) == 53 + 2


def test_a_crash_before_the_events_loses_none(stage: Stage, tmp_path: Path) -> None:
    """Killed when rows are stored and nothing is told: the next owner finds the rows, and tells."""
    (tmp_path / faultpoints.BEFORE_EVENTS).write_text("kill")
    handles = stage.task("add").publish_many({"n": n} for n in range(200))
    stage.environment[faultpoints.VARIABLE] = str(tmp_path)
    stage.worker().wait()
    stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 200}, timeout=90)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert {key[0] for key in _history(stage)} == {handle.id for handle in handles}


def test_a_lost_result_store_is_rebuilt(stage: Stage) -> None:
    """Every row comes back as it was, and a second time changes nothing."""
    handles = [
        *stage.task("add").publish_many({"n": n} for n in range(300)),
        stage.task("fails_twice").publish(1),
        stage.task("gives_up").publish(1),
    ]
    stage.worker()
    ids = [handle.id for handle in handles]
    stage.wait_for(handles, {State.SUCCEEDED: 301, State.DEAD: 1})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    before = _stored(stage, ids)
    settings = stage.app.settings
    truncate(settings.cassandra_hosts, settings.keyspace, "results")
    assert _stored(stage, ids) == {}
    for _ in range(2):
        assert rebuild(stage.app).attempts >= len(before)
        _same(_stored(stage, ids), before)


def test_events_can_be_followed(stage: Stage) -> None:
    """From the end on: what happens after the call is told as it comes, attempts and actions alike."""
    stage.worker()
    old = stage.task("add").publish(0)
    stage.wait_for([old], {State.SUCCEEDED: 1})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    with closing(events(stage.app, start="end", follow=True, over=_Act(stage))) as told:
        found = [next(told) for _ in range(2)]
    assert {type(event) for event in found} == {Row, Action}
    assert old.id not in {event.task_id for event in found if isinstance(event, Row)}


class _Act:
    """Is asked whether the reading is over once it has begun: does something to read then, and says no."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._done = False

    def __call__(self) -> bool:
        if not self._done:
            self._done = True
            audit.record(self._stage.app, "pause", "queue:tasks", reason="a test")
            self._stage.task("add").publish(7)
        return False


def test_the_command_shows_attempts_and_actions(stage: Stage) -> None:
    """As lines and as JSON documents, by task and by id; a text of an error forges no line."""
    handles = [stage.task("add").publish(1), stage.task("gives_up").publish(1)]
    stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 1, State.DEAD: 1})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    audit.record(stage.app, "pause", "queue:tasks", reason="a test")
    lines = _events(stage)
    assert len(lines) == 3
    assert any("pause queue:tasks" in line and "because: a test" in line for line in lines)
    (one,) = map(json.loads, _events(stage, "--json", "--id", handles[1].id))
    assert (one["kind"], one["state"], one["task"]) == ("attempt", "dead", "gives_up")
    assert len(_events(stage, "--task", "add")) == 1
    assert len(_events(stage, "--actions")) == 1


def _events(stage: Stage, *options: str) -> list[str]:
    done = run(stage, "events", APP, *options)
    assert done.code == 0, done.stderr
    return done.stdout.splitlines()
