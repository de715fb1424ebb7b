"""A web service that imports taskstream pays for nothing that it doesn't use."""

import json
import subprocess
import sys

HEAVY = (
    "asyncio",
    "cassandra",
    "confluent_kafka",
    "fastavro",
    "grpc",
    "httpx",
    "msgpack",
    "opentelemetry.sdk",
    "prometheus_client",
    "psutil",
    "rich",
    "sqlite3",
    "taskstream.consumer",
    "testcontainers",
    "typer",
)

PROGRAM = """
import json, sys, time
started = time.perf_counter()
import taskstream
took = time.perf_counter() - started
{more}
print(json.dumps({{"took": took, "modules": sorted(sys.modules)}}))
"""

DEFINE = """
app = taskstream.App("shop")
@app.task(key="order_id")
async def charge(order_id: str, cents: int) -> str: ...
"""


def loaded(more: str = "") -> set[str]:
    program = PROGRAM.format(more=more)
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    answer = json.loads(done.stdout)
    print(f"import taskstream took {answer['took'] * 1000:.0f} ms")  # noqa: T201 - shown by pytest -s
    return {module for module in answer["modules"] if module in HEAVY}


def test_import_loads_no_driver() -> None:
    """`import taskstream` loads no Kafka client, no driver, no SDK, no command-line library."""
    assert loaded() == set()


def test_defining_a_task_loads_no_driver() -> None:
    """An app whose tasks are defined and called, but never published, loads none either."""
    assert loaded(DEFINE) == set()


def test_a_parent_loads_no_app() -> None:
    """It starts children before anything else: what only they need would make them wait."""
    program = (
        "import sys, taskstream.consumer.worker as _; early = set(sys.modules);"
        "import taskstream.consumer.parent.loop as _;"
        "print('confluent_kafka' in early, 'taskstream.app.app' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_hello_needs_no_driver() -> None:
    """A child tells what its app is before it loads what its tasks need."""
    program = "import sys, taskstream.consumer.child.main as _; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert not {"asyncio", "cassandra", "confluent_kafka", "psutil"} & set(done.stdout.split())
