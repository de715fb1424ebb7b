"""Which result store the settings ask for; its driver is loaded here, and only then."""

from pathlib import Path

from taskstream.broker.embedded import directory
from taskstream.core.settings import Settings
from taskstream.results.store import ResultStore


def open_store(settings: Settings) -> ResultStore | None:
    """The store of these settings, or None where none is configured.

    Cassandra where `cassandra_hosts` is set, SQLite in the embedded mode. That one is created
    here: nobody runs `init` for a broker that lives inside a process.

    Raises:
        MissingExtra: the Cassandra driver is not installed.
        ConfigError: `cassandra_hosts` can't be read, or the driver can't work here.
        StoreError: the SQLite file can't be opened.
    """
    if not settings.keeps_results:
        return None
    if settings.cassandra_hosts:
        from taskstream.results.cassandra import CassandraStore  # noqa: PLC0415 - loads the driver

        return CassandraStore(settings)
    from taskstream.results.sqlite import SqliteStore  # noqa: PLC0415 - rarely needed

    store = SqliteStore(
        Path(directory(settings)) / "results.sqlite", result_ttl=settings.result_ttl
    )
    store.create()
    return store
