"""Rows held back on their way to the store, and written when their worker is long gone.

What a network may do with a write that was sent: let it arrive after everything that came later.
"""

import base64
import os
import pickle
import threading
from pathlib import Path
from typing import Any

HELD = "TASKSTREAM_TEST_FAULTS_HELD"
"""Names the file that takes a worker's rows, in its environment; empty to write them as ever."""


def hold(cassandra: Any) -> None:
    """Keeps every write in the file, unanswered."""

    def write(_self: Any, partition: Any, rows: Any, _written: Any) -> None:
        line = base64.b64encode(pickle.dumps((partition, rows))) + b"\n"
        file = os.open(os.environ[HELD], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    cassandra.CassandraStore.write = write


def main(file: str) -> None:
    """Writes what the file holds, in a process that is mutated like the workers.

    Raises:
        StoreError: the store did not take it.
    """
    from tests.support.faults.jobs import app

    store = app.result_store()
    assert store is not None
    for line in Path(file).read_bytes().splitlines():
        partition, rows = pickle.loads(base64.b64decode(line))
        answered, errors = threading.Event(), list[Any]()

        def written(error: Any, answered: Any = answered, errors: Any = errors) -> None:
            errors.append(error)
            answered.set()

        store.write(partition, rows, written)
        answered.wait(10.0)
        if errors != [None]:
            raise errors[0] if errors else TimeoutError("no answer to a held write")
    app.close()
