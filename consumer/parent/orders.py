"""What people order while the worker runs, and what it says of it: the control topic, obeyed.

A cancel is looked up for each task that is given out, but only while any is outstanding. It is taken
back when the task's final state is stored: by then nothing but that state can come of the task, so a
crash in between only says it again.
"""

from collections.abc import Callable
from contextlib import suppress

from taskstream.broker.records import Record
from taskstream.broker.sender import Sender, unheard
from taskstream.core.clock import Clock
from taskstream.core.control import cancel_key
from taskstream.core.errors import BrokerError
from taskstream.core.names import Names
from taskstream.core.queue_orders import QueueOrders
from taskstream.core.settings import Settings
from taskstream.schemas.control import ControlTopic, Heard, encode_order
from taskstream.schemas.records import Records

LOOK_EVERY = 60.0
"""Seconds between two looks at what has become too old."""


class Orders:
    """The orders to this worker. Not thread-safe: it belongs to the loop.

    Args:
        settings: where Kafka is.
        names: the app's topics.
        sender: the worker's producer.
        tell: is given what was read, from another thread; must not block.
        records: our own schemas.
        worker: the worker's name.
        clock: the time.
    """

    def __init__(
        self,
        settings: Settings,
        names: Names,
        sender: Sender,
        tell: Callable[[Heard], None],
        *,
        records: Records,
        worker: str,
        clock: Clock,
    ) -> None:
        self._names = names
        self._sender = sender
        self._records = records
        self._worker = worker
        self._clock = clock
        self._look_at = 0.0
        self._topic = ControlTopic(
            settings, names, tell, client_id=f"{worker}-control", records=records
        )
        self._control = self._topic.control

    def start(self) -> None:
        """Begins to read; nothing may be given out before `caught_up`."""
        self._topic.start()

    def close(self, timeout: float) -> None:
        """Ends the reading, and takes back what was for this worker alone."""
        self._topic.close(timeout)
        for order in self._control.orders_to(self._worker):
            if order.target == self._worker:
                self._write(order.key, None)

    @property
    def caught_up(self) -> bool:
        """Whether all orders are known that were given before the worker started."""
        return self._topic.caught_up

    @property
    def children(self) -> int | None:
        """How many children the worker was ordered to have; None where nobody said."""
        return self._control.scale_of(self._worker)

    @property
    def queues(self) -> QueueOrders:
        """What holds about queues and tasks; another value after each change."""
        return self._control.queues

    @property
    def in_force(self) -> dict[str, int]:
        """How many orders hold, by verb; from any thread."""
        return self._control.in_force

    def take(self, heard: Heard) -> frozenset[str]:
        """Takes in what was read; returns the targets of new cancels (see `core.control.run_of`)."""
        return self._topic.take(heard)

    def is_cancelled(self, record: Record) -> bool:
        """Whether that run of its task must not go on."""
        return self._control.cancels_any and self._control.is_cancelled(*record.identity)

    def settle(self, record: Record) -> None:
        """The run's final state is stored: a cancel of it has nothing left to end."""
        if self.is_cancelled(record):
            self._write(cancel_key(*record.identity), None)

    def keep(self, now: float) -> None:
        """Says again what must not fall out of the topic, and forgets what has.

        Args:
            now: monotonic seconds.
        """
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        self._control.expire(self._clock.now())
        for order in self._control.fading(self._worker, self._clock.now()):
            self._write(order.key, encode_order(self._records, order))

    def _write(self, key: bytes, value: bytes | None) -> None:
        """Writes to the topic; a lost tombstone leaves an order that falls out by age."""
        with suppress(BrokerError):
            self._sender.send(
                self._names.control, value, key=key, headers=[], on_done=unheard, timeout=0
            )
