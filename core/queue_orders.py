"""What people order about queues and kinds of tasks: pause, drain and purge, and what each means: pure.

- **pause**: nothing of the target starts.
- **drain**: what entered after the order waits, what was there before is finished.
- **purge**: what entered up to the order ends as cancelled, and never runs.

A task enters with the first record of its run, and the broker's append time of that record is the moment
that counts; the order's own moment is the append time of its record in the control topic. So the clocks
of publishers, and of people's machines, decide nothing.

A purge comes before the others: what is to end need not wait. What runs already is no matter of these.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

PAUSE = "pause"
DRAIN = "drain"
PURGE = "purge"

PURGED = "Purged"
"""What stands as the type of error in the row of a task that a purge has ended; its text says by whom, and why."""

HOLDING = (PAUSE, DRAIN)
"""The verbs that hold back until they are taken back."""

_QUEUE, _TASK = "queue:", "task:"


def of_queue(queue: str, priority: str | None = None) -> str:
    """The target that is a queue, or one of its priorities."""
    return f"{_QUEUE}{queue}" if priority is None else f"{_QUEUE}{queue}.{priority}"


def of_task(name: str) -> str:
    """The target that is all tasks of one name, as it stands in their records."""
    return f"{_TASK}{name}"


def is_queue_order(verb: str, target: str) -> bool:
    """Whether an order is one of these."""
    return verb in (PAUSE, DRAIN, PURGE) and target.startswith((_QUEUE, _TASK))


@dataclass(frozen=True, slots=True)
class QueueOrder:
    """One order that holds.

    Args:
        verb: pause, drain or purge.
        target: of what; see `of_queue` and `of_task`.
        since: when it was first appended to the control topic, seconds since 1970.
        who: who gave it.
        reason: why; empty where nobody said.
    """

    verb: str
    target: str
    since: float
    who: str = ""
    reason: str = ""

    def __str__(self) -> str:
        who = f" by {self.who}" if self.who else ""
        done = {PAUSE: "paused", DRAIN: "draining", PURGE: "purged"}[self.verb]
        return f"{self.target} is {done}{who}" + (f": {self.reason}" if self.reason else "")


class _Rules(NamedTuple):
    """What holds for one target."""

    paused: bool = False
    drained_at: float = math.inf
    purge: QueueOrder | None = None


_FREE = _Rules()


class QueueOrders:
    """The orders about queues and tasks that hold at one moment; a value.

    Args:
        orders: all of them.

    Attributes:
        any: whether there is any: the look that spares all others, nearly always.
        orders: all of them, in the order they were given.
    """

    __slots__ = ("_queues", "_tasks", "any", "orders")

    def __init__(self, orders: Iterable[QueueOrder] = ()) -> None:
        self.orders = tuple(orders)
        self.any = bool(self.orders)
        self._queues: dict[str, _Rules] = {}
        self._tasks: dict[str, _Rules] = {}
        for order in self.orders:
            rules = self._queues if order.target.startswith(_QUEUE) else self._tasks
            name = order.target.partition(":")[2]
            rules[name] = _ruled(rules.get(name, _FREE), order)

    def holds_back(self, lane: str, task: str, entered: float) -> bool:
        """Whether such a task must not start now.

        Args:
            lane: `queue.priority`.
            task: its name.
            entered: when it entered, seconds since 1970.
        """
        return any(rules.paused or entered > rules.drained_at for rules in self._rules(lane, task))

    def purge_of(self, lane: str, task: str, entered: float) -> QueueOrder | None:
        """The purge by which such a task ends; None where it goes on."""
        for rules in self._rules(lane, task):
            if rules.purge is not None and entered <= rules.purge.since:
                return rules.purge
        return None

    def pauses(self, lane: str) -> bool:
        """Whether the whole lane is paused, by an order to it or to its queue."""
        return self._queue(lane).paused or self._queues.get(lane, _FREE).paused

    def holding(self, targets: Iterable[str]) -> list[QueueOrder]:
        """The pauses and drains of these targets."""
        wanted = set(targets)
        return [one for one in self.orders if one.verb in HOLDING and one.target in wanted]

    def _rules(self, lane: str, task: str) -> tuple[_Rules, _Rules, _Rules]:
        return (
            self._queue(lane),
            self._queues.get(lane, _FREE),
            self._tasks.get(task, _FREE),
        )

    def _queue(self, lane: str) -> _Rules:
        return self._queues.get(lane.rpartition(".")[0], _FREE)


def _ruled(rules: _Rules, order: QueueOrder) -> _Rules:
    if order.verb == PAUSE:
        return rules._replace(paused=True)
    if order.verb == DRAIN:
        return rules._replace(drained_at=order.since)
    return rules._replace(purge=order)


NO_ORDERS = QueueOrders()
"""What holds where nobody has ordered anything."""
