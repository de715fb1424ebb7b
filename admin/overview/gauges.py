"""What a look at the dashboard's /metrics asks: queues, workers and dead letters, as they were seen last.

Workers tell of their own work at their own pages. This is what is so whether any of them lives or not, so each
dashboard of an app tells the same: who has several takes the largest value, and adds nothing up.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from taskstream._version import __version__
from taskstream.admin.overview.live import Live, Look
from taskstream.core.names import queue_and_priority
from taskstream.observability import table
from taskstream.observability.metrics import OTHER, Labels, Metrics, Reading

if TYPE_CHECKING:
    from taskstream.admin.queues import Lane

COUNTS_FOR = 300.0
"""Seconds for which a look counts. A series that comes and goes would begin an alert's time anew, and a look may
take long; after that nobody knows, and an old number would say that all is well."""

KINDS = 200
"""How many kinds of dead letters are told apart, those with the most letters; the others are counted as one."""


def of_overview(metrics: Metrics, live: Live, app: str) -> None:
    """Lets metrics tell what an overview of an app has seen."""

    def look() -> Look | None:
        return live.look if live.look.at and live.look_age < COUNTS_FOR else None

    def lanes() -> tuple["Lane", ...]:
        seen = look()
        return () if seen is None else seen.lanes

    def letters() -> Reading:
        return by_queue(live.morgue.by_kind()) if live.morgue.caught_up else {}

    metrics.gauge(table.QUEUE_LAG, lambda: {(one.queue, one.priority): one.lag for one in lanes()})
    metrics.gauge(table.QUEUE_AGE, lambda: ages(lanes(), live.look_age))
    metrics.gauge(
        table.QUEUE_HELD, lambda: {(one.queue, one.priority): one.paused for one in lanes()}
    )
    metrics.gauge(table.WORKERS, lambda: serving(look()))
    metrics.gauge(table.DEAD_OPEN, letters)
    metrics.gauge(table.LOOK_AGE, lambda: {(): live.look_age})
    metrics.gauge(table.INFO, lambda: {(table.DASHBOARD_ROLE, app, __version__): 1})


def ages(lanes: Iterable["Lane"], since: float) -> Reading:
    """How old each priority's oldest task is now; left out where something waits and nobody could tell.

    Args:
        lanes: as they were seen.
        since: how many seconds ago that was.
    """
    return {
        (lane.queue, lane.priority): 0.0 if lane.oldest_s is None else lane.oldest_s + since
        for lane in lanes
        if lane.oldest_s is not None or not lane.lag
    }


def serving(look: Look | None) -> Reading:
    """How many workers take tasks of each queue; empty where nothing was seen."""
    if look is None:
        return {}
    counts = Counter({lane.queue: 0 for lane in look.lanes})
    counts.update(queue for worker in look.workers for queue in worker.queues if queue in counts)
    return {(queue,): number for queue, number in counts.items()}


def by_queue(kinds: Mapping[tuple[str, str], int]) -> Reading:
    """How many dead letters came from each queue, by reason.

    Args:
        kinds: how many came from each topic, by reason.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for (topic, reason), number in kinds.items():
        counts[queue_and_priority(topic)[0] or OTHER, reason] += number
    most = counts.most_common(KINDS)
    left = counts.total() - sum(number for _, number in most)
    found: dict[Labels, float] = dict(most)
    if left:
        found[OTHER, OTHER] = found.get((OTHER, OTHER), 0) + left
    return found
