"""`taskstream.testing`: a user's own test, without any server."""

import sys
import uuid
from pathlib import Path

import pytest

from taskstream.testing import embedded

SHOP = """
from taskstream import App, Retry, current

app = App("tested", bootstrap_servers="production:9092")

@app.task
async def double(n: int) -> int:
    return 2 * n

@app.task(retry=Retry(attempts=2, delays=(0.1,)))
def flaky() -> int:
    if current().attempt == 1:
        raise RuntimeError("not yet")
    return current().attempt
"""


def test_an_app_runs_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish, run, retry by the scheduler, result: whatever servers the app was told of."""
    module = f"shop_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{module}.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with embedded(f"{module}:app", arguments=("--children", "1")) as app:
        handles = app.publish_many("double", [{"n": n} for n in range(10)])
        assert [handle.result(30) for handle in handles] == [2 * n for n in range(10)]
        assert app.publish("flaky", {}).result(30) == 2
