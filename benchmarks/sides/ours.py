"""taskstream: the app that its workers run, and the publishing side.

All promises are on, results go to Cassandra, metrics are served. BENCH_PARTITIONS sets the partitions
of the task topics, BENCH_TRACING the share of traces that is kept (empty: no tracing at all).
"""

import asyncio
import os

from serving import PATIENCE, in_flight, paced_async, until
from tally import tally

from taskstream import App
from taskstream.admin.provision import init
from taskstream.broker.topics import Topics

NAME = os.environ["BENCH_NAME"]
PARTITIONS = int(os.environ.get("BENCH_PARTITIONS", "8"))
TRACING = os.environ.get("BENCH_TRACING", "")
CHUNK = 50_000
"""How many are published at once: their handles are kept until they are acknowledged."""

if TRACING:
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    os.environ["OTEL_TRACES_SAMPLER_ARG"] = TRACING
    app = App(NAME, keyspace=NAME, partitions=PARTITIONS)
else:
    app = App(NAME, keyspace=NAME, partitions=PARTITIONS, otlp_endpoint="")


@app.task
async def noop(n: int) -> int:
    """Nothing, with a result."""
    tally().ran()
    return n


@app.task
async def carry(n: int, fill: bytes) -> int:
    """Nothing, with a payload."""
    tally().ran()
    return n


@app.task
async def timed(published: float) -> float:
    """Notes how long it has waited."""
    tally().waited(published)
    return published


@app.task
async def sleeper(n: int) -> int:
    """Takes a second, and no processor."""
    await asyncio.sleep(1.0)
    tally().ran()
    return n


class Side:
    """Publishes in all three ways, and takes what is committed for stored, for commits follow results."""

    def __init__(self) -> None:
        init(app)
        app.connect()
        self._topics = Topics(app.settings)
        self._group = app.names.group("tasks", "normal")
        self._topic = app.names.tasks("tasks", "normal")
        self._before = 0

    def publish(self, n: int, size: int = 0) -> None:
        """By `publish_many`."""
        fill = b"x" * size
        for first in range(0, n, CHUNK):
            numbers = range(first, min(first + CHUNK, n))
            if fill:
                carry.publish_many({"n": number, "fill": fill} for number in numbers)
            else:
                noop.publish_many({"n": number} for number in numbers)

    def publish_nowait(self, n: int) -> None:
        """By `publish_nowait` and one flush."""
        for number in range(n):
            noop.publish_nowait(number)
        left = app.flush()
        if left:
            raise TimeoutError(f"{left} of {n} were not acknowledged")

    def publish_each(self, n: int) -> None:
        """By `publish`, each acknowledged before the next."""
        for number in range(n):
            noop.publish(number)

    async def publish_async(self, n: int) -> None:
        """By `publish_async`, a hundred calls at a time, as a web service would."""
        await in_flight(n, 100, noop.publish_async)

    def publish_sleepers(self, n: int) -> None:
        """Tasks that sleep a second."""
        sleeper.publish_many({"n": number} for number in range(n))

    def settle(self, n: int) -> None:
        """Until so many are committed, which they are after their results are stored."""
        until(lambda: self._committed() - self._before >= n, f"{n} commits of taskstream")

    async def latency(self, rate: float, seconds: float) -> list[float]:
        """By `publish_async` and `result_async`."""

        async def one(published: float) -> None:
            handle = await timed.publish_async(published)
            async with asyncio.timeout(PATIENCE):
                await handle.result_async()

        return await paced_async(rate, seconds, one)

    def reset(self) -> None:
        """Counts from here."""
        self._before = self._committed()

    def close(self) -> None:
        """Removes topics and keyspace."""
        self._topics.delete(self._topics.names(f"{NAME}."))
        self._topics.close()
        app.close()
        drop_keyspace()

    def _committed(self) -> int:
        return sum(
            offset or 0 for offset in self._topics.committed(self._group, self._topic).values()
        )


def drop_keyspace() -> None:
    """Removes the results of this app, once nobody writes any more."""
    from cassandra.cluster import Cluster

    host, _, port = app.settings.cassandra_hosts.split(",")[0].partition(":")
    cluster = Cluster([host], port=int(port or 9042))
    session = cluster.connect()
    session.default_timeout = 60.0
    session.execute(f"DROP KEYSPACE IF EXISTS {NAME}")
    cluster.shutdown()
