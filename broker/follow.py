"""Following a topic from its beginning, in a thread of its own, for as long as the process lives.

What can't be read for now is tried again from where it stopped, so trouble delays and loses nothing.
Where retention has passed that place, all is read again: a compacted topic says the same twice.
"""

import threading
from collections.abc import Callable, Sequence

from taskstream.broker.failures import OffsetLost, UnknownTopic
from taskstream.broker.records import Record
from taskstream.broker.tail import Start, Tail
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.observability import logs

TAKE_RECORDS = 1000
"""How many records are told at once, at most."""

TAKE_TIMEOUT = 0.5
"""Seconds until the reader looks up from an empty topic, to end."""

AGAIN_AFTER = 1.0
"""Seconds before a topic that can't be read is tried again."""

MISSING = "run `taskstream init APP`, which creates the topics that are missing; this goes on by itself then"
"""What to do where a topic is not there."""

_log = logs.logger(__name__)

Hear = Callable[[Sequence[Record], bool], None]
"""Takes records in order, and whether all is told that stood in the topic at the start."""


class Follower:
    """Reads a topic without a group: every process that follows it sees all of it.

    Args:
        settings: where Kafka is.
        topic: what to follow.
        hear: called in the reading thread; must not block for long.
        client_id: how the broker's logs call this client.
    """

    def __init__(self, settings: Settings, topic: str, hear: Hear, *, client_id: str) -> None:
        self._settings = settings
        self._topic = topic
        self._hear = hear
        self._client_id = client_id
        self._position: dict[int, int] | None = None
        self._caught_up = False
        self._told = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{topic}", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Ends the reading; safe to call again, and where it was never begun."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow()
            except BrokerError as error:
                if str(error) != self._told:  # once a second would bury everything else
                    self._told = str(error)
                    _log.warning(
                        "a topic can't be followed; it is tried again until it can",
                        topic=self._topic,
                        error=self._told,
                        advice=MISSING if isinstance(error, UnknownTopic) else logs.LOOK_AT_KAFKA,
                    )
                if isinstance(error, OffsetLost):
                    self._position = None
                self._closing.wait(AGAIN_AFTER)

    def _follow(self) -> None:
        start: Start = "begin" if self._position is None else self._position
        with Tail(self._settings, self._topic, start, client_id=self._client_id) as tail:
            # An empty topic is at its end before the first look at it.
            records: Sequence[Record] = ()
            while not self._closing.is_set():
                caught_up = self._caught_up or tail.reached_end
                if records or caught_up is not self._caught_up:
                    self._hear(records, caught_up)
                self._position, self._caught_up = tail.position, caught_up
                records = tail.take(TAKE_RECORDS, TAKE_TIMEOUT)
                self._told = ""
