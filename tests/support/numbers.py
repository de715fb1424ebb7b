"""A collector of metrics, as the other side of OTLP/gRPC."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as service


class Collector:
    """Takes metrics on a free port of 127.0.0.1, while the block lasts.

    Args:
        takes_metrics: whether it takes any, which one for spans alone does not.

    Attributes:
        requests: what has come.
        endpoint: where to send it.
    """

    def __init__(self, *, takes_metrics: bool = True) -> None:
        self.requests: list[Any] = []
        self.server = grpc.server(ThreadPoolExecutor(1))
        taken = self.requests

        class Receiver(service.MetricsServiceServicer):
            def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
                taken.append(request)
                return messages.ExportMetricsServiceResponse()

        if takes_metrics:
            service.add_MetricsServiceServicer_to_server(Receiver(), self.server)  # type: ignore[no-untyped-call]
        self.endpoint = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(None).wait()
