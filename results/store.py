"""What a result store can do: the protocol that Cassandra and SQLite implement.

`tests/contract/test_result_store.py` is what an implementation must pass.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from taskstream.core.errors import StoreError
from taskstream.results.row import Partition, Row
from taskstream.results.search import Found, Mark, Search

Written = Callable[[StoreError | None], None]
"""Called once per `write`, from any thread, must not block: None when the rows are stored."""


class ResultStore(Protocol):
    """Where rows are kept. Methods block and may be called from any thread."""

    def create(self) -> None:
        """Creates what the store needs; safe to call again.

        Raises:
            StoreError: it could not, or what is there differs (says how).
        """
        ...

    def connect(self) -> None:
        """Connects now, and not at the first use; safe to call again.

        Raises:
            StoreError: it could not.
        """
        ...

    def write(self, partition: Partition, rows: Sequence[Row], written: Written) -> None:
        """Starts to write rows of one partition as one batch; returns at once.

        `written` gets None once they are stored by a quorum, `StoreUnavailable` where the outcome
        is unknown (write the same again), any other `StoreError` where the store refused them.
        """
        ...

    def read(self, task_id: str) -> list[Row]:
        """All rows of a task, lowest (run, attempt) first; empty where there is no trace.

        Raises:
            StoreError: the store did not answer.
        """
        ...

    def read_many(self, task_ids: Sequence[str]) -> dict[str, list[Row]]:
        """`read` for many at once, one request per partition; every id is a key of the answer.

        Raises:
            StoreError: the store did not answer.
        """
        ...

    def latest(self, limit: int) -> list[Row]:
        """The current rows of the newest tasks, newest first, at most `limit`.

        Raises:
            StoreError: the store did not answer.
        """
        ...

    def search(
        self, search: Search, limit: int, *, after: Mark | None = None, seconds: float = 1.0
    ) -> Found:
        """The current rows of tasks that match, newest first, at most `limit`.

        Looks at tasks one after the other, so what is rare takes long: it stops when time is up, and
        says so.

        Args:
            search: what to look for.
            limit: how many rows are enough.
            after: where an earlier search stopped; None begins with the newest task.
            seconds: how long it may look.

        Raises:
            StoreError: the store did not answer.
        """
        ...

    def close(self) -> None:
        """Releases connections; safe to call again."""
        ...
