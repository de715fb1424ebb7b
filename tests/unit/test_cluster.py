"""A cluster is there once its answer names a broker."""

from types import SimpleNamespace
from typing import Any

import pytest

from taskstream.broker import cluster
from taskstream.broker.failures import NotReady
from taskstream.core.settings import Settings


@pytest.mark.parametrize("ask", [cluster.look_at, cluster.reach])
def test_an_answer_without_brokers_is_none(monkeypatch: pytest.MonkeyPatch, ask: Any) -> None:
    """As a broker gives that has just been fenced: it is asked again, like one that is away."""
    empty = SimpleNamespace(list_topics=lambda timeout: SimpleNamespace(brokers={}))
    monkeypatch.setattr(cluster, "AdminClient", lambda _options: empty)
    with pytest.raises(NotReady, match="names no broker"):
        ask(Settings(bootstrap_servers="k:9092"), 1.0)
