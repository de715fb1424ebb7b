"""A deploy whose code raises must not move a whole queue into the dead-letter topic.

Broken on purpose once, and seen to fail: `Breakers.room` always infinite.
"""

from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State
from taskstream.broker.sender import Sender
from taskstream.core import envelope
from taskstream.core.envelope import Envelope

TASKS = 2_000
LIMIT = 100
SLOTS = 2 * 50


def test_a_bad_deploy_halts_its_queue_and_the_mended_one_runs_it(stage: Stage) -> None:
    """A bounded number of tasks dies, the rest wait, and a worker with mended code runs them all."""
    handles = stage.task("deployed").publish_many({"n": n} for n in range(TASKS))
    bad = stage.worker("--priorities", "low,normal", broken=True)
    eventually(lambda: "too many tasks die" in bad.log.read_text(), timeout=60)
    # Another priority of the same worker is not halted.
    assert stage.task("add").publish(1).result(timeout=30) == 2
    eventually(lambda: "a task was tried and failed" in bad.log.read_text(), timeout=30)
    assert bad.stop() == 0
    dead = stage.states(handles)[State.DEAD]
    assert LIMIT <= dead <= LIMIT + SLOTS + 5, stage.logs()
    assert len(stage.dead_letters()) == dead

    stage.worker("--exit-when-empty").wait()
    assert stage.states(handles) == {State.DEAD: dead, State.SUCCEEDED: TASKS - dead}
    assert "too many" not in stage.workers[-1].log.read_text()


def test_a_worker_goes_on_by_itself_once_its_tasks_succeed(stage: Stage) -> None:
    """A flood of undecodable records halts a queue; the good tasks behind it run without a restart."""
    topic = stage.app.names.tasks("tasks", "normal")
    sender = Sender(stage.app.settings, client_id="another-producer")
    for n in range(LIMIT + 1):  # time has given a little back
        headers = envelope.write(Envelope("add", id=f"broken-{n}"))
        sender.send(topic, b"no avro", key=b"%d" % n, headers=headers, on_done=lambda *_: None)
    assert sender.close(10.0) == 0
    worker = stage.worker()
    eventually(lambda: "too many tasks die" in worker.log.read_text(), timeout=60)
    handles = stage.task("add").publish_many({"n": n} for n in range(500))
    stage.wait_for(handles, {State.SUCCEEDED: 500}, timeout=90)
    assert "nothing of their queue is halted" in worker.log.read_text()
    assert len(stage.dead_letters()) == LIMIT + 1
