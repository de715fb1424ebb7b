"""What waits for its time: each delay tier, how many tasks are in it, and whether it keeps them long enough."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from taskstream.broker.offsets import Progress
from taskstream.broker.topics import Topics
from taskstream.core.envelope import Place
from taskstream.scheduler.retention import RETENTION, flaws

if TYPE_CHECKING:
    from taskstream.app.app import App


@dataclass(frozen=True, slots=True)
class Tier:
    """One delay topic.

    Args:
        span_s: for how many seconds a task waits there before it moves.
        topic: its topic.
        partitions: how many it has.
        waiting: how many tasks are there, by the scheduler's last commit; a quarter of a second old.
        kept_s: for how many seconds the topic keeps them; None for ever, or where nobody says.
        flaw: what is wrong with it; empty where nothing is.
    """

    span_s: float
    topic: str
    partitions: int
    waiting: int
    kept_s: float | None
    flaw: str

    def as_json(self) -> dict[str, Any]:
        """The tier as `delays list --json` shows it."""
        return asdict(self)


def tiers(app: "App") -> list[Tier]:
    """Every tier, the shortest first.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    names, settings = app.names, app.settings
    with Topics(settings, client_id="taskstream-delays") as topics:
        configs = topics.configs(list(names.delays))
        wrong = {flaw.topic: str(flaw) for flaw in flaws(names.delays, configs, settings.retention)}
        found = []
        for topic, span in names.delays.items():
            # In this order: what is written in between is counted, and what is moved is not twice.
            progress = topics.progress(names.scheduler_group, topic)
            ranges = topics.ranges(topic)
            kept = int(configs.get(topic, {}).get(RETENTION, "-1"))
            found.append(
                Tier(
                    span_s=span,
                    topic=topic,
                    partitions=len(ranges),
                    waiting=waiting(progress, ranges),
                    kept_s=None if kept < 0 else kept / 1000,
                    flaw=wrong.get(topic, ""),
                )
            )
    return found


def waiting(
    progress: Mapping[Place, Progress | None], ranges: Mapping[Place, tuple[int, int]]
) -> int:
    """How many records have not moved on: those that were read and wait, and those behind them.

    Args:
        progress: what the scheduler's last commit says of each partition; None where it says nothing.
        ranges: first and end offset of each partition.
    """
    count = 0
    for place, (low, high) in ranges.items():
        told = progress.get(place) or Progress.at(low)
        count += max(0, high - max(told.position, low))
        count += sum(offset >= low for offset in told.unfinished)
    return count
