"""Publishing, from the call to the record: on the embedded broker, read back byte for byte."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from tests.unit.test_app_current import context

from taskstream import (
    App,
    BadArguments,
    BlockingCall,
    BrokerError,
    ConfigError,
    Handle,
    PublishError,
    Retry,
    Scale,
    SchemaConflict,
    State,
    TooLarge,
    UnknownTask,
)
from taskstream.app.connections import Connections, Lifeline
from taskstream.app.current import activate
from taskstream.broker.records import Record
from taskstream.broker.tail import read_to_end
from taskstream.core import envelope
from taskstream.core.clock import SYSTEM_CLOCK, ManualClock
from taskstream.core.envelope import Envelope, Place
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.core.tiers import LONGEST_DELAY
from taskstream.producer.routing import partition_for

NUMBERS = count()
NewApp = Callable[..., App]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where this module's embedded broker leaves its address."""
    return str(tmp_path_factory.mktemp("embedded"))


@pytest.fixture
def new_app(directory: str) -> Iterator[NewApp]:
    """Makes Apps on the embedded broker, with topics of their own unless a name is given."""
    made: list[App] = []

    def new(name: str | None = None, **arguments: Any) -> App:
        name = name or f"shop{next(NUMBERS)}"
        app = App(name, bootstrap_servers="embedded", embedded_directory=directory, **arguments)
        made.append(app)
        return app

    yield new
    for app in made:
        app.close()


@pytest.fixture
def app(new_app: NewApp) -> App:
    return new_app()


def records(app: App, topic: str) -> list[Record]:
    """All records of one of the app's topics."""
    return read_to_end(app.settings, f"{app.name}.{topic}")


def only(app: App, topic: str = "tasks.normal") -> Record:
    """The one record of a topic."""
    (record,) = records(app, topic)
    return record


def charge(order_id: str, cents: int = 5) -> str:
    """A task."""
    return f"{order_id}: {cents}"


# The record


def test_a_record_is_what_the_wire_format_says(new_app: NewApp) -> None:
    """Value, key and headers are exactly those of DESIGN.md."""
    clock = ManualClock(1_700_000_000.5)
    app = new_app(clock=clock)
    task = app.task(priority="high")(charge)
    handle = task.publish("o-17", cents=1200)
    record = only(app, "tasks.high")
    # Avro single-object encoding: mark, fingerprint, then "o-17" and 1200 as zigzag numbers.
    fingerprint = task.schema.arguments.fingerprint
    assert record.value == b"\xc3\x01" + fingerprint + b"\x08o-17" + b"\xe0\x12"
    assert record.key == handle.id.encode()
    headers = dict(record.headers)
    reply_to = Place.parse((headers.pop("ts-reply-to") or b"").decode())
    assert reply_to.topic == app.names.replies
    headers.pop("traceparent", None)  # there where another test of this process records spans
    assert headers == {
        "ts-task": b"charge",
        "ts-id": handle.id.encode(),
        "ts-priority": b"high",
        "ts-published": b"1700000000.500000",
    }
    assert handle.published == 1_700_000_000.5


def test_the_schema_is_stored_before_the_record(new_app: NewApp, app: App) -> None:
    """Whoever reads the record finds its schema in the store, by its frame."""
    app.task(charge).publish("o-17")
    other = new_app(app.name)
    stored = other.schema_store().latest("charge")
    assert stored is not None
    value = only(app).value
    assert value is not None
    assert value[2:10] == stored.fingerprint


def test_a_key_decides_the_partition(app: App) -> None:
    """Tasks of one key stand in one partition in publish order, under the key's text."""
    task = app.task(key="order_id")(charge)
    for cents in range(5):
        task.publish("o-17", cents=cents)
    found = records(app, "tasks.normal")
    assert {record.key for record in found} == {b"o-17"}
    assert {record.partition for record in found} == {partition_for(b"o-17", 4)}
    assert [record.value[-1:] for record in found if record.value] == [
        bytes([2 * cents]) for cents in range(5)
    ]


def test_a_publish_may_give_its_own_key(app: App) -> None:
    """`options(key=...)` is the key itself, or a function of the arguments."""
    task = app.task(charge)
    task.options(key="k-1").publish("o-17")
    task.options(key=lambda order_id, **_: order_id.upper()).publish("o-18", cents=3)
    assert {record.key for record in records(app, "tasks.normal")} == {b"k-1", b"O-18"}


def test_an_id_of_ones_own_is_looked_up(app: App) -> None:
    """A caller's id is the task's, and tells the worker to look whether it ran already."""
    assert app.task(charge).options(id="inv-9").publish("o-17").id == "inv-9"
    read = envelope.read(only(app).headers)
    assert (read.id, read.lookup) == ("inv-9", True)


def test_a_delayed_task_waits_in_its_tier_with_its_home_stamped(new_app: NewApp) -> None:
    """Due later, it goes to the largest tier that fits, knowing the partition it will come home to."""
    clock = ManualClock()
    app = new_app(clock=clock)
    handle = app.task(key="order_id")(charge).options(delay=60, expires=90).publish("o-17")
    read = envelope.read(only(app, "delay.30s").headers)
    assert read.due == handle.due == clock.now() + 60
    assert read.expires == clock.now() + 90
    assert read.home == Place(app.names.tasks("tasks", "normal"), partition_for(b"o-17", 4))
    assert records(app, "tasks.normal") == []


def test_a_publish_inside_a_task_tells_where_it_came_from(app: App) -> None:
    """Parent is the task that publishes, root the first one of the chain."""
    with activate(context("id-1")):
        app.task(charge).publish("o-17")
    read = envelope.read(only(app).headers)
    assert (read.parent, read.root) == ("id-1", "id-0")


def test_options_move_one_publish(app: App) -> None:
    """Queue and priority of one publish decide its topic, and the next is as defined again."""
    app.task(name="resize", queue="gpu")(charge)
    task = app.task(charge)
    task.options(queue="gpu", priority="low").publish("o-17")
    task.publish("o-18")
    assert dict(only(app, "gpu.low").headers)["ts-priority"] == b"low"
    assert len(records(app, "tasks.normal")) == 1


# Refusals, before anything is sent


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {}, "missing argument: order_id"),
        ((17,), {}, "argument order_id must be str, not int"),
        (("o-17",), {"cents": "5"}, "argument cents must be int, not str"),
        (("o-17",), {"cent": 5}, "unknown argument cent: did you mean cents"),
        (("o-17",), {"cents": 2**63}, "argument cents is beyond 64 bits"),
    ],
)
def test_wrong_arguments_are_refused(
    app: App, args: tuple[Any, ...], kwargs: Mapping[str, Any], named: str
) -> None:
    """Each is refused by task and argument, and the topic stays empty."""
    with pytest.raises(BadArguments, match=f"task charge: {named}"):
        app.task(charge).publish(*args, **kwargs)
    assert records(app, "tasks.normal") == []


def test_too_much_is_refused_before_it_is_sent(app: App) -> None:
    """A record that no topic would take is refused by the task's name."""
    with pytest.raises(TooLarge, match="task charge: 1,5"):
        app.task(charge).publish("x" * 1_500_000)
    assert records(app, "tasks.normal") == []


def test_too_far_ahead_is_refused(app: App) -> None:
    """A due time beyond what delay topics can carry is refused."""
    with pytest.raises(BadArguments, match=r"task charge: .*a year"):
        app.task(charge).options(delay=LONGEST_DELAY + 1).publish("o-17")


def test_one_publish_may_have_a_policy_of_its_own(app: App) -> None:
    """Its header says it, the next publish has none again; what can't be meant is refused by task and option."""
    task = app.task(retry=Retry(attempts=7))(charge)
    task.options(retry=Retry(attempts=5, delays=[1, 5])).publish("o-17")
    task.options(retry=None).publish("o-17")
    task.publish("o-17")
    told = [dict(record.headers).get("ts-retry") for record in records(app, "tasks.normal")]
    assert sorted(map(str, told)) == ["None", "b'attempts=1'", "b'attempts=5; delays=1,5'"]
    with pytest.raises(BadArguments, match=r"task charge: options\(retry=3\)"):
        task.options(retry=cast("Any", 3))


def test_money_of_another_scale_is_refused(new_app: NewApp, app: App) -> None:
    """A schema of the same fingerprint and another meaning can't be stored beside the first."""

    def pay(amount: Annotated[Decimal, Scale(2)]) -> None:
        """Cents."""

    def pay_finely(amount: Annotated[Decimal, Scale(4)]) -> None:
        """Hundredths of cents."""

    app.task(pay).publish(Decimal("1.25"))
    with pytest.raises(SchemaConflict, match="pay"):
        new_app(app.name).task(name="pay")(pay_finely).publish(Decimal("1.25"))
    assert len(records(app, "tasks.normal")) == 1


def test_without_a_broker_the_error_says_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing configured and nothing up, a publish says what to do."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("TASKSTREAM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"taskstream up.*embedded"):
        App("shop").task(charge).publish("o-17")


def test_a_first_publish_without_an_answer_is_a_publish_that_failed(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Kafka can't even be asked for the schemas, the publisher hears so, by the task's name."""

    def unreachable(_: Connections) -> None:
        raise BrokerError("no answer")

    monkeypatch.setattr(Connections, "schemas", property(unreachable))
    with pytest.raises(PublishError, match=r"task charge: nothing was sent, .* no answer"):
        app.task(charge).publish("o-17")
    with pytest.raises(BrokerError, match="no answer"):
        app.connect()


def test_a_publish_carries_the_trace_that_is_current(app: App) -> None:
    """The record's headers continue the caller's trace, in W3C form, one of each."""
    span = SpanContext(trace_id=7, span_id=9, is_remote=False, trace_flags=TraceFlags(1))
    token = attach(set_span_in_context(NonRecordingSpan(span)))
    try:
        app.task(charge).publish("o-17")
    finally:
        detach(token)
    parents = [value for name, value in only(app).headers if name == "traceparent"]
    assert len(parents) == 1
    assert (parents[0] or b"").startswith(b"00-00000000000000000000000000000007-")


# Many, without waiting, and on an event loop


def test_many_are_published_in_order(app: App) -> None:
    """Handles come in the order of the arguments, all acknowledged."""
    task = app.task(key=lambda **_: "one-line")(charge)
    handles = task.publish_many({"order_id": f"o-{n}", "cents": n} for n in range(250))
    found = records(app, "tasks.normal")
    assert [dict(record.headers)["ts-id"] for record in found] == [
        handle.id.encode() for handle in handles
    ]
    assert all(handle.delivery.done() for handle in handles)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delay": 60},
        {"expires": 60, "priority": "low"},
        {"priority": "high", "key": "k"},
        {"retry": Retry(attempts=5, on=[OSError])},
    ],
)
@pytest.mark.parametrize("hooked", [False, True])
def test_many_are_what_each_would_be_alone(app: App, options: dict[str, Any], hooked: bool) -> None:
    """With options or without, with hooks or without: the same record but for its id and its time."""
    if hooked:
        app.before_publish(lambda _envelope: {"tenant": "t-1"})
    task = app.task(charge).options(**options)
    one = task.publish("o-1", cents=1)
    (other,) = task.publish_many([{"order_id": "o-1", "cents": 1}])
    topic = (
        "delay.30s"
        if "delay" in options
        else f"{options.get('queue', 'tasks')}.{options.get('priority', 'normal')}"
    )
    found = {dict(record.headers)["ts-id"]: record for record in records(app, topic)}
    alone, among = (found[handle.id.encode()] for handle in (one, other))
    assert alone.value == among.value
    # The last one is there where an earlier test of this process has set up tracing.
    moving = {"ts-id", "ts-published", "ts-due", "ts-expires", "ts-home", "traceparent"}
    assert [header for header in alone.headers if header[0] not in moving] == [
        header for header in among.headers if header[0] not in moving
    ]
    assert [name for name, _ in alone.headers] == [name for name, _ in among.headers]


def test_of_many_none_is_sent_if_one_is_wrong(app: App) -> None:
    """All are checked before the first is sent."""
    with pytest.raises(BadArguments, match="cents"):
        app.task(charge).publish_many([{"order_id": "o-1"}, {"order_id": "o-2", "cents": "2"}])
    assert records(app, "tasks.normal") == []


def test_one_id_is_not_for_many(app: App) -> None:
    """An id names one task."""
    with pytest.raises(BadArguments, match="one task, not many"):
        app.task(charge).options(id="inv-9").publish_many([{"order_id": "o-1"}])


def test_without_waiting_the_handle_tells_later(app: App) -> None:
    """The handle is there at once, acknowledged after `acknowledged()`; `flush` waits for the rest."""
    task = app.task(charge)
    handle = task.publish_nowait("o-17")
    handle.acknowledged(timeout=10)
    assert handle.state() is State.WAITING
    for n in range(20):
        task.publish_nowait(f"o-{n}")
    assert app.flush(timeout=10) == 0
    assert len(records(app, "tasks.normal")) == 21


def test_the_twins_do_the_same_on_an_event_loop(app: App) -> None:
    """Every way to publish has its twin, and the records are the same."""
    task = app.task(charge)

    async def main() -> list[Handle[Any]]:
        handles: list[Handle[Any]] = [await task.publish_async("o-1")]
        handles.append(await task.options(key="k").publish_async("o-2"))
        handles += await task.publish_many_async([{"order_id": "o-3"}, {"order_id": "o-4"}])
        handles.append(await app.publish_async("charge", {"order_id": "o-5"}))
        handles += await app.publish_many_async("charge", [{"order_id": "o-6"}])
        handles.append(task.publish_nowait("o-7"))
        await handles[-1].acknowledged_async()
        assert await app.flush_async() == 0
        return handles

    handles = asyncio.run(main())
    ids = {envelope.read(record.headers).id for record in records(app, "tasks.normal")}
    assert ids == {handle.id for handle in handles}
    assert len(ids) == 7


def test_blocking_calls_on_a_loop_name_their_twin(app: App) -> None:
    """Each blocking method refuses to hold up the loop, and its message is the line to write."""
    task, handle = app.task(charge), app.handle("inv-9")
    calls: dict[str, Callable[[], object]] = {
        "charge.publish": lambda: task.publish("o-17"),
        "charge.publish_many": lambda: task.publish_many([]),
        "app.publish": lambda: app.publish("charge", {"order_id": "o-17"}),
        "app.publish_many": lambda: app.publish_many("charge", []),
        "app.connect": app.connect,
        "app.flush": app.flush,
        "app.close": app.close,
        "handle.acknowledged": handle.acknowledged,
        "handle.result": handle.result,
        "handle.state": handle.state,
    }

    async def main() -> None:
        for method, call in calls.items():
            with pytest.raises(BlockingCall, match=rf"await {method}_async\(\)"):
                call()

    asyncio.run(main())
    for method in calls:
        owner, _, name = method.partition(".")
        twin = {"charge": task, "app": app, "handle": handle}[owner]
        assert callable(getattr(twin, f"{name}_async"))


# By name


def test_a_task_known_here_is_published_as_defined(app: App) -> None:
    """By name or alias, queue, priority and key are the definition's."""
    app.task(name="charge", aliases=["bill"], priority="high", key="order_id")(charge)
    app.publish("charge", {"order_id": "o-17"})
    app.publish("bill", {"order_id": "o-17"})
    found = records(app, "tasks.high")
    assert [record.key for record in found] == [b"o-17", b"o-17"]
    assert {envelope.read(record.headers).task for record in found} == {"charge"}


def test_a_task_unknown_here_is_checked_against_its_stored_schema(
    new_app: NewApp, app: App
) -> None:
    """A program that has only the name publishes the same bytes, and is refused as strictly."""
    app.task(charge).publish("o-17", cents=1200)
    stranger = new_app(app.name)
    stranger.publish("charge", {"order_id": "o-17", "cents": 1200}, priority="low", key="o-17")
    assert only(app, "tasks.low").value == only(app).value
    assert only(app, "tasks.low").key == b"o-17"
    with pytest.raises(BadArguments, match="task charge: argument cents"):
        stranger.publish("charge", {"order_id": "o-17", "cents": "many"})
    with pytest.raises(BadArguments, match="no priority 'urgent'"):
        stranger.publish("charge", {"order_id": "o-17"}, priority="urgent")


def test_a_remote_signature_publishes_the_same_bytes(new_app: NewApp, app: App) -> None:
    """A service with the signature alone writes what the worker's own code would."""
    app.task(charge).publish("o-17", cents=1200)

    def refund(order_id: str, cents: int = 5) -> str: ...  # type: ignore[empty-body]

    service = new_app(app.name)
    service.remote(name="charge", priority="low")(refund).publish("o-17", 1200)
    assert only(app, "tasks.low").value == only(app).value


def test_a_name_that_nobody_knows_is_refused(app: App) -> None:
    """Neither defined here nor stored: the error says what can be done."""
    with pytest.raises(UnknownTask, match="no task 'chrage'"):
        app.publish("chrage", {})


# Hooks


def test_hooks_see_each_publish_and_may_add_headers(app: App) -> None:
    """A hook gets the envelope, and its headers travel beside ours."""
    seen: list[Envelope] = []

    @app.before_publish
    def tenant(of: Envelope) -> Mapping[str, str]:
        seen.append(of)
        return {"tenant": "blå"}

    handle = app.task(charge).publish("o-17")
    assert [of.id for of in seen] == [handle.id]
    assert ("tenant", "blå".encode()) in only(app).headers


@pytest.mark.parametrize("header", ["ts-run", "traceparent"])
def test_hooks_may_not_touch_our_headers(app: App, header: str) -> None:
    """A header of ours is not a hook's to set, and nothing is sent."""
    app.before_publish(lambda _: {header: "1"})
    with pytest.raises(PublishError, match=f"adds header '{header}'"):
        app.task(charge).publish("o-17")
    assert records(app, "tasks.normal") == []


def test_what_a_hook_raises_reaches_the_publisher(app: App) -> None:
    """A hook can refuse a publish with an error of its own."""

    @app.before_publish
    def refuse(_: Envelope) -> None:
        raise PermissionError("not on Sundays")

    with pytest.raises(PermissionError, match="Sundays"):
        app.task(charge).publish("o-17")
    assert records(app, "tasks.normal") == []


# Connecting, closing, forking, exiting


def test_defining_and_closing_open_nothing(app: App) -> None:
    """An app that published nothing has no clients, also after it was closed or flushed."""
    app.task(charge)
    assert app.flush() == app.close() == 0
    assert app._lifeline.opened is None


def test_connecting_stores_all_schemas(new_app: NewApp, app: App) -> None:
    """`connect` does ahead what the first publish of each task would do."""
    app.task(charge)
    app.remote(name="refund")(charge)
    asyncio.run(app.connect_async())
    assert new_app(app.name).schema_store().names() == ["charge", "refund"]


def test_a_block_closes_the_app_and_it_opens_again(app: App) -> None:
    """Leaving `with app` or `async with app` has flushed; a later publish opens new clients."""
    task = app.task(charge)
    with app:
        task.publish_nowait("o-1")
    assert len(records(app, "tasks.normal")) == 1

    async def main() -> None:
        async with app:
            task.publish_nowait("o-2")

    asyncio.run(main())
    assert app._lifeline.opened is None
    task.publish("o-3")
    assert len(records(app, "tasks.normal")) == 3


def test_settings_are_fixed_once_clients_are_open(app: App) -> None:
    """Flags that come after a publish would be half in force, and are refused."""
    app.task(charge).publish("o-17")
    with pytest.raises(ConfigError, match="opened its clients already"):
        app.configure(partitions=3)


FORK = """
import os, sys
from taskstream import App

app = App({name!r}, bootstrap_servers="embedded", embedded_directory={directory!r})

@app.task
def charge(order_id: str, cents: int = 5) -> str: ...

handle = charge.publish("parent")
pid = os.fork()
if pid == 0:
    charge.publish("child")
    with app:
        charge.publish_nowait("child again")
    os._exit(0)
_, status = os.waitpid(pid, 0)
charge.publish("parent again")
sys.exit(os.waitstatus_to_exitcode(status))
"""

EXIT = """
from taskstream import App

app = App({name!r}, bootstrap_servers="embedded", embedded_directory={directory!r})

@app.task
def charge(order_id: str, cents: int = 5) -> str: ...

for n in range(100):
    charge.publish_nowait(f"o-{{n}}")
"""


@pytest.mark.parametrize(("program", "published"), [(FORK, 4), (EXIT, 100)])
def test_processes_that_fork_or_end_lose_nothing(
    app: App, directory: str, program: str, published: int
) -> None:
    """A forked child publishes with a client of its own, and the end of a process waits for Kafka."""
    records(app, "tasks.normal")  # this process owns the broker, so the records outlive the other
    code = program.format(name=app.name, directory=directory)
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records(app, "tasks.normal")) == published


def test_what_is_lost_at_exit_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Kafka does not answer in time, the exit says how many tasks may be lost."""
    lifeline = Lifeline(
        Names("shop"), lambda: Settings(bootstrap_servers="nowhere:1"), SYSTEM_CLOCK
    )
    lifeline.connections()
    monkeypatch.setattr(Connections, "close", lambda _connections, _timeout: 3)
    lifeline._at_exit()
    assert "3 tasks of app shop were not acknowledged" in capsys.readouterr().err
    assert lifeline.opened is None
