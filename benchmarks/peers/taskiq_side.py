"""Taskiq with results in Redis: the broker that its workers run, and the publishing side.

BENCH_VARIANT is `redis` (a list), `stream` (a Redis stream) or `kafka`.

Tuned by its docs: uvloop (taken by the worker where it is installed), `ORJSONSerializer`, two worker
processes, as many as there are cores, with the default of 100 tasks at once and as many prefetched,
no pydantic parsing of arguments (`--no-parse`); on Kafka as many partitions as taskstream has.
Publishing keeps many calls of `kiq` under way, since each waits for its acknowledgement.
"""

import os
import time
from typing import Any

import uvloop
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.admin import KafkaAdminClient, NewTopic
from redis.asyncio import Redis
from serving import PATIENCE, in_flight, paced_async, until, until_async
from tally import tally
from taskiq.serializers import ORJSONSerializer
from taskiq_aio_kafka import AioKafkaBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

VARIANT = os.environ["BENCH_VARIANT"]
NAME = os.environ["BENCH_NAME"]
REDIS = f"redis://127.0.0.1:{os.environ['BENCH_REDIS']}"
KAFKA = os.environ.get("BENCH_KAFKA", "127.0.0.1:9092")
PARTITIONS = 8
UNDER_WAY = 100


def _broker() -> Any:
    if VARIANT == "redis":
        # A blocking pop may wait for ever; by redis-py's own default its socket gives up after 5 s.
        return ListQueueBroker(f"{REDIS}/3", queue_name=NAME, socket_timeout=None)
    if VARIANT == "stream":
        return RedisStreamBroker(f"{REDIS}/3", queue_name=NAME, xread_count=100)
    kafka = AioKafkaBroker(
        KAFKA, kafka_topic=NewTopic(name=NAME, num_partitions=PARTITIONS, replication_factor=1)
    )
    # Without a group every worker would get every task; its own choice of an assignor, kafka-python's,
    # does not work with aiokafka 0.14.
    kafka.configure_consumer(
        group_id=NAME,
        auto_offset_reset="earliest",
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
    )
    return kafka


broker = (
    _broker()
    .with_result_backend(
        RedisAsyncResultBackend(f"{REDIS}/4", keep_results=True, serializer=ORJSONSerializer())
    )
    .with_serializer(ORJSONSerializer())
)


@broker.task
async def noop(n: int, fill: str = "") -> int:
    """Nothing, with a result."""
    tally().ran()
    return n


@broker.task
async def timed(published: float) -> float:
    """Notes how long it has waited."""
    tally().waited(published)
    return published


LOOP = uvloop.new_event_loop


def _create_topic() -> None:
    """Before the broker does, which publishes at once, when a new topic has no leaders yet."""
    admin = KafkaAdminClient(bootstrap_servers=KAFKA)
    admin.create_topics([NewTopic(name=NAME, num_partitions=PARTITIONS, replication_factor=1)])
    until(lambda: NAME in admin.list_topics(), "a topic of Taskiq")
    time.sleep(1.0)
    admin.close()


class Side:
    """Publishes by `kiq`, and counts results in their Redis database."""

    def __init__(self) -> None:
        self._redis: Any = None
        if VARIANT == "kafka":
            _create_topic()

    async def _start(self) -> None:
        if self._redis is None:
            await broker.startup()
            self._redis = Redis.from_url(f"{REDIS}/4")

    async def publish(self, n: int, size: int = 0) -> None:
        """A hundred calls at a time."""
        await self._start()
        fill = "x" * size
        await in_flight(
            n, UNDER_WAY, lambda number: noop.kiq(number, fill) if fill else noop.kiq(number)
        )

    async def settle(self, n: int) -> None:
        """Until so many results are kept."""

        async def all_there() -> bool:
            return int(await self._redis.dbsize()) >= n

        await until_async(all_there, f"{n} results of Taskiq")

    async def latency(self, rate: float, seconds: float) -> list[float]:
        """Results have to be asked for; here every millisecond, not every 200."""

        async def one(published: float) -> None:
            handle = await timed.kiq(published)
            await handle.wait_result(check_interval=0.001, timeout=PATIENCE)

        return await paced_async(rate, seconds, one)

    async def reset(self) -> None:
        """Counts from here."""
        await self._start()
        await self._redis.flushdb()

    async def close(self) -> None:
        """Removes the queue and the results."""
        await self._redis.flushall()
        await self._redis.aclose()
        await broker.shutdown()
        if VARIANT == "kafka":
            admin = KafkaAdminClient(bootstrap_servers=KAFKA)
            admin.delete_topics([NAME])
            admin.close()
