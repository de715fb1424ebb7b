"""What people order and do, written to Kafka: in force, or on record, once Kafka has it.

Orders to workers and schedulers go to the control topic, schedules to their own, actions to the events topic.
"""

import getpass
import os
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from taskstream.core.audit import Action
from taskstream.core.clock import Clock
from taskstream.core.control import Order
from taskstream.core.errors import BrokerError
from taskstream.core.names import Names
from taskstream.core.settings import Settings

if TYPE_CHECKING:
    from taskstream.broker.sender import Ack
    from taskstream.schemas.records import Records


class Orders:
    """Writes orders and actions. Any thread may call any method.

    Args:
        settings: where Kafka is.
        names: the app's topics.
        records: our own schemas.
        clock: the time.
    """

    def __init__(
        self, settings: Settings, names: Names, records: "Records", *, clock: Clock
    ) -> None:
        # Here, because it loads the Kafka client.
        from taskstream.broker.sender import Sender  # noqa: PLC0415

        self._names = names
        self._records = records
        self._clock = clock
        self._sender: Sender = Sender(settings, client_id="taskstream-orders", clock=clock)

    def order(
        self,
        verb: str,
        target: str,
        *,
        number: float | None = None,
        reason: str = "",
        who: str = "",
    ) -> Order:
        """An order given now by `who`; by whoever runs this process, unless told."""
        return Order(
            verb=verb,
            target=target,
            number=number,
            at=self._clock.now(),
            who=who or _who(),
            reason=reason,
        )

    def action(
        self,
        verb: str,
        target: str,
        *,
        reason: str = "",
        count: int | None = None,
        details: Mapping[str, str] | None = None,
        who: str = "",
    ) -> Action:
        """What `who` does now, for the audit log; whoever runs this process, unless told."""
        return Action(
            verb=verb,
            target=target,
            at=self._clock.now(),
            who=who or _who(),
            reason=reason,
            count=count,
            details=details or {},
        )

    def record(self, action: Action) -> None:
        """Writes an action to the events topic; back when Kafka has acknowledged it.

        Raises:
            BrokerError: Kafka refused, or did not acknowledge in `publish_timeout`.
        """
        from taskstream.schemas.audit import encode_action  # noqa: PLC0415 - loads the Avro library

        value = encode_action(self._records, action)
        self._write(self._names.events, [(action.target.encode(), value)])

    def give(self, orders: Iterable[Order]) -> None:
        """Writes orders; back when Kafka has acknowledged them all.

        Raises:
            BrokerError: Kafka refused, or did not acknowledge in `publish_timeout`.
        """
        from taskstream.schemas.control import encode_order  # noqa: PLC0415 - loads the Avro library

        self._write(
            self._names.control,
            ((order.key, encode_order(self._records, order)) for order in orders),
        )

    def take_back(self, keys: Iterable[bytes]) -> None:
        """Writes tombstones for orders of these keys; otherwise as `give`."""
        self._write(self._names.control, ((key, None) for key in keys))

    def schedule(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Writes keys and values of the schedules topic, None to end what a key tells of; otherwise as `give`."""
        self._write(self._names.schedules, records)

    @property
    def who(self) -> str:
        """Whoever runs this process, `user@host`."""
        return _who()

    def close(self) -> None:
        """Lets the connection go; safe to call again."""
        self._sender.close(0.0)

    def _write(self, topic: str, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        outcomes: list[Future[None]] = []
        for key, value in records:
            outcome: Future[None] = Future()
            outcomes.append(outcome)
            self._sender.send(topic, value, key=key, headers=[], on_done=partial(_settle, outcome))
        for outcome in outcomes:
            outcome.result()  # the sender reports on each, in `publish_timeout` at most


def _settle(outcome: "Future[None]", _ack: "Ack | None", error: BrokerError | None) -> None:
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
