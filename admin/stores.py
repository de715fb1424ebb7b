"""What commands ask of the result store beside reads: that there is one, and that rows are in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskstream.core.errors import ConfigError, StoreError, StoreUnavailable
from taskstream.results.batching import Batcher
from taskstream.results.row import Row
from taskstream.results.store import ResultStore

if TYPE_CHECKING:
    from taskstream.app.app import App

ROWS_WITHIN = 30.0
"""Seconds that the result store has to take rows."""


def store_of(app: "App", otherwise: str) -> ResultStore:
    """The app's result store.

    Args:
        app: the app.
        otherwise: what follows where there is none, for the error: "no task can be looked up".

    Raises:
        ConfigError: none is configured.
        MissingExtra: its driver is not installed.
    """
    store = app.result_store()
    if store is None:
        raise ConfigError(
            f"no result store is configured, so {otherwise}: set cassandra_hosts "
            "(TASKSTREAM_CASSANDRA_HOSTS)"
        )
    return store


def store_rows(store: ResultStore, rows: Sequence[Row], *, within: float = ROWS_WITHIN) -> None:
    """Writes rows; back once a quorum has them all.

    Args:
        store: where to.
        rows: of any partitions.
        within: seconds for which a write of unknown outcome is repeated.

    Raises:
        StoreError: the store refused one.
        StoreUnavailable: it did not answer in time.
    """
    if not rows:
        return
    refusals: list[StoreError] = []
    batcher: Batcher[str] = Batcher(
        store, stored=lambda _: None, refused=lambda _, error: refusals.append(error)
    )
    batcher.add([(row, row.task_id) for row in rows])
    left = batcher.close(within)
    if refusals:
        raise refusals[0]
    if left:
        raise StoreUnavailable(
            f"{left} rows were not stored in {within:g} s: nothing was sent for them. Try again"
        )
