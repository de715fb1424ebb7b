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
