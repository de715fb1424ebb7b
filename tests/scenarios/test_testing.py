"""`taskstream.testing`: a user's own test, without any server."""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from taskstream.core.errors import ConfigError
from taskstream.testing import embedded

SHOP = """
from taskstream import App, Retry, current

app = App("tested", {servers})

@app.task
async def twice(n: int) -> int:
    return 2 * n

@app.task(retry=Retry(attempts=2, delays=(0.1,)))
def flaky() -> int:
    if current().attempt == 1:
        raise RuntimeError("not yet")
    return current().attempt
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes the shop to a fresh module in the working directory; gives the app's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def write(servers: str) -> str:
        module = f"shop_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{module}.py").write_text(SHOP.format(servers=servers))
        return f"{module}:app"

    return write


def test_an_app_runs_embedded(
    written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish, run, retry by the scheduler, result: whatever servers the environment names."""
    monkeypatch.setenv("TASKSTREAM_BOOTSTRAP_SERVERS", "production:9092")
    with embedded(written(""), arguments=("--children", "1")) as app:
        handles = app.publish_many("twice", [{"n": n} for n in range(10)])
        assert [handle.result(30) for handle in handles] == [2 * n for n in range(10)]
        assert app.publish("flaky", {}).result(30) == 2


def test_servers_in_code_are_refused(written: Callable[[str], str]) -> None:
    """The worker would reach them: so nothing is started, and the error says what to do."""
    with (
        pytest.raises(ConfigError, match="TASKSTREAM_BOOTSTRAP_SERVERS"),
        embedded(written('bootstrap_servers="production:9092"')),
    ):
        pass
