"""Workers with a name of their own (`--instance`), in both group protocols.

Broken on purpose once, to see the first test fail in the new protocol: a held name taken for a final
refusal, so that the second worker ends at once.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.stage import Stage

from taskstream import State

CLASSIC = {
    "group.protocol": "classic",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
}


@pytest.mark.parametrize("options", [{}, CLASSIC], ids=["new", "classic"])
def test_a_killed_worker_comes_back_under_its_name(
    stage: Stage, tmp_path: Path, options: Mapping[str, object]
) -> None:
    """It waits for the end of its first life's session where it must, and finishes everything."""
    stage.environment["TASKSTREAM_KAFKA"] = json.dumps(options)
    gate = tmp_path / "gate"
    worker = stage.worker("--instance", "one")
    handles = [stage.task("add").publish(number) for number in range(20)]
    handles += [stage.task("waits_for").publish(str(gate))]
    stage.wait_for(handles, {State.SUCCEEDED: 20, State.UNKNOWN: 1})
    worker.kill()

    again = stage.worker("--instance", "one")
    gate.touch()
    stage.wait_for(handles, {State.SUCCEEDED: 21})
    assert again.stop() == 0, stage.logs()
    assert stage.left_over() == 0


def test_a_worker_whose_name_is_taken_over_ends(stage: Stage) -> None:
    """In the classic protocol the later one wins, and the earlier one says what to do about it."""
    stage.environment["TASKSTREAM_KAFKA"] = json.dumps(CLASSIC)
    earlier = stage.worker("--instance", "one")
    first = stage.task("add").publish(1)
    stage.wait_for([first], {State.SUCCEEDED: 1})

    later = stage.worker("--instance", "one")

    assert earlier.wait() == 1
    assert "give each a name of its own" in earlier.log.read_text()
    second = stage.task("add").publish(2)
    stage.wait_for([second], {State.SUCCEEDED: 1})
    assert later.stop() == 0, stage.logs()
