"""Promise 3: a task whose final result is stored is not run again because of a crash or a rebalance.

Broken on purpose once, and seen to fail: no look-up of hand-offs; no look-up below the inherited
horizon, which covers what finished after the last commit; no memory of the ids met last. (A `Tracker.resume` that forgets the
commit's list of finished records passes here: the look-ups cover that too, at their cost.)
"""

from collections import Counter

from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State
from taskstream.broker.sender import Sender
from taskstream.broker.tail import read_to_end


def test_a_rebalance_repeats_nothing(stage: Stage) -> None:
    """Workers that come and go while tasks run: each task starts exactly once."""
    handles = stage.task("add").publish_many({"n": n} for n in range(3_000))
    first = stage.worker()
    eventually(lambda: len(stage.journal) > 200, timeout=30)
    second = stage.worker()
    eventually(lambda: len(stage.journal) > 1_500, timeout=60)
    assert first.stop() == 0
    stage.wait_for(handles, {State.SUCCEEDED: 3_000})
    assert second.stop() == 0
    assert Counter(run.id for run in stage.journal) == {handle.id: 1 for handle in handles}


def test_what_finished_behind_a_slow_task_is_not_run_again_after_a_kill(stage: Stage) -> None:
    """Kill -9 while the head of the partition runs: the finished ones behind it stay finished."""
    gate = stage.directory / "gate"
    worker = stage.worker()
    slow = stage.task("waits_for").publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    handles = stage.task("add").publish_many({"n": n} for n in range(500))
    stage.wait_for(handles, {State.SUCCEEDED: 500})
    worker.kill()
    gate.touch()
    stage.worker()
    stage.wait_for([slow], {State.SUCCEEDED: 1}, timeout=60)
    runs = Counter(run.id for run in stage.journal)
    assert runs.pop(slow.id) == 2
    assert set(runs.values()) == {1}


def test_a_repeated_handoff_is_dropped(stage: Stage) -> None:
    """A second copy of a retry's record, as a crash leaves it behind, changes nothing."""
    worker = stage.worker()
    handle = stage.task("fails_twice").publish(1)
    assert handle.result(timeout=30) == "1 at last"
    topic = stage.app.names.tasks("tasks", "normal")
    retries = [
        record
        for record in read_to_end(stage.app.settings, topic)
        if dict(record.headers).get("ts-attempt")
    ]
    assert len(retries) == 2
    sender = Sender(stage.app.settings, client_id="a-crashed-mover")
    for record in retries:
        sender.send(
            topic, record.value, key=record.key, headers=record.headers,
            on_done=lambda _ack, _error: None, partition=record.partition,
        )  # fmt: skip
    assert sender.close(10.0) == 0
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert len(stage.journal) == 3
    assert stage.states([handle]) == {State.SUCCEEDED: 1}
    assert worker.stop() == 0


def test_a_record_that_a_producer_sends_twice_is_run_once(stage: Stage) -> None:
    """Copies of what was published directly, as a producer's second try can leave them, are dropped."""
    worker = stage.worker()
    topic = stage.app.names.tasks("tasks", "normal")
    handles = stage.task("add").publish_many({"n": n} for n in range(200))
    sender = Sender(stage.app.settings, client_id="a-second-try")
    for record in read_to_end(stage.app.settings, topic):
        sender.send(
            topic, record.value, key=record.key, headers=record.headers,
            on_done=lambda _ack, _error: None, partition=record.partition,
        )  # fmt: skip
    assert sender.close(10.0) == 0
    stage.wait_for(handles, {State.SUCCEEDED: 200})
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert Counter(run.id for run in stage.journal) == {handle.id: 1 for handle in handles}
    assert worker.stop() == 0
