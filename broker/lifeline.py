"""Whether a client has lost its brokers for good, so that only a new one helps.

librdkafka forgets all brokers when an answer to it names none, as one does that comes from a broker
which has just been fenced: after a freeze, or a failover of the controllers. From then on it asks
nobody, reports nothing and receives nothing, though the brokers are back a moment later (open as
confluentinc/librdkafka#5301; seen here with 2.16, in one of ten freezes of a single broker). A new
client that gets an answer tells that from an outage, in which nothing would be gained.
"""

from collections.abc import Callable

from confluent_kafka import KafkaException

from taskstream.broker.cluster import reach as reach_anew
from taskstream.core.clock import Clock
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings

SILENCE = 10.0
"""Seconds without a word from the brokers after which a client is looked at."""

ASK_AGAIN = 2.0
"""Seconds between two looks at a client that did not answer while the brokers did."""

MISSES = 2
"""So many of those in a row, and it has lost them."""

_TIMEOUT = 1.0


class Lifeline:
    """What one client's owner knows of its way to the brokers. Not thread-safe.

    Args:
        settings: where Kafka is.
        ask: asks the brokers through the client, in so many seconds at most; raises KafkaException.
        clock: measures silence.
        reach: asks them through a new client, in the same way; raises BrokerError.
    """

    def __init__(
        self,
        settings: Settings,
        ask: Callable[[float], object],
        *,
        clock: Clock,
        reach: Callable[[Settings, float], object] = reach_anew,
    ) -> None:
        self._settings = settings
        self._ask = ask
        self._clock = clock
        self._reach = reach
        self._misses = 0
        self._ask_at = 0.0
        self.heard()

    def heard(self) -> None:
        """There was a word from the brokers through this client, or the client is a new one."""
        self._misses = 0
        self._ask_at = self._clock.monotonic() + SILENCE

    def lost(self) -> bool:
        """Whether a new client is needed; after a silence it asks, for two seconds or so at most."""
        if self._clock.monotonic() < self._ask_at:
            return False
        if self._answered() or not self._reachable():
            self.heard()
            return False
        self._misses += 1
        self._ask_at = self._clock.monotonic() + ASK_AGAIN
        return self._misses >= MISSES

    def _answered(self) -> bool:
        try:
            self._ask(_TIMEOUT)
        except KafkaException:
            return False
        return True

    def _reachable(self) -> bool:
        try:
            self._reach(self._settings, _TIMEOUT)
        except BrokerError:
            return False
        return True
