"""Programs without the worker's code publish, and read results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream.broker.sender import Sender
from taskstream.core import envelope
from taskstream.core.envelope import Envelope

SIGNATURES_ONLY = """
import os
from taskstream import App

app = App(os.environ["TASKSTREAM_TEST_APP"])

@app.remote
def add(n: int, plus: int = 1) -> int: ...

with app:
    print(add.publish(40, plus=2).result(timeout=30))
"""

NAME_ONLY = """
import os
from taskstream import App, BadArguments

with App(os.environ["TASKSTREAM_TEST_APP"]) as app:
    print(app.publish("add", {"n": 40, "plus": 2}).result(timeout=30))
    try:
        app.publish("add", {"n": "forty"})
    except BadArguments as error:
        print(error)
"""


@pytest.mark.parametrize("program", [SIGNATURES_ONLY, NAME_ONLY], ids=["signatures", "name"])
def test_a_second_program_publishes_and_gets_the_result(
    stage: Stage, tmp_path: Path, program: str
) -> None:
    """A service that has only the signature, or only the name, gets its typed result."""
    stage.worker()
    stage.task("add").publish(1).result(timeout=30)
    file = tmp_path / "service.py"
    file.write_text(program)
    done = subprocess.run(
        [sys.executable, str(file)],
        env={**os.environ, **stage.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "42"
    assert all("add" in line and "n" in line for line in rest)


def test_any_kafka_client_can_publish(stage: Stage) -> None:
    """A record with an Avro value and no header but `ts-task` is a task."""
    stage.worker()
    handle = stage.task("add").publish(1)
    assert handle.result(timeout=30) == 2
    task = stage.task("add")
    prefix = stage.app.schema_store().put(task.schema.arguments)
    sender = Sender(stage.app.settings, client_id="a-java-service")
    topic = stage.app.names.tasks("tasks", "high")
    headers = [header for header in envelope.write(Envelope("add")) if header[0] == "ts-task"]
    value = prefix + task.arguments.encode((5,), {})
    sender.send(topic, value, key=None, headers=headers, on_done=lambda _ack, _error: None)
    assert sender.close(10.0) == 0
    eventually(lambda: len(stage.journal) == 2, timeout=30)
    eventually(lambda: stage.left_over() == 0, timeout=30)
