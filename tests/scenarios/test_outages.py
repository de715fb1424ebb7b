"""Cassandra or Kafka is away: the worker waits within its bounds, says so, and goes on by itself.

That nothing is committed meanwhile is `tests/promises/test_2_offsets_follow_results.py`.
"""

import json
import os
import signal
from dataclasses import dataclass

import httpx
import pytest
from tests.support.eventually import eventually
from tests.support.servers import Servers, free_ports
from tests.support.stage import Stage

from taskstream import State
from taskstream.consumer.parent.children import DEPTH_TASKS
from taskstream.consumer.parent.intake import ROOM_RECORDS
from taskstream.infra.catalogue import Server

TASKS = 5_000
HELD = 2 * (50 + DEPTH_TASKS)
"""What two children may hold of it."""


@dataclass(frozen=True, slots=True)
class Pages:
    """A worker's health pages."""

    url: str

    def problems(self, page: str) -> list[str]:
        """What it says is wrong; the status must say the same."""
        try:
            answer = httpx.get(f"{self.url}/{page}", timeout=5.0)
        except httpx.TransportError as error:
            raise AssertionError(f"nobody answers: {error}") from error
        found: list[str] = json.loads(answer.text)["problems"]
        assert answer.status_code == (503 if found else 200)
        return found

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = httpx.get(f"{self.url}/metrics", timeout=5.0).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.fixture
def pages(stage: Stage) -> Pages:
    """Those of a worker that is ready, started by this."""
    (port,) = free_ports(1)
    stage.worker("--health-port", str(port))
    pages = Pages(f"http://127.0.0.1:{port}")
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


def test_a_child_that_stands_still_is_not_alive(stage: Stage) -> None:
    """/live fails while a child makes no step; its stacks are in the log once it goes on."""
    stage.environment["TASKSTREAM_STUCK_AFTER"] = "2"
    (port,) = free_ports(1)
    worker = stage.worker("--health-port", str(port))
    pages = Pages(f"http://127.0.0.1:{port}")
    eventually(lambda: pages.problems("ready") == [], timeout=60)
    child = worker.children[0]
    os.kill(child, signal.SIGSTOP)
    try:
        (problem,) = eventually(lambda: pages.problems("live"), timeout=15)
        assert problem.startswith(f"child {child} has made no step for")
    finally:
        os.kill(child, signal.SIGCONT)
    eventually(lambda: pages.problems("live") == [], timeout=15)
    eventually(lambda: "in _prepare" in worker.log.read_text(), timeout=5)
