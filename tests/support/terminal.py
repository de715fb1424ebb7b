"""The command line as its users meet it: a process, its two streams and its exit code."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taskstream.broker.topics import Topics
from taskstream.core.settings import Settings

APP = '''
"""An app for tests of the command line."""
import os
from datetime import datetime
from taskstream import App, Retry, current

app = App(os.environ["TEST_APP_NAME"], partitions=2)

@app.task(priority="high")
async def add(a: int, b: int = 2) -> int:
    return a + b

@app.task(retry=Retry(attempts=3, delays=(0.1,)))
def flaky(n: int) -> str:
    if current().attempt < 3:
        raise RuntimeError("not yet")
    return "done"

@app.task(retry=None)
def remind(when: datetime) -> str:
    raise ValueError(f"never at {when.isoformat()}")
'''


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal in a directory that holds `main.py` with the app above.

    Args:
        directory: the working directory.
        environment: variables beside those of the tests' own process.
    """

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, typed: str = "", timeout: float = 60.0) -> Done:
        """Runs one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "taskstream", *words],
            check=False,
            cwd=self.directory,
            env=self._environment(),
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Runs a command beside the test; what is left of it at the end is ended hard."""
        process = subprocess.Popen(
            [sys.executable, "-m", "taskstream", *words],
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("TASKSTREAM_")
        }
        return {**kept, "COLUMNS": "120", **self.environment}


def terminal_at(directory: Path, **environment: str) -> Terminal:
    """A terminal in that directory, with the app in it."""
    (directory / "main.py").write_text(APP)
    return Terminal(directory, environment)


@pytest.fixture
def terminal(tmp_path: Path, kafka: str, cassandra: str) -> Iterator[Terminal]:
    """A terminal with an app of a fresh name; its topics go away with the test."""
    name = f"cli{uuid.uuid4().hex[:10]}"
    yield terminal_at(
        tmp_path,
        TEST_APP_NAME=name,
        TASKSTREAM_APP="main:app",
        TASKSTREAM_BOOTSTRAP_SERVERS=kafka,
        TASKSTREAM_CASSANDRA_HOSTS=cassandra,
    )
    with Topics(Settings(bootstrap_servers=kafka)) as topics:
        topics.delete(topics.names(f"{name}."))
