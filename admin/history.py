"""What the events topic tells of attempts: every row that workers have stored, in the order of its writing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from taskstream.broker.tail import Tail
from taskstream.core.errors import Undecodable
from taskstream.results.history import rows_in
from taskstream.results.row import Row
from taskstream.schemas.records import Records

if TYPE_CHECKING:
    from taskstream.app.app import App


def rows(app: "App") -> Iterator[Row]:
    """Rows as they were told, up to the end of the topic as it stood at the call; some may come twice.

    `results.history.newest` tells which of them count.

    Args:
        app: the app.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    ours = Records()
    with Tail(app.settings, app.names.events, "begin", client_id="taskstream-history") as tail:
        while not tail.reached_end:
            for record in tail.take(1000, 0.5):
                try:
                    name, fields = ours.decode(record.value)
                except Undecodable:
                    continue  # of another version, or no record of ours
                if name == "attempts":
                    yield from rows_in(fields)
