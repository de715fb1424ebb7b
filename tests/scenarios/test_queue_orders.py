"""Queues, priorities and kinds of tasks that people pause, drain and purge, on real servers.

Broken on purpose once, and seen to fail: the look at the orders in `Dispatch._taken` (a paused task runs);
the loop without its recall (what a child was fed ahead begins all the same); `Heap.free` left out (a purged
task waits for its due time); `lanes` without the standing orders.
"""

import sys
import time
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import Handle, State, TaskCancelled
from taskstream.admin import audit, queues
from taskstream.admin.redrive import redrive
from taskstream.admin.workers import workers


def _in_force(stage: Stage, *targets: str, count: int = 1) -> None:
    """So many workers say that they hold these back."""
    told = [set(worker.paused) for worker in workers(stage.app)]
    assert told == [set(targets)] * count


def _has_begun(stage: Stage, count: int = 1) -> None:
    assert len(stage.journal) >= count


def _ran(stage: Stage, handle: Handle[object]) -> int:
    return sum(run.id == handle.id for run in stage.journal)


def test_a_paused_queue_waits_and_loses_nothing(stage: Stage) -> None:
    """What came before a worker was there waits, too; it goes on in all workers when it is resumed."""
    ordered = queues.pause(stage.app, "queue:tasks", reason="the bank is down")
    assert ordered.workers == ()
    for _ in range(2):
        stage.worker()
    handles = stage.task("add").publish_many({"n": n} for n in range(2000))
    delayed = stage.task("add").options(delay=0.5).publish(1)
    eventually(lambda: _in_force(stage, "queue:tasks", count=2), timeout=60)
    assert all(lane.paused for lane in queues.lanes(stage.app, count_dead=False))
    assert stage.journal == []
    resumed = queues.resume(stage.app, "queue:tasks")
    assert (resumed.changed, resumed.holding) == (True, ())
    assert len(resumed.workers) == 2
    stage.wait_for([*handles, delayed], {State.SUCCEEDED: 2001})
    assert len(stage.journal) == 2001
    assert not queues.resume(stage.app, "queue:tasks").changed
    assert [(one.verb, one.target, one.reason) for one in audit.actions(stage.app)] == [
        ("pause", "queue:tasks", "the bank is down"),
        ("resume", "queue:tasks", ""),
    ]


def test_one_priority_waits_and_the_others_go_on(stage: Stage) -> None:
    """The order is to the priority alone; that of the whole queue must be lifted by its own name."""
    stage.worker()
    queues.pause(stage.app, "queue:tasks.low")
    eventually(lambda: _in_force(stage, "queue:tasks.low"), timeout=60)
    low = stage.task("add").options(priority="low").publish(1)
    normal = stage.task("add").publish(1)
    assert normal.result(timeout=30) == 2
    assert {lane.priority: lane.paused for lane in queues.lanes(stage.app, count_dead=False)} == {
        "high": False,
        "normal": False,
        "low": True,
    }
    assert _ran(stage, low) == 0
    queues.resume(stage.app, "queue:tasks")
    assert low.result(timeout=30) == 2


def test_what_a_child_was_fed_ahead_comes_back(stage: Stage, tmp_path: Path) -> None:
    """Behind slow ones in its line: none of them begins after the pause, though places get free."""
    stage.worker("--children", "1", "--concurrency", "2", "--reserved", "0")
    # Quick ones first, so that the child is fed ahead; then slow ones take its places.
    stage.wait_for(
        stage.task("add").publish_many({"n": n} for n in range(500)), {State.SUCCEEDED: 500}
    )
    gate = tmp_path / "gate"
    slow = stage.task("waits_for").publish_many({"path": str(gate)} for _ in range(32))
    eventually(lambda: _has_begun(stage, 502), timeout=30)
    queues.pause(stage.app, "task:waits_for")
    eventually(lambda: _in_force(stage, "task:waits_for"), timeout=30)
    begun = {run.id for run in stage.journal if run.task == "waits_for"}
    assert len(begun) == 2
    gate.touch()
    stage.wait_for([one for one in slow if one.id in begun], {State.SUCCEEDED: 2})
    assert stage.task("add").publish(1).result(timeout=30) == 2
    assert sum(_ran(stage, handle) for handle in slow) == 2
    queues.resume(stage.app, "task:waits_for")
    stage.wait_for(slow, {State.SUCCEEDED: 32})
    assert [_ran(stage, handle) for handle in slow] == [1] * 32


@pytest.mark.timeout(240)
def test_a_paused_kind_of_task_blocks_nobody_and_outlives_its_worker(stage: Stage) -> None:
    """Ten times as many as may stay, kill -9 in between: the others pass, and each of them runs once."""
    worker = stage.worker()
    queues.pause(stage.app, "task:naps", reason="it hurts")
    eventually(lambda: _in_force(stage, "task:naps"), timeout=60)
    paused = stage.task("naps").publish_many({"seconds": 0.0} for _ in range(4000))
    others = stage.task("add").publish_many({"n": n} for n in range(200))
    stage.wait_for(others, {State.SUCCEEDED: 200})
    worker.kill()
    stage.worker()
    stage.worker()
    again = stage.task("add").publish_many({"n": n} for n in range(200))
    stage.wait_for(again, {State.SUCCEEDED: 200}, timeout=120)
    assert {run.task for run in stage.journal} == {"add"}
    lifted = time.monotonic()
    queues.resume(stage.app, "task:naps")
    stage.wait_for(paused, {State.SUCCEEDED: 4000}, timeout=120)
    sys.stderr.write(
        f"4,000 held-back tasks done {time.monotonic() - lifted:.1f} s after the pause was lifted\n"
    )
    ran = [run.id for run in stage.journal if run.task == "naps"]
    assert len(ran) == len(set(ran)) == 4000
    eventually(lambda: _nothing_left(stage), timeout=30)


def _nothing_left(stage: Stage) -> None:
    assert stage.left_over() == 0


def test_a_paused_task_holds_its_key(stage: Stage) -> None:
    """What is behind it in its key waits, though it is of another kind; order is kept."""
    stage.worker()
    queues.pause(stage.app, "task:in_strict_order")
    eventually(lambda: _in_force(stage, "task:in_strict_order"), timeout=60)
    first = stage.task("in_strict_order").publish("c-1", n=1, how="works")
    behind = stage.task("keyed").publish("c-1", n=2)
    other = stage.task("keyed").publish("c-2", n=3)
    assert other.result(timeout=30) == 3
    assert _ran(stage, behind) == 0
    queues.resume(stage.app, "task:in_strict_order")
    assert behind.result(timeout=30) == 2
    assert [run.id for run in stage.journal if run.id in (first.id, behind.id)] == [
        first.id,
        behind.id,
    ]


def test_a_drain_finishes_what_was_there_and_its_retries_and_nothing_else(stage: Stage) -> None:
    """A retry comes home behind more new tasks than a partition may hold; then nothing is left."""
    stage.worker()
    stage.task("add").publish(0).result(timeout=60)
    before = [*stage.task("fails_twice").publish_many({"n": n} for n in range(20))]
    far = stage.task("add").options(delay=3600).publish(1)
    ordered = queues.drain(stage.app, "queue:tasks", reason="a new release")
    after = stage.task("add").publish_many({"n": n} for n in range(4000))
    stage.wait_for(before, {State.SUCCEEDED: 20}, timeout=120)

    def drained() -> None:
        left = queues.left(stage.app, ordered)
        assert (left.queued, left.retrying, left.delayed) == (0, 0, 1)

    eventually(drained, timeout=60)
    assert not {handle.id for handle in after} & {run.id for run in stage.journal}
    assert queues.waiting(stage.app, "queue:tasks").queued == 4000
    queues.resume(stage.app, "queue:tasks")
    stage.wait_for(after, {State.SUCCEEDED: 4000}, timeout=120)
    assert far.state() in (State.UNKNOWN, State.DELAYED)
    assert len(stage.journal) == 1 + 60 + 4000


def test_a_purge_ends_all_that_waits_with_its_reason(stage: Stage, tmp_path: Path) -> None:
    """Queued, delayed by an hour, between two attempts: none runs any more; what runs goes on."""
    worker = stage.worker("--children", "1", "--concurrency", "5", "--reserved", "0")
    gate = tmp_path / "gate"
    running = stage.task("waits_for").publish_many({"path": str(gate)} for _ in range(5))
    eventually(lambda: _has_begun(stage, 5), timeout=60)
    retrying = stage.task("tries_much_later").options(priority="high").publish(1)
    queued = stage.task("waits_for").publish_many({"path": str(gate)} for _ in range(300))
    delayed = stage.task("waits_for").options(delay=3600).publish(str(gate))
    untouched = stage.task("add").publish(1)
    assert queues.waiting(stage.app, "task:waits_for").total == 306
    ordered = queues.purge(stage.app, "task:waits_for", reason="sent twice", count=306)
    late = stage.task("waits_for").publish(str(gate))
    gate.touch()
    stage.wait_for([*queued, delayed], {State.CANCELLED: 301})
    with pytest.raises(TaskCancelled, match="sent twice"):
        delayed.result(timeout=10)
    stage.wait_for(running, {State.SUCCEEDED: 5})
    assert untouched.result(timeout=30) == 2
    assert late.result(timeout=30) == "done"
    (row,) = stage.rows(queued[0])
    assert (row.state, row.error_type, row.started) == (State.CANCELLED, "Purged", None)
    assert sum(run.task == "waits_for" for run in stage.journal) == 6

    stage.wait_for([retrying], {State.RETRYING: 1})
    queues.purge(stage.app, "queue:tasks.high")
    stage.wait_for([retrying], {State.CANCELLED: 1})

    def nothing_left() -> None:
        assert queues.left(stage.app, ordered).total == 0

    eventually(nothing_left, timeout=30)
    actions = audit.actions(stage.app)
    assert [(one.verb, one.target, one.count) for one in actions] == [
        ("purge", "task:waits_for", 306),
        ("purge", "queue:tasks.high", None),
    ]
    assert worker.stop() == 0


def test_a_paused_queue_can_be_purged_before_any_worker_is_there(stage: Stage) -> None:
    """Both orders are older than the worker; what enters after them waits."""
    handles = stage.task("add").publish_many({"n": n} for n in range(1000))
    queues.pause(stage.app, "queue:tasks")
    queues.purge(stage.app, "queue:tasks")
    late = stage.task("add").publish(1)
    stage.worker()
    stage.wait_for(handles, {State.CANCELLED: 1000})
    assert stage.journal == []
    queues.resume(stage.app, "queue:tasks")
    assert late.result(timeout=30) == 2


@pytest.mark.long
@pytest.mark.timeout(600)
def test_100_000_tasks_are_purged_at_the_pace_of_rows(stage: Stage) -> None:
    """Counted before, ended as cancelled, none of them run."""
    handles = []
    for _ in range(10):
        handles += stage.task("add").publish_many({"n": n} for n in range(10_000))
    assert queues.waiting(stage.app, "queue:tasks").queued == 100_000
    stage.worker()
    queues.purge(stage.app, "queue:tasks")
    began = time.monotonic()

    def nothing_left() -> None:
        assert stage.left_over() == 0

    eventually(nothing_left, timeout=300, every=0.5)
    took = time.monotonic() - began
    sys.stderr.write(f"100,000 tasks purged in {took:.1f} s, {100_000 / took:,.0f} a second\n")
    assert stage.states(handles)[State.CANCELLED] + len(stage.journal) == 100_000
    began = time.monotonic()
    for _ in range(2):
        stage.task("add").publish_many({"n": n} for n in range(10_000))
    eventually(nothing_left, timeout=300, every=0.5)
    took = time.monotonic() - began
    sys.stderr.write(f"beside that, 20,000 were published and run: {20_000 / took:,.0f} a second\n")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_an_order_is_in_force_within_a_second(stage: Stage) -> None:
    """Measured and printed: from the call to the last start of a task, in two busy workers."""
    for _ in range(2):
        stage.worker()
    stage.task("add").publish(1).result(timeout=60)
    late = []
    for _ in range(5):
        queues.pause(stage.app, "queue:tasks")  # else they are done before all are published
        handles = stage.task("naps").publish_many({"seconds": 0.05} for _ in range(10_000))
        queues.resume(stage.app, "queue:tasks")
        eventually(lambda: _has_begun(stage, 500), timeout=60)
        given = time.time()
        queues.pause(stage.app, "task:naps")
        eventually(lambda: _in_force(stage, "task:naps", count=2), timeout=60)
        assert len(stage.journal) < 10_000
        last = max(run.at for run in stage.journal)
        late.append(last - given)
        queues.resume(stage.app, "task:naps")
        stage.wait_for(handles, {State.SUCCEEDED: 10_000}, timeout=120)
        Path(stage.environment["TASKSTREAM_TEST_JOURNAL"]).unlink()
    late.sort()
    sys.stderr.write(
        f"last start after the order was given: {[f'{seconds:.3f}' for seconds in late]} s\n"
    )


def test_a_redrive_is_no_matter_of_an_older_purge(stage: Stage) -> None:
    """Its retries had entered before the purge; the new run, and the retries of that, have not."""
    stage.worker()
    handle = stage.task("never_works").publish(1)
    stage.wait_for([handle], {State.DEAD: 1})
    queues.purge(stage.app, "queue:tasks")
    redrive(stage.app, reason="once more")
    eventually(lambda: len(stage.journal) == 6, timeout=30)
    stage.wait_for([handle], {State.DEAD: 1})
    assert [(row.run, row.attempt) for row in stage.rows(handle) if row.attempt] == [
        *((0, attempt) for attempt in (1, 2, 3)),
        *((1, attempt) for attempt in (1, 2, 3)),
    ]
