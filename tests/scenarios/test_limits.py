"""Limits and reserved slots on real servers: what people rely on when the other side can't take more.

Broken on purpose once, and seen to fail: limits that admit whatever comes; a parent that gives the room of
the reserved slots to all. (A child that gives them to all passes here, as the parent fills none of
them: `tests/unit/test_line.py` sees it.)
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Run, Stage

from taskstream import Handle, State


def most_at_once(runs: Iterable[Run]) -> int:
    """How many ran at the same time at most, by their notes of start and end."""
    running = most = 0
    for run in sorted(runs, key=lambda run: run.at):
        running += 1 if run.more["side"] == "start" else -1
        most = max(most, running)
    return most


def most_given_in_any_second(stage: Stage, handles: Iterable[Handle[Any]]) -> int:
    """How many were given out within a second at most.

    The start follows at once, or late while this machine is busy; when it was given out is in the row.
    """
    times = sorted(row.written_us / 1e6 for handle in handles for row in stage.rows(handle))
    return max(sum(first <= at < first + 1.0 for at in times) for first in times)


def test_a_group_never_runs_more_at_once(stage: Stage) -> None:
    """Two workers, the second of which comes late and takes partitions over: never more than five."""
    few = stage.task("few_at_once")
    handles = few.publish_many({"n": n} for n in range(100))
    stage.worker()
    eventually(lambda: len(stage.journal) > 20, timeout=60)
    stage.worker()

    def both_work() -> None:
        handles.extend(few.publish_many({"n": n} for n in range(20)))
        assert len({run.pid for run in stage.journal}) > 2

    eventually(both_work, timeout=60, every=0.5)
    stage.wait_for(handles, {State.SUCCEEDED: len(handles)}, timeout=90)
    assert 4 <= most_at_once(stage.journal) <= 5


def test_a_group_never_starts_more_in_a_second(stage: Stage) -> None:
    """Eight a second over two workers; other tasks of the same lane pass those that wait."""
    limited = stage.task("now_and_then").publish_many({"n": n} for n in range(40))
    others = stage.task("add").publish_many({"n": n} for n in range(100))
    for _ in range(2):
        stage.worker()
    stage.wait_for(others, {State.SUCCEEDED: 100}, timeout=60)
    ran = [run for run in stage.journal if run.task == "now_and_then"]
    assert len(ran) < 40, "those that wait hold up nobody"
    stage.wait_for(limited, {State.SUCCEEDED: 40}, timeout=60)
    assert most_given_in_any_second(stage, limited) <= 8


def test_a_key_keeps_its_rate_over_a_rebalance(stage: Stage) -> None:
    """Two a second for each key, however its partition wanders; order within the key holds."""
    handles = stage.task("seldom_for_each").publish_many(
        {"customer": f"c{n % 6}", "n": n} for n in range(60)
    )
    first = stage.worker()
    eventually(lambda: len(stage.journal) > 12, timeout=60)
    stage.worker()
    eventually(lambda: len(stage.journal) > 30, timeout=60)
    assert first.stop() == 0
    stage.wait_for(handles, {State.SUCCEEDED: 60}, timeout=90)
    assert Counter(run.id for run in stage.journal).most_common(1)[0][1] == 1
    for key in range(6):
        assert most_given_in_any_second(stage, handles[key::6]) <= 2
        mine = [run for run in stage.journal if run.more["key"] == f"c{key}"]
        numbers = [int(run.more["n"]) for run in sorted(mine, key=lambda run: run.at)]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("slow", "quick"),
    [
        ("waits_for", "add"),
        ("waits_in_thread", "add_in_thread"),
        ("waits_in_process", "add_in_process"),
    ],
)
def test_a_high_task_finds_a_slot_among_busy_ones(stage: Stage, slow: str, quick: str) -> None:
    """Low tasks fill all slots but the reserved ones and wait; a high one runs at once."""
    gate = stage.directory / "gate"
    low = (
        stage.task(slow)
        .options(priority="low")
        .publish_many({"path": str(gate)} for _ in range(60))
    )
    stage.worker("--children", "1", "--concurrency", "4", "--reserved", "1")
    busy = 1 if slow == "waits_in_process" else 3
    eventually(lambda: len(stage.journal) == busy, timeout=60)
    high = stage.task(quick).options(priority="high").publish(1)
    stage.wait_for([high], {State.SUCCEEDED: 1})
    assert Counter(run.task for run in stage.journal) == {slow: busy, quick: 1}
    gate.touch()
    stage.wait_for(low, {State.SUCCEEDED: 60})
