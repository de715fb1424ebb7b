"""Replays on the embedded broker, which can't look times up and lists no groups: all is read, and judged."""

from pathlib import Path

import pytest

from taskstream import App, BrokerError, ConfigError
from taskstream.admin.replay import replays


def test_a_replay_needs_no_server(tmp_path: Path) -> None:
    """By time and condition, as new tasks and as further runs; only to list or resume them, it can't."""
    app = App("shop", bootstrap_servers="embedded", embedded_directory=str(tmp_path))

    @app.task
    def add(n: int) -> int:
        return n

    with app:
        first = add.publish_many([{"n": n} for n in range(10)])
        asked = {"tasks": ["add"], "where": "n > 6"}
        counted = app.replay(since=0, dry_run=True, **asked)  # type: ignore[arg-type]
        done = app.replay(since=0, name="monday", to_priority="low", **asked)  # type: ignore[arg-type]
        assert counted.count == done.count == 3
        assert app.replay(since=0, priority="low", dry_run=True).count == 3
        assert app.replay(since="1h ago", until=first[0].published - 1, dry_run=True).count == 0  # type: ignore[operator]
        assert app.replay(since=0, priority="normal", ids="same", to_priority="high").count == 10
        store = app.result_store()
        assert store is not None
        assert [row.run for row in store.read(first[0].id)] == [1]
        with pytest.raises(ConfigError, match="there was a replay named monday"):
            app.replay(since=0, name="monday")
        with pytest.raises(BrokerError, match="can't list groups"):
            replays(app)
