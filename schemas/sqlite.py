"""Schema texts in one SQLite file, for the embedded mode, whose broker forgets when it ends.

The file stands beside the results that were written by these schemas. Each call opens it anew: it
is read a few times in a process's life, and a connection must not go through a fork.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from taskstream.core.errors import SchemaError
from taskstream.schemas.schema import Schema

_LOCK_TIMEOUT = 30.0  # seconds to wait for another process's write


class FileLog:
    """A `SchemaLog` in a file; it and its folder are made when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Schema]:
        """All schemas in the file, oldest first.

        Raises:
            SchemaError: it can't be read.
        """
        with self._opened() as connection:
            rows = connection.execute("SELECT text FROM schemas ORDER BY place").fetchall()
        return [Schema.parse(text) for (text,) in rows]

    def append(self, schemas: Sequence[Schema]) -> None:
        """Adds some.

        Raises:
            SchemaError: the file can't be written.
        """
        with self._opened() as connection:
            rows = [(schema.text,) for schema in schemas]
            connection.executemany("INSERT INTO schemas (text) VALUES (?)", rows)

    def close(self) -> None:
        """Nothing is held open."""

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS schemas (place INTEGER PRIMARY KEY, text TEXT NOT NULL)"
                )
                with connection:
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise SchemaError(f"the schemas in {self._path} can't be used now: {error}") from error
