"""Is a server well? Each one is asked in its own protocol: an open port proves little.

A Kafka broker accepts connections before it may lead a partition, and Cassandra's port can be
held by anything. The questions are small enough to be written out here; the clients proper live
in `broker` and `results`, above this package.
"""

import json
import socket
import struct
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from types import MappingProxyType

from taskstream.infra.catalogue import Server, host_of
from taskstream.infra.settings import ServerSettings


def ailment(
    server: Server, settings: ServerSettings, timeout: float = 2.0, *, node: int = 1
) -> str | None:
    """Asks the server in its own protocol.

    Args:
        server: which one.
        settings: says where it listens.
        timeout: for each step of the conversation, in seconds.
        node: which of its nodes.

    Returns:
        None when it is well, else what is wrong, in a few words.
    """
    try:
        _QUESTIONS[server](host_of(node), settings, timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except ConnectionRefusedError:
        return "nothing listens there"
    except (OSError, HTTPException, ValueError, struct.error) as error:
        return str(error) or type(error).__name__
    return None


def _ask_kafka(host: str, settings: ServerSettings, timeout: float) -> None:
    """ApiVersions says that a broker speaks; Metadata, that it is in the cluster and not fenced."""
    with socket.create_connection((host, settings.kafka_port), timeout) as connection:
        versions = _kafka_call(connection, api=18, version=0, body=b"")
        (error,) = struct.unpack_from(">h", versions)
        if error:
            raise ValueError(f"Kafka answers ApiVersions with error {error}")
        # Metadata v4: a list of no topics, and none may be created.
        metadata = _kafka_call(connection, api=3, version=4, body=struct.pack(">i?", 0, False))
        _throttle, brokers = struct.unpack_from(">ii", metadata)
        if brokers < 1:
            raise ValueError("Kafka has no broker that is ready yet")


def _kafka_call(connection: socket.socket, *, api: int, version: int, body: bytes) -> bytes:
    """One request with header version 1, and its response without size and correlation id."""
    client, correlation = b"taskstream", 1
    header = struct.pack(">hhih", api, version, correlation, len(client)) + client
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    (size,) = struct.unpack(">i", _read(connection, 4))
    if not 4 <= size <= 1 << 20:
        raise ValueError("what listens there doesn't speak Kafka's protocol")
    response = _read(connection, size)
    if struct.unpack_from(">i", response) != (correlation,):
        raise ValueError("what listens there doesn't speak Kafka's protocol")
    return response[4:]


def _ask_cassandra(host: str, settings: ServerSettings, timeout: float) -> None:
    """OPTIONS of the native protocol (version 4), which needs no log-in; SUPPORTED answers it."""
    request, response, options, supported = 0x04, 0x84, 0x05, 0x06
    with socket.create_connection((host, settings.cassandra_port), timeout) as connection:
        connection.sendall(struct.pack(">BBhBi", request, 0, 0, options, 0))
        version, _flags, _stream, opcode, size = struct.unpack(">BBhBi", _read(connection, 9))
        if (version, opcode) != (response, supported):
            raise ValueError("what listens there doesn't answer OPTIONS with SUPPORTED")
        _read(connection, min(size, 1 << 16))


def _ask_jaeger(host: str, settings: ServerSettings, timeout: float) -> None:
    """The query API lists services, OTLP over HTTP takes an empty export, OTLP over gRPC is open."""
    _http(host, settings.jaeger_port, "GET", "/api/services", timeout)
    _http(host, settings.otlp_http_port, "POST", "/v1/traces", timeout)
    socket.create_connection((host, settings.otlp_port), timeout).close()


def _ask_registry(host: str, settings: ServerSettings, timeout: float) -> None:
    """The Confluent-compatible API lists its subjects."""
    _http(host, settings.registry_port, "GET", "/apis/ccompat/v7/subjects", timeout)


def _http(host: str, port: int, method: str, path: str, timeout: float) -> None:
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        body = "{}" if method == "POST" else None
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"{method} {path} answers {response.status}")
    json.loads(text)


def _read(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("the connection was closed in the middle of an answer")
        received += part
    return received


_QUESTIONS: MappingProxyType[Server, Callable[[str, ServerSettings, float], None]] = (
    MappingProxyType(
        {
            Server.KAFKA: _ask_kafka,
            Server.CASSANDRA: _ask_cassandra,
            Server.JAEGER: _ask_jaeger,
            Server.REGISTRY: _ask_registry,
        }
    )
)
