"""Spans leave a process over OTLP/gRPC, and a collector that is gone costs it nothing.

Each scenario is a process of its own, because a process has one tracer provider for its life; the
collector is a gRPC server in the test.

Broken on purpose once, and seen to fail: an exporter that waits for a silent collector for as long as
it takes.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from tests.support.stage import Stage

from taskstream import State

PUBLISHER = """
import sys
from taskstream.observability.tracing import publish_span, setup

setup(sys.argv[1], "shop")
for number in range(int(sys.argv[2])):
    publish_span("shop.tasks.high", task="charge", task_id=str(number), key=None).acknowledged(0, number)
"""


class Collector(TraceServiceServicer):
    """Keeps the names of services and spans that arrive."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: list[str] = []

    def Export(  # noqa: N802 - the protocol's name
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in resource.resource.attributes
                if attribute.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += [span.name for span in scope.spans]
        return ExportTraceServiceResponse()


@pytest.fixture
def served() -> Iterator[tuple[Collector, str]]:
    """A collector and its address."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"127.0.0.1:{port}"
    server.stop(None).wait()


def run(endpoint: str, spans: int) -> subprocess.CompletedProcess[str]:
    """A publisher to its end; one that waits for its collector fails."""
    return subprocess.run(
        [sys.executable, "-c", PUBLISHER, endpoint, str(spans)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_every_span_of_a_process_arrives(served: tuple[Collector, str], scheme: str) -> None:
    """Also those of its last instant, although it never asked to flush; nothing is printed."""
    collector, address = served
    done = run(scheme + address, 3_000)
    assert collector.services == {"shop"}
    assert collector.spans == ["send shop.tasks.high"] * 3_000
    assert done.stderr == ""


def test_a_collector_that_is_gone_costs_one_line() -> None:
    """The process ends by itself within seconds, and says in one line what it could not do."""
    done = run("127.0.0.1:1", 3_000)
    [line] = done.stderr.splitlines()
    assert "spans can't be delivered" in line
    assert "127.0.0.1:1" in line


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """An address where nobody listens."""
    return "127.0.0.1:1"


@pytest.mark.parametrize("collector", ["silent", "refusing"])
def test_a_worker_drains_and_stops_without_its_collector(
    stage: Stage, request: pytest.FixtureRequest, collector: str
) -> None:
    """All tasks get their results, each process says once that spans are lost, and the stop is in order."""
    stage.environment["TASKSTREAM_OTLP_ENDPOINT"] = request.getfixturevalue(collector)
    worker = stage.worker("--children", "1")
    handles = stage.task("add").publish_many([{"n": number} for number in range(300)])
    handles += [stage.task("fails_twice").publish(number) for number in range(3)]
    stage.wait_for(handles, {State.SUCCEEDED: 303})
    assert worker.stop() == 0
    lost = [
        line for line in worker.log.read_text().splitlines() if "spans can't be delivered" in line
    ]
    assert 1 <= len(lost) <= 2  # the child's, and the parent's of its hand-offs
    assert all("WARNING" in line or "warning" in line for line in lost)
