"""What does not move is noticed: /live says so, the log shows where it stands, and others go on.

Broken on purpose once, and seen to fail: `Service._leave_if_blocked` never leaving (the tasks beside the
blocking one wait for ever).
"""

import os
import signal
from collections import Counter

import pytest
from tests.support.eventually import eventually
from tests.support.pages import Pages
from tests.support.stage import Stage

from taskstream import State


@pytest.fixture
def hasty(stage: Stage) -> Stage:
    """The stage, with workers that soon call themselves stuck."""
    stage.environment["TASKSTREAM_STUCK_AFTER"] = "3"
    return stage


def test_a_child_that_stands_still_is_not_alive(hasty: Stage) -> None:
    """/live fails while a child makes no step; its stacks are in the log once it goes on."""
    # With a second one it would be ready before this one is, and nobody watches one that begins.
    pages = Pages.of(hasty, "--children", "1")
    (worker,) = hasty.workers
    eventually(lambda: pages.problems("ready") == [], timeout=60)
    (child,) = worker.children
    os.kill(child, signal.SIGSTOP)
    try:
        problems = eventually(lambda: pages.problems("live"), timeout=15)
        assert f"child {child} has made no step for" in " ".join(problems)
    finally:
        os.kill(child, signal.SIGCONT)
    eventually(lambda: pages.problems("live") == [], timeout=15)
    eventually(lambda: "in _prepare" in worker.log.read_text(), timeout=5)


def test_a_coroutine_that_blocks_its_loop_is_named(hasty: Stage) -> None:
    """The log names the task and shows its stack, /live fails meanwhile; then both tasks end."""
    gate = hasty.directory / "gate"
    pages = Pages.of(hasty, "--children", "1")
    (worker,) = hasty.workers
    blocking = hasty.task("blocks").publish(str(gate))
    eventually(lambda: len(hasty.journal) == 1, timeout=60)
    behind = hasty.task("add").publish(1)
    eventually(lambda: "a task holds up the event loop" in worker.log.read_text(), timeout=30)
    (line,) = [line for line in worker.log.read_text().splitlines() if "holds up" in line]
    assert f"task_id={blocking.id}" in line
    assert "in blocks" in worker.log.read_text().partition(line)[2]
    eventually(lambda: "the event loop of child" in " ".join(pages.problems("live")), timeout=15)
    gate.touch()
    hasty.wait_for([blocking, behind], {State.SUCCEEDED: 2})
    eventually(lambda: pages.problems("live") == [], timeout=15)


def test_what_shares_a_blocked_loop_runs_elsewhere(stage: Stage) -> None:
    """A coroutine that blocks past its limit is dead at its first run; the others are run again."""
    gate = stage.directory / "gate"
    stage.worker("--children", "1")
    waiting = [stage.task("waits_for").publish(str(gate)) for _ in range(3)]
    eventually(lambda: len(stage.journal) == 3, timeout=60)
    blocking = stage.task("blocks_past_its_limit").publish(str(stage.directory / "never"))
    stage.wait_for([blocking], {State.DEAD: 1})
    eventually(lambda: len(stage.journal) == 7, timeout=60)
    gate.touch()
    stage.wait_for(waiting, {State.SUCCEEDED: 3})
    assert [row.error_type for row in stage.rows(blocking)] == ["Timeout"]
    runs = Counter(run.task for run in stage.journal)
    assert runs == {"waits_for": 6, "blocks_past_its_limit": 1}


def test_a_patience_that_nothing_can_meet_is_refused(stage: Stage) -> None:
    """The worker ends at once, and says the least that makes sense."""
    stage.environment["TASKSTREAM_STUCK_AFTER"] = "1"
    worker = stage.worker()
    assert worker.wait() == 2
    assert "stuck_after is 1: must be 2 seconds or more" in worker.log.read_text()
