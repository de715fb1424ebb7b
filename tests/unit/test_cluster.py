"""A cluster is there once its answer names a broker."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from taskstream.broker import cluster
from taskstream.broker.cluster import Cluster, session_timeout
from taskstream.broker.failures import NotReady
from taskstream.core.settings import Settings


@pytest.mark.parametrize("ask", [cluster.look_at, cluster.reach])
def test_an_answer_without_brokers_is_none(monkeypatch: pytest.MonkeyPatch, ask: Any) -> None:
    """As a broker gives that has just been fenced: it is asked again, like one that is away."""
    empty = SimpleNamespace(list_topics=lambda timeout: SimpleNamespace(brokers={}))
    monkeypatch.setattr(cluster, "AdminClient", lambda _options: empty)
    with pytest.raises(NotReady, match="names no broker"):
        ask(Settings(bootstrap_servers="k:9092"), 1.0)


def test_one_answer_tells_protocols_and_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker asks once, not once for each of its groups."""
    told = {
        "group.coordinator.rebalance.protocols": SimpleNamespace(value="classic,consumer"),
        "group.consumer.session.timeout.ms": SimpleNamespace(value="30000"),
        "hidden": SimpleNamespace(value=None),
    }
    answer: Future[Any] = Future()
    answer.set_result(told)
    brokers = {1: SimpleNamespace(host="k", port=9092)}
    admin = SimpleNamespace(
        list_topics=lambda timeout: SimpleNamespace(brokers=brokers),
        describe_configs=lambda resources, request_timeout: {resources[0]: answer},
    )
    monkeypatch.setattr(cluster, "AdminClient", lambda _options: admin)
    found = cluster.look_at(Settings(bootstrap_servers="k:9092"), 1.0)
    assert found == Cluster(("k:9092",), ("classic", "consumer"), 30.0)


@pytest.mark.parametrize(
    ("told", "own", "seconds"),
    [
        (None, {}, 45.0),
        (Cluster((), ()), {}, 45.0),
        (Cluster((), (), 30.0), {}, 30.0),
        (Cluster((), (), 60.0), {}, 45.0),
        (Cluster((), (), 30.0), {"session.timeout.ms": 10_000}, 10.0),
    ],
)
def test_a_session_is_the_shortest_that_may_be(
    told: Cluster | None, own: dict[str, Any], seconds: float
) -> None:
    """Whichever protocol will be spoken, nobody trusts himself for longer than his group does."""
    assert session_timeout(Settings(bootstrap_servers="k:9092", kafka=own), told) == seconds
