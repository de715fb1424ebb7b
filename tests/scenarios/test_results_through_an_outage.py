"""Cassandra can't be reached for a while: rows wait, and all of them arrive when it is back.

The store talks to the real server through a relay of the test's own, which cuts every connection
and takes no new one until told otherwise: so the driver loses its host and must find it again.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.support.eventually import eventually

from taskstream.core.errors import StoreError
from taskstream.core.ids import new_id
from taskstream.core.settings import Settings
from taskstream.core.states import State
from taskstream.results.batching import Batcher
from taskstream.results.row import Row

PATIENCE = 60.0
ROWS = 2_000


class Relay:
    """A TCP relay to Cassandra that can be cut and joined again."""

    def __init__(self, hosts: str) -> None:
        host, _, port = hosts.partition(":")
        self._target = (host, int(port or 9042))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accept_in_background()

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        self._close(self._listener)
        for pair in self._pairs:
            for end in pair:
                self._close(end)

    def join(self) -> None:
        """Takes connections again, at the same address."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accept_in_background()

    def _accept_in_background(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                inner, _ = listener.accept()
                outer = socket.create_connection(self._target)
            except OSError:
                return
            self._pairs.append((inner, outer))
            for source, sink in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._close(source)
        self._close(sink)

    @staticmethod
    def _close(end: socket.socket) -> None:
        # `shutdown` first: it wakes the thread that waits in this socket, `close` alone doesn't.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.fixture
def relay(cassandra: str) -> Iterator[Relay]:
    relay = Relay(cassandra)
    yield relay
    relay.cut()


def test_rows_wait_for_the_store_and_all_arrive(relay: Relay) -> None:
    """Written before, during and after the outage: each row is stored, reported once, and read back."""
    from taskstream.results.cassandra import CassandraStore, _connect

    keyspace = f"test_{uuid4().hex[:12]}"
    settings = Settings(cassandra_hosts=f"127.0.0.1:{relay.port}", keyspace=keyspace)
    store = CassandraStore(settings)
    store.create()
    stored: list[int] = []
    refused: list[StoreError] = []
    enough = threading.Event()

    def take(tickets: list[int]) -> None:
        stored.extend(tickets)
        enough.set()

    batcher: Batcher[int] = Batcher(
        store, stored=take, refused=lambda ticket, error: refused.append(error), in_flight=4
    )
    rows = [
        Row(
            task_id=new_id(),
            run=0,
            attempt=1,
            state=State.SUCCEEDED,
            task="t",
            written_us=1 + number,
        )
        for number in range(ROWS)
    ]
    tickets = list(zip(rows, range(ROWS), strict=True))
    batcher.add(tickets[: ROWS // 2])
    assert enough.wait(PATIENCE)
    relay.cut()
    batcher.add(tickets[ROWS // 2 :])
    eventually(lambda: not batcher.healthy)
    relay.join()
    assert batcher.close(PATIENCE) == 0
    assert batcher.healthy
    assert refused == []
    assert sorted(stored) == list(range(ROWS))
    assert all(store.read_many([row.task_id for row in rows]).values())
    store.close()
    cluster, session = _connect(settings, [("127.0.0.1", relay.port)])
    session.execute(f"DROP KEYSPACE {keyspace}", timeout=PATIENCE)
    cluster.shutdown()
