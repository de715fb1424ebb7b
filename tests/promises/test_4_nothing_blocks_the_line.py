"""Promise 4: a slow, failing or crashing task holds up no other key and no other priority.

Crashing, failing and undecodable ones: `tests/scenarios/test_failures.py`.

Broken on purpose once, and seen to fail: one lock for the whole partition in place of one for each key.
"""

import os
import time
from collections import Counter

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State

POLL_INTERVAL = 10.0
"""Seconds: what `max.poll.interval.ms` is set to."""


def test_a_slow_head_holds_up_nothing_else(stage: Stage) -> None:
    """Thousands behind a task that runs are done, in its partition and in the other priorities."""
    gate = stage.directory / "gate"
    stage.worker()
    slow = stage.task("waits_for").options(key="slow", unordered=True).publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    behind = stage.task("add").publish_many({"n": n} for n in range(3_000))
    high = [stage.task("receipt").publish(f"o-{n}", cents=n) for n in range(20)]
    stage.wait_for(behind, {State.SUCCEEDED: 3_000}, timeout=90)
    stage.wait_for(high, {State.SUCCEEDED: 20})
    gate.touch()
    assert slow.result(timeout=30) == "done"


@pytest.mark.timeout(1200)
def test_a_head_longer_than_the_poll_interval(stage: Stage) -> None:
    """No rebalance comes of it, thousands behind it are done, and stay done after a kill -9.

    HEAD_SECONDS sets how long the head runs; the long form is ten minutes.
    """
    seconds = float(os.environ.get("HEAD_SECONDS", "25"))
    gate = stage.directory / "gate"
    milliseconds = int(POLL_INTERVAL * 1000)
    stage.environment["TASKSTREAM_KAFKA"] = f'{{"max.poll.interval.ms": {milliseconds}}}'
    worker = stage.worker()
    head = stage.task("waits_for").publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    began = time.monotonic()
    handles = stage.task("add").publish_many({"n": n} for n in range(4_000))
    stage.wait_for(handles, {State.SUCCEEDED: 4_000}, timeout=90)
    # What is shown is what time does: it has to pass.
    eventually(lambda: time.monotonic() - began > seconds, timeout=seconds + 1.0, every=1.0)
    log = worker.log.read_text()
    assert "partitions lost" not in log, log
    assert "has lost all brokers" not in log, log
    assert "MAXPOLL" not in log, log
    worker.kill()
    gate.touch()
    stage.worker()
    stage.wait_for([head], {State.SUCCEEDED: 1}, timeout=60)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    runs = Counter(run.id for run in stage.journal)
    assert runs.pop(head.id) == 2
    assert set(runs.values()) == {1}
