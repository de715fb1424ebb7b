"""Dramatiq on RabbitMQ with results in Redis: the actors that its workers run, and the publishing side.

Tuned by its guide "Advanced" and reference: two processes, as many as there are cores, with the
default 8 threads each; the prefetch of its own default (16 a thread); no Prometheus middleware; a
result is asked for again after 5 ms at first, not 100.
"""

import os

import dramatiq
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from serving import PATIENCE, paced, until
from tally import tally

NAME = os.environ["BENCH_NAME"]
REDIS = f"redis://127.0.0.1:{os.environ['BENCH_REDIS']}/2"

broker = RabbitmqBroker(url=f"amqp://guest:guest@127.0.0.1:{os.environ['BENCH_RABBITMQ']}")
broker.add_middleware(Results(backend=RedisBackend(url=REDIS), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=NAME)
def noop(n: int, fill: str = "") -> int:
    """Nothing, with a result."""
    tally().ran()
    return n


@dramatiq.actor(queue_name=NAME)
def timed(published: float) -> float:
    """Notes how long it has waited."""
    tally().waited(published)
    return published


class Side:
    """Publishes by `send`, and counts results in their Redis database."""

    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(REDIS)
        broker.declare_queue(NAME, ensure=True)

    def publish(self, n: int, size: int = 0) -> None:
        """One after the other: Dramatiq has no bulk publish."""
        fill = "x" * size
        for number in range(n):
            noop.send(number, fill) if fill else noop.send(number)

    def settle(self, n: int) -> None:
        """Until so many results are kept."""
        until(lambda: int(self._redis.dbsize()) >= n, f"{n} results of Dramatiq")

    def latency(self, rate: float, seconds: float) -> list[float]:
        """Waits with BRPOPLPUSH, which Redis answers at once."""
        return paced(
            rate,
            seconds,
            timed.send,
            lambda message: message.get_result(block=True, timeout=round(1000 * PATIENCE)),
        )

    def reset(self) -> None:
        """Counts from here."""
        self._redis.flushdb()

    def close(self) -> None:
        """Removes the results; RabbitMQ's data go with it."""
        self._redis.flushdb()
        broker.close()
