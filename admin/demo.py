"""The demo: the shop's orders from publish to trace, with real tasks, a real worker and real failures.

It runs on the embedded broker, in a directory that goes away with it, or on the servers of
`taskstream up`. There the shop's topics may hold what an earlier run left, so a run counts only
the tasks that it has published itself.
"""

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from taskstream.admin import provision
from taskstream.broker.sender import Ack, Sender
from taskstream.broker.tail import read_to_end
from taskstream.consumer.process import WorkerProcess
from taskstream.core import envelope
from taskstream.core.envelope import Envelope, death_of
from taskstream.core.errors import BrokerError, ServerError
from taskstream.core.ids import new_id
from taskstream.core.settings import EMBEDDED
from taskstream.core.states import State
from taskstream.infra import state as servers
from taskstream.observability import tracing
from taskstream.observability.collector import Collector, SeenSpan, from_jaeger
from taskstream.results.row import Row, current

if TYPE_CHECKING:
    from taskstream.app.app import App
    from taskstream.app.handle import Handle

APP = "taskstream.demo.tasks:app"
ORDERS = 100
NOT_AVRO = b"\xff\xfe these bytes are no task"

Fetch = Callable[[str], list[SeenSpan]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that were published together, and must end alike.

    Args:
        title: what they are, for people.
        priority: the priority they were published with.
        expected: how each of them must end.
        attempts: after how many attempts.
        ids: the tasks.
    """

    title: str
    priority: str
    expected: State
    attempts: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a batch stands.

    Args:
        batch: the batch.
        states: by task id, the current row; tasks without one are still waiting.
    """

    batch: Batch
    rows: Mapping[str, Row]

    @property
    def finished(self) -> int:
        """How many have reached a final state."""
        return sum(row.state.final for row in self.rows.values())

    def count(self, state: State) -> int:
        """How many are in that state."""
        return sum(row.state is state for row in self.rows.values())

    @property
    def as_expected(self) -> bool:
        """Whether all have ended as they must."""
        return len(self.rows) == len(self.batch.ids) and all(
            (row.state, row.attempt) == (self.batch.expected, self.batch.attempts)
            for row in self.rows.values()
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter of this run.

    Args:
        task: the task's name.
        reason: one word.
        message: the error's text.
        attempts: how many attempts were made.
        origin: where its record came from.
        value: its bytes, as they were published.
    """

    task: str
    reason: str
    message: str
    attempts: int
    origin: str
    value: bytes


class Demo:
    """One run. Use it as a context manager; the worker lives as long as the block.

    Args:
        real: on the servers of `taskstream up`, not embedded.

    Attributes:
        jaeger_url: Jaeger's pages; empty without them.

    Raises:
        ServerError: `real`, and the servers are not up.
    """

    def __init__(self, *, real: bool) -> None:
        self._stack = ExitStack()
        self._directory = Path(
            self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="taskstream-demo-", ignore_cleanup_errors=True)
            )
        )
        self.jaeger_url = ""
        self._flags, self._fetch = self._real() if real else self._embedded()
        self._app: App = _load(self._flags)
        self._stack.callback(self._app.close)
        self._flush_spans = tracing.setup(self._app.settings.otlp_endpoint, self._app.name)
        self._worker = WorkerProcess(
            APP,
            log=self._directory / "worker.log",
            environment=_variables(self._flags),
            arguments=("--log-level", "warning"),
            directory=self._directory,
        )
        self._batches: list[Batch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Creates what is missing on the servers, and starts a worker."""
        provision.init(self._app)
        self._stack.enter_context(self._worker)

    def publish(self) -> int:
        """Publishes the orders; gives how many tasks that makes."""
        from taskstream.demo import tasks as shop  # noqa: PLC0415 - defines tasks

        orders = [f"o-{number}" for number in range(1, ORDERS + 1)]
        charges = shop.charge.publish_many(
            {"order_id": order, "cents": random.randint(500, 20_000)}  # noqa: S311 - prices
            for order in orders
        )
        packs = shop.pack.publish_many(
            {"order_id": order, "items": ["book"] * (1 + number % 3)}
            for number, order in enumerate(orders)
        )
        hints = shop.recommend.publish_many({"customer": f"c-{order}"} for order in orders)
        flaky = shop.reserve.publish("o-17")
        hopeless = shop.ship.publish("o-42", country="Atlantis")
        self._batches = [
            Batch("charge", "high", State.SUCCEEDED, 1, _ids(charges)),
            Batch("pack", "normal", State.SUCCEEDED, 1, _ids(packs)),
            Batch("recommend", "low", State.SUCCEEDED, 1, _ids(hints)),
            Batch("reserve: fails twice", "normal", State.SUCCEEDED, 3, (flaky.id,)),
            Batch("ship: never works", "normal", State.DEAD, 2, (hopeless.id,)),
            Batch("pack: broken bytes", "normal", State.DEAD, 1, (self._publish_garbage(),)),
        ]
        return sum(len(batch.ids) for batch in self._batches)

    def look(self) -> list[Ending]:
        """How each batch stands now.

        Raises:
            TaskstreamError: the worker has ended.
        """
        self._worker.check()
        store = self._app.result_store()
        assert store is not None
        found = store.read_many([task_id for batch in self._batches for task_id in batch.ids])
        endings = []
        for batch in self._batches:
            rows = {task_id: current(found[task_id]) for task_id in batch.ids}
            endings.append(
                Ending(batch, {task_id: row for task_id, row in rows.items() if row is not None})
            )
        return endings

    def finish(self) -> None:
        """Stops the worker: with it, all spans are on their way."""
        self._worker.stop()
        self._flush_spans()

    def dead_letters(self) -> Iterator[DeadLetter]:
        """This run's dead letters, in the topic of dead letters."""
        mine = {task_id for batch in self._batches for task_id in batch.ids}
        for record in read_to_end(self._app.settings, self._app.names.dead):
            death = death_of(record.headers)
            letter = envelope.read(record.headers)
            if death is not None and letter.id in mine:
                yield DeadLetter(
                    letter.task,
                    death.reason,
                    death.message,
                    letter.counted_attempt,
                    death.origin,
                    record.value or b"",
                )

    def trace(self, endings: list[Ending]) -> list[SeenSpan]:
        """What has arrived of the trace of the task that fails twice, by start."""
        (row,) = next(one.rows.values() for one in endings if one.batch.attempts == 3)
        return self._fetch(row.trace_id or "")

    def _publish_garbage(self) -> str:
        """A record as another program might produce it, with bytes that are no task's arguments."""
        task_id = new_id()
        failures: list[BrokerError] = []

        def done(_ack: Ack | None, error: BrokerError | None) -> None:
            if error is not None:
                failures.append(error)

        sender = Sender(self._app.settings, client_id="not-a-taskstream-client")
        try:
            sender.send(
                self._app.names.tasks("tasks", "normal"),
                NOT_AVRO,
                key=task_id.encode(),
                headers=envelope.write(Envelope(task="pack", id=task_id)),
                on_done=done,
            )
        finally:
            sender.close(10.0)
        if failures:
            raise failures[0]
        return task_id

    def _embedded(self) -> tuple[dict[str, str], Fetch]:
        collector = self._stack.enter_context(Collector())
        return {
            "bootstrap_servers": EMBEDDED,
            "embedded_directory": str(self._directory / "embedded"),
            "otlp_endpoint": collector.endpoint,
        }, collector.trace

    def _real(self) -> tuple[dict[str, str], Fetch]:
        up = servers.running() or {}
        missing = [
            name
            for name in ("bootstrap_servers", "cassandra_hosts", "jaeger_url")
            if name not in up
        ]
        if missing:
            raise ServerError(
                "the demo needs local Kafka, Cassandra and Jaeger: start them with `taskstream up`, or "
                "run `taskstream demo` without --real"
            )
        self.jaeger_url = up["jaeger_url"]
        flags = {
            name: up[name] for name in ("bootstrap_servers", "cassandra_hosts", "otlp_endpoint")
        }
        return flags, lambda trace_id: from_jaeger(self.jaeger_url, trace_id)


def whole(spans: list[SeenSpan], attempts: int) -> bool:
    """Whether a trace has all attempts, each with its row, and no span whose parent is missing."""
    known = {span.span_id for span in spans}
    rows = sum(span.name.startswith("INSERT") for span in spans)
    orphans = [span for span in spans if span.parent_id and span.parent_id not in known]
    return rows >= attempts and not orphans


def trace_link(jaeger_url: str, spans: list[SeenSpan]) -> str:
    """Where Jaeger shows the trace; empty without Jaeger."""
    return f"{jaeger_url}/trace/{spans[0].trace_id}" if jaeger_url and spans else ""


# What might be set on this machine for other apps, and must not reach the demo.
_NOT_SET: Mapping[str, str] = {
    "cassandra_hosts": "", "schema_registry_url": "", "kafka": "{}", "cassandra": "{}",
}  # fmt: skip


def _load(flags: Mapping[str, str]) -> "App":
    from taskstream.app.loader import load  # noqa: PLC0415 - the rest of the command line needs none

    app = load(APP)
    unset: dict[str, Any] = {**_NOT_SET, "kafka": {}, "cassandra": {}}
    app.configure(**{**unset, **flags})
    return app


def _variables(flags: Mapping[str, str]) -> dict[str, str]:
    return {f"TASKSTREAM_{name.upper()}": value for name, value in ({**_NOT_SET, **flags}).items()}


def _ids(handles: "list[Handle[Any]]") -> tuple[str, ...]:
    return tuple(handle.id for handle in handles)
