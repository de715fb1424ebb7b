"""From a verdict to a finished offset: tell, hand off, finish; each a plain call, in this order.

A verdict is heard only after its row is stored. What must follow in Kafka (a retry, a dead letter) is
produced then, and only when Kafka has acknowledged it does the offset count as finished. What Kafka
does not take is tried again for as long as the partition is ours; and where Kafka has not said for a
while that it is (`is_sure_of`), nothing is handed off before it does: the next owner may have done it.

What an order holds back and has no room here is deferred in the same way, with nothing judged: it goes
through a delay topic as it is.
"""

import contextlib
import heapq
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Sequence

from taskstream.broker.records import Record
from taskstream.broker.sender import Sender, unheard
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.handoff import Deferred, Handoff
from taskstream.consumer.parent.journal import Journal, Written
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.parent.partitions import Partition
from taskstream.consumer.pipe import Judged, Reply
from taskstream.consumer.verdict import Again, Dead, Done
from taskstream.core.clock import Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.faultpoints import AFTER_HANDOFF, BEFORE_HANDOFF, fault_point
from taskstream.core.states import State
from taskstream.observability import logs, table
from taskstream.observability.metrics import Counter, Metrics
from taskstream.observability.table import Metric

HANDOFF_PAUSE = 1.0
"""Seconds before a hand-off that Kafka did not take is tried again."""

_log = logs.logger(__name__)


class Settling:
    """Carries verdicts out. Not thread-safe: it belongs to the loop.

    Args:
        ownership: whose verdicts count.
        dispatch: where the key of a finished task is freed, and a retry waits that must hold its key.
        handoff: produces what follows.
        journal: tells the events topic, which an offset waits for, too.
        sender: for replies.
        breakers: hear every verdict.
        on_final: is told the record of each run that has its final state stored, and handed off.
        strict: names of tasks whose retries hold their key.
        metrics: where they are counted.
        clock: the time.
    """

    def __init__(
        self,
        ownership: Ownership,
        dispatch: Dispatch,
        handoff: Handoff,
        journal: Journal,
        sender: Sender,
        *,
        breakers: Breakers,
        on_final: Callable[[Record], None],
        strict: Collection[str],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._ownership = ownership
        self._dispatch = dispatch
        self._handoff = handoff
        self._journal = journal
        self._sender = sender
        self._breakers = breakers
        self._on_final = on_final
        self._strict = strict
        self._counted = Counted(metrics)
        self._clock = clock
        self._debugging = _log.debugging
        self._again: list[tuple[float, int, Entry, Judged | Deferred]] = []
        self._under_way: Tally[Place] = Tally()
        self.finished = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to Kafka."""
        return not self._again and not self._under_way and self._journal.idle

    @property
    def places(self) -> set[Place]:
        """The partitions of which something is on its way to Kafka."""
        again = (entry.place for _, _, entry, _ in self._again)
        return {*self._under_way, *again, *self._journal.places}

    @property
    def next_at(self) -> float | None:
        """When something is tried again, in monotonic seconds; None if nothing waits for that."""
        waiting = [self._again[0][0]] if self._again else []
        waiting += [] if self._journal.next_at is None else [self._journal.next_at]
        return min(waiting, default=None)

    def tell(self, numbers: Sequence[int], events: Iterable[bytes]) -> None:
        """Tells the events topic of attempts; before `judged`, for their offsets wait for it."""
        self._journal.write(numbers, events)

    def judged(self, told: Iterable[tuple[Entry, Judged]]) -> int:
        """Does what is left to do for tasks whose rows are stored.

        Returns:
            Of how many it was ours to do. The partitions of the others have other owners by now, who
            find the rows in the store.
        """
        told = list(told)
        self._dispatch.left(entry for entry, _ in told)
        ours = [one for one in told if self._judged(*one)]
        self._counted.judged(ours)
        return len(ours)

    def _judged(self, entry: Entry, judged: Judged) -> bool:
        self._breakers.judged(entry, judged)
        partition = self._ownership.current(entry)
        if partition is None:
            return False
        if isinstance(judged.verdict, Done):
            self._finish(entry, judged, partition)
        elif isinstance(judged.verdict, Again) and entry.task in self._strict:
            # Not handed off: its offset stays open and its key held, and its row tells what is due.
            self._dispatch.retry_here(entry, judged.verdict.due)
        else:
            self._hand_off(entry, judged)
        return True

    def reply(self, replies: Iterable[Reply]) -> None:
        """Tells those who wait; they also read the store, so a reply may be lost."""
        for place, value in replies:
            with contextlib.suppress(BrokerError):
                self._sender.send(
                    place.topic,
                    value,
                    key=None,
                    headers=[],
                    on_done=unheard,
                    partition=place.partition,
                    timeout=0,
                )

    def defer(self, entry: Entry, *, holds_key: bool) -> None:
        """Sends a task through the delay topics that an order holds back.

        Args:
            entry: the task.
            holds_key: whether its key is locked for it, and free once it has gone.
        """
        if self._ownership.startable(entry) is not None:
            self._hand_off(entry, Deferred(holds_key))

    def handed_off(
        self, entry: Entry, judged: Judged | Deferred, error: BrokerError | None
    ) -> None:
        """Hears the outcome of a hand-off: finished, or tried again."""
        self._under_way[entry.place] -= 1
        self._under_way += Tally()  # drops what has come to nothing
        if error is None:
            fault_point(AFTER_HANDOFF)
            if self._debugging:
                _log.debug("a task is handed off", **entry.told, to=_next_of(judged))
            partition = self._ownership.current(entry)
            if partition is not None:
                self._finish(entry, judged, partition)
            return
        _log.warning(
            "Kafka did not take a hand-off; it is tried again, and the offset stays open",
            **entry.told,
            error=str(error),
            advice=logs.LOOK_AT_KAFKA,
        )
        self._put_off(entry, judged)

    def written(self, outcome: Written) -> None:
        """Hears what became of an event; finishes the offsets that waited for nothing else."""
        for entry in self._journal.written(outcome):
            partition = self._ownership.current(entry)
            if partition is not None:
                partition.finish(entry)

    def try_again(self, now: float) -> None:
        """Repeats the hand-offs and events that are due at `now`, in monotonic seconds."""
        self._journal.write_again(now)
        while self._again and self._again[0][0] <= now:
            _, _, entry, judged = heapq.heappop(self._again)
            if self._ownership.current(entry) is not None:
                self._hand_off(entry, judged)

    def _hand_off(self, entry: Entry, judged: Judged | Deferred) -> None:
        partition = self._ownership.current(entry)
        assert partition is not None
        if not self._ownership.is_sure_of(entry):
            self._put_off(entry, judged)
            return
        fault_point(BEFORE_HANDOFF)
        self._under_way[entry.place] += 1
        group, now = partition.intake.group, self._clock.now()
        if isinstance(judged, Deferred):
            self._handoff.defer(entry, judged, group=group, now=now)
        else:
            self._handoff.carry_out(entry, judged, group=group, now=now)

    def _put_off(self, entry: Entry, judged: Judged | Deferred) -> None:
        again_at = self._clock.monotonic() + HANDOFF_PAUSE
        heapq.heappush(self._again, (again_at, entry.number, entry, judged))

    def _finish(self, entry: Entry, judged: Judged | Deferred, partition: Partition) -> None:
        if not self._journal.keeps(entry):
            partition.finish(entry)
        if isinstance(judged, Deferred):
            self._counted.deferred(entry)
            if judged.holds_key:
                self._dispatch.release(entry)
            return
        if judged.verdict.state.final:
            self._on_final(entry.record)
        self._dispatch.release(entry)
        self.finished += 1


def _next_of(judged: Judged | Deferred) -> str:
    """Where a hand-off brings a task, in a word."""
    if isinstance(judged, Deferred):
        return "deferred"
    return str(judged.verdict.state)


class Counted:
    """How many attempts ended how, in the metrics: each series is looked up once.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._attempts: dict[tuple[str, State], Counter] = {}

    def deferred(self, entry: Entry) -> None:
        """Counts a task that has gone through a delay topic because of an order."""
        self._metrics.counter(table.DEFERRED, **table.lane_labels(entry.lane)).inc()

    def judged(self, told: Sequence[tuple[Entry, Judged]]) -> None:
        """Counts attempts."""
        ended = Tally((entry.lane, judged.verdict.state) for entry, judged in told)
        for (lane, state), count in ended.items():
            attempts = self._attempts.get((lane, state))
            if attempts is None:
                labels = table.lane_labels(lane)
                attempts = self._metrics.counter(table.ATTEMPTS, **labels, state=state)
                self._attempts[lane, state] = attempts
            attempts.inc(count)
        for entry, judged in told:
            if isinstance(judged.verdict, Dead):
                self._once(table.DEAD, entry, judged.verdict.reason)
            elif judged.recalled and isinstance(judged.verdict, Done):
                self._once(table.DROPPED, entry, "judged")

    def _once(self, metric: Metric, entry: Entry, reason: str) -> None:
        queue = entry.lane.rpartition(".")[0]
        self._metrics.counter(metric, queue=queue, reason=reason).inc()
