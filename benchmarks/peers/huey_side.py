"""Huey on Redis: the tasks that its consumer runs, and the publishing side.

Tuned by its guide "Consuming tasks" and its Redis storage: two processes, as many as there are cores
(`-k process -w 2`), no periodic tasks (`-n`), blocking pops, hiredis, and `notify_result`, by which
a waiting `get` hears of its result at once instead of asking for it.
"""

import os

from huey import RedisHuey
from serving import PATIENCE, paced, until
from tally import tally

huey = RedisHuey(
    os.environ["BENCH_NAME"],
    host="127.0.0.1",
    port=int(os.environ["BENCH_REDIS"]),
    db=5,
    notify_result=os.environ["BENCH_VARIANT"] == "notify",
)


@huey.task()
def noop(n: int, fill: str = "") -> int:
    """Nothing, with a result."""
    tally().ran()
    return n


@huey.task()
def timed(published: float) -> float:
    """Notes how long it has waited."""
    tally().waited(published)
    return published


class Side:
    """Publishes by calling the task, and counts results by Huey's own count."""

    def publish(self, n: int, size: int = 0) -> None:
        """One after the other: Huey has no bulk publish."""
        fill = "x" * size
        for number in range(n):
            noop(number, fill) if fill else noop(number)

    def settle(self, n: int) -> None:
        """Until so many results are kept."""
        until(lambda: huey.result_count() >= n, f"{n} results of Huey")

    def latency(self, rate: float, seconds: float) -> list[float]:
        """Without `notify_result` a result is asked for every millisecond."""
        return paced(
            rate,
            seconds,
            timed,
            lambda result: result.get(blocking=True, timeout=PATIENCE, backoff=1, max_delay=0.001),
        )

    def reset(self) -> None:
        """Counts from here."""
        huey.storage.flush_results()

    def close(self) -> None:
        """Removes the queue and the results."""
        huey.flush()
