"""What a look at /metrics asks of the parent, in the thread that serves it: copies first, then counts."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from taskstream._version import __version__
from taskstream.consumer.parent import alarms
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.children import Children
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.intake import Intake
from taskstream.consumer.parent.orders import Orders
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.pipe import Pulse
from taskstream.core.clock import Clock
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Reading


def of_children(metrics: Metrics, children: Children, concurrency: int) -> None:
    """What the children do, and how many of them there are."""

    def in_all(of_one: Callable[[Pulse], int]) -> Callable[[], Reading]:
        return lambda: {
            (): sum(of_one(child.pulse) for child in children if child.pulse is not None)
        }

    def alive() -> Reading:
        kinds = Counter({"shared": 0, "solo": 0})
        kinds.update("solo" if child.solo else "shared" for child in children if child.ready)
        return {(kind,): number for kind, number in kinds.items()}

    metrics.gauge(table.CHILDREN, alive)
    metrics.gauge(table.CHILD_MEMORY, in_all(lambda pulse: pulse.rss_bytes))
    metrics.gauge(table.STORELESS, in_all(lambda pulse: not pulse.store_healthy))
    metrics.gauge(table.ROWS_PENDING, in_all(lambda pulse: pulse.rows_pending))
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

    def owned() -> Reading:
        return _by_lane(Counter(one.intake.lane for _, one in ownership.items()).items())

    metrics.gauge(table.PARTITIONS, owned)
    metrics.gauge(table.WATERMARK_GAP, gaps)
    metrics.gauge(table.PAUSED, paused)
    metrics.gauge(table.OLDEST_AGE, oldest)
    metrics.gauge(table.COMMIT_AGE, lambda: _by_lane(ownership.commit_ages().items()))


def of_lanes(
    metrics: Metrics,
    ownership: Ownership,
    *,
    intakes: Iterable[Intake],
    children: Children,
    dispatch: Dispatch,
    breakers: Breakers,
) -> None:
    """What waits in the lanes and before them, what runs of them, and which of them are halted."""

    def running() -> Reading:
        counts = Counter(dict.fromkeys(breakers.lanes, 0))
        counts.update(entry.lane for child in children for entry in list(child.held.values()))
        return _by_lane(counts.items())

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

    def fenced() -> Reading:
        return _by_lane((lane, lane in dispatch.shut_lanes) for lane in breakers.lanes)

    metrics.gauge(table.RUNNING, running)
    metrics.gauge(table.LAG, lag)
    metrics.gauge(table.FENCED, fenced)
    metrics.gauge(table.DEATH_BUDGET, lambda: _by_lane(breakers.budgets))
    metrics.gauge(table.HELD_BACK, held_back)
    metrics.gauge(table.WAITING, lambda: _by_lane(dispatch.waiting()))
    metrics.gauge(table.HALTED, halted)


def of_weights(metrics: Metrics, weights: Mapping[str, int]) -> None:
    """The share that each lane is to have of what this worker gives out."""
    whole = sum(weights.values())
    shares = _by_lane((lane, weight / whole) for lane, weight in weights.items())
    metrics.gauge(table.WEIGHT, lambda: shares)


def of_orders(metrics: Metrics, orders: Orders) -> None:
    """What people have ordered, and what holds still."""
    metrics.gauge(
        table.ORDERS, lambda: {(verb,): number for verb, number in orders.in_force.items()}
    )


def of_process(metrics: Metrics, role: str, app: str) -> None:
    """What this process is."""
    metrics.gauge(table.INFO, lambda: {(role, app, __version__): 1})


def _by_lane(readings: Iterable[tuple[str, float]]) -> Reading:
    return {tuple(lane.rsplit(".", 1)): number for lane, number in readings}
