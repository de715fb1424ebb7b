"""Giving partitions up while tasks of theirs run.

In this order: nothing more of them starts; what runs, and what is on its way to Kafka, gets a grace time
(a hand-off that is given up in mid-way is repeated by the next owner); what still runs then is told of
in a heartbeat; once Kafka has that, the last commit goes out and names those tasks as held by this
worker. So whoever reads the commit finds the heartbeat too, and waits for them. If Kafka doesn't take
the heartbeat, the tasks are cancelled, for nobody would wait for them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from taskstream.broker.offsets import Held
from taskstream.consumer.parent.fence import Fence
from taskstream.consumer.parent.heartbeat import Heartbeat
from taskstream.consumer.parent.intake import PartitionsRevoked
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.ownership import Ownership
from taskstream.core.clock import Clock
from taskstream.core.envelope import Place
from taskstream.observability import logs, table
from taskstream.observability.metrics import Metrics

_log = logs.logger(__name__)


@dataclass(slots=True, eq=False)
class _Revocation:
    event: PartitionsRevoked
    began: float
    until: float
    told_us: int | None = None


class Handover:
    """The revocations that wait for their answer. Not thread-safe: it belongs to the loop.

    Args:
        ownership: the partitions.
        heartbeat: knows what Kafka has heard of this worker.
        beat: sends a heartbeat now; returns when it was written, microseconds since 1970.
        fence: how long each step may take.
        metrics: where it is counted how long a revocation took.
        clock: the time.
    """

    def __init__(
        self,
        ownership: Ownership,
        heartbeat: Heartbeat,
        beat: Callable[[], int],
        fence: Fence,
        *,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._ownership = ownership
        self._heartbeat = heartbeat
        self._beat = beat
        self._fence = fence
        self._metrics = metrics
        self._clock = clock
        self._revocations: list[_Revocation] = []

    def revoke(self, event: PartitionsRevoked) -> None:
        """Begins to give partitions up: nothing of them starts from now on."""
        self._ownership.begin_to_revoke(event.places)
        now = self._clock.monotonic()
        self._revocations.append(_Revocation(event, now, now + self._fence.grace))

    @property
    def pending(self) -> bool:
        """Whether any revocation waits for its answer."""
        return bool(self._revocations)

    def turn(self, now: float, running: Collection[Entry], handing_off: set[Place]) -> list[Entry]:
        """Takes each revocation a step further.

        Args:
            now: monotonic seconds.
            running: what the children hold.
            handing_off: the partitions of which hand-offs wait for Kafka.

        Returns:
            The tasks that must be cancelled, unrecorded: their next owners know nothing of them.
        """
        cancelled: list[Entry] = []
        for revocation in list(self._revocations):
            places = set(revocation.event.places)
            left = [entry for entry in running if entry.place in places]
            busy = left or not handing_off.isdisjoint(places)
            if busy and revocation.told_us is None and now < revocation.until:
                continue
            if left and revocation.told_us is None:
                revocation.told_us = self._beat()
                revocation.until = now + self._fence.tell_within
                continue
            told_us = revocation.told_us
            if left and told_us is not None and self._heartbeat.acknowledged_us < told_us:
                if now < revocation.until:
                    continue
                _log.warning(
                    "Kafka takes no heartbeat: running tasks are cancelled",
                    tasks=len(left),
                    advice=logs.LOOK_AT_KAFKA,
                )
                cancelled += left
                left = []
            self._answer(revocation, left)
        return cancelled

    @property
    def next_at(self) -> float | None:
        """When the next step is due by time, in monotonic seconds; None if none waits."""
        return min((one.until for one in self._revocations), default=None)

    def _answer(self, revocation: _Revocation, left: Collection[Entry]) -> None:
        self._revocations.remove(revocation)
        held: dict[Place, list[Held]] = {}
        for entry in left:
            assert revocation.told_us is not None
            one = Held(entry.record.offset, self._heartbeat.worker, revocation.told_us)
            held.setdefault(entry.place, []).append(one)
        if held:
            _log.info(
                "tasks go on over a rebalance; their partitions' next owners wait for them",
                tasks=len(left), places=",".join(map(str, held)),
            )  # fmt: skip
        event = revocation.event
        event.offsets = self._ownership.give_up(event.places, held)
        event.answered.set()
        labels = table.lane_labels(event.intake.lane)
        took = self._clock.monotonic() - revocation.began
        self._metrics.histogram(table.REBALANCE_DURATION, **labels).observe(took)
