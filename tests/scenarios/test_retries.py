"""Retry policies on real servers: those of a task, of one publish, and what a foreign producer may say.

Broken on purpose once, and seen to fail: `Attempt.policy` that gives the task's, a hand-off without
`ts-since`, `check` without its look at the time limit.
"""

import time
from typing import Any

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import Handle, Retry, State, TaskFailed
from taskstream.broker.sender import Sender
from taskstream.broker.tail import read_to_end
from taskstream.core.ids import new_id

UP = "no further attempt"


def _runs(stage: Stage, handle: Handle[Any]) -> int:
    return sum(run.id == handle.id for run in stage.journal)


def test_one_publish_has_a_policy_of_its_own(stage: Stage) -> None:
    """Fewer attempts, none but one, other waits, other errors: each beside the task's five attempts."""
    fails = stage.task("fails")
    policies: dict[str, Retry | None] = {
        "two": Retry(attempts=2, delays=[0.05]),
        "none": None,
        "never": Retry(attempts=9, delays=[0], never=[LookupError]),
        "on": Retry(attempts=3, delays=[0], on=["KeyError"]),
    }
    handles = {name: fails.options(retry=one).publish("KeyError") for name, one in policies.items()}
    handles["task's"] = fails.publish("KeyError")
    stage.worker()
    stage.wait_for(handles.values(), {State.DEAD: 5})
    runs = {name: _runs(stage, handle) for name, handle in handles.items()}
    assert runs == {"two": 2, "none": 1, "never": 1, "on": 3, "task's": 5}


def test_a_time_limit_ends_retries_and_says_so(stage: Stage) -> None:
    """By waits of the policy and by those that the task asks for: no attempt begins after it."""
    task = stage.task("fails")
    stage.worker()
    stage.task("add").publish(1).result(timeout=60)
    policy = Retry(attempts=1000, delays=[0.2], within=2.0)
    handles = [task.options(retry=policy).publish(how) for how in ("OSError", "after 0.2")]
    delayed = task.options(retry=policy, delay=3.0).publish("OSError")
    stage.wait_for([*handles, delayed], {State.DEAD: 3})
    for handle, error in zip(handles, ("OSError: as told", "RetryAfter: busy"), strict=True):
        with pytest.raises(TaskFailed, match=rf"{error} \({UP}.* 2 s ") as caught:
            handle.result(timeout=10)
        assert caught.value.traceback
        assert 2 <= _runs(stage, handle) <= 10
    # Its time counts from its due time, else it would have had one attempt.
    assert _runs(stage, delayed) >= 2
    for handle in [*handles, delayed]:
        (row,) = [row for row in stage.rows(handle) if row.attempt == 1]
        assert row.published is not None
        begins = max(row.published, handle.due or 0.0)
        assert all(run.at <= begins + 2.0 for run in stage.journal if run.id == handle.id)


def test_a_retry_that_comes_up_after_its_time_does_not_begin(stage: Stage) -> None:
    """It waited for a worker; it dies of the error before it, as a dead letter with that reason."""
    worker = stage.worker()
    stage.task("add").publish(1).result(timeout=60)
    policy = Retry(attempts=5, delays=[3.0], within=6.0)
    handle = stage.task("fails").options(retry=policy).publish("OSError")
    stage.wait_for([handle], {State.RETRYING: 1})
    assert worker.stop() == 0
    until = time.time() + 6.0
    eventually(lambda: time.time() > until)
    stage.worker()
    stage.wait_for([handle], {State.DEAD: 1})
    last = max(stage.rows(handle), key=lambda row: row.attempt)
    assert (last.error_type, last.started) == ("OSError", None)
    assert UP in (last.error or "")
    (letter,) = eventually(stage.dead_letters)
    assert dict(letter.headers)["ts-dead-reason"] == b"OSError"


def test_a_foreign_producer_sets_a_policy_by_its_header(stage: Stage) -> None:
    """A text in one header; one that can't be meant makes a dead letter that says why."""
    topic = stage.app.names.tasks("tasks", "normal")
    stage.task("fails").publish("KeyError")  # its value serves the others
    (record,) = read_to_end(stage.app.settings, topic)
    sender = Sender(stage.app.settings, client_id="a-java-service")
    ids = {b"attempts=2; delays=0": new_id(), b"atempts=2": new_id()}
    for policy, task_id in ids.items():
        headers = [("ts-task", b"fails"), ("ts-id", task_id.encode()), ("ts-retry", policy)]
        sender.send(
            topic, record.value, key=None, headers=headers, on_done=lambda _ack, _error: None
        )
    assert sender.close(10.0) == 0
    stage.worker()
    handles = [stage.app.handle(task_id) for task_id in ids.values()]
    stage.wait_for(handles, {State.DEAD: 2})
    assert [_runs(stage, handle) for handle in handles] == [2, 0]
    with pytest.raises(TaskFailed, match=r"Undecodable.*ts-retry.*atempts"):
        handles[1].result(timeout=10)
