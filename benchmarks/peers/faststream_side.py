"""FastStream on Kafka, which keeps no results: the app that its workers run, and the publishing side.

Tuned by its docs: uvloop (taken by `faststream run` where it is installed), two worker processes, as
many partitions as taskstream has, no log line for each message, and acknowledging by automatic
commit (its default, ACK_FIRST). Publishing keeps many calls under way, since each waits for its
acknowledgement.
"""

import os
from typing import Any

import uvloop
from faststream import FastStream
from faststream.kafka import KafkaBroker
from kafka.admin import KafkaAdminClient, NewTopic
from serving import in_flight, paced_async
from tally import tally

NAME = os.environ["BENCH_NAME"]
KAFKA = os.environ.get("BENCH_KAFKA", "127.0.0.1:9092")
PARTITIONS = 8
UNDER_WAY = 100
TOPICS = {task: f"{NAME}.{task}" for task in ("noop", "timed")}

broker = KafkaBroker(KAFKA, logger=None)
app = FastStream(broker)


@broker.subscriber(TOPICS["noop"], group_id=NAME, auto_offset_reset="earliest")
async def noop(body: dict[str, Any]) -> None:
    """Nothing."""
    tally().ran()


@broker.subscriber(TOPICS["timed"], group_id=NAME, auto_offset_reset="earliest")
async def timed(body: dict[str, float]) -> None:
    """Notes how long it has waited."""
    tally().waited(body["published"])


LOOP = uvloop.new_event_loop


class Side:
    """Publishes by `broker.publish`; there are no results to wait for."""

    def __init__(self) -> None:
        self._started = False
        admin = KafkaAdminClient(bootstrap_servers=KAFKA)
        admin.create_topics(
            [
                NewTopic(name=topic, num_partitions=PARTITIONS, replication_factor=1)
                for topic in TOPICS.values()
            ]
        )
        admin.close()

    async def _start(self) -> None:
        if not self._started:
            await broker.connect()
            self._started = True

    async def publish(self, n: int, size: int = 0) -> None:
        """A hundred calls at a time."""
        await self._start()
        fill = {"fill": "x" * size} if size else {}
        await in_flight(
            n, UNDER_WAY, lambda number: broker.publish({"n": number, **fill}, TOPICS["noop"])
        )

    def settle(self, n: int) -> None:
        """Nothing is kept."""

    async def latency(self, rate: float, seconds: float) -> list[float]:
        """Only the tasks' own notes tell how long they waited."""
        await self._start()
        await paced_async(
            rate,
            seconds,
            lambda published: broker.publish({"published": published}, TOPICS["timed"]),
        )
        return []

    def reset(self) -> None:
        """Nothing is counted."""

    async def close(self) -> None:
        """Removes the topics."""
        await broker.stop()
        admin = KafkaAdminClient(bootstrap_servers=KAFKA)
        admin.delete_topics(list(TOPICS.values()))
        admin.close()
