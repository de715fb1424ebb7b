"""Promise 7: a task's state, attempts, errors, timings and worker can be read, and its one trace found.

That the trace is whole: `tests/scenarios/test_traces.py`.

Broken on purpose once, and seen to fail: the child's spans begun without the record's trace headers.
"""

import itertools

import pytest
from tests.support.stage import Stage

from taskstream import State, TaskFailed
from taskstream.admin.tasks import show
from taskstream.core.envelope import death_of


def test_a_task_tells_its_whole_story(stage: Stage) -> None:
    """Three attempts: each with its error, its worker and its times, all of one trace."""
    stage.worker()
    handle = stage.task("fails_twice").publish(7)
    handle.result(timeout=30)
    told = show(stage.app, handle.id)
    assert (told.state, told.task, told.value) == (State.SUCCEEDED, "fails_twice", "7 at last")
    assert [one.number for one in told.attempts] == [1, 2, 3]
    assert [one.state for one in told.attempts] == [
        State.RETRYING,
        State.RETRYING,
        State.SUCCEEDED,
    ]
    assert [one.error for one in told.attempts] == [
        "ConnectionError: not yet, attempt 1",
        "ConnectionError: not yet, attempt 2",
        None,
    ]
    assert told.published is not None
    times = [told.published]
    for one in told.attempts:
        assert one.worker
        assert one.started is not None
        assert one.finished is not None
        times += [one.started, one.finished]
    # Whole milliseconds are kept, and the publisher's clock is read before the worker's.
    assert all(late - early > -0.002 for early, late in itertools.pairwise(times))
    rows = stage.rows(handle)
    assert {row.trace_id for row in rows} == {told.trace_id}
    assert all(row.traceback and "jobs.py" in row.traceback for row in rows[:2])


def test_a_dead_task_tells_why_and_from_where(stage: Stage) -> None:
    """The error reaches who waits, the row, and the dead letter, with the record that failed."""
    stage.worker()
    handle = stage.task("gives_up").publish(3)
    with pytest.raises(TaskFailed, match="Fatal: 3 is hopeless") as failed:
        handle.result(timeout=30)
    assert "jobs.py" in failed.value.traceback
    (row,) = stage.rows(handle)
    (letter,) = stage.dead_letters()
    death = death_of(letter.headers)
    assert death is not None
    assert (
        (death.reason, death.message) == (row.error_type, row.error) == ("Fatal", "3 is hopeless")
    )
    assert death.origin == row.source
