"""What the events topic tells: attempts as workers stored them, and what people did."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from taskstream.admin.stores import store_of
from taskstream.broker.tail import Start, read
from taskstream.core.audit import Action
from taskstream.core.errors import StoreError, Undecodable
from taskstream.results.batching import Batcher
from taskstream.results.history import rows_in
from taskstream.results.row import Row
from taskstream.schemas.audit import decode_action
from taskstream.schemas.records import Records

if TYPE_CHECKING:
    from taskstream.app.app import App

SORTED = 100_000
"""Among how many events the one that happened first is looked for: see `by_time`."""

ROWS_AT_ONCE = 10_000
"""How many rows of a rebuild may wait for the store."""

TOLD_BY_HAND = frozenset({"value", "traceback"})
"""Fields of a row that a line or a JSON document of an event leaves out: `taskstream result` shows them."""


def events(
    app: "App",
    *,
    start: Start = "begin",
    follow: bool = False,
    over: Callable[[], bool] = lambda: False,
    reached_end: Callable[[], None] = lambda: None,
) -> Generator[Row | Action, None, None]:
    """Events in the order of each partition; an attempt may come twice (see `results.history.newest`).

    Args:
        app: the app.
        start: where to begin: an end of the topic, a time (seconds since 1970), or offsets by partition.
        follow: goes on behind the topic's end, until `over` says so.
        over: asked some times a second.
        reached_end: told, again and again, once all is read that stood in the topic at the call.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    ours = Records()
    for record in read(
        app.settings,
        app.names.events,
        start,
        follow=follow,
        over=over,
        reached_end=reached_end,
        client_id="taskstream-events",
    ):
        yield from _told(ours, record.value)


def rows(app: "App") -> Iterator[Row]:
    """The attempts alone, up to the end of the topic as it stood at the call. Raises as `events`."""
    return (event for event in events(app) if isinstance(event, Row))


def happened(event: Row | Action) -> float:
    """When it happened, in seconds since 1970."""
    if isinstance(event, Action):
        return event.at
    return event.finished or event.written_us / 1e6


def by_time(events: Iterable[Row | Action], within: int = SORTED) -> Iterator[Row | Action]:
    """Events as they happened, whatever their partitions: for people, who read them from the top.

    Of up to `within` events the order is exact; of more, only where it takes no look beyond so many.
    """
    waiting: list[tuple[float, int, Row | Action]] = []
    for number, event in enumerate(events):
        heappush(waiting, (happened(event), number, event))
        if len(waiting) > within:
            yield heappop(waiting)[2]
    while waiting:
        yield heappop(waiting)[2]


def shown(event: Row | Action) -> dict[str, Any]:
    """An event as `taskstream events --json` shows it; `kind` tells which of the two it is."""
    if isinstance(event, Action):
        return {"kind": "action", **event.as_json()}
    fields = {name: value for name, value in event._asdict().items() if name not in TOLD_BY_HAND}
    return {"kind": "attempt", "at": happened(event), **fields}


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of storing rows anew.

    Args:
        attempts: rows that the store has.
        refused: rows that it did not take.
    """

    attempts: int
    refused: int

    def as_json(self) -> dict[str, Any]:
        """It as `taskstream rebuild --json` shows it."""
        return asdict(self)


def rebuild(app: "App", *, progress: Callable[[int], None] = lambda _count: None) -> Rebuilt:
    """Stores every attempt that the events topic tells of once more, each under its own timestamp.

    Safe at any time and to repeat: what is in the store already stays as it is. A rebuilt row lives for
    `result_ttl` from now on.

    Args:
        app: the app; `init` has created its tables.
        progress: told now and then how many rows were read.

    Raises:
        ConfigError: no result store is configured.
        BrokerError: Kafka refused or can't be reached.
        StoreError: the store can't be reached, or did not take all in a minute after the last.
    """
    store = store_of(app, "there is nothing to rebuild")
    stored, refused = [0], [0]

    def count_stored(tickets: list[None]) -> None:
        stored[0] += len(tickets)

    def count_refused(_ticket: None, _error: StoreError) -> None:
        refused[0] += 1

    store.connect()
    batcher: Batcher[None] = Batcher(store, stored=count_stored, refused=count_refused)
    for number, row in enumerate(rows(app), start=1):
        batcher.add([(row, None)])
        if number % ROWS_AT_ONCE == 0:
            progress(number)
            batcher.await_pending(ROWS_AT_ONCE)
    left = batcher.close(60.0)
    if left:
        raise StoreError(
            f"{left} rows are not stored after a minute: run it again once the store answers"
        )
    return Rebuilt(stored[0], refused[0])


def _told(ours: Records, value: bytes | None) -> Iterator[Row | Action]:
    with suppress(Undecodable):  # of another version, or none of ours
        name, fields = ours.decode(value)
        if name == "attempts":
            yield from rows_in(fields)
        elif name == "action":
            yield decode_action(ours, value)
