"""The result store on Cassandra.

Rows of one partition go out as one unlogged batch, which is one mutation there. Every write and
read is at LOCAL_QUORUM (the driver's default is LOCAL_ONE, which loses results with a node). Each
row has its own explicit timestamp, so a write may be repeated at will, and whatever the server
answers is one of two things: the outcome is unknown and the same write is safe again
(`StoreUnavailable`), or the server refuses these rows for what they are (`StoreError`).

Callbacks run in the driver's one event-loop thread, which also reads the sockets: they must not
block. The tables are told in `tables.cql`; only `open_store` imports this module.
"""

# ruff: noqa: S608 - only our own names are put into statements; every value is bound

import heapq
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import ConfigError, MissingExtra, StoreError, StoreUnavailable
from taskstream.core.ids import first_id_of, is_uuid7
from taskstream.core.secrets import without
from taskstream.core.settings import Settings
from taskstream.core.tiers import LONGEST_DELAY
from taskstream.results.columns import (
    COLUMNS,
    LISTED,
    cells,
    int_cell,
    listed_row_of,
    row_of,
    seconds_of,
    smallint_cell,
    text_cell,
    time_cell,
)
from taskstream.results.row import SHARDS, Partition, Row, partition_of
from taskstream.results.search import Found, Mark, Search, look, mark_of
from taskstream.results.store import Written
from taskstream.results.tables import REMARK_EVERY, drift, tables

try:
    from cassandra import (
        ConsistencyLevel,
        DependencyException,
        DriverException,
        InvalidRequest,
        UnresolvableContactPoints,
    )
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
    from cassandra.connection import ConnectionException
    from cassandra.policies import (
        DCAwareRoundRobinPolicy,
        ExponentialReconnectionPolicy,
        TokenAwarePolicy,
    )
    from cassandra.protocol import ErrorMessage
    from cassandra.query import BatchStatement, BatchType, BoundStatement, tuple_factory
except ImportError as error:
    raise MissingExtra("the Cassandra result store", "cassandra") from error
except DependencyException as error:
    # The driver's wheels bring libev; a build without it has no event loop from Python 3.12 on.
    raise ConfigError(
        "the Cassandra driver was built without an event loop: install its wheel (with libev), or "
        "set connection_class in the cassandra options"
    ) from error

REQUEST_TIMEOUT = 5.0
"""Seconds after which the outcome of a request counts as unknown."""

CREATE_TIMEOUT = 60.0
"""The same for creating tables, in which every node has a part."""

LONGEST_RECONNECT_PAUSE = 10.0
"""Seconds; the driver's own default lets a node be back for ten minutes before it is noticed."""

IDS_PER_READ = 100
"""How many tasks of one partition are asked for in one request."""

READS_AT_ONCE = 64
"""How many requests of one call are under way at most."""

ROWS_PER_PAGE = 50
"""How many rows of a shard a list of tasks fetches at once."""

ROWS_PER_LOOK = 500
"""The same for a search, which may have to look at many."""

DAY_MINUTES = 24 * 60

# What needs no quotes in CQL; statements hold the name as it is.
_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")

_FOREIGN_ERRORS = (DriverException, NoHostAvailable, ErrorMessage, ConnectionException)

# Answers that speak of the tables, not of the rows: the rows are fine and must wait for `init`.
_ABOUT_TABLES = re.compile(
    r"unconfigured table|does not exist|undefined column|unknown identifier", re.IGNORECASE
)


class CassandraStore:
    """A `ResultStore` on Cassandra; connects at its first use, and anew after a fork.

    Args:
        settings: `cassandra_hosts`, `keyspace`, `cassandra_datacenter`, `replication`,
            `result_ttl`, and `cassandra`, which is passed to the driver's `Cluster` last.
        clock: tells which minutes may have tasks, and when to mark one again.

    Raises:
        ConfigError: `cassandra_hosts` is empty or can't be read, or `keyspace` is no plain name.
    """

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        if not _KEYSPACE.fullmatch(settings.keyspace):
            raise ConfigError(
                f"keyspace {settings.keyspace!r} is not allowed: use 1 to 48 small letters, digits or '_', "
                "a letter first"
            )
        self._settings = settings
        self._hosts = _hosts(settings.cassandra_hosts)
        self._clock = clock
        self._connecting = threading.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        # Minutes that are known to be marked, and since when (monotonic seconds).
        self._marked: dict[int, float] = {}

    def create(self) -> None:
        """Creates keyspace and tables where they are missing, and compares those that exist.

        Raises:
            StoreError: it could not, or what is there differs; nothing that exists is altered.
        """
        cluster, session = _connect(self._settings, self._hosts, CREATE_TIMEOUT)
        try:
            found = _create_keyspace(cluster, session, self._settings)
            found += _create_tables(session, self._settings)
        except _FOREIGN_ERRORS as error:
            raise _ours(error) from error
        finally:
            cluster.shutdown()
        if found:
            raise StoreError(
                "the result store differs from the settings: "
                + "; ".join(found)
                + ". Change the settings, or alter it with cqlsh: taskstream never does"
            )

    def connect(self) -> None:
        """Connects now, and prepares its statements; `write` and `read` would else, at their first use."""
        self._connected()

    def write(self, partition: Partition, rows: Sequence[Row], written: Written) -> None:
        """Starts to write rows of one partition as one batch; returns at once.

        The first use connects, and may take as long as that takes.
        """
        try:
            connection = self._connected()
        except StoreError as error:
            written(error)
            return
        batch = BatchStatement(BatchType.UNLOGGED)
        batch.is_idempotent = True
        # One for all rows: the batch takes the values out of it, and making one costs as much as a row's cells.
        bound = BoundStatement(connection.insert)
        for row_cells in cells(partition, rows):
            bound.values = row_cells
            batch.add(bound)
        marks = self._marks(partition, rows)
        entries = [] if partition.bucket >= 0 else _own_id_cells(partition, rows)
        # Not in the batch: rows of several partitions in one are refused from 50 KiB on.
        answers = _Answers(1 + len(marks) + len(entries), written)
        connection.send(batch, answers.arrived)
        for minute in marks:
            bound = _bind(connection.mark, [int_cell(minute // DAY_MINUTES), int_cell(minute)])
            connection.send(bound, self._marking(minute, answers))
        for entry in entries:
            connection.send(_bind(connection.list_own_id, entry), answers.arrived)

    def read(self, task_id: str) -> list[Row]:
        """All rows of a task, lowest (run, attempt) first; empty where there is no trace."""
        return self.read_many([task_id])[task_id]

    def read_many(self, task_ids: Sequence[str]) -> dict[str, list[Row]]:
        """`read` for many at once, one request per partition; every id is a key of the answer."""
        found: dict[str, list[Row]] = {task_id: [] for task_id in task_ids}
        wanted: dict[Partition, list[str]] = {}
        for task_id in found:
            wanted.setdefault(partition_of(task_id), []).append(task_id)
        connection = self._connected()
        requests = [
            connection.of_tasks.bind(
                (partition.bucket, partition.shard, ids[first : first + IDS_PER_READ])
            )
            for partition, ids in wanted.items()
            for first in range(0, len(ids), IDS_PER_READ)
        ]
        for values in connection.ask_all(requests):
            row = row_of(values)
            found[row.task_id].append(row)
        for rows in found.values():
            rows.sort(key=lambda row: (row.run, row.attempt))
        return found

    def latest(self, limit: int) -> list[Row]:
        """The current rows of the newest tasks, newest first, at most `limit`."""
        connection = self._connected()
        found: dict[str, Row] = {}
        for minute in self._minutes(connection):
            if len(found) >= limit:
                break
            found.update((row.task_id, row) for row in self._newest_in(connection, minute, limit))
        newest = sorted(found.values(), key=lambda row: (row.born, row.task_id), reverse=True)
        return newest[:limit]

    def search(
        self, search: Search, limit: int, *, after: Mark | None = None, seconds: float = 1.0
    ) -> Found:
        """The current rows of tasks that match, newest first, at most `limit`; stops in time."""
        return look(self._older(search, after), search, limit, seconds=seconds, clock=self._clock)

    def _older(self, search: Search, after: Mark | None) -> Iterator[Row | Mark]:
        """The current rows of all tasks behind a mark, newest first, from one minute after the other."""
        connection = self._connected()
        newest = Mark(self._clock.now() + 86400, "") if after is None else after
        if search.until is not None:
            newest = min(newest, Mark(search.until, ""))
        # A search that leaves nothing out shows what it reads first.
        page = ROWS_PER_PAGE if search == Search() else ROWS_PER_LOOK
        oldest = search.since or 0.0
        for minute in self._minutes(connection, newest=newest.born, oldest=oldest):
            begin, end = Mark(minute * 60.0, ""), min(newest, Mark((minute + 1) * 60.0, ""))
            if begin < end:
                yield from self._older_in(connection, minute, end, page)
                yield begin

    def _older_in(
        self, connection: "_Connection", minute: int, end: Mark, page: int
    ) -> Iterator[Row]:
        first = end.task_id if is_uuid7(end.task_id) else first_id_of(end.born + 0.001)
        shards = range(SHARDS)
        # All are asked at once, and each for more when its rows have gone.
        timed = [connection.ask(connection.older, (minute, one, first), page) for one in shards]
        listed = [connection.ask(connection.listed, (minute, one), page) for one in shards]
        streams: list[Iterator[Row]] = [map(listed_row_of, rows) for rows in timed]
        streams += [self._own(rows) for rows in listed]
        for row in heapq.merge(*streams, key=mark_of, reverse=True):
            if mark_of(row) < end:
                yield row

    def _own(self, listed: Iterator[Any]) -> Iterator[Row]:
        """The current rows of tasks with a caller's own id, in the order in which they are listed."""
        while some := list(islice(listed, IDS_PER_READ)):
            rows = self.read_many([task_id for _, task_id in some])
            for born, task_id in some:
                # An id that came again stands here more than once: what counts is its last place.
                row = rows[task_id][-1] if rows[task_id] else None
                if row is not None and time_cell(row.born) == time_cell(seconds_of(born)):
                    yield row._replace(value=None, traceback=None)

    def close(self) -> None:
        """Releases connections; safe to call again."""
        with self._connecting:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None and connection.pid == os.getpid():
            connection.cluster.shutdown()

    def _connected(self) -> "_Connection":
        connection = self._connection
        if connection is not None and connection.pid == os.getpid():
            return connection
        with self._connecting:
            if self._closed:
                # Not a refusal: no row may end its task because a process is going down.
                raise StoreUnavailable("this result store is closed")
            # A session that came through a fork is dropped as it is: its threads are in the parent.
            if self._connection is None or self._connection.pid != os.getpid():
                self._connection = _prepare(self._settings, self._hosts)
            return self._connection

    def _marks(self, partition: Partition, rows: Sequence[Row]) -> list[int]:
        """The minutes of these rows that aren't known to be marked."""
        if partition.bucket >= 0:
            minutes = {partition.bucket}
        else:
            minutes = {int(row.born) // 60 for row in rows}
        since = self._clock.monotonic() - REMARK_EVERY
        return [minute for minute in minutes if self._marked.get(minute, since) <= since]

    def _marking(self, minute: int, answers: "_Answers") -> Written:
        def arrived(error: StoreError | None) -> None:
            if error is None:
                if len(self._marked) > 10 * DAY_MINUTES:
                    self._marked.clear()
                self._marked[minute] = self._clock.monotonic()
            answers.arrived(error)

        return arrived

    def _minutes(
        self, connection: "_Connection", *, newest: float = 1e12, oldest: float = 0.0
    ) -> Iterator[int]:
        """Minutes that have tasks, newest first; a publisher's clock may be ahead by a day.

        Args:
            connection: where to ask.
            newest: no later minute than that of this moment, seconds since 1970.
            oldest: and no earlier one than of this.
        """
        today = int(self._clock.now()) // 86400
        last = int(min(newest // 86400, today + 1))
        # The oldest task that can have a row: delayed for a year, its result kept since.
        first = today - int((LONGEST_DELAY + self._settings.result_ttl) // 86400) - 1
        days = deque(range(last, max(first, int(oldest // 86400)) - 1, -1))
        at_once = 2  # most often what is wanted is of today
        while days:
            some = [days.popleft() for _ in range(min(at_once, len(days)))]
            for (minute,) in connection.ask_all([connection.minutes.bind((day,)) for day in some]):
                if oldest // 60 <= minute <= newest // 60:
                    yield minute
            at_once = min(4 * at_once, READS_AT_ONCE)

    def _newest_in(self, connection: "_Connection", minute: int, limit: int) -> list[Row]:
        """The current rows of a minute's tasks, by shard the newest `limit`."""
        shards = range(SHARDS)
        rows = connection.ask_all(
            [connection.newest.bind((minute, shard, limit)) for shard in shards]
        )
        listed = connection.ask_all(
            [connection.own_ids.bind((minute, shard, limit)) for shard in shards]
        )
        own_ids = [task_id for (task_id,) in listed]
        own = self.read_many(own_ids).values() if own_ids else ()
        return [row_of(values) for values in rows] + [rows[-1] for rows in own if rows]


@dataclass(frozen=True, slots=True)
class _Connection:
    """A session and the statements prepared in it; of use only in the process that made it."""

    pid: int
    cluster: Any
    session: Any
    insert: Any
    mark: Any
    list_own_id: Any
    of_tasks: Any
    newest: Any
    minutes: Any
    own_ids: Any
    older: Any
    listed: Any

    def send(self, statement: Any, arrived: Written) -> None:
        """Starts a request; `arrived` gets its outcome, maybe before this returns."""
        self.session.execute_async(statement).add_callbacks(
            callback=lambda _: arrived(None),
            errback=lambda error: arrived(_ours(error)),
        )

    def ask(self, statement: Any, values: tuple[Any, ...], page: int) -> Iterator[Any]:
        """Starts a request at once, and gives the rows of its answer as they are taken."""
        request = statement.bind(values)
        request.fetch_size = page
        under_way = self.session.execute_async(request)

        def rows() -> Iterator[Any]:
            try:
                yield from under_way.result()
            except _FOREIGN_ERRORS as error:
                raise _ours(error) from error

        return rows()

    def ask_all(self, requests: Sequence[Any]) -> Iterator[Any]:
        """The rows of all answers, in the order of the requests, some requests at a time."""
        for first in range(0, len(requests), READS_AT_ONCE):
            under_way = [
                self.session.execute_async(request)
                for request in requests[first : first + READS_AT_ONCE]
            ]
            for answer in under_way:
                try:
                    # Pages beyond the first are fetched on the way.
                    yield from answer.result()
                except _FOREIGN_ERRORS as error:
                    raise _ours(error) from error


class _Answers:
    """Waits for the answers to all requests of one write, then tells its outcome, once."""

    def __init__(self, expected: int, written: Written) -> None:
        self._missing = expected
        self._written = written
        self._lock = threading.Lock()
        self._error: StoreError | None = None

    def arrived(self, error: StoreError | None) -> None:
        with self._lock:
            self._missing -= 1
            # One unknown outcome makes the whole unknown; a refusal shows again when repeated.
            if error is not None and not isinstance(self._error, StoreUnavailable):
                self._error = error
            last = self._missing == 0
        if last:
            self._written(self._error)


def _connect(
    settings: Settings, hosts: Sequence[tuple[str, int]], timeout: float = REQUEST_TIMEOUT
) -> tuple[Any, Any]:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(
            DCAwareRoundRobinPolicy(settings.cassandra_datacenter)
        ),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=timeout,
        row_factory=tuple_factory,
    )
    options = {
        "contact_points": hosts,
        "port": hosts[0][1],
        "protocol_version": 5,
        "execution_profiles": {EXEC_PROFILE_DEFAULT: profile},
        # The driver's own 2 s are too short for a node that has much to do, and a refusal to start.
        "control_connection_timeout": timeout,
        "reconnection_policy": ExponentialReconnectionPolicy(0.5, LONGEST_RECONNECT_PAUSE),
        # Unset by default; without it each small batch waits for the acknowledgement of the last.
        "sockopts": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    }
    cluster = None
    try:
        cluster = Cluster(**{**options, **settings.cassandra})
        return cluster, cluster.connect()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the Cassandra driver: {without(str(error), settings.cassandra)}; look at the cassandra settings"
        ) from error
    except (*_FOREIGN_ERRORS, UnresolvableContactPoints, OSError) as error:
        if cluster is not None:
            cluster.shutdown()
        told = without(str(error), settings.cassandra)
        raise StoreUnavailable(
            f"Cassandra at {settings.cassandra_hosts} can't be reached: {told}. Check cassandra_hosts, and "
            "auth_provider in the cassandra settings, or start a local one with `taskstream up`"
        ) from error


def _prepare(settings: Settings, hosts: Sequence[tuple[str, int]]) -> _Connection:
    cluster, session = _connect(settings, hosts)
    results = f"{settings.keyspace}.results"
    columns = ", ".join(COLUMNS)
    marks = ", ".join("?" * len(COLUMNS))
    selected = f"{columns}, WRITETIME(state)"
    statements = {
        "insert": f"INSERT INTO {results} ({columns}) VALUES ({marks}) USING TIMESTAMP ?",
        "mark": f"INSERT INTO {results}_minutes (day, minute) VALUES (?, ?)",
        "list_own_id": f"INSERT INTO {results}_own_ids (minute, shard, born, task_id) VALUES (?, ?, ?, ?)",
        "of_tasks": f"SELECT {selected} FROM {results} WHERE bucket = ? AND shard = ? AND task_id IN ?",
        # The first row of each group is the current one: the tables order attempts downwards.
        "newest": f"SELECT {selected} FROM {results} WHERE bucket = ? AND shard = ? "
        "GROUP BY bucket, shard, task_id LIMIT ?",
        "minutes": f"SELECT minute FROM {results}_minutes WHERE day = ?",
        "own_ids": f"SELECT task_id FROM {results}_own_ids WHERE minute = ? AND shard = ? LIMIT ?",
        "older": f"SELECT {', '.join(LISTED)}, WRITETIME(state) FROM {results} "
        "WHERE bucket = ? AND shard = ? AND task_id < ? GROUP BY bucket, shard, task_id",
        "listed": f"SELECT born, task_id FROM {results}_own_ids WHERE minute = ? AND shard = ?",
    }
    try:
        prepared = {name: session.prepare(statement) for name, statement in statements.items()}
    except _FOREIGN_ERRORS as error:
        cluster.shutdown()
        raise _ours(error) from error
    for statement in prepared.values():
        statement.is_idempotent = True
    return _Connection(pid=os.getpid(), cluster=cluster, session=session, **prepared)


def _create_keyspace(cluster: Any, session: Any, settings: Settings) -> list[str]:
    """Creates the keyspace if it is missing; in plain words how an existing one differs."""
    datacenter = settings.cassandra_datacenter or cluster.get_control_connection_host().datacenter
    nodes = sum(host.datacenter == datacenter for host in cluster.metadata.all_hosts())
    copies = settings.replication if settings.replication > 0 else min(3, nodes)
    existing = cluster.metadata.keyspaces.get(settings.keyspace)
    if existing is None:
        session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {settings.keyspace} WITH replication = "
            f"{{'class': 'NetworkTopologyStrategy', '{datacenter}': {copies}}}"
        )
        return []
    strategy = existing.replication_strategy.export_for_schema()
    if settings.replication > 0 and f"'{datacenter}': '{copies}'" not in strategy:
        return [
            f"keyspace {settings.keyspace} is replicated as {strategy}, replication asks for {copies}"
        ]
    return []


def _create_tables(session: Any, settings: Settings) -> list[str]:
    """Creates the tables that are missing; in plain words how existing ones differ."""
    found = []
    for table in tables(settings.keyspace, settings.result_ttl):
        session.execute(table.statement)
        place = (settings.keyspace, table.name)
        columns = session.execute(
            "SELECT column_name, type FROM system_schema.columns "
            "WHERE keyspace_name = %s AND table_name = %s",
            place,
        )
        ((ttl,),) = session.execute(
            "SELECT default_time_to_live FROM system_schema.tables "
            "WHERE keyspace_name = %s AND table_name = %s",
            place,
        )
        found += drift(table, dict(columns.all()), ttl)
    return found


def _bind(prepared: Any, values: list[bytes]) -> Any:
    """Binds values that are bytes already, past the driver's own slow encoding of each."""
    bound = BoundStatement(prepared)
    bound.values = values
    return bound


def _own_id_cells(partition: Partition, rows: Iterable[Row]) -> list[list[bytes]]:
    return [
        [
            int_cell(int(row.born) // 60),
            smallint_cell(partition.shard),
            time_cell(row.born),
            text_cell(row.task_id),
        ]
        for row in rows
    ]


def _hosts(text: str) -> list[tuple[str, int]]:
    """Addresses in `host[:port],…`; a port where there is none is Cassandra's own."""
    hosts = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, "9042"
        if not host or not port.isdecimal():
            raise ConfigError(f"cassandra_hosts has {part!r}: write host or host:port")
        hosts.append((host.strip("[]"), int(port)))
    if not hosts:
        raise ConfigError(
            "cassandra_hosts is empty: write host or host:port, more than one with commas"
        )
    return hosts


def _ours(error: BaseException) -> StoreError:
    """The driver's error as one of ours: only an invalid request is the rows' own fault."""
    ours: StoreError
    if isinstance(error, InvalidRequest) and not _ABOUT_TABLES.search(str(error)):
        ours = StoreError(f"Cassandra refused the request: {error}")
    elif isinstance(error, InvalidRequest):
        ours = StoreUnavailable(f"Cassandra has no such tables ({error}): run `taskstream init`")
    else:
        ours = StoreUnavailable(f"Cassandra did not confirm the request: {error}")
    ours.__cause__ = error
    return ours
