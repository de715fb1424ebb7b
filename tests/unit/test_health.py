"""What a prober sees over HTTP."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from taskstream.core.errors import ConfigError
from taskstream.observability.exposition import Page
from taskstream.observability.health import HealthServer


@contextmanager
def serving(
    *,
    live: Callable[[], Sequence[str]] = tuple,
    ready: Callable[[], Sequence[str]] = tuple,
    notes: Callable[[], Sequence[str]] = tuple,
    host: str = "127.0.0.1",
) -> Iterator[HealthServer]:
    server = HealthServer(
        live=live,
        ready=ready,
        notes=notes,
        metrics=lambda accept: Page(f"text/plain; for={accept}", b"slots 7\n"),
        host=host,
    )
    server.start()
    try:
        yield server
    finally:
        server.close()


def get(
    server: HealthServer, path: str, host: str = "127.0.0.1", accept: str = "*/*"
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, server.port, timeout=5)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    finally:
        connection.close()


def verdict(server: HealthServer, path: str) -> tuple[int, dict[str, Any]]:
    status, _, body = get(server, path)
    return status, json.loads(body)


def test_a_healthy_process_says_so() -> None:
    """No problems mean 200 on both pages."""
    with serving() as server:
        assert verdict(server, "/live") == (200, {"ok": True, "problems": []})
        assert verdict(server, "/ready") == (200, {"ok": True, "problems": []})


def test_live_and_ready_are_two_questions() -> None:
    """A worker that waits for Cassandra is not ready, and must not be restarted for it."""
    problems = ["Cassandra does not answer"]
    with serving(ready=lambda: problems) as server:
        assert verdict(server, "/live")[0] == 200
        assert verdict(server, "/ready") == (503, {"ok": False, "problems": problems})
        problems.clear()
        assert verdict(server, "/ready")[0] == 200


def test_a_check_that_fails_is_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    """The prober gets an answer that says why; the traceback goes to the log."""

    def broken() -> Sequence[str]:
        raise RuntimeError("no loop")

    with serving(live=broken) as server:
        status, answer = verdict(server, "/live")
        assert status == 503
        assert answer["problems"] == ["the check itself failed: RuntimeError: no loop"]
    assert "page=/live" in caplog.text


def test_metrics_are_served_as_prometheus_expects_them() -> None:
    """The page passes untouched, made for what the scraper accepts; a query is ignored."""
    with serving() as server:
        status, content_type, body = get(server, "/metrics?name=x", accept="text/*")
        assert (status, body) == (200, b"slots 7\n")
        assert content_type == "text/plain; for=text/*"


def test_other_pages_are_not_there() -> None:
    """And the answer lists those that are."""
    with serving() as server:
        status, _, body = get(server, "/")
        assert (status, body) == (404, b"/live /ready /metrics\n")


def test_a_silent_connection_holds_up_nobody() -> None:
    """A client that connects and says nothing does not keep the next one from its answer."""
    with (
        serving() as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=5),
    ):
        assert verdict(server, "/live")[0] == 200


def test_a_taken_port_is_one_clear_error() -> None:
    """It names the address and the option to change."""
    with serving() as server:
        second = HealthServer(
            live=tuple, ready=tuple, metrics=lambda _: Page("", b""), port=server.port
        )
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{server.port}.*--health-port"):
            second.start()
        second.close()


def test_it_listens_on_this_machine_alone_unless_told() -> None:
    """The default address is 127.0.0.1, and close gives the port back."""
    with serving() as server:
        port = server.port
        assert verdict(server, "/live")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 in this Python")
def test_an_ipv6_address_works() -> None:
    """Clusters that speak IPv6 alone can probe too."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with serving(host="::1") as server:
        assert get(server, "/live", host="::1")[0] == 200


def test_what_somebody_has_ordered_is_no_problem_and_is_told() -> None:
    """A paused queue must not stop the deploy that mends it."""
    notes = ["queue:tasks is paused by me"]
    with serving(notes=lambda: notes) as server:
        assert verdict(server, "/ready") == (200, {"ok": True, "problems": [], "notes": notes})
        assert verdict(server, "/live") == (200, {"ok": True, "problems": []})
