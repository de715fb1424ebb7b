"""The events topic tells of every attempt, and no commit passes one of which it doesn't.

Broken on purpose once, and seen to fail: `Journal.keeps` that always says no (a kill -9 before the events
loses those of tasks whose offsets were committed), `Service._report` without the rows it has found.
"""

from collections.abc import Iterable
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State
from taskstream.admin.history import rows
from taskstream.core import faultpoints
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


def _to_milliseconds(row: Row) -> Row:
    """What Cassandra keeps of the times."""
    published, started, finished, due = (
        None if at is None else round(at, 3)
        for at in (row.published, row.started, row.finished, row.due)
    )
    return row._replace(published=published, started=started, finished=finished, due=due)


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
    assert {key: _to_milliseconds(row) for key, row in told.items()} == {
        key: _to_milliseconds(row) for key, row in stored.items()
    }
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
