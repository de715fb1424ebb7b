"""How a handle learns how its task ended: from a reply, from the store, or not at all."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from taskstream import (
    App,
    Handle,
    MissingExtra,
    PublishError,
    ResultGone,
    ResultTimeout,
    State,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
)
from taskstream.app import outcomes
from taskstream.broker.sender import Sender
from taskstream.broker.tail import read_to_end
from taskstream.core import envelope
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.control import Order, run_of
from taskstream.core.errors import StoreError
from taskstream.core.ids import derived_id
from taskstream.results.row import Row, partition_of
from taskstream.schemas.control import decode_order
from taskstream.schemas.records import Records

NUMBERS = count()
RECORDS = Records()

Ask = Callable[[Handle[Any], float], Any]


@dataclass(frozen=True)
class Receipt:
    """A typed result."""

    order_id: str
    cents: int


def charge(order_id: str) -> Receipt:
    """A task."""
    return Receipt(order_id, 1200)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("embedded"))


@pytest.fixture
def app(directory: str) -> Iterator[App]:
    """An app with the task `charge`."""
    name = f"shop{next(NUMBERS)}"
    app = App(name, bootstrap_servers="embedded", embedded_directory=directory)
    app.task(charge)
    yield app
    app.close()


class Worker:
    """Stores what a worker would."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.task = app.tasks["charge"]
        self.frame = app.schema_store().put(self.task.schema.result)
        self.store = app.result_store()

    def value(self, receipt: Receipt) -> bytes:
        return self.frame + self.task.result.encode(receipt)

    def write(
        self, task_id: str, state: State, *, run: int = 0, attempt: int = 1, **more: Any
    ) -> None:
        """Stores a row."""
        assert self.store is not None
        row = Row(
            task_id=task_id, run=run, attempt=attempt, state=state, task="charge",
            written_us=next(NUMBERS), **more,
        )  # fmt: skip
        refused: list[StoreError] = []
        self.store.write(
            partition_of(task_id), [row], lambda error: refused.append(error) if error else None
        )
        assert refused == []


def send(app: App, topic: str, key: str, value: bytes, partition: int = 0) -> None:
    """Writes a record of ours, as a worker does."""
    sender = Sender(app.settings, client_id="test")
    sender.send(
        f"{app.name}.{topic}", value, key=key.encode(), headers=(),
        partition=partition, on_done=lambda _ack, _error: None,
    )  # fmt: skip
    assert sender.close(10) == 0


def reply(app: App, handle: Handle[Any], state: State, **more: Any) -> None:
    """Sends the final state to where the publisher asked for it, as a worker does."""
    published = read_to_end(app.settings, f"{app.name}.tasks.normal")
    envelopes = [envelope.read(record.headers) for record in published]
    (place,) = [read.reply_to for read in envelopes if read.id == handle.id]
    assert place is not None
    nothing = {"value": b"", "error_type": "", "error": "", "traceback": ""}
    fields = {"task_id": handle.id, "run": 0, "attempt": 1, "state": state, "finished": 0}
    fields |= nothing | more
    send(
        app,
        "replies",
        handle.id,
        RECORDS.encode("replies", {name: [value] for name, value in fields.items()}),
        place.partition,
    )


@pytest.fixture
def worker(app: App) -> Worker:
    return Worker(app)


def ask(handle: Handle[Any], timeout: float) -> Any:
    return handle.result(timeout)


def ask_on_loop(handle: Handle[Any], timeout: float) -> Any:
    return asyncio.run(handle.result_async(timeout))


both = pytest.mark.parametrize("result", [ask, ask_on_loop])


@both
def test_a_stored_result_comes_typed(app: App, worker: Worker, result: Ask) -> None:
    """The publisher gets the very type that the task returned."""
    handle = app.tasks["charge"].publish("o-17")
    worker.write(handle.id, State.SUCCEEDED, value=worker.value(Receipt("o-17", 1200)))
    assert result(handle, 10) == Receipt("o-17", 1200)
    assert handle.state() is State.SUCCEEDED


@both
def test_a_reply_is_enough(
    app: App, worker: Worker, result: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The final state arrives as a message, without a second look into the store."""
    monkeypatch.setattr(outcomes, "REREAD", 30.0)
    handle = app.tasks["charge"].publish("o-17")
    with pytest.raises(ResultTimeout):
        handle.result(0.1)  # from now on this process listens
    reply(app, handle, State.SUCCEEDED, value=worker.value(Receipt("o-17", 1)))
    assert result(handle, 10) == Receipt("o-17", 1)


@both
def test_by_id_alone_a_result_comes_as_json_has_it(app: App, worker: Worker, result: Ask) -> None:
    """Without the task, the schema that wrote the result tells what is in it."""
    worker.write("inv-9", State.SUCCEEDED, value=worker.value(Receipt("o-17", 1200)))
    assert result(app.handle("inv-9"), 10) == {"order_id": "o-17", "cents": 1200}


@both
def test_a_dead_task_tells_its_error(app: App, worker: Worker, result: Ask) -> None:
    """Type, message, remote traceback and attempts come back; the class itself never does."""
    told: dict[str, Any] = {
        "error_type": "ValueError",
        "error": "no",
        "traceback": "Traceback: line 3",
    }
    worker.write("inv-10", State.RETRYING, attempt=1, **told)
    worker.write("inv-10", State.DEAD, attempt=2, **told)
    with pytest.raises(TaskFailed, match=r"ValueError: no \(after 2 attempts\)") as caught:
        result(app.handle("inv-10"), 10)
    error = caught.value
    assert (error.type, error.message, error.traceback) == ("ValueError", "no", "Traceback: line 3")


@pytest.mark.parametrize(
    ("state", "error"), [(State.CANCELLED, TaskCancelled), (State.EXPIRED, TaskExpired)]
)
def test_other_ends_have_errors_of_their_own(
    app: App, worker: Worker, state: State, error: type[Exception]
) -> None:
    """Cancelled and expired tasks have no result, and say which of the two."""
    worker.write(f"inv-{state}", state)
    with pytest.raises(error, match=f"inv-{state}"):
        app.handle(f"inv-{state}").result(10)


@both
def test_a_time_out_tells_the_last_known_state(app: App, worker: Worker, result: Ask) -> None:
    """Waiting, delayed, retrying or unknown: whatever is known by then."""
    task = app.tasks["charge"]
    retried = task.publish("o-17")
    worker.write(retried.id, State.RETRYING)
    known = {
        State.WAITING: task.publish("o-17"),
        State.DELAYED: task.options(delay=60).publish("o-17"),
        State.RETRYING: retried,
        State.UNKNOWN: app.handle("nobody-knows"),
    }
    for state, handle in known.items():
        with pytest.raises(ResultTimeout, match=f"known state is {state}") as caught:
            result(handle, 0.05)
        assert caught.value.state is state
        assert handle.state() is state


@both
def test_a_result_that_comes_at_the_last_moment_is_no_time_out(
    app: App, worker: Worker, result: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When time is up the store is read once more, before anything is called late."""
    assert worker.store is not None
    handle, read = app.tasks["charge"].publish("o-17"), worker.store.read
    reads = []

    def finishes_meanwhile(task_id: str) -> list[Row]:
        rows = read(task_id)
        reads.append(rows)
        if len(reads) == 1:
            worker.write(task_id, State.SUCCEEDED, value=worker.value(Receipt("o-17", 1)))
        return rows

    monkeypatch.setattr(worker.store, "read", finishes_meanwhile)
    assert result(handle, 1.0) == Receipt(
        "o-17", 1
    )  # so long that a busy machine comes to look before
    assert len(reads) == 2


@both
def test_the_reply_of_an_older_run_is_not_the_end(app: App, worker: Worker, result: Ask) -> None:
    """A redriven task is waited for, although a reply still tells how it died before."""
    handle = app.tasks["charge"].publish("o-17")
    with pytest.raises(ResultTimeout):
        handle.result(0.1)  # from now on this process listens
    reply(app, handle, State.DEAD, error_type="ValueError")
    worker.write(handle.id, State.DEAD, run=0, attempt=1)
    worker.write(handle.id, State.WAITING, run=1, attempt=0)
    with pytest.raises(ResultTimeout, match="known state is waiting"):
        result(handle, 0.5)


def test_a_task_without_a_result_gives_none(app: App, worker: Worker) -> None:
    """A row without a value is the end of a task that returned nothing."""
    worker.write("inv-13", State.SUCCEEDED)
    assert app.handle("inv-13").result(10) is None


def test_a_redrive_makes_a_dead_task_wait_again(app: App, worker: Worker) -> None:
    """The highest run and attempt tell the state, also after a final one."""
    worker.write("inv-11", State.DEAD, run=0, attempt=3)
    worker.write("inv-11", State.WAITING, run=1, attempt=0)
    assert app.handle("inv-11").state() is State.WAITING
    with pytest.raises(ResultTimeout):
        app.handle("inv-11").result(0.05)


def heartbeat(task_id: str, attempt: int) -> bytes:
    """What a worker says of itself while it runs a task."""
    running = {
        "task_id": task_id, "run": 0, "attempt": attempt,
        "topic": "t", "partition": 0, "offset": 0, "since": 0, "task": "charge", "child": 8,
    }  # fmt: skip
    return RECORDS.encode(
        "heartbeat",
        {
            "worker": "w-1", "host": "h", "pid": 1, "version": "0", "queues": ["tasks"],
            "started": 0, "at": 0, "children": 1, "halted": [], "paused": [], "running": [running],
        },
    )  # fmt: skip


def test_a_heartbeat_says_that_a_task_runs(app: App, worker: Worker) -> None:
    """A later attempt than the last row's is running; one that was judged since is not."""
    handle = app.handle("inv-12")
    send(app, "workers", "w-1", heartbeat("inv-12", attempt=1))
    assert handle.state() is State.RUNNING
    worker.write("inv-12", State.RETRYING, attempt=1)
    assert handle.state() is State.RETRYING
    send(app, "workers", "w-1", heartbeat("inv-12", attempt=2))
    assert asyncio.run(handle.state_async()) is State.RUNNING


def cancel(handle: Handle[Any], reason: str) -> State:
    return handle.cancel(reason)


def cancel_async(handle: Handle[Any], reason: str) -> State:
    return asyncio.run(handle.cancel_async(reason))


def orders(app: App) -> dict[str, Order]:
    """What stands in the control topic, by target."""
    records = read_to_end(app.settings, app.names.control)
    found = [decode_order(RECORDS, record.value) for record in records if record.value]
    return {order.target: order for order in found}


@pytest.mark.parametrize("ask", [cancel, cancel_async])
def test_a_cancel_is_an_order_on_the_run_that_is_known(
    app: App, worker: Worker, ask: Callable[[Handle[Any], str], State]
) -> None:
    """With who and why; of a task without a trace it is the first run, after a redrive the second."""
    handle = app.tasks["charge"].publish("o-17")
    assert ask(handle, "sent twice") is State.WAITING
    worker.write("inv-14", State.WAITING, run=1, attempt=0)
    assert ask(app.handle("inv-14"), "") is State.WAITING
    found = orders(app)
    assert (found[run_of(handle.id, 0)].verb, found[run_of(handle.id, 0)].reason) == (
        "cancel",
        "sent twice",
    )
    assert "@" in found[run_of("inv-14", 1)].who


def test_what_has_ended_is_not_cancelled(app: App, worker: Worker) -> None:
    """The final state is told, and nothing is written."""
    worker.write("inv-15", State.DEAD)
    assert app.handle("inv-15").cancel() is State.DEAD
    assert not [target for target in orders(app) if target.startswith("inv-15/")]


def test_results_that_are_not_kept_any_more_are_gone(app: App) -> None:
    """An id older than results are kept, without a trace, is told apart from one to wait for."""
    old = derived_id(SYSTEM_CLOCK.now() - app.settings.result_ttl - 60, "old")
    with pytest.raises(ResultGone, match="result_ttl"):
        app.handle(old).result(10)


def test_a_handle_by_id_was_acknowledged_by_somebody_else(app: App) -> None:
    """Only the handle of a publish can wait for its acknowledgement."""
    with pytest.raises(PublishError, match="not published through this handle"):
        app.handle("inv-9").acknowledged()


# Base extras alone: no driver of the result store


@pytest.fixture
def bare(app: App, monkeypatch: pytest.MonkeyPatch) -> App:
    """The app where a store is configured and its driver is not installed."""
    for module in [name for name in sys.modules if name.split(".")[0] == "cassandra"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "taskstream.results.cassandra", raising=False)
    monkeypatch.setitem(sys.modules, "cassandra", None)
    app.configure(cassandra_hosts="127.0.0.1")
    return app


@both
def test_without_the_driver_a_handle_waits_on_its_reply(bare: App, result: Ask) -> None:
    """A reply that came before anybody listened is read from the time of the publish on."""
    handle = bare.tasks["charge"].publish("o-17")
    value = bare.schema_store().put(bare.tasks["charge"].schema.result)
    value += bare.tasks["charge"].result.encode(Receipt("o-17", 3))
    reply(bare, handle, State.SUCCEEDED, value=value)
    assert result(handle, 10) == Receipt("o-17", 3)


@both
def test_without_the_driver_a_time_out_tells_what_the_handle_knows(bare: App, result: Ask) -> None:
    """Nothing but the acknowledgement is known, and that is told."""
    with pytest.raises(ResultTimeout, match="known state is waiting"):
        result(bare.tasks["charge"].publish("o-17"), 0.05)


def test_without_the_driver_the_second_way_is_refused(bare: App) -> None:
    """What only the store can tell says which extra to install."""
    with pytest.raises(MissingExtra, match=r"taskstream\[cassandra\]"):
        bare.handle("inv-9").result(1)
    with pytest.raises(MissingExtra, match=r"taskstream\[cassandra\]"):
        bare.handle("inv-9").state()
