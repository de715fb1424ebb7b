"""No dead letter is redriven twice, whatever dies on the way and however many redrive at once.

The command is killed between two steps by a fault point; the same command again does the rest.

Broken on purpose once, and seen to fail: a redrive whose record does not ask for a look into the store, one that
sends under a new run each time, and one that writes no closings.
"""

import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support import commands
from tests.support.commands import APP
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import Handle, State
from taskstream.admin.letters import letters
from taskstream.core.faultpoints import AFTER_REDRIVE_CLOSING, AFTER_REDRIVE_ROW, REDRIVE_POINTS

COUNT = 40
WORDS = ("dead", "redrive", APP, "--set", "cents=1", "--yes", "--json")


@pytest.fixture
def dead(stage: Stage) -> list[Handle[Any]]:
    """Tasks that died."""
    handles = stage.task("pays").publish_many({"order_id": "o", "cents": -n} for n in range(COUNT))
    # Not until it is empty: it may be so while the retries wait for a mover that has yet to start.
    worker = stage.worker()
    stage.wait_for(handles, {State.DEAD: COUNT})
    assert worker.stop() == 0
    return list(handles)


def _check_that_each_ran_once(stage: Stage, handles: Sequence[Handle[Any]]) -> None:
    stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: COUNT}, timeout=90)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    runs = Counter(one.id for one in stage.journal if one.run == 1)
    assert runs == {handle.id: 1 for handle in handles}
    assert {one.run for one in stage.journal} == {0, 1}
    assert letters(stage.app).letters == ()


@pytest.mark.parametrize("point", REDRIVE_POINTS)
def test_killed_at_any_point_each_runs_once(
    stage: Stage, dead: list[Handle[Any]], tmp_path: Path, point: str
) -> None:
    """Kill -9 between row, record and closing: again the same command, and each task ran once more."""
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / point).write_text("kill")
    assert commands.run(stage, *WORDS, faults=faults).code == -9
    states = stage.states(dead)
    assert states == {State.WAITING: COUNT}  # of all of them somebody knows that they are to run
    rest = commands.run(stage, *WORDS).json
    if point == AFTER_REDRIVE_CLOSING:
        assert rest["selected"] == 0
    else:
        assert (rest["redriven"], rest["resumed"]) == (COUNT, COUNT)
    assert commands.run(stage, *WORDS).json["selected"] == 0
    _check_that_each_ran_once(stage, dead)


def test_a_task_that_has_run_since_is_only_closed(
    stage: Stage, dead: list[Handle[Any]], tmp_path: Path
) -> None:
    """Killed before the letters were closed, while a worker was there: nothing is sent again."""
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "redrive.after-record").write_text("kill")
    assert commands.run(stage, *WORDS, faults=faults).code == -9
    stage.worker()
    stage.wait_for(dead, {State.SUCCEEDED: COUNT}, timeout=90)
    rest = commands.run(stage, *WORDS).json
    assert (rest["redriven"], rest["already"]) == (0, COUNT)
    _check_that_each_ran_once(stage, dead)


def test_two_at_once_do_it_once(stage: Stage, dead: list[Handle[Any]], tmp_path: Path) -> None:
    """One stands still after its rows while another does it all, and then goes on.

    By then the worker that ran them is gone, so nobody remembers having met them.
    """
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / AFTER_REDRIVE_ROW).write_text("stop")
    slow = commands.start(stage, *WORDS, faults=faults)
    eventually(lambda: list(faults.glob(f"{AFTER_REDRIVE_ROW}.*")), timeout=60)
    fast = commands.run(stage, *WORDS).json
    assert fast["redriven"] == COUNT
    stage.worker("--exit-when-empty").wait()
    stage.wait_for(dead, {State.SUCCEEDED: COUNT})
    slow.send_signal(signal.SIGCONT)
    stdout, stderr = slow.communicate(timeout=60)
    assert slow.returncode == 0, stderr
    assert f'"redriven": {COUNT}' in stdout
    _check_that_each_ran_once(stage, dead)
