"""The clients of one app in one process: opened when first needed, anew in a forked child.

Invariant: no client crosses a fork. A child would wait for threads that are not there; it drops
what it inherited, unclosed, and opens its own.
"""

import atexit
import os
import sys
import weakref
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from taskstream.core.clock import Clock
from taskstream.core.errors import MissingExtra
from taskstream.core.names import Names
from taskstream.core.settings import Settings

if TYPE_CHECKING:
    from taskstream.app.orders import Orders
    from taskstream.observability.metrics import Metrics
    from taskstream.producer.producer import Publisher
    from taskstream.results.replies import Replies
    from taskstream.results.store import ResultStore
    from taskstream.schemas.records import Records
    from taskstream.schemas.store import SchemaStore

T = TypeVar("T")

EXIT_DEADLINE = 10.0
"""How many seconds the exit of a process waits for what Kafka has not acknowledged."""


class Lazy(Generic[T]):
    """One client, opened by whoever asks first while the others wait."""

    def __init__(self, open_client: Callable[[], T]) -> None:
        self._open = open_client
        self._lock = Lock()
        self._opened: list[T] = []  # one at most, in a list because None may be what was opened

    def get(self) -> T:
        """The client; raises what opening it raises, and tries again at the next call."""
        if not self._opened:
            with self._lock:
                if not self._opened:
                    self._opened.append(self._open())
        return self._opened[0]

    @property
    def opened(self) -> list[T]:
        """The client, if it was opened."""
        return list(self._opened)


class Connections:
    """The clients of one process. Every look at one may block, and raise our errors."""

    def __init__(
        self, names: Names, settings: Settings, metrics: "Callable[[], Metrics]", clock: Clock
    ) -> None:
        self.names = names
        self.settings = settings
        self._metrics = metrics
        self._clock = clock
        self._publisher = Lazy(self._open_publisher)
        self._schemas = Lazy(self._open_schemas)
        self._results = Lazy(self._open_results)
        self._replies = Lazy(self._open_replies)
        self._records = Lazy(self._open_records)
        self._orders = Lazy(self._open_orders)

    @property
    def publisher(self) -> "Publisher":
        """What takes records to Kafka."""
        return self._publisher.get()

    @property
    def schemas(self) -> "SchemaStore":
        """Where the schemas of all writers are."""
        return self._schemas.get()

    @property
    def results(self) -> "ResultStore | None":
        """Where states are read; None where no store is configured."""
        return self._results.get()

    @property
    def replies(self) -> "Replies":
        """What hears the final states that are sent to this process."""
        return self._replies.get()

    @property
    def records(self) -> "Records":
        """How our own records are written and read: orders, replies and heartbeats."""
        return self._records.get()

    @property
    def orders(self) -> "Orders":
        """What takes orders to workers and schedulers."""
        return self._orders.get()

    def flush(self, timeout: float) -> int:
        """Waits for Kafka's answers; gives how many have not come in `timeout` seconds."""
        return sum(publisher.flush(timeout) for publisher in self._publisher.opened)

    def close(self, timeout: float) -> int:
        """Flushes, and closes what was opened; gives how many answers have not come."""
        remaining = sum(publisher.close(timeout) for publisher in self._publisher.opened)
        for replies in self._replies.opened:
            replies.close()
        for orders in self._orders.opened:
            orders.close()
        for store in self._results.opened:
            if store is not None:
                store.close()
        for schemas in self._schemas.opened:
            schemas.close()
        return remaining

    # Imports below stand inside the functions: a driver is loaded by the first call that needs it.

    def _open_publisher(self) -> "Publisher":
        from taskstream.producer.producer import Publisher  # noqa: PLC0415

        self._trace()
        return Publisher(self.settings, self.names, metrics=self._metrics(), clock=self._clock)

    def _trace(self) -> None:
        """Sends this process's spans where the settings say, unless the process does so itself."""
        from taskstream.observability import logs, tracing  # noqa: PLC0415

        try:
            tracing.setup(self.settings.otlp_endpoint, self.names.app)
        except MissingExtra as error:
            # The endpoint may be just that of `taskstream up`: no reason to refuse a publish.
            logs.logger(__name__).info("traces are not sent", reason=str(error))

    def _open_schemas(self) -> "SchemaStore":
        from taskstream.schemas.open import open_schemas  # noqa: PLC0415

        return open_schemas(self.settings, self.names)

    def _open_results(self) -> "ResultStore | None":
        from taskstream.results.open import open_store  # noqa: PLC0415

        return open_store(self.settings)

    def _open_replies(self) -> "Replies":
        from taskstream.results.replies import Replies  # noqa: PLC0415

        return Replies(self.settings, self.names, self.records.replies_in, clock=self._clock)

    def _open_records(self) -> "Records":
        from taskstream.schemas.records import Records  # noqa: PLC0415

        return Records()

    def _open_orders(self) -> "Orders":
        from taskstream.app.orders import Orders  # noqa: PLC0415

        return Orders(self.settings, self.names, self.records, clock=self._clock)


class Lifeline:
    """The way from an app to the clients of the process it is used in.

    Args:
        names: the app's.
        settings: gives its settings, once they are needed.
        clock: the time.
    """

    def __init__(self, names: Names, settings: Callable[[], Settings], clock: Clock) -> None:
        self.names = names
        self._clock = clock
        self._settings = settings
        self._lock = Lock()
        self._connections: Connections | None = None
        self._inherited: list[Connections] = []
        self._metrics: Metrics | None = None
        self._flush_metrics: Callable[[], None] | None = None
        # A hook of this kind stays for ever: a weak reference, so that it doesn't keep the app.
        start_over = weakref.WeakMethod(self._start_over)
        os.register_at_fork(after_in_child=lambda: _call(start_over))

    def connections(self) -> Connections:
        """The clients of this process.

        Raises:
            ConfigError: a setting is wrong, or no Kafka is configured.
        """
        connections = self._connections
        if connections is not None:
            return connections
        with self._lock:
            if self._connections is None:
                settings = self._settings()
                settings.require_broker()
                self._connections = Connections(self.names, settings, self.metrics, self._clock)
                # Holds on to this, so that an app that goes out of sight loses nothing either.
                atexit.register(self._at_exit)
            return self._connections

    def count_in(self, metrics: "Metrics") -> None:
        """Counts there what this process publishes; somebody else tells of it."""
        self._metrics = metrics

    def metrics(self) -> "Metrics":
        """Where this process counts; the first look makes it visible, as the settings say."""
        if self._metrics is None:
            from taskstream.observability import meters  # noqa: PLC0415 - a publish's business
            from taskstream.observability.metrics import Metrics  # noqa: PLC0415

            self._metrics = Metrics()
            self._flush_metrics = meters.show(
                lambda: self._metrics, self._settings().otlp_endpoint, self.names.app
            )
        return self._metrics

    @property
    def opened(self) -> Connections | None:
        """The clients, if this process has asked for any."""
        return self._connections

    def flush(self, timeout: float | None) -> int:
        """Waits for Kafka's answers, by default for `publish_timeout`; gives how many are missing."""
        connections = self._connections
        if connections is None:
            return 0
        return connections.flush(
            connections.settings.publish_timeout if timeout is None else timeout
        )

    def close(self, timeout: float | None) -> int:
        """`flush`, and closes the clients; the next call for one opens it anew."""
        with self._lock:
            connections, self._connections = self._connections, None
        atexit.unregister(self._at_exit)
        remaining = 0
        if connections is not None:
            patience = connections.settings.publish_timeout if timeout is None else timeout
            remaining = connections.close(patience)
        if self._flush_metrics is not None:
            # What is opened anew counts and sends anew.
            flush, self._flush_metrics, self._metrics = self._flush_metrics, None, None
            flush()
        return remaining

    def _start_over(self) -> None:
        """The child of a fork has opened nothing yet."""
        self._lock = Lock()  # at the fork, another thread of the parent may have held the old one
        if self._connections is not None:
            # Kept, not closed and not freed: either would wait for threads that are not here.
            self._inherited.append(self._connections)
            self._connections = None
        self._metrics = self._flush_metrics = None

    def _at_exit(self) -> None:
        remaining = self.close(EXIT_DEADLINE)
        if remaining:
            print(  # noqa: T201 - at exit, logging may be shut down already
                f"taskstream: {remaining} tasks of app {self.names.app} were not acknowledged by Kafka "
                f"within {EXIT_DEADLINE:g} s of the exit, and may be lost: call app.flush() before the end",
                file=sys.stderr,
            )


def _call(method: "weakref.WeakMethod[Callable[[], None]]") -> None:
    alive = method()
    if alive is not None:
        alive()
