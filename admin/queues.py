"""What waits where: each priority of each queue, its lag, and how long the oldest task has waited."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from taskstream.admin.letters import letters
from taskstream.broker.tail import Tail
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Place
from taskstream.core.settings import Settings

if TYPE_CHECKING:
    from taskstream.app.app import App

OLDEST_WITHIN = 5.0
"""Seconds that the search for a priority's oldest task may take."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One priority of a queue.

    Args:
        queue: the queue.
        priority: the priority.
        topic: its topic.
        partitions: how many the topic has.
        lag: offsets that the group has not finished.
        oldest_s: seconds since the oldest of them was published; None where nothing waits.
        paused: whether its tasks are held back on somebody's order.
        dead: open dead letters that came from here; not those that were redriven or purged.
    """

    queue: str
    priority: str
    topic: str
    partitions: int
    lag: int
    oldest_s: float | None
    paused: bool
    dead: int

    def waits_longer_than(self, seconds: float) -> bool:
        """Whether its oldest task was published more than so many seconds ago."""
        return self.oldest_s is not None and self.oldest_s > seconds

    def as_json(self) -> dict[str, Any]:
        """The lane as `queues list --json` shows it."""
        return asdict(self)


def lanes(
    app: "App",
    *,
    group: str | None = None,
    count_dead: bool = True,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Lane]:
    """Every priority of every queue, in the app's order.

    Args:
        app: the app; the modules of its `include` are imported, for the queues that tasks name.
        group: replaces the app's name in the consumer groups' names.
        count_dead: whether to read all dead letters, to tell where they came from; else `dead` is 0.
        clock: the time.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    app.load_tasks()
    settings, names = app.settings, app.names
    with Topics(settings, client_id="taskstream-queues") as topics:
        dead = Counter(one.topic for one in letters(app).letters) if count_dead else Counter()
        found = []
        for queue, priority in _each(app.queues):
            topic = names.tasks(queue, priority)
            behind = topics.behind(names.group(queue, priority, group), topic)
            found.append(
                Lane(
                    queue=queue,
                    priority=priority,
                    topic=topic,
                    partitions=len(behind),
                    lag=sum(high - start for start, high in behind.values()),
                    oldest_s=_oldest(settings, topic, behind, clock),
                    paused=False,  # nothing can pause a queue yet
                    dead=dead[topic],
                )
            )
    return found


def _each(queues: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    for queue, priorities in queues.items():
        for priority in priorities:
            yield queue, priority


def _oldest(
    settings: Settings, topic: str, behind: Mapping[Place, tuple[int, int]], clock: Clock
) -> float | None:
    """Seconds since the oldest unfinished record was written; None where nothing waits."""
    starts = {place.partition: start for place, (start, high) in behind.items() if start < high}
    if not starts:
        return None
    written: dict[int, float] = {}
    until = clock.monotonic() + OLDEST_WITHIN
    with Tail(settings, topic, starts, partitions=list(starts)) as tail:
        while len(written) < len(starts) and clock.monotonic() < until:
            for record in tail.take(500, 0.2):
                written.setdefault(record.partition, record.timestamp)
    return max(0.0, clock.now() - min(written.values())) if written else None
