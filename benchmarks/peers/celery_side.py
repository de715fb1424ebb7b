"""Celery: the app that its workers run, and the publishing side.

BENCH_VARIANT is `redis`, `rabbitmq` or `kafka` (with results in Cassandra).

Tuned by its guide "Optimizing" and the pages of its transports and backends:
- prefetch multiplier 64, which the guide advises for many short tasks;
- no heartbeat, gossip and mingle of workers, and no task events (worker command);
- publishing on one connection with one producer, so that no pool is asked for each task;
- `visibility`, retries and results' time to live are left as they are: results are kept a day.
"""

import os
import time
from typing import Any

from celery import Celery
from serving import paced, until
from tally import tally

VARIANT = os.environ["BENCH_VARIANT"]
NAME = os.environ["BENCH_NAME"]
REDIS = f"redis://127.0.0.1:{os.environ.get('BENCH_REDIS', '0')}"
KAFKA = os.environ.get("BENCH_KAFKA", "127.0.0.1:9092")
CASSANDRA = os.environ.get("BENCH_CASSANDRA", "127.0.0.1:9042")
PARTITIONS = 8

BROKERS = {
    "redis": f"{REDIS}/0",
    "rabbitmq": f"amqp://guest:guest@127.0.0.1:{os.environ.get('BENCH_RABBITMQ', '0')}//",
    "kafka": f"confluentkafka://{KAFKA}",
}

app = Celery("celery_side", broker=BROKERS[VARIANT])
app.conf.update(
    task_default_queue=NAME,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    broker_heartbeat=0,
)
if VARIANT == "kafka":
    app.conf.update(
        result_backend="cassandra://",
        cassandra_servers=[CASSANDRA.partition(":")[0]],
        cassandra_port=int(CASSANDRA.partition(":")[2] or 9042),
        cassandra_keyspace=NAME,
        cassandra_table="results",
        broker_transport_options={
            "num_partitions": PARTITIONS,
            "allow_create_topics": True,
            # Up to 5 s in `poll`, its default, hold up all else; it is also how long a connection may take.
            "wait_time_seconds": 0.5,
            # A flush follows each message, so nothing is gained by waiting for more.
            "kafka_producer_config": {"linger.ms": 0},
        },
    )
else:
    app.conf.update(result_backend=f"{REDIS}/1")


@app.task
def noop(n: int, fill: str = "") -> int:
    """Nothing, with a result."""
    tally().ran()
    return n


@app.task
def timed(published: float) -> float:
    """Notes how long it has waited."""
    tally().waited(published)
    return published


class Side:
    """Publishes by `apply_async` on one producer, and counts results where they are kept."""

    def __init__(self) -> None:
        self._results = _CassandraResults() if VARIANT == "kafka" else _RedisResults()
        self._connection = app.connection_for_write()
        self._producer = app.amqp.Producer(self._connection, auto_declare=False)
        app.amqp.queues[NAME](self._connection.default_channel).declare()

    def publish(self, n: int, size: int = 0) -> None:
        """One after the other: Celery has no bulk publish."""
        fill = "x" * size
        for number in range(n):
            noop.apply_async((number, fill) if fill else (number,), producer=self._producer)

    def settle(self, n: int) -> None:
        """Until so many results are kept."""
        until(lambda: self._results.count() >= n, f"{n} results of Celery")

    def latency(self, rate: float, seconds: float) -> list[float]:
        """Results come by subscription from Redis; Cassandra has to be asked, here every 5 ms."""
        how: dict[str, Any] = {"interval": 0.005} if VARIANT == "kafka" else {}
        return paced(
            rate,
            seconds,
            lambda published: timed.apply_async((published,), producer=self._producer),
            lambda handle: handle.get(timeout=30, **how),
        )

    def reset(self) -> None:
        """Counts from here."""
        self._results.reset()

    def close(self) -> None:
        """Removes the queue and the results."""
        if VARIANT == "kafka":
            self._connection.default_channel.client.delete_topics([NAME])
            time.sleep(0.5)
        self._connection.release()
        self._results.close()


class _RedisResults:
    def __init__(self) -> None:
        self._redis = app.backend.client

    def count(self) -> int:
        return int(self._redis.dbsize())

    def reset(self) -> None:
        self._redis.flushdb()

    def close(self) -> None:
        self._redis.flushall()


class _CassandraResults:
    def __init__(self) -> None:
        from cassandra.cluster import Cluster

        host, _, port = CASSANDRA.partition(":")
        self._cluster = Cluster([host], port=int(port or 9042))
        self._session = self._cluster.connect()
        self._session.default_timeout = 60.0
        self._session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {NAME} WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        # Two workers that both find the table missing get in each other's way.
        app.backend._get_connection(write=True)  # noqa: SLF001
        self._before = 0

    def count(self) -> int:
        return self._all() - self._before

    def _all(self) -> int:
        return int(self._session.execute(f"SELECT count(*) FROM {NAME}.results").one()[0])

    def reset(self) -> None:
        self._before = self._all()

    def close(self) -> None:
        self._session.execute(f"DROP KEYSPACE IF EXISTS {NAME}")
        self._cluster.shutdown()
