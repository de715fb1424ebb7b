"""The result store in one SQLite file, for the embedded mode.

Usable from several threads and processes at once (write-ahead log; a writer waits for the other).
The highest `written_us` wins a row whole, as in Cassandra.
"""

# ruff: noqa: S608 - only the names of Row's fields are put into statements; every value is bound

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import StoreError, StoreUnavailable
from taskstream.core.settings import Settings
from taskstream.core.states import State
from taskstream.results.row import Partition, Row
from taskstream.results.search import Found, Mark, Search, look, mark_of
from taskstream.results.store import Written

LOCK_TIMEOUT = 30.0
"""Seconds a writer waits for another process's."""

IDS_PER_READ = 500
"""How many tasks are asked for in one statement; SQLite takes 999 variables in old builds."""

_FIELDS = Row._fields
_COLUMNS = ", ".join(_FIELDS)

_CREATE = f"""
    CREATE TABLE IF NOT EXISTS results (
        {_COLUMNS}, born REAL NOT NULL, PRIMARY KEY (task_id, run, attempt)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS results_by_birth ON results (born DESC, task_id DESC);
"""

_WRITE = (
    f"INSERT INTO results ({_COLUMNS}, born) VALUES ({', '.join('?' * (len(_FIELDS) + 1))}) "
    "ON CONFLICT (task_id, run, attempt) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*_FIELDS, "born"))
    + " WHERE excluded.written_us >= results.written_us"
)

_LATEST = f"""
    SELECT {_COLUMNS} FROM results AS this WHERE NOT EXISTS (
        SELECT 1 FROM results AS later
        WHERE later.task_id = this.task_id
        AND (later.run, later.attempt) > (this.run, this.attempt)
    ) ORDER BY born DESC, task_id DESC LIMIT ?
"""

_LISTED = ", ".join("NULL" if name in ("value", "traceback") else name for name in _FIELDS)
_OLDER = f"""
    SELECT {_LISTED} FROM results AS this WHERE (born, task_id) < (?, ?) AND born >= ?
    AND NOT EXISTS (
        SELECT 1 FROM results AS later
        WHERE later.task_id = this.task_id
        AND (later.run, later.attempt) > (this.run, this.attempt)
    ) ORDER BY born DESC, task_id DESC LIMIT ?
"""

ROWS_PER_LOOK = 500
"""How many rows a search reads at once; other threads have their turn in between."""


class SqliteStore:
    """A `ResultStore` in a file.

    Args:
        path: the file; it and its folder are made by `create`.
        result_ttl: seconds; `create` removes rows that were written longer ago.
        clock: tells how long ago that is.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        result_ttl: float = Settings().result_ttl,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._path = Path(path)
        self._result_ttl = result_ttl
        self._clock = clock
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def create(self) -> None:
        """Creates the file and its tables, and removes rows that are too old.

        Raises:
            StoreError: the file can't be made or is not a database of ours.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder of {self._path} can't be made: {error}") from error
        with self._transaction() as connection:
            connection.executescript(_CREATE)
            there = {column[1] for column in connection.execute("PRAGMA table_info(results)")}
            if missing := [name for name in _FIELDS if name not in there]:
                raise StoreError(
                    f"{self._path} is of an older version, and has no column {', '.join(missing)}: remove it"
                )
            oldest_us = int((self._clock.now() - self._result_ttl) * 1e6)
            connection.execute("DELETE FROM results WHERE written_us < ?", (oldest_us,))

    def connect(self) -> None:
        """Does nothing: a file is opened at once when it is first used."""

    def write(self, partition: Partition, rows: Sequence[Row], written: Written) -> None:  # noqa: ARG002 - the protocol's
        """Writes rows in one transaction; `written` is called before this returns."""
        try:
            with self._transaction() as connection:
                connection.executemany(_WRITE, [_values(row) for row in rows])
        except StoreError as error:
            written(error)
        else:
            written(None)

    def read(self, task_id: str) -> list[Row]:
        """All rows of a task, lowest (run, attempt) first; empty where there is no trace."""
        return self.read_many([task_id])[task_id]

    def read_many(self, task_ids: Sequence[str]) -> dict[str, list[Row]]:
        """`read` for many at once; every id is a key of the answer."""
        found: dict[str, list[Row]] = {task_id: [] for task_id in task_ids}
        wanted = list(found)
        with self._transaction() as connection:
            for first in range(0, len(wanted), IDS_PER_READ):
                some = wanted[first : first + IDS_PER_READ]
                marks = ", ".join("?" * len(some))
                question = f"SELECT {_COLUMNS} FROM results WHERE task_id IN ({marks}) ORDER BY run, attempt"
                for values in connection.execute(question, some):
                    row = _row(values)
                    found[row.task_id].append(row)
        return found

    def latest(self, limit: int) -> list[Row]:
        """The current rows of the newest tasks, newest first, at most `limit`."""
        with self._transaction() as connection:
            return [_row(values) for values in connection.execute(_LATEST, (limit,))]

    def search(
        self, search: Search, limit: int, *, after: Mark | None = None, seconds: float = 1.0
    ) -> Found:
        """The current rows of tasks that match, newest first, at most `limit`; stops in time."""
        return look(self._older(search, after), search, limit, seconds=seconds, clock=self._clock)

    def _older(self, search: Search, after: Mark | None) -> Iterator[Row]:
        mark = Mark(1e12, "") if after is None else after
        if search.until is not None:
            mark = min(mark, Mark(search.until, ""))
        while True:
            bounds = (*mark, search.since or 0.0, ROWS_PER_LOOK)
            with self._transaction() as connection:
                rows = [_row(values) for values in connection.execute(_OLDER, bounds)]
            yield from rows
            if len(rows) < ROWS_PER_LOOK:
                return
            mark = mark_of(rows[-1])

    def close(self) -> None:
        """Closes the file; safe to call again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None and self._pid == os.getpid():
                connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; all or nothing."""
        with self._lock:
            try:
                connection = self._opened()
                with connection:
                    yield connection
            except sqlite3.OperationalError as error:
                # Locked for too long, disk full, table missing: the rows are not to blame.
                raise StoreUnavailable(f"{self._path} can't be used now: {error}") from error
            except sqlite3.Error as error:
                raise StoreError(f"{self._path} refused the request: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        # SQLite forbids to carry a connection through a fork.
        if self._connection is None or self._pid != os.getpid():
            connection = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._connection, self._pid = connection, os.getpid()
        return self._connection


def _values(row: Row) -> list[Any]:
    """The values of a row's columns; an empty text and none are the same to a store."""
    values = [_plain(getattr(row, name)) for name in _FIELDS]
    return [*values, row.born]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


_EMPTY_IS_NONE = frozenset({"key", "value", "error_type", "error", "traceback", "trace_id"})


def _row(values: Sequence[Any]) -> Row:
    named = dict(zip(_FIELDS, values, strict=True))
    named["state"] = State(named["state"])
    named["counts"] = bool(named["counts"])
    for name in _EMPTY_IS_NONE:
        named[name] = named[name] or None
    return Row(**named)
