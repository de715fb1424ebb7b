"""A server is well when it speaks its own protocol, whatever else may listen on its port."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from taskstream.infra.catalogue import HOST, Server
from taskstream.infra.probes import ailment
from taskstream.infra.settings import PORTS, ServerSettings

Answer = Callable[[socket.socket], None]


@contextmanager
def _listening(answer: Answer) -> Iterator[int]:
    """A server that handles each connection with `answer`; gives its port."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake a thread that waits in accept.
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _ailment(server: Server, port: int, timeout: float = 2.0) -> str | None:
    settings = ServerSettings.from_environment({}, **{PORTS[server][0]: port})
    return ailment(server, settings, timeout)


def _kafka(brokers: int, error: int = 0) -> Answer:
    """A broker that answers ApiVersions and Metadata."""

    def answer(connection: socket.socket) -> None:
        bodies = [struct.pack(">hi", error, 0), struct.pack(">ii", 0, brokers)]
        for body in bodies:
            head = connection.recv(4, socket.MSG_WAITALL)
            if not head:
                return
            (size,) = struct.unpack(">i", head)
            request = connection.recv(size, socket.MSG_WAITALL)
            correlation = request[4:8]
            connection.sendall(struct.pack(">i", 4 + len(body)) + correlation + body)

    return answer


def _http(status: str, body: str) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall((head + body).encode())

    return answer


def _silence(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.recv(65536)


def _supported(connection: socket.socket) -> None:
    assert connection.recv(9, socket.MSG_WAITALL) == b"\x04\x00\x00\x00\x05\x00\x00\x00\x00"
    connection.sendall(b"\x84\x00\x00\x00\x06\x00\x00\x00\x02\x00\x00")


@pytest.mark.parametrize("server", Server)
def test_nobody_there_is_told(server: Server) -> None:
    """A closed port is the plainest ailment."""
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        assert _ailment(server, closed.getsockname()[1]) == "nothing listens there"


@pytest.mark.parametrize("server", Server)
def test_silence_is_told_in_time(server: Server) -> None:
    """A server that accepts and says nothing is not well, and the probe doesn't hang on it."""
    with _listening(_silence) as port:
        assert _ailment(server, port, timeout=0.1) == "no answer within 0.1 s"


@pytest.mark.parametrize("server", [Server.KAFKA, Server.CASSANDRA])
def test_another_protocol_on_the_port_is_not_taken_for_the_server(server: Server) -> None:
    """A web server on Kafka's or Cassandra's port is an open port, and no more."""
    with _listening(_http("200 OK", "[]")) as port:
        assert "what listens there doesn't" in (_ailment(server, port) or "")


def test_kafka_is_well_with_a_broker_that_is_not_fenced() -> None:
    """ApiVersions alone is answered too early: Metadata must list a broker."""
    with _listening(_kafka(brokers=1)) as port:
        assert _ailment(Server.KAFKA, port) is None
    with _listening(_kafka(brokers=0)) as port:
        assert _ailment(Server.KAFKA, port) == "Kafka has no broker that is ready yet"
    with _listening(_kafka(brokers=1, error=35)) as port:
        assert _ailment(Server.KAFKA, port) == "Kafka answers ApiVersions with error 35"


def test_cassandra_is_well_when_it_answers_options() -> None:
    """OPTIONS is answered with SUPPORTED, without logging in."""
    with _listening(_supported) as port:
        assert _ailment(Server.CASSANDRA, port) is None


def test_the_registry_is_well_when_it_lists_its_subjects() -> None:
    """Anything but a JSON document with status 200 is an ailment."""
    with _listening(_http("200 OK", "[]")) as port:
        assert _ailment(Server.REGISTRY, port) is None
    with _listening(_http("503 Service Unavailable", "")) as port:
        assert _ailment(Server.REGISTRY, port) == "GET /apis/ccompat/v7/subjects answers 503"
    with _listening(_http("200 OK", "<html>")) as port:
        assert _ailment(Server.REGISTRY, port) is not None
