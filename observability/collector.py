"""Reading spans back: from a small OTLP receiver inside this process, or from Jaeger's query API.

For the demo and for tests. The receiver keeps all it is sent in memory, and never throws any away.
"""

import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

from taskstream.core.errors import MissingExtra, ServerError


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """One span as it was received. Times are seconds.

    Args:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: the span it belongs under; empty for a root.
        name: its operation.
        service: the service it comes from.
        started: seconds since 1970.
        duration: how long it took.
        error: what went wrong; empty where nothing did.
        attributes: as they were set.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    started: float
    duration: float
    error: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


class Collector:
    """Receives spans over OTLP/gRPC on 127.0.0.1, on a free port, while the block lasts.

    Attributes:
        endpoint: where to send them, as the setting `otlp_endpoint`.

    Raises:
        MissingExtra: gRPC or the OTLP messages are not installed.
    """

    def __init__(self) -> None:
        try:
            import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
            from opentelemetry.proto.collector.trace.v1 import (  # noqa: PLC0415
                trace_service_pb2 as messages,
            )
            from opentelemetry.proto.collector.trace.v1 import (  # noqa: PLC0415
                trace_service_pb2_grpc as service,
            )
        except ModuleNotFoundError as error:
            raise MissingExtra("receiving traces", "otlp") from error
        self._spans: list[SeenSpan] = []
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="taskstream-otlp"))
        take = self._take

        class Receiver(service.TraceServiceServicer):
            def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
                take(request)
                return messages.ExportTraceServiceResponse()

        service.add_TraceServiceServicer_to_server(Receiver(), self._server)  # type: ignore[no-untyped-call]
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.endpoint = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """The spans of that trace which have arrived, by start."""
        with self._lock:
            found = [span for span in self._spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.started)

    def _take(self, request: Any) -> None:
        for resource_spans in request.resource_spans:
            service = _values(resource_spans.resource.attributes).get("service.name", "")
            for scope_spans in resource_spans.scope_spans:
                spans = [_span(raw, service) for raw in scope_spans.spans]
                with self._lock:
                    self._spans += spans


def from_jaeger(url: str, trace_id: str, *, timeout: float = 5.0) -> list[SeenSpan]:
    """The spans of that trace which Jaeger has, by start; none yet is an empty list.

    Args:
        url: of Jaeger's pages and query API, `http://host:port`.
        trace_id: 32 hex digits.
        timeout: seconds.

    Raises:
        ServerError: Jaeger doesn't answer as it should.
    """
    try:
        with urlopen(f"{url}/api/traces/{trace_id}", timeout=timeout) as response:  # noqa: S310 - a setting
            document = json.load(response)
    except HTTPError as error:
        if error.code == 404:
            return []
        raise ServerError(f"Jaeger at {url} answers {error.code}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise ServerError(
            f"Jaeger at {url} can't be asked: {error}; is `taskstream up` running?"
        ) from error
    spans = [
        _jaeger_span(raw, trace["processes"])
        for trace in document["data"]
        for raw in trace["spans"]
    ]
    return sorted(spans, key=lambda span: span.started)


def _span(raw: Any, service: str) -> SeenSpan:
    failed = raw.status.code == 2  # STATUS_CODE_ERROR
    return SeenSpan(
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex(),
        parent_id=raw.parent_span_id.hex(),
        name=raw.name,
        service=service,
        started=raw.start_time_unix_nano / 1e9,
        duration=(raw.end_time_unix_nano - raw.start_time_unix_nano) / 1e9,
        error=(raw.status.message or "error") if failed else "",
        attributes=_values(raw.attributes),
    )


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value"), None)
        for one in attributes
        if one.value.WhichOneof("value") is not None
    }


def _jaeger_span(raw: dict[str, Any], processes: dict[str, Any]) -> SeenSpan:
    tags = {tag["key"]: tag["value"] for tag in raw.get("tags") or ()}
    # Where a span has a link to its own parent, Jaeger tells of the link alone.
    parents = sorted(
        (one["refType"] != "CHILD_OF", one["spanID"])
        for one in raw.get("references") or ()
        if one["traceID"] == raw["traceID"]
    )
    failed = bool(tags.get("error"))
    return SeenSpan(
        trace_id=raw["traceID"],
        span_id=raw["spanID"],
        parent_id=parents[0][1] if parents else "",
        name=raw["operationName"],
        service=processes[raw["processID"]]["serviceName"],
        started=raw["startTime"] / 1e6,
        duration=raw["duration"] / 1e6,
        error=str(tags.get("otel.status_description") or "error") if failed else "",
        attributes=tags,
    )
