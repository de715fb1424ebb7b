"""Promise 2: an offset is committed only after its result is stored, or its hand-off acknowledged.

Broken on purpose once, and seen to fail: `Service._record` reporting to the parent before the row is
stored.
"""

import pytest
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.stage import Stage

from taskstream import State
from taskstream.broker.topics import Topics
from taskstream.infra.catalogue import Server


def _watermarks(stage: Stage) -> int:
    topic = stage.app.names.tasks("tasks", "normal")
    with Topics(stage.app.settings) as topics:
        committed = topics.committed(stage.app.names.group("tasks", "normal"), topic)
    return sum(offset or 0 for offset in committed.values())


@pytest.mark.alone
def test_nothing_is_committed_while_the_store_does_not_answer(
    stage: Stage, servers: Servers
) -> None:
    """With Cassandra frozen tasks run, no offset moves; once it answers, all is stored and committed."""
    stage.worker()
    stage.task("add").publish(1).result(timeout=30)
    eventually(lambda: _watermarks(stage) == 1, timeout=10)
    cassandra = servers.handle(Server.CASSANDRA)
    cassandra.stop()
    try:
        handles = stage.task("add").publish_many({"n": n} for n in range(50))
        eventually(lambda: len(stage.journal) == 51, timeout=30)
        # Several commit intervals pass while the heartbeats of both sides go on.
        before = _watermarks(stage)
        eventually(lambda: _heartbeats(stage) >= 2, timeout=30)
        assert before == _watermarks(stage) == 1
    finally:
        cassandra.cont()
    stage.wait_for(handles, {State.SUCCEEDED: 50}, timeout=60)
    eventually(lambda: stage.left_over() == 0, timeout=30)
    assert len(stage.journal) == 51, "what waited for the store is written, not run again"


def test_the_commit_lists_what_runs(stage: Stage) -> None:
    """Tasks behind a running one are finished in the commit's metadata, with the offset held at it."""
    gate = stage.directory / "gate"
    stage.worker()
    slow = stage.task("waits_for").options(key="one", unordered=True).publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    quick = stage.task("add").options(key="one-too", unordered=True)
    handles = [quick.publish(n) for n in range(100)]
    stage.wait_for(handles, {State.SUCCEEDED: 100})

    def held() -> None:
        topic = stage.app.names.tasks("tasks", "normal")
        assert stage.left_over() >= 1
        with Topics(stage.app.settings) as topics:
            found = topics.progress(stage.app.names.group("tasks", "normal"), topic)
        assert sum(len(one.unfinished) for one in found.values() if one is not None) == 1

    eventually(held, timeout=10)
    gate.touch()
    assert slow.result(timeout=30) == "done"
    eventually(lambda: stage.left_over() == 0, timeout=10)


def _heartbeats(stage: Stage) -> int:
    from taskstream.broker.tail import read_to_end

    return len(read_to_end(stage.app.settings, stage.app.names.workers))
