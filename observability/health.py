"""A tiny HTTP server for those who watch a process: /live, /ready and /metrics.

It only asks: what is alive and ready is told by the callables it is given, so that it can't hold a
second opinion. Unencrypted and unauthenticated, so it listens on 127.0.0.1 unless told otherwise.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socket import AF_INET, AF_INET6
from socketserver import ThreadingTCPServer

from taskstream.core.errors import ConfigError
from taskstream.observability.exposition import Page
from taskstream.observability.logs import REPORT_IT, logger

Check = Callable[[], Sequence[str]]
"""What is wrong, a sentence each; empty when all is well. Called per request, from any thread."""

_SLOW_CLIENT = 5.0
"""Seconds after which a connection that says nothing is closed."""

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets back."""

    status: int
    content_type: str
    body: bytes


Route = Callable[[str], Answer]
"""Makes a page for who accepts what the `Accept` header says."""


class HealthServer:
    """Answers from a thread of its own until it is closed.

    Args:
        live: whether the process should go on; a problem here means: restart it.
        ready: whether it does its work now; a problem here means: wait.
        notes: what else /ready tells, a sentence each: what is as somebody has ordered it.
        metrics: the page for Prometheus by the `Accept` header, as
            `taskstream.observability.exposition.Exposition` makes it.
        host: the address to listen on.
        port: the port; 0 takes a free one.
    """

    def __init__(
        self,
        *,
        live: Check,
        ready: Check,
        metrics: Callable[[str], Page],
        notes: Check = tuple,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._routes: dict[str, Route] = {
            "/live": lambda _accept: _checked(live),
            "/ready": lambda _accept: _verdict(ready(), notes()),
            "/metrics": lambda accept: Answer(200, *metrics(accept)),
        }
        self._host = host
        self._port = port
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    def start(self) -> None:
        """Listens and answers.

        Raises:
            ConfigError: the address can't be listened on; says which.
        """
        try:
            self._server = _Server(self._host, self._port, self._routes)
        except OSError as error:
            raise ConfigError(
                f"the health server can't listen on {self._host}:{self._port} ({error.strerror}): "
                "choose another --health-port, or end what uses it"
            ) from error
        self._port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="taskstream-health", daemon=True
        ).start()

    def close(self) -> None:
        """Stops to listen; safe to call again, or without a start."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingTCPServer):
    """One thread a request: a check that hangs must not hide the other pages."""

    daemon_threads = True
    block_on_close = False
    # A restarted worker gets its port back although connections of the old one linger.
    allow_reuse_address = True

    def __init__(self, host: str, port: int, routes: dict[str, Route]) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.routes = routes
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news; the base class would print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOW_CLIENT

    def do_GET(self) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self) -> Answer:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            return Answer(404, "text/plain; charset=utf-8", b"/live /ready /metrics\n")
        try:
            return route(self.headers.get("Accept", ""))
        except Exception as error:  # noqa: BLE001 - the prober must get an answer
            _log.exception("a health check failed", page=self.path, advice=REPORT_IT)
            return _verdict([f"the check itself failed: {type(error).__name__}: {error}"])

    def version_string(self) -> str:
        """What stands in the Server header: no versions for strangers."""
        return "taskstream"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds: they are not worth a line each."""


def _checked(check: Check) -> Answer:
    return _verdict(check())


def _verdict(problems: Sequence[str], notes: Sequence[str] = ()) -> Answer:
    told = {"ok": not problems, "problems": list(problems)}
    if notes:
        told["notes"] = list(notes)
    body = json.dumps(told).encode() + b"\n"
    return Answer(503 if problems else 200, "application/json", body)
