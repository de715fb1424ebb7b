"""What a look at /metrics asks of the parent, in the thread that serves it: copies first, then counts."""

from collections import Counter
from collections.abc import Iterable

from taskstream.consumer.parent import alarms
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.children import Children
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.intake import Intake
from taskstream.consumer.parent.ownership import Ownership
from taskstream.core.clock import Clock
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Reading


def of_children(metrics: Metrics, children: Children, concurrency: int) -> None:
    """What the children do, and how many of them there are."""

    def running() -> Reading:
        held = [entry.lane for child in children for entry in list(child.held.values())]
        return _by_lane(Counter(held).items())

    def rows() -> Reading:
        pulses = [child.pulse for child in children if child.pulse is not None]
        return {(): sum(pulse.rows_pending for pulse in pulses)}

    metrics.gauge(table.RUNNING, running)
    metrics.gauge(table.ROWS_PENDING, rows)
    metrics.gauge(table.SLOTS, lambda: {(): len(children) * concurrency})


def of_partitions(metrics: Metrics, ownership: Ownership, clock: Clock) -> None:
    """How far our partitions have come, and how old what they wait for is."""

    def gaps() -> Reading:
        return {
            (place.topic, str(place.partition)): partition.tracker.gap
            for place, partition in ownership.items()
        }

    def paused() -> Reading:
        found = ownership.items()
        counts = Counter({partition.intake.lane: 0 for _, partition in found})
        counts.update(partition.intake.lane for _, partition in found if partition.full)
        return _by_lane(counts.items())

    def oldest() -> Reading:
        found = dict(ownership.items())
        lanes = {partition.intake.lane: 0.0 for partition in found.values()}
        for place, age in alarms.ages(found, clock.now()).items():
            lane = found[place].intake.lane
            lanes[lane] = max(lanes[lane], age)
        return _by_lane(lanes.items())

    metrics.gauge(table.WATERMARK_GAP, gaps)
    metrics.gauge(table.PAUSED, paused)
    metrics.gauge(table.OLDEST_AGE, oldest)
    metrics.gauge(table.COMMIT_AGE, lambda: _by_lane(ownership.commit_ages().items()))


def of_lanes(
    metrics: Metrics,
    ownership: Ownership,
    intakes: Iterable[Intake],
    dispatch: Dispatch,
    breakers: Breakers,
) -> None:
    """What waits in the lanes and before them, and which of them are halted."""

    def lag() -> Reading:
        ends = {place: end for intake in intakes for place, end in intake.ends().items()}
        return {
            (place.topic, str(place.partition)): max(
                0, ends.get(place, partition.end) - partition.tracker.watermark
            )
            for place, partition in ownership.items()
        }

    def halted() -> Reading:
        return _by_lane((lane, lane in breakers.halted) for lane in breakers.lanes)

    def held_back() -> Reading:
        counts = Counter(dict.fromkeys(breakers.lanes, 0))
        counts.update(dispatch.held_back())
        return _by_lane(counts.items())

    metrics.gauge(table.LAG, lag)
    metrics.gauge(table.HELD_BACK, held_back)
    metrics.gauge(table.WAITING, lambda: _by_lane(dispatch.waiting()))
    metrics.gauge(table.HALTED, halted)


def _by_lane(readings: Iterable[tuple[str, float]]) -> Reading:
    return {tuple(lane.rsplit(".", 1)): number for lane, number in readings}
