"""Cassandra or Kafka is away: the worker waits within its bounds, says so, and goes on by itself.

That nothing is committed meanwhile is `tests/promises/test_2_offsets_follow_results.py`.

Broken on purpose once, and seen to fail: `Service.store_healthy` always true; the frame of a result looked up
when there is one, on the event loop.
"""

import pytest
from tests.support.eventually import eventually
from tests.support.pages import Pages
from tests.support.servers import Servers
from tests.support.stage import Stage

from taskstream import State
from taskstream.broker.sender import Sender, unheard
from taskstream.broker.tail import read_to_end
from taskstream.broker.topics import Topics, TopicSpec
from taskstream.consumer.parent.children import DEPTH_TASKS
from taskstream.consumer.parent.intake import ROOM_RECORDS
from taskstream.core.envelope import Envelope, Place, write
from taskstream.core.ids import new_id
from taskstream.infra.catalogue import Server

pytestmark = pytest.mark.alone

TASKS = 5_000
HELD = 2 * (50 + DEPTH_TASKS)
"""What two children may hold of it."""


@pytest.fixture
def pages(stage: Stage) -> Pages:
    """Those of a worker that is ready, started by this."""
    pages = Pages.of(stage)
    eventually(lambda: pages.problems("ready") == [], timeout=60)
    assert pages.problems("live") == []
    return pages


def test_without_the_store_a_worker_waits_within_its_bounds(
    stage: Stage, pages: Pages, servers: Servers
) -> None:
    """With Cassandra frozen and a backlog: not ready, alive, full and no fuller; then all at once."""
    stage.task("add").publish(1).result(timeout=30)
    cassandra = servers.handle(Server.CASSANDRA)
    cassandra.stop()
    try:
        handles = stage.task("add").publish_many({"n": n} for n in range(TASKS))
        eventually(lambda: "the result store" in " ".join(pages.problems("ready")), timeout=60)
        assert pages.problems("live") == []
        assert 0 < pages.metric("taskstream_rows_pending") <= HELD
        assert pages.metric("taskstream_running") <= HELD
        assert pages.metric("taskstream_waiting") <= ROOM_RECORDS
        assert len(stage.journal) <= 1 + HELD
    finally:
        cassandra.cont()
    stage.wait_for(handles, {State.SUCCEEDED: TASKS}, timeout=120)
    assert len(stage.journal) == 1 + TASKS, "what waited for the store is written, not run again"
    eventually(lambda: pages.problems("ready") == [], timeout=30)
    eventually(lambda: stage.left_over() == 0, timeout=30)


def test_without_kafka_a_worker_is_not_ready_and_goes_on_by_itself(
    stage: Stage, pages: Pages, servers: Servers
) -> None:
    """With Kafka frozen: not ready, alive; what was published before it is run when it is back."""
    stage.task("add").publish(1).result(timeout=30)
    kafka = servers.handle(Server.KAFKA)
    handles = stage.task("add").publish_many({"n": n} for n in range(200))
    kafka.stop()
    try:
        eventually(lambda: "Kafka has acknow" in " ".join(pages.problems("ready")), timeout=60)
        assert pages.problems("live") == []
        assert pages.metric("taskstream_commit_age_seconds") > 0
    finally:
        kafka.cont()
    stage.wait_for(handles, {State.SUCCEEDED: 200}, timeout=60)
    eventually(lambda: pages.problems("ready") == [], timeout=60)
    eventually(lambda: stage.left_over() == 0, timeout=30)


def test_a_first_result_needs_no_kafka(stage: Stage, pages: Pages, servers: Servers) -> None:
    """Its schema was stored before the task began: it is recorded, and holds up no other on its loop."""
    gate = stage.directory / "gate"
    handles = [stage.task("waits_for").publish(str(gate)) for _ in range(4)]
    eventually(lambda: len(stage.journal) == 4, timeout=60)
    kafka = servers.handle(Server.KAFKA)
    kafka.stop()
    try:
        gate.touch()
        # Within the time that a worker may go on without Kafka.
        eventually(lambda: all(map(stage.rows, handles)), timeout=5)
    finally:
        kafka.cont()
    stage.wait_for(handles, {State.SUCCEEDED: 4}, timeout=60)
    assert len(stage.journal) == 4
    assert pages.problems("live") == []


def test_a_worker_ends_in_time_without_kafka(stage: Stage, servers: Servers) -> None:
    """SIGTERM while Kafka is frozen: it waits for no answer longer than its deadlines."""
    worker = stage.worker("--drain", "3")
    stage.task("add").publish(1).result(timeout=60)
    kafka = servers.handle(Server.KAFKA)
    kafka.stop()
    try:
        assert worker.stop(timeout=60) == 0
    finally:
        kafka.cont()
    assert "the last commit failed" in worker.log.read_text()
    stage.worker()
    assert stage.task("add").publish(2).result(timeout=60) == 3


def test_a_task_waits_for_a_home_that_kafka_does_not_know_yet(stage: Stage) -> None:
    """As a broker may say that comes back from an outage: moved once it is there, and not buried."""
    home = f"{stage.app.name}.later.normal"
    waiting = Envelope("add", id=new_id(), home=Place(home, 0), due=1.0)
    sender = Sender(stage.app.settings, client_id="an-earlier-mover")
    sender.send(
        stage.app.names.delay(0.0), b"value", key=b"key", headers=write(waiting), on_done=unheard
    )
    assert sender.close(10.0) == 0
    worker = stage.worker()
    eventually(lambda: "Kafka did not take a move" in worker.log.read_text(), timeout=60)
    with Topics(stage.app.settings) as topics:
        topics.create([TopicSpec(home, 1)])
    (moved,) = eventually(lambda: read_to_end(stage.app.settings, home), timeout=60)
    assert (moved.key, moved.value) == (b"key", b"value")
    assert stage.dead_letters() == []
