"""The driver itself, for what a test must see or undo behind the store's back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def session(hosts: str) -> Iterator[Any]:
    """A driver session; of several hosts some may be down."""
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import RoundRobinPolicy

    addresses = [one.partition(":") for one in hosts.split(",")]
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=30.0)
    cluster = Cluster(
        [host for host, _, _ in addresses],
        port=int(addresses[0][2] or 9042),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=5,
        control_connection_timeout=15.0,  # a machine that runs all tests at once may be slow
        connect_timeout=15.0,
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def drop_keyspace(hosts: str, keyspace: str) -> None:
    """Takes a test's keyspace away."""
    with session(hosts) as cql:
        cql.execute(f'DROP KEYSPACE IF EXISTS "{keyspace}"')


def truncate(hosts: str, keyspace: str, table: str) -> None:
    """Takes all rows of a table away."""
    with session(hosts) as cql:
        cql.execute(f'TRUNCATE "{keyspace}"."{table}"')
