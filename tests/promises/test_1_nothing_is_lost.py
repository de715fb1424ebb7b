"""Promise 1: an acknowledged publish ends in exactly one final state, whatever dies on the way.

Broken on purpose once, and seen to fail: with `Tracker.progress` giving the position for the
watermark, what a plain commit() does, tasks that ran at the kill never end.
"""

from collections import Counter

import psutil
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State


def test_a_killed_worker_loses_nothing(stage: Stage) -> None:
    """Kill -9 in mid-run: another worker goes on, and every task ends."""
    handles = stage.task("add").publish_many({"n": n} for n in range(4_000))
    handles += stage.task("fails_twice").publish_many({"n": n} for n in range(50))
    first = stage.worker()
    eventually(lambda: len(stage.journal) > 500, timeout=30)
    children = [psutil.Process(pid) for pid in first.children]
    first.kill()
    psutil.wait_procs(children, timeout=10.0)  # they notice, and may begin some tasks until then
    at_the_kill = Counter(run.id for run in stage.journal if run.task == "add")

    stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 4_050}, timeout=90)
    runs = Counter(run.id for run in stage.journal if run.task == "add")
    again = [task_id for task_id, count in runs.items() if count > 1]
    assert set(again) <= set(at_the_kill), "only what was running or unrecorded may run again"
    assert max(runs.values()) <= 2
    assert stage.dead_letters() == []


def test_killed_children_lose_nothing(stage: Stage) -> None:
    """Kill -9 of each child in turn: the parent gives what they held to others."""
    import os
    import signal

    handles = stage.task("add").publish_many({"n": n} for n in range(4_000))
    worker = stage.worker()
    eventually(lambda: len(stage.journal) > 300, timeout=30)
    for pid in worker.children:
        os.kill(pid, signal.SIGKILL)
    stage.wait_for(handles, {State.SUCCEEDED: 4_000}, timeout=90)
    assert stage.left_over() < 4_000
