"""Who waits for which task's final state: one background reader per process.

A process picks one partition of `{app}.replies` and stamps it on what it publishes; workers write
final states there, those of many tasks in one record. What a reply says is not this package's affair.

Invariant: once `Waiting.listening` is done, the reply reaches `Waiting.reply` if it was written
after that moment, or after the `since` that was asked for. So who listens, reads the store and then
waits misses nothing, and who has no store asks since the time of the publish.
"""

import os
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import TaskstreamError, Undecodable
from taskstream.core.names import Names
from taskstream.core.settings import Settings

CLOCK_MARGIN = 60.0
"""Seconds by which a publisher's clock may be ahead of the broker's."""

RECENT_REPLIES = 10_000
"""How many replies that nobody has asked for yet are kept."""

RECENT_BYTES = 16 * 1024 * 1024
"""What those weigh at most."""

TAKE_TIMEOUT = 0.2
"""Seconds until the reader looks up from an empty topic, to stop or to start over from earlier."""

Read = Callable[[bytes], Mapping[str, Any]]
"""The replies in a record's value, by task id. Raises Undecodable."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What someone who waits for a reply holds on to.

    Args:
        listening: done once the reader is there; fails with a `TaskstreamError` where it can't be.
        reply: the reply, some time. Cancel it when it isn't wanted any more.
    """

    listening: "Future[None]"
    reply: "Future[Any]"


class Replies:
    """The replies to this process; safe to use from any thread, and after a fork.

    The reader starts with the first `expect`, and again with the next one if Kafka failed it. So who
    waits for long asks again every few seconds.

    Args:
        settings: where Kafka is.
        names: the app's topics.
        read: finds the replies in a record.
        clock: tells from when on replies are seen.
        choose: picks one of so many partitions.
    """

    _place: Place | None
    _seen_from: float | None
    _reader: threading.Thread | None
    _listeners: list[tuple[float | None, "Future[None]"]]

    def __init__(
        self,
        settings: Settings,
        names: Names,
        read: Read,
        *,
        clock: Clock = SYSTEM_CLOCK,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        self._settings = settings
        self._topic = names.replies
        self._read_replies = read
        self._clock = clock
        self._choose = choose
        self._start_afresh()

    @property
    def place(self) -> Place:
        """The partition this process reads. The first use asks Kafka how many there are.

        Raises:
            BrokerError: the topic does not exist, or Kafka can't be reached.
        """
        self._notice_fork()
        with self._choosing:
            if self._place is None:
                from taskstream.broker.topics import Topics  # noqa: PLC0415 - loads the Kafka client

                with Topics(self._settings, client_id="taskstream-replies") as topics:
                    count = topics.partitions(self._topic)
                self._place = Place(self._topic, self._choose(count))
            return self._place

    def expect(self, task_id: str, since: float | None = None) -> Waiting:
        """Waits for a task's reply; never blocks.

        Args:
            task_id: the task.
            since: from when on the reply may have been written, seconds since 1970; None where only
                what comes from now on matters, because the store tells the rest.
        """
        self._notice_fork()
        listening: Future[None] = Future()
        reply: Future[Any] = Future()
        reply.add_done_callback(lambda done: self._forget(task_id, done))
        with self._lock:
            known = self._mailbox.expect(task_id, reply)
            covered, closed = self._covers(since), self._stopping.is_set()
            if not covered and not closed:
                self._listeners.append((since, listening))
                self._wake()
        # Outside of the lock, because futures call back.
        if known is not None:
            reply.set_result(known)
        if covered:
            listening.set_result(None)
        elif closed:
            listening.set_exception(_closed())
        return Waiting(listening, reply)

    def wait(self, task_id: str, timeout: float, since: float | None = None) -> Any:
        """The reply to a task, or None if none came within `timeout` seconds.

        Raises:
            BrokerError: replies can't be read now.
        """
        waiting = self.expect(task_id, since)
        give_up_at = self._clock.monotonic() + timeout
        try:
            waiting.listening.result(timeout)
            return waiting.reply.result(max(0.0, give_up_at - self._clock.monotonic()))
        except FutureTimeout:
            return None
        finally:
            waiting.reply.cancel()

    def close(self, timeout: float = 5.0) -> None:
        """Ends the reader and cancels what still waits; safe to call again."""
        self._notice_fork()
        self._stopping.set()
        with self._lock:
            reader, left = self._reader, self._mailbox.waiting()
        if reader is not None:
            reader.join(timeout)
        for reply in left:
            reply.cancel()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._choosing = threading.Lock()
        self._place = None
        self._stopping = threading.Event()
        # Guards all below, which the reader shares with those who ask.
        self._lock = threading.Lock()
        self._mailbox = Mailbox()
        self._seen_from = None
        self._listeners = []
        self._reader = None

    def _notice_fork(self) -> None:
        # The reader stays in the parent; the child picks a partition of its own.
        if self._pid != os.getpid():
            self._start_afresh()

    def _covers(self, since: float | None) -> bool:
        """Whether all replies since then have been or will be seen, and are kept."""
        if self._seen_from is None:
            return False
        return since is None or since - CLOCK_MARGIN >= max(
            self._seen_from, self._mailbox.forgotten
        )

    def _wake(self) -> None:
        if self._reader is None:
            self._reader = threading.Thread(
                target=self._read, name="taskstream-replies", daemon=True
            )
            self._reader.start()

    def _forget(self, task_id: str, reply: "Future[Any]") -> None:
        with self._lock:
            self._mailbox.forget(task_id, reply)

    # The reader

    def _read(self) -> None:
        error = _closed()
        try:
            while not self._stopping.is_set():
                self._follow()
        except TaskstreamError as failure:
            error = failure
        with self._lock:
            self._reader = self._seen_from = None
            listeners, self._listeners = self._listeners, []
        for _, listening in listeners:
            if listening.set_running_or_notify_cancel():
                listening.set_exception(error)

    def _follow(self) -> None:
        """Reads on and on, until someone wants replies from before the start, or the end is near."""
        from taskstream.broker.tail import Tail  # noqa: PLC0415 - loads the Kafka client

        place = self.place
        now = self._clock.now()
        with self._lock:
            times = [since - CLOCK_MARGIN for since, _ in self._listeners if since is not None]
        start = min(times, default=None)
        with Tail(
            self._settings,
            place.topic,
            "end" if start is None else start,
            partitions=[place.partition],
            client_id="taskstream-replies",
        ) as tail:
            self._settle(now if start is None else start)
            while not self._stopping.is_set() and not self._listeners:
                for record in tail.take(1000, TAKE_TIMEOUT):
                    self._deliver(record.value or b"", record.timestamp)

    def _settle(self, seen_from: float) -> None:
        """The reader has its position: tells those who wait for just that."""
        with self._lock:
            self._seen_from = seen_from
            self._mailbox.forgotten = 0.0
            served = [listener for listener in self._listeners if self._covers(listener[0])]
            # Who came while the reader was taking its position may want an earlier one still.
            self._listeners = [listener for listener in self._listeners if listener not in served]
        for _, listening in served:
            if listening.set_running_or_notify_cancel():
                listening.set_result(None)

    def _deliver(self, value: bytes, timestamp: float) -> None:
        try:
            replies = self._read_replies(value)
        except Undecodable:
            return  # of a worker of another version: who waits reads the store as well
        size_bytes = len(value) // max(1, len(replies))
        for task_id, reply in replies.items():
            with self._lock:
                waiting = self._mailbox.deliver(task_id, reply, size_bytes, timestamp)
            for future in waiting:
                # Whoever waited may have given up at this very moment.
                if future.set_running_or_notify_cancel():
                    future.set_result(reply)


def _closed() -> TaskstreamError:
    return TaskstreamError("no replies are read any more: this app was closed")


class Mailbox:
    """Replies that nobody asked for yet, and those who asked for what didn't come yet. Pure.

    Attributes:
        forgotten: the latest timestamp of a reply that had to make room, seconds since 1970.
    """

    def __init__(self, most: int = RECENT_REPLIES, most_bytes: int = RECENT_BYTES) -> None:
        self.forgotten = 0.0
        self._most = most
        self._most_bytes = most_bytes
        self._recent: OrderedDict[str, tuple[Any, int, float]] = OrderedDict()
        self._recent_bytes = 0
        self._waiting: dict[str, list[Future[Any]]] = {}

    def expect(self, task_id: str, reply: "Future[Any]") -> Any:
        """The reply if it came already; else None, and `reply` waits for it."""
        known = self._recent.get(task_id)
        if known is not None:
            return known[0]
        self._waiting.setdefault(task_id, []).append(reply)
        return None

    def deliver(
        self, task_id: str, reply: Any, size_bytes: int, timestamp: float
    ) -> "list[Future[Any]]":
        """Takes a reply in; returns those who waited for it."""
        before = self._recent.pop(task_id, None)
        if before is not None:
            self._recent_bytes -= before[1]
        self._recent[task_id] = (reply, size_bytes, timestamp)
        self._recent_bytes += size_bytes
        while len(self._recent) > self._most or self._recent_bytes > self._most_bytes:
            _, (_, size, written) = self._recent.popitem(last=False)
            self._recent_bytes -= size
            self.forgotten = max(self.forgotten, written)
        return self._waiting.pop(task_id, [])

    def forget(self, task_id: str, reply: "Future[Any]") -> None:
        """`reply` doesn't wait any more."""
        left = [other for other in self._waiting.get(task_id, ()) if other is not reply]
        if left:
            self._waiting[task_id] = left
        else:
            self._waiting.pop(task_id, None)

    def waiting(self) -> "list[Future[Any]]":
        """All who wait."""
        return [reply for replies in self._waiting.values() for reply in replies]
