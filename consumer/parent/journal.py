"""What the events topic must have before an offset counts as finished.

A child tells of attempts whose rows are stored. Their offsets are finished once Kafka has acknowledged
that, too: so whoever rebuilds the result store from the topic misses nothing that a commit has passed.
A crash before tells of an attempt twice, for the next owner finds its row. Nothing else waits: keys are
freed, replies sent, and hand-offs carried out meanwhile.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from taskstream.broker.failures import RecordTooLarge
from taskstream.broker.sender import Ack, Sender
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.faultpoints import BEFORE_EVENTS, fault_point
from taskstream.observability import logs

WRITE_AGAIN = 1.0
"""Seconds before what Kafka did not take is written again."""

HEARD_WITHIN = 0.02
"""Seconds within which an outcome is heard: it wakes nobody, for offsets are committed much more rarely."""

_log = logs.logger(__name__)


@dataclass(slots=True, eq=False)
class Page:
    """What a child told at once.

    Args:
        number: unique while the parent lives.
        numbers: the tasks that it tells of.
        left: how many of its records Kafka has not acknowledged, and how many pages come before it.
        waiting: tasks that need nothing but this to be finished.
        followed_by: later pages that tell of one of its tasks.
    """

    number: int
    numbers: Sequence[int]
    left: int
    waiting: list[Entry] = field(default_factory=list)
    followed_by: list["Page"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of one record of a page: `error` is None once Kafka has acknowledged it."""

    page: Page
    event: bytes
    error: BrokerError | None


class Journal:
    """Writes events, and knows which tasks wait for theirs. Not thread-safe: it belongs to the loop.

    Args:
        sender: to Kafka.
        topic: the events topic.
        tell: takes the outcome of each record, from any thread, without blocking; it is asked for by `next_at`.
        monotonic: the time.
    """

    def __init__(
        self,
        sender: Sender,
        topic: str,
        tell: Callable[[Written], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._topic = topic
        self._tell = tell
        self._monotonic = monotonic
        self._pages: dict[int, Page] = {}
        self._again: list[tuple[float, int, Page, bytes]] = []
        self._count = itertools.count()
        self._unheard = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to Kafka."""
        return not self._pages

    @property
    def places(self) -> Iterator[Place]:
        """The partitions with tasks that wait for nothing else."""
        return (entry.place for page in set(self._pages.values()) for entry in page.waiting)

    @property
    def next_at(self) -> float | None:
        """When to look for outcomes, or to write again, in monotonic seconds; None if nothing is under way."""
        due = [self._again[0][0]] if self._again else []
        due += [self._monotonic() + HEARD_WITHIN] if self._unheard else []
        return min(due, default=None)

    def write(self, numbers: Sequence[int], events: Iterable[bytes]) -> None:
        """Tells of attempts.

        Args:
            numbers: of the tasks that the records tell of; their offsets wait.
            events: values of records; none where nobody wants to be told.
        """
        told = list(events)
        if not told:
            return
        page = Page(next(self._count), numbers, len(told))
        for before in {self._pages[number] for number in numbers if number in self._pages}:
            before.followed_by.append(page)  # a retry that kept its key was faster than Kafka
            page.left += 1
        self._pages.update(dict.fromkeys(numbers, page))
        fault_point(BEFORE_EVENTS)
        for event in told:
            self._send(page, event)

    def keeps(self, entry: Entry) -> bool:
        """Whether the offset of a task must wait for its page; it is among the returned of `written` then."""
        page = self._pages.get(entry.number)
        if page is None:
            return False
        page.waiting.append(entry)
        return True

    def written(self, outcome: Written) -> list[Entry]:
        """Hears the outcome of a record; returns the tasks whose offsets need wait no more."""
        page, error = outcome.page, outcome.error
        self._unheard -= 1
        if isinstance(error, RecordTooLarge):
            # It will never be taken; the rows stand in the store.
            _log.error(
                "an event is too large for its topic, and left out",
                error=str(error),
                advice="nothing: the result store has the row; smaller results fit in the "
                "events topic",
            )
        elif error is not None:
            _log.warning(
                "Kafka did not take an event; it is written again",
                error=str(error),
                advice=logs.LOOK_AT_KAFKA,
            )
            again_at = self._monotonic() + WRITE_AGAIN
            heapq.heappush(self._again, (again_at, next(self._count), page, outcome.event))
            return []
        return self._close(page)

    def _close(self, page: Page) -> list[Entry]:
        page.left -= 1
        if page.left:
            return []
        for number in page.numbers:
            if self._pages.get(number) is page:
                del self._pages[number]
        return [
            *page.waiting,
            *(entry for after in page.followed_by for entry in self._close(after)),
        ]

    def write_again(self, now: float) -> None:
        """Repeats what is due at `now`, in monotonic seconds."""
        while self._again and self._again[0][0] <= now:
            _, _, page, event = heapq.heappop(self._again)
            self._send(page, event)

    def _send(self, page: Page, event: bytes) -> None:
        self._unheard += 1

        def done(_ack: Ack | None, error: BrokerError | None) -> None:
            self._tell(Written(page, event, error))

        try:
            self._sender.send(self._topic, event, key=None, headers=[], on_done=done, timeout=0)
        except BrokerError as error:
            done(None, error)
