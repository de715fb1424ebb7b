"""The real servers in tests: whatever `taskstream up` runs, which `make test` calls first.

Where nothing is up and TASKSTREAM_TESTS_START_SERVERS=1, they are started for this run on free
ports, in a directory that goes away with it. Where a server is missing, the test skips with one
loud line, or, in CI, fails.
"""

import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskstream.infra.catalogue import HOST, Server
from taskstream.infra.containers import COMPOSE_FILE, compose_environment, docker_answers
from taskstream.infra.faults import ServerHandle
from taskstream.infra.lifecycle import down, up
from taskstream.infra.probes import ailment
from taskstream.infra.settings import PORTS, ServerSettings, data_home
from taskstream.infra.software import software_folder
from taskstream.infra.state import Record, client_settings, running
from tests.support.eventually import eventually

_SETTING_OF = {
    Server.KAFKA: "bootstrap_servers",
    Server.CASSANDRA: "cassandra_hosts",
    Server.JAEGER: "jaeger_url",
    Server.REGISTRY: "schema_registry_url",
}


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the running servers are.

    Args:
        settings: what `taskstream.infra.state.running` says.
        data_dir: where their state is kept; for `handle`.
    """

    settings: dict[str, str]
    data_dir: Path

    def require(self, server: Server) -> str:
        """The address of that server; skips the test, or fails it in CI, where it is not up."""
        address = self.settings.get(_SETTING_OF[server])
        if address is None:
            option = " --registry" if server is Server.REGISTRY else ""
            line = (
                f"NO {server.upper()} IS UP, this is not tested: run `taskstream up{option}` first"
            )
            if os.environ.get("CI"):
                pytest.fail(line, pytrace=False)
            pytest.skip(line)
        return address

    @property
    def addresses(self) -> dict[str, str]:
        """Where Kafka, Cassandra and the collector of traces are, as settings of an app."""
        return {
            "bootstrap_servers": self.require(Server.KAFKA),
            "cassandra_hosts": self.require(Server.CASSANDRA),
            "otlp_endpoint": self.settings.get("otlp_endpoint", ""),
        }

    def handle(self, server: Server) -> ServerHandle:
        """That server, to be killed, halted and restarted; tests must leave it well."""
        self.require(server)
        return ServerHandle(server, self.data_dir)


@dataclass(frozen=True, slots=True)
class Span:
    """One span as Jaeger gives it. Times are seconds.

    Args:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: the span it is a child of; None for a root.
        name: its operation.
        service: `service.name` of its process.
        started: seconds since 1970.
        duration: seconds.
        tags: attributes, and `span.kind`, `error`, `otel.status_description` among them.
        links: (trace id, span id) of spans it follows from.
        events: the attributes of each event, `event` being its name.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    started: float
    duration: float
    tags: dict[str, Any] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()
    events: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Jaeger:
    """Reads traces back through Jaeger's query API.

    Args:
        url: of the query API.
    """

    url: str

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of that trace that have arrived, by start; none yet is an empty list."""
        response = httpx.get(f"{self.url}/api/traces/{trace_id}")
        if response.status_code == 404:
            return []
        response.raise_for_status()
        (trace,) = response.json()["data"]
        spans = [_span(raw, trace["processes"]) for raw in trace["spans"]]
        return sorted(spans, key=lambda span: span.started)

    def wait_for(
        self, trace_id: str, until: Callable[[list[Span]], bool] = bool, timeout: float = 10.0
    ) -> list[Span]:
        """The spans of that trace as soon as they satisfy `until`; by default, as there are any.

        Raises:
            AssertionError: they didn't in so many seconds; names the spans that are there.
        """

        def look() -> list[Span]:
            spans = self.trace(trace_id)
            assert until(spans), f"trace {trace_id} has only {[span.name for span in spans]}"
            return spans

        return eventually(look, timeout)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of `taskstream up`, or those started for this run, or none."""
    found = running()
    if found is None and os.environ.get("TASKSTREAM_TESTS_START_SERVERS") == "1":
        with _started(tmp_path_factory.mktemp("servers")) as started:
            yield started
        return
    yield Servers(found or {}, data_home(os.environ))


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> str:
    """Kafka's bootstrap servers."""
    return servers.require(Server.KAFKA)


@pytest.fixture(scope="session")
def cassandra(servers: Servers) -> str:
    """Cassandra's hosts, as the setting `cassandra_hosts`."""
    return servers.require(Server.CASSANDRA)


@pytest.fixture(scope="session")
def jaeger(servers: Servers) -> Jaeger:
    """Jaeger's query API; spans are sent to `servers.settings["otlp_endpoint"]`."""
    return Jaeger(servers.require(Server.JAEGER))


@pytest.fixture(scope="session")
def registry(servers: Servers) -> str:
    """The schema registry's URL, as the setting `schema_registry_url`."""
    return servers.require(Server.REGISTRY)


def settings_on_free_ports(data_dir: Path, **given: Any) -> ServerSettings:
    """Settings for servers beside those that are up already; the cache is shared with them."""
    names = [name for ports in PORTS.values() for name in ports]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return ServerSettings.from_environment(os.environ, data_dir=data_dir, **{**ports, **given})


def needs_program(server: Server, settings: ServerSettings) -> None:
    """Skips where that server's program is not in the cache: this is no test of the network."""
    if not software_folder(server, settings.cache_dir).is_dir() and not os.environ.get("CI"):
        pytest.skip(f"NO {server.upper()} IN THE CACHE: run `taskstream up` once")


def free_ports(count: int) -> Sequence[int]:
    """So many different ports that nobody listens on; another program may still be faster.

    Below those that the system gives to outgoing connections: a server that is killed and started
    again must find its port free.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 12_000):
        with socket.socket() as one:
            try:
                one.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"there are no {count} free ports")


@contextmanager
def _started(directory: Path) -> Iterator[Servers]:
    settings = settings_on_free_ports(directory)
    if docker_answers():
        with _composed(settings) as started:
            yield started
        return
    up(settings, list(Server))
    try:
        yield Servers(running(directory) or {}, directory)
    finally:
        down(settings, wipe=True)


@contextmanager
def _composed(settings: ServerSettings) -> Iterator[Servers]:
    """The compose file by testcontainers, which removes everything even after a hard end."""
    from testcontainers.compose import DockerCompose

    variables = settings.data_dir / "compose.env"
    lines = [f"{name}={value}" for name, value in compose_environment(settings).items()]
    lines.append(f"COMPOSE_PROJECT_NAME=taskstream-tests-{os.getpid()}")
    variables.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with DockerCompose(
        context=str(COMPOSE_FILE.parent),
        compose_file_name=COMPOSE_FILE.name,
        env_file=str(variables),
        profiles=["registry"],
        wait=False,
    ):
        addresses: dict[str, str] = {}
        for server in Server:
            eventually(partial(_assert_well, server, settings), timeout=180)
            record = Record(server, "", settings, pid=None, birth=None, log="")
            addresses |= client_settings(record)
        yield Servers(addresses, settings.data_dir)


def _assert_well(server: Server, settings: ServerSettings) -> None:
    wrong = ailment(server, settings)
    assert wrong is None, f"{server}: {wrong}"


def _span(raw: dict[str, Any], processes: dict[str, Any]) -> Span:
    references = raw.get("references", [])
    parents = [one["spanID"] for one in references if one["refType"] == "CHILD_OF"]
    return Span(
        trace_id=raw["traceID"],
        span_id=raw["spanID"],
        parent_id=parents[0] if parents else None,
        name=raw["operationName"],
        service=processes[raw["processID"]]["serviceName"],
        started=raw["startTime"] / 1e6,
        duration=raw["duration"] / 1e6,
        tags={tag["key"]: tag["value"] for tag in raw.get("tags") or []},
        links=tuple(
            (one["traceID"], one["spanID"])
            for one in references
            if one["refType"] == "FOLLOWS_FROM"
        ),
        events=tuple(
            {attribute["key"]: attribute["value"] for attribute in log["fields"]}
            for log in raw.get("logs") or []
        ),
    )
