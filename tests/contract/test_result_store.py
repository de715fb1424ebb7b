"""What every result store does: one suite for SQLite and Cassandra.

Broken on purpose once, and seen to fail: in `search` callers' own ids left out, an own id shown at each of its
places, SQLite's search ended after its first rows.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskstream.core.clock import ManualClock
from taskstream.core.errors import ConfigError, StoreError, StoreUnavailable
from taskstream.core.ids import derived_id, new_id
from taskstream.core.settings import Settings
from taskstream.core.states import State
from taskstream.results.batching import Batcher
from taskstream.results.row import Row, current, partition_of
from taskstream.results.search import Mark, Search
from taskstream.results.sqlite import SqliteStore
from taskstream.results.store import ResultStore

PATIENCE = 20.0
NOW_US = 1_764_000_000_000_000
MINUTE = 60.0


def cassandra_at(hosts: str, keyspace: str, **changes: Any) -> ResultStore:
    from taskstream.results.cassandra import CassandraStore

    return CassandraStore(replace(Settings(cassandra_hosts=hosts, keyspace=keyspace), **changes))


@pytest.fixture(scope="session")
def keyspace(cassandra: str) -> Iterator[str]:
    """A keyspace of this test session's own, dropped at its end."""
    from cassandra.cluster import Cluster

    name = f"test_{uuid4().hex[:12]}"
    yield name
    host, _, port = cassandra.partition(":")
    cluster = Cluster([host], port=int(port or 9042), protocol_version=5)
    try:
        cluster.connect().execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=PATIENCE)
    finally:
        cluster.shutdown()


@pytest.fixture(scope="session")
def cassandra_store(cassandra: str, keyspace: str) -> Iterator[ResultStore]:
    store = cassandra_at(cassandra, keyspace)
    store.create()
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "cassandra"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResultStore]:
    """A created store; rows of other tests may be in it."""
    if request.param == "cassandra":
        yield request.getfixturevalue("cassandra_store")
        return
    store = SqliteStore(tmp_path / "folder" / "results.sqlite")
    store.create()
    yield store
    store.close()


def write(store: ResultStore, *rows: Row) -> None:
    """Writes rows, each group of one partition as one batch, and waits."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(partition_of(row.task_id), []).append(row)
    for group in groups.values():
        outcome: Future[StoreError | None] = Future()
        store.write(partition_of(group[0].task_id), group, outcome.set_result)
        error = outcome.result(PATIENCE)
        if error is not None:
            raise error


def row(
    task_id: str,
    *,
    run: int = 0,
    attempt: int = 1,
    state: State = State.SUCCEEDED,
    written_us: int = NOW_US,
) -> Row:
    return Row(
        task_id=task_id, run=run, attempt=attempt, state=state, task="charge", written_us=written_us
    )


def full_row(task_id: str) -> Row:
    """A row in which nothing is left out."""
    return Row(
        task_id=task_id, run=2, attempt=40_000, state=State.RETRYING, task="charge", written_us=NOW_US + 7,
        queue="tasks", priority="high", key="k-ä", worker="host/1", published=1_764_000_000.125,
        started=1_764_000_000.25, finished=1_764_000_000.375, due=1_764_000_060.5, counts=False,
        value=bytes(range(256)), error_type="ValueError", error="bad \x00 bytes", traceback="line\nline",
        trace_id="a" * 32, source="shop.tasks.high/3/17", strikes=3,
    )  # fmt: skip


@pytest.mark.parametrize("make_id", [new_id, lambda: f"invoice {uuid4()} ü"], ids=["uuid7", "own"])
def test_row_comes_back_as_it_was_written(store: ResultStore, make_id: Callable[[], str]) -> None:
    """Every column survives, also under a caller's own id, and so does every missing one."""
    full, bare = full_row(make_id()), row(make_id())
    write(store, full, bare)
    assert store.read(full.task_id) == [full]
    assert store.read(bare.task_id) == [bare]


def test_unknown_id_has_no_rows(store: ResultStore) -> None:
    """An id without a trace is no error."""
    assert store.read(new_id()) == []
    assert store.read_many([]) == {}


def test_rows_of_a_task_are_in_the_order_of_its_attempts(store: ResultStore) -> None:
    """Lowest (run, attempt) first, so that the last one is the task's state."""
    task_id = new_id()
    rows = [
        row(task_id, run=run, attempt=attempt) for run, attempt in [(1, 0), (0, 2), (1, 1), (0, 1)]
    ]
    write(store, *rows)
    found = store.read(task_id)
    assert [(row.run, row.attempt) for row in found] == [(0, 1), (0, 2), (1, 0), (1, 1)]
    assert current(found) == found[-1]


def test_later_write_wins_whole(store: ResultStore) -> None:
    """An outcome replaces all of an older one: no column of that shines through."""
    old = full_row(new_id())
    new = row(old.task_id, run=old.run, attempt=old.attempt)._replace(written_us=old.written_us + 1)
    write(store, old)
    write(store, new)
    assert store.read(old.task_id) == [new]


def test_earlier_write_that_arrives_late_changes_nothing(store: ResultStore) -> None:
    """A worker that lost its partition can't undo a newer state, whatever it writes."""
    old = full_row(new_id())
    new = row(old.task_id, run=old.run, attempt=old.attempt)._replace(written_us=old.written_us + 1)
    write(store, new)
    write(store, old)
    assert store.read(old.task_id) == [new]


def test_same_write_twice_is_one(store: ResultStore) -> None:
    """A write of unknown outcome may be repeated."""
    full = full_row(new_id())
    write(store, full)
    write(store, full, full)
    assert store.read(full.task_id) == [full]


@given(order=st.permutations(range(6)), repeated=st.lists(st.integers(0, 5), max_size=3))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_of_writes_converges(
    store: ResultStore, order: list[int], repeated: list[int]
) -> None:
    """Rows commute: two attempts, three writes of each, in any order with repeats, end the same."""
    task_id = new_id()
    versions = [
        (full_row(task_id) if number % 2 else row(task_id))._replace(
            run=0, attempt=1 + number // 3, written_us=NOW_US + number
        )
        for number in range(6)
    ]
    for number in [*order, *repeated]:
        write(store, versions[number])
    assert store.read(task_id) == [versions[2], versions[5]]


def test_many_are_read_at_once(store: ResultStore) -> None:
    """Every id asked for is in the answer, known or not, over partitions and pages."""
    start = 1_700_000_000.0
    known = [derived_id(start + number % 200, uuid4().hex, number) for number in range(400)]
    write(store, *[row(task_id, attempt=attempt) for task_id in known for attempt in (1, 2)])
    unknown = [new_id(), "no such invoice"]
    found = store.read_many(known + unknown)
    assert list(found) == known + unknown
    assert all([row.attempt for row in found[task_id]] == [1, 2] for task_id in known)
    assert [found[task_id] for task_id in unknown] == [[], []]


def test_empty_text_and_none_are_the_same(store: ResultStore) -> None:
    """An error without a message is kept as one without a text."""
    task_id = new_id()
    write(store, row(task_id)._replace(error_type="ValueError", error="", key="", value=b""))
    assert store.read(task_id) == [row(task_id)._replace(error_type="ValueError")]


def test_text_that_is_no_utf8_is_kept_escaped(store: ResultStore) -> None:
    """A lone surrogate, as in the error of a file with a broken name, doesn't stop the row."""
    task_id = new_id()
    write(store, row(task_id)._replace(error="no such file: \udcff.txt"))
    assert store.read(task_id)[0].error == "no such file: \\udcff.txt"


def test_due_time_is_never_early(store: ResultStore) -> None:
    """What is kept in milliseconds is rounded up."""
    task_id, due = new_id(), 1_764_000_000.123_4
    write(store, row(task_id, state=State.RETRYING)._replace(due=due))
    kept = store.read(task_id)[0].due
    assert kept is not None
    assert due <= kept < due + 0.001


def test_latest_are_the_current_rows_of_the_newest_tasks(store: ResultStore) -> None:
    """Newest first, one row per task, callers' own ids among them by their publish time."""
    # In the future of every other test's rows.
    start = time.time() + 10 * MINUTE
    ids = [derived_id(start + MINUTE * number, uuid4().hex) for number in range(6)]
    rows = [row(task_id, attempt=attempt) for task_id in ids for attempt in (1, 2)]
    own = row(f"own {uuid4()}", state=State.DEAD)._replace(published=start + 3.5 * MINUTE)
    write(store, *rows, own)
    found = store.latest(5)
    assert [row.task_id for row in found] == [ids[5], ids[4], own.task_id, ids[3], ids[2]]
    assert [row.attempt for row in found] == [2, 2, 1, 2, 2]
    assert store.latest(1) == found[:1]


def some_days_ago(number: int) -> float:
    """A whole second at the begin of an hour that no other test has rows in."""
    return float((int(time.time()) // 3600 - 100 - number) * 3600)


def found_ids(store: ResultStore, search: Search, page: int = 50) -> list[str]:
    """The ids of all that a search finds, by pages."""
    ids: list[str] = []
    after: Mark | None = None
    while True:
        found = store.search(search, page, after=after, seconds=PATIENCE)
        assert len(found.rows) <= page
        ids += [row.task_id for row in found.rows]
        if found.mark is None:
            return ids
        after = Mark.parse(str(found.mark))


@pytest.mark.parametrize("page", [1, 3, 7, 1000])
def test_search_pages_through_all_tasks_once(store: ResultStore, page: int) -> None:
    """Newest first, one current row per task, callers' own ids in their place, none lost between pages."""
    start = some_days_ago([1, 3, 7, 1000].index(page))
    ids = [derived_id(start + 20.0 * number, uuid4().hex) for number in range(8)]
    same = sorted(derived_id(start + 50.0, uuid4().hex) for _ in range(3))
    write(store, *[row(one, attempt=attempt) for one in [*ids, *same] for attempt in (1, 2)])
    owned = [(f"own {uuid4()}", start + 15.0 * number + 7.5) for number in range(6)]
    write(store, *[row(one)._replace(published=born) for one, born in owned])
    born = {one: start + 20.0 * number for number, one in enumerate(ids)}
    born |= {**dict.fromkeys(same, start + 50.0), **dict(owned)}
    expected = sorted(born, key=lambda one: (round(born[one], 3), one), reverse=True)
    assert found_ids(store, Search(since=start - 1, until=start + 3000), page) == expected


def test_search_finds_what_matches_alone(store: ResultStore) -> None:
    """Each condition leaves out what it should, and all of them together are met at once."""
    start = some_days_ago(5)
    full = full_row(derived_id(start + 1, uuid4().hex))
    other = row(derived_id(start + 2, uuid4().hex))._replace(task="ship")
    bad = row(derived_id(start + 3, uuid4().hex), state=State.DEAD)._replace(
        task="ship", error_type="Oops", error="No Such City: Atlantis", queue="gpu", priority="low"
    )
    write(store, full, other, bad)
    within = Search(since=start, until=start + 10)
    wanted = {
        within: [bad, other, full],
        within._replace(states=frozenset({State.DEAD, State.RETRYING})): [bad, full],
        within._replace(task="ship"): [bad, other],
        within._replace(queue="gpu"): [bad],
        within._replace(priority="high"): [full],
        within._replace(key="k-ä"): [full],
        within._replace(worker="host/1"): [full],
        within._replace(text="city: atl"): [bad],
        within._replace(text="oops"): [bad],
        within._replace(error="O*s"): [bad],
        within._replace(error="oops"): [],
        Search(since=start + 2, until=start + 3): [other],
        within._replace(task="ship", states=frozenset({State.SUCCEEDED})): [other],
        within._replace(task="ship", key="k-ä"): [],
    }
    for search, rows in wanted.items():
        found = store.search(search, 10, seconds=PATIENCE)
        assert found.rows == [one._replace(value=None, traceback=None) for one in rows], search
        assert (found.mark, found.in_time) == (None, True)


def test_search_stops_when_time_is_up_and_goes_on(store: ResultStore) -> None:
    """Without any time at all, each look gets on by a task at most, says so, and the last one ends."""
    start = some_days_ago(6)
    ids = [derived_id(start + 40.0 * number, uuid4().hex) for number in range(5)]
    write(store, *[row(one) for one in ids])
    search = Search(since=start, until=start + MINUTE * 10, text="nowhere")
    looked, looks = 0, 0
    after: Mark | None = None
    while True:
        found = store.search(search, 10, after=after, seconds=0.0)
        assert found.rows == []
        assert found.in_time == (found.mark is None)
        looked, looks, after = looked + found.looked, looks + 1, found.mark
        if after is None:
            break
    assert looked == len(ids)
    assert looks > len(ids)


def test_search_goes_beyond_what_is_read_at_once(store: ResultStore) -> None:
    """More tasks than fit into one answer, all of one moment, are found each once in one look."""
    start = some_days_ago(8)
    ids = [derived_id(start, uuid4().hex) for _ in range(1100)]
    write(store, *[row(one) for one in ids])
    found = store.search(
        Search(since=start, until=start + 1, task="charge"), 2000, seconds=PATIENCE
    )
    assert [row.task_id for row in found.rows] == sorted(ids, reverse=True)
    assert (found.mark, found.looked) == (None, len(ids))


@pytest.mark.parametrize("later", [20.0, 90.0])
def test_search_of_an_id_that_came_again(store: ResultStore, later: float) -> None:
    """A caller's own id that is used anew is found once, where it was published last."""
    start = some_days_ago(9 if later < MINUTE else 10)
    own = f"own {uuid4()}"
    write(store, row(own)._replace(published=start))
    write(store, row(own, written_us=NOW_US + 1)._replace(published=start + later))
    bounds = Search(since=start - 60, until=start + 600)
    (found,) = store.search(bounds, 10, seconds=PATIENCE).rows
    assert found.published == pytest.approx(start + later, abs=0.001)


def test_large_value_is_stored(store: ResultStore) -> None:
    """A result of a megabyte, also under a caller's own id, goes into one batch with small ones."""
    for task_id in (new_id(), f"own {uuid4()}"):
        large = row(task_id)._replace(value=b"\x00\xff" * 500_000)
        write(store, row(task_id, attempt=2), large)
        assert store.read(task_id)[0] == large


def test_batcher_brings_rows_of_many_partitions_in(store: ResultStore) -> None:
    """The batcher and the store fit together: every row is stored and read back."""
    stored: list[int] = []
    refused: list[tuple[int, StoreError]] = []
    batcher: Batcher[int] = Batcher(
        store, stored=stored.extend, refused=lambda ticket, error: refused.append((ticket, error))
    )
    ids = [derived_id(1_700_000_000.0 + number, uuid4().hex) for number in range(600)]
    for first in range(0, 600, 50):
        batcher.add([(row(ids[number]), number) for number in range(first, first + 50)])
    assert batcher.close(PATIENCE) == 0
    assert refused == []
    assert sorted(stored) == list(range(600))
    assert all(store.read_many(ids).values())


def test_threads_share_a_store(store: ResultStore) -> None:
    """Several threads write and read at once."""
    ids = [new_id() for _ in range(40)]
    found: dict[str, list[Row]] = {}

    def work(mine: Sequence[str]) -> None:
        for task_id in mine:
            write(store, row(task_id))
            found[task_id] = store.read(task_id)

    threads = [threading.Thread(target=work, args=(ids[first::4],)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {task_id: [row(task_id)] for task_id in ids}


def test_create_again_changes_nothing(store: ResultStore) -> None:
    """`taskstream init` is safe to run again."""
    task_id = new_id()
    write(store, row(task_id, written_us=int(time.time() * 1e6)))
    store.create()
    assert len(store.read(task_id)) == 1


def test_sqlite_is_shared_by_processes(tmp_path: Path) -> None:
    """What one connection wrote, another one reads and overwrites; `close` may be repeated."""
    one, other = SqliteStore(tmp_path / "r.sqlite"), SqliteStore(tmp_path / "r.sqlite")
    one.create()
    other.create()
    task_id = new_id()
    write(one, row(task_id, state=State.RETRYING))
    assert other.read(task_id)[0].state is State.RETRYING
    write(other, row(task_id, written_us=NOW_US + 1))
    assert one.read(task_id)[0].state is State.SUCCEEDED
    for store in (one, other, one):
        store.close()


def test_sqlite_forgets_what_is_too_old(tmp_path: Path) -> None:
    """The embedded mode's file doesn't grow for ever."""
    clock = ManualClock(NOW_US / 1e6)
    store = SqliteStore(tmp_path / "r.sqlite", result_ttl=100.0, clock=clock)
    store.create()
    task_id = new_id()
    write(store, row(task_id))
    clock.advance(99.0)
    store.create()
    assert store.read(task_id)
    clock.advance(2.0)
    store.create()
    assert not store.read(task_id)
    store.close()


def test_sqlite_file_of_an_older_version_is_named(tmp_path: Path) -> None:
    """A table that lacks a column is found by `create`, not by the first write."""
    path = tmp_path / "r.sqlite"
    store = SqliteStore(path)
    store.create()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE results DROP COLUMN strikes")
    with pytest.raises(StoreError, match="no column strikes: remove it"):
        store.create()
    store.close()


def test_sqlite_file_that_is_none_is_our_error(tmp_path: Path) -> None:
    """No foreign exception crosses the border."""
    path = tmp_path / "r.sqlite"
    path.write_text("not a database at all, but long enough to look at" * 10)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match=r"r\.sqlite"):
        store.create()
    store.close()


def test_cassandra_refuses_a_row_beyond_its_limit_and_takes_the_others(
    cassandra_store: ResultStore,
) -> None:
    """A result that Cassandra never takes is named alone; what went with it is stored."""
    stored: list[str] = []
    refused: dict[str, StoreError] = {}
    batcher: Batcher[str] = Batcher(
        cassandra_store, stored=stored.extend, refused=refused.__setitem__, in_flight=1
    )
    task_id = new_id()
    rows = [row(task_id, attempt=attempt) for attempt in range(1, 8)]
    rows[3] = rows[3]._replace(value=b"x" * (17 * 1024 * 1024))
    batcher.add([(row, str(row.attempt)) for row in rows])
    assert batcher.close(PATIENCE) == 0
    assert sorted(stored) == ["1", "2", "3", "5", "6", "7"]
    assert list(refused) == ["4"]
    assert not isinstance(refused["4"], StoreUnavailable)
    assert [row.attempt for row in cassandra_store.read(task_id)] == [1, 2, 3, 5, 6, 7]


def test_cassandra_tells_how_its_tables_differ(
    cassandra_store: ResultStore, cassandra: str, keyspace: str
) -> None:
    """Another time to live and replication are reported, not hidden and not altered."""
    with pytest.raises(StoreError, match=r"keeps rows for 604800 s, result_ttl asks for 60 s"):
        cassandra_at(cassandra, keyspace, result_ttl=60.0).create()
    with pytest.raises(StoreError, match="replication asks for 2"):
        cassandra_at(cassandra, keyspace, replication=2).create()


def test_cassandra_without_tables_keeps_rows_waiting(cassandra: str, keyspace: str) -> None:
    """Before `taskstream init` a write is not refused but waits, and says what to do."""
    store = cassandra_at(cassandra, f"{keyspace}_none")
    with pytest.raises(StoreUnavailable, match="taskstream init"):
        write(store, row(new_id()))
    store.close()


def test_cassandra_that_is_not_there_is_unavailable() -> None:
    """Nobody listening is our error too, for reads and writes."""
    pytest.importorskip("cassandra")
    from taskstream.results.cassandra import CassandraStore

    store = CassandraStore(Settings(cassandra_hosts="127.0.0.1:1"))
    with pytest.raises(StoreUnavailable, match="taskstream up"):
        store.read(new_id())
    with pytest.raises(StoreUnavailable, match="can't be reached"):
        write(store, row(new_id()))
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        write(store, row(new_id()))


@pytest.mark.parametrize("hosts", ["host:port", ":9042", "good,bad:"])
def test_cassandra_hosts_that_cant_be_read_are_refused(hosts: str) -> None:
    """The error shows the part that is wrong."""
    pytest.importorskip("cassandra")
    from taskstream.results.cassandra import CassandraStore

    with pytest.raises(ConfigError, match="host or host:port"):
        CassandraStore(Settings(cassandra_hosts=hosts))


@pytest.mark.parametrize("keyspace", ["", "Shop", "a-b", "a; DROP"])
def test_cassandra_keyspace_is_a_plain_name(keyspace: str) -> None:
    """Nothing that would need quotes, or do something else, gets into a statement."""
    with pytest.raises(ConfigError, match="keyspace"):
        cassandra_at("127.0.0.1", keyspace)
