"""Orders as records of the control topic, and the topic as those read it who obey."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from taskstream.broker.follow import Follower
from taskstream.broker.records import Record
from taskstream.core.control import CANCEL, Control, Order, lifetime
from taskstream.core.errors import Undecodable
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.observability import logs
from taskstream.schemas.records import Records

_log = logs.logger(__name__)


def encode_order(records: Records, order: Order) -> bytes:
    """The value of an order's record."""
    fields = {
        "verb": order.verb,
        "target": order.target,
        "number": order.number,
        "at": int(order.at * 1e6),
        "who": order.who,
        "reason": order.reason,
        "since": None if order.since is None else round(order.since * 1e6),
    }
    return records.encode("control", fields)


def decode_order(records: Records, value: bytes) -> Order:
    """The order in a record's value.

    Raises:
        Undecodable: it is none, or one of a version that is not known here.
    """
    name, fields = records.decode(value)
    if name != "control":
        raise Undecodable(f"a {name} record is no order")
    since = fields["since"]
    return Order(**{**fields, "at": fields["at"] / 1e6, "since": since and since / 1e6})


@dataclass(frozen=True, slots=True)
class Heard:
    """Records of the control topic, for `ControlTopic.take`; the reading thread waits until then.

    Args:
        records: in order.
        caught_up: whether that is all which stood in the topic at the start.
        taken: set by `take`.
    """

    records: Sequence[Record]
    caught_up: bool
    taken: threading.Event = field(default_factory=threading.Event)


class ControlTopic:
    """Follows the control topic: one thread reads, and whoever obeys takes what it read when it suits.

    Args:
        settings: where Kafka is.
        names: the app's topics.
        tell: is given what was read, in the reading thread; must not block.
        client_id: how the broker's logs call this client.

    Attributes:
        control: the orders that hold; for the thread that calls `take`.
        caught_up: whether all has been taken that stood in the topic at the start.
    """

    def __init__(
        self,
        settings: Settings,
        names: Names,
        tell: Callable[[Heard], None],
        *,
        client_id: str,
        records: Records,
    ) -> None:
        self.control = Control(lifetime(settings.retention))
        self.caught_up = False
        self._records = records
        self._tell = tell
        self._closing = False
        self._follower = Follower(settings, names.control, self._hear, client_id=client_id)

    def start(self) -> None:
        """Begins to read, from the beginning."""
        self._follower.start()

    def take(self, heard: Heard) -> frozenset[str]:
        """Takes orders in; returns the targets of the cancels among them that hold."""
        cancelled = hear(self.control, self._records, heard.records)
        self.caught_up = heard.caught_up
        heard.taken.set()
        return cancelled

    def close(self, timeout: float) -> None:
        """Ends the reading; safe to call again."""
        self._closing = True
        self._follower.close(timeout)

    def _hear(self, records: Sequence[Record], caught_up: bool) -> None:
        heard = Heard(records, caught_up)
        self._tell(heard)
        # One batch at a time: the topic may hold more than should lie about undecoded.
        while not heard.taken.wait(0.5) and not self._closing:
            pass


def hear(control: Control, records: Records, batch: Sequence[Record]) -> frozenset[str]:
    """Tells `control` what stands in records of the topic; returns the targets of cancels that hold."""
    cancelled: dict[bytes, str] = {}
    for record in batch:
        key = record.key or b""
        if record.value is None:
            control.take_back(key)
            cancelled.pop(key, None)
            continue
        try:
            order = decode_order(records, record.value)
        except Undecodable as error:
            _log.error(
                "the control topic holds what is no order; nobody follows it",
                source=record.source,
                error=str(error),
                advice="see who writes to the control topic: a newer version of taskstream, or "
                "no part of it",
            )
            continue
        _log.debug(
            "an order is received",
            verb=order.verb,
            target=order.target,
            who=order.who,
            why=order.reason,
        )
        control.give(order, record.timestamp)
        if order.verb == CANCEL:
            cancelled[order.key] = order.target
    return frozenset(cancelled.values())
