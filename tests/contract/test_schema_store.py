"""What every schema store does: one suite for the topic, the embedded file and the registry.

Broken on purpose once, and seen to fail: versions in the order in which each was stored first.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from tests.support.fake_registry import FakeRegistry

from taskstream.broker.topics import Topics, TopicSpec
from taskstream.core.clock import ManualClock
from taskstream.core.errors import (
    BrokerError,
    ConfigError,
    SchemaConflict,
    SchemaError,
    UnknownSchema,
)
from taskstream.core.names import Names
from taskstream.core.settings import EMBEDDED, Settings
from taskstream.schemas.codec import ArgumentsCodec
from taskstream.schemas.derive import derive
from taskstream.schemas.framing import Fingerprint, RegistryId, parse
from taskstream.schemas.log import LoggedSchemas
from taskstream.schemas.open import open_schemas
from taskstream.schemas.registry import RegistrySchemas
from taskstream.schemas.scale import Scale
from taskstream.schemas.schema import Schema
from taskstream.schemas.sqlite import FileLog
from taskstream.schemas.store import SchemaStore
from taskstream.schemas.topic import TopicLog

Open = Callable[[], SchemaStore]
"""Opens one more client of the same schemas, as another process would."""


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The embedded broker, one for the session."""
    return Settings(
        bootstrap_servers=EMBEDDED, embedded_directory=str(tmp_path_factory.mktemp("embedded"))
    )


def topic_on(settings: Settings, replication: int = -1) -> Open:
    """A fresh schema topic."""
    name = Names(f"test{uuid4().hex[:12]}").schemas
    with Topics(settings) as topics:
        topics.create([TopicSpec(name, 1, replication, {"cleanup.policy": "compact"})])
    return lambda: LoggedSchemas(TopicLog(settings, name))


@pytest.fixture(params=["file", "embedded-topic", "topic", "fake-registry", "real-registry"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """One of the implementations, empty as far as the names of these tests go."""
    opened: list[SchemaStore] = []
    if request.param == "file":
        make: Open = lambda: LoggedSchemas(FileLog(tmp_path / "deep" / "schemas.sqlite"))  # noqa: E731
    elif request.param == "embedded-topic":
        make = topic_on(request.getfixturevalue("embedded"))
    elif request.param == "topic":
        make = topic_on(Settings(bootstrap_servers=request.getfixturevalue("kafka")))
    elif request.param == "fake-registry":
        fake = FakeRegistry()
        make = lambda: RegistrySchemas("http://registry", fake.transport)  # noqa: E731
    else:
        url = request.getfixturevalue("registry")
        make = lambda: RegistrySchemas(url)  # noqa: E731

    def open_and_keep() -> SchemaStore:
        opened.append(make())
        return opened[-1]

    yield open_and_keep
    for store in opened:
        store.close()


@pytest.fixture
def name() -> str:
    """A record name of this test's own: a registry is shared by all of them."""
    return f"charge_{uuid4().hex}"


def schema_of(task: str, hint: Any, *default: Any) -> Schema:
    """The arguments' schema of a task with one parameter `x`."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    function.__defaults__ = default
    return derive(function, task=task).arguments


MONEY_2, MONEY_4 = Annotated[Decimal, Scale(2)], Annotated[Decimal, Scale(4)]


def test_what_one_stores_another_finds(open_one: Open, name: str) -> None:
    """By the frame of a value alone, with everything that the fingerprint leaves out."""
    schema = schema_of(name, MONEY_2)
    prefix = open_one().put(schema)
    found = open_one().get(parse(prefix + b"body").reference)
    assert found == schema
    assert found.parsed == schema.parsed


def test_an_open_reader_finds_what_is_stored_later(open_one: Open, name: str) -> None:
    """A deploy that brings a new schema reaches workers that run."""
    reader, writer = open_one(), open_one()
    reader.refresh()
    prefix = writer.put(schema_of(name, int))
    assert reader.get(parse(prefix).reference).name == name


def test_storing_again_changes_nothing(open_one: Open, name: str) -> None:
    """Every publisher stores its schemas when it starts."""
    schema = schema_of(name, int)
    store = open_one()
    first = store.put(schema)
    assert store.put(schema_of(name, int)) == first
    assert open_one().put(schema) == first


def test_versions_live_side_by_side(open_one: Open, name: str) -> None:
    """Each value is read by the schema that wrote it; the latest is what a publish by name takes."""

    def old(x: int) -> None: ...
    def new(x: int, y: str = "new") -> None: ...

    store = open_one()
    first, second = derive(old, task=name), derive(new, task=name)
    prefixes = [store.put(each.arguments) for each in (first, second)]
    reader = open_one()
    assert [reader.get(parse(prefix).reference) for prefix in prefixes] == [
        first.arguments,
        second.arguments,
    ]
    assert reader.latest(name) == second.arguments
    frame = parse(prefixes[0] + ArgumentsCodec(first).encode((5,), {}))
    found = ArgumentsCodec(second).decode(frame.body, reader.get(frame.reference))
    assert found == {"x": 5, "y": "new"}


def test_versions_are_told_in_their_order(open_one: Open, name: str) -> None:
    """All that were stored under a name, once each, the latest last; also what others have stored since."""

    def first(x: int) -> None: ...
    def second(x: int, y: str = "new") -> None: ...

    reader, writer = open_one(), open_one()
    assert reader.versions(name) == []
    stored = [derive(function, task=name).arguments for function in (first, second)]
    for schema in (*stored, stored[1]):
        writer.put(schema)
    reader.refresh()
    assert reader.versions(name) == stored
    assert reader.latest(name) == stored[-1]


def test_another_default_is_no_conflict(open_one: Open, name: str) -> None:
    """The fingerprint is the same, and so is the meaning; the latest default is what counts."""
    store = open_one()
    store.put(schema_of(name, int, 1))
    store.put(schema_of(name, int, 2))
    assert open_one().latest(name) == schema_of(name, int, 2)


@pytest.mark.parametrize(("first", "second"), [(MONEY_2, MONEY_4), (int, datetime)])
def test_another_meaning_of_the_same_fingerprint_is_refused(
    open_one: Open, name: str, first: Any, second: Any
) -> None:
    """Silent wrong money: refused where it enters, whoever was first, and nothing is changed."""
    stored, refused = schema_of(name, first), schema_of(name, second)
    assert stored.fingerprint == refused.fingerprint
    prefix = open_one().put(stored)
    store = open_one()
    with pytest.raises(SchemaConflict, match=f"schema {name}: .*Rename the parameter"):
        store.put(refused)
    assert open_one().get(parse(prefix).reference) == stored


def test_what_is_not_stored_is_unknown(open_one: Open) -> None:
    """Told apart from a store that can't be asked: a worker waits for the one, puts off the other."""
    store = open_one()
    for reference in (Fingerprint(os.urandom(8)), RegistryId(2**31 - 1)):
        with pytest.raises(UnknownSchema, match=str(reference)):
            store.get(reference)
    assert store.latest(f"none_{uuid4().hex}") is None


def test_names_are_listed(open_one: Open, name: str) -> None:
    """Sorted, each once."""
    store = open_one()
    store.put(schema_of(f"{name}_b", int))
    store.put(schema_of(f"{name}_a", int))
    store.refresh()
    assert [each for each in store.names() if each.startswith(name)] == [f"{name}_a", f"{name}_b"]


class MemoryLog:
    """A log in memory; `before_append` is what others do between a look and a write."""

    def __init__(self) -> None:
        self.schemas: list[Schema] = []
        self.before_append: Callable[[], None] | None = None
        self.failure: BrokerError | None = None
        self.reads = 0

    def read(self) -> list[Schema]:
        if self.failure is not None:
            raise self.failure
        self.reads += 1
        return list(self.schemas)

    def append(self, schemas: Sequence[Schema]) -> None:
        if self.before_append is not None:
            hook, self.before_append = self.before_append, None
            hook()
        self.schemas += schemas

    def close(self) -> None: ...


def test_a_version_that_is_stored_anew_is_the_latest_and_counts_once() -> None:
    """As when a deploy is taken back, and differs in a default alone from what it was."""
    store = LoggedSchemas(MemoryLog())
    first, second = schema_of("charge", int, 1), schema_of("charge", str)
    again = schema_of("charge", int, 2)
    for schema in (first, second, again):
        store.put(schema)
    assert store.versions("charge") == [second, again]
    assert store.latest("charge") == again


def test_two_that_store_at_once_agree_on_the_first() -> None:
    """The second is refused, and puts the first one back: compaction keeps the last of a key."""
    two, four = schema_of("charge", MONEY_2), schema_of("charge", MONEY_4)
    log = MemoryLog()
    log.before_append = lambda: log.schemas.append(two)
    late = LoggedSchemas(log)
    with pytest.raises(SchemaConflict):
        late.put(four)
    assert log.schemas == [two, four, two]
    assert late.get(Fingerprint(four.fingerprint)) == two
    compacted = MemoryLog()
    compacted.schemas = log.schemas[-1:]
    assert LoggedSchemas(compacted).latest("charge") == two


def test_a_flood_of_unknown_schemas_does_not_read_the_log_for_each() -> None:
    """Once a second for each is enough, and what is known costs nothing."""
    clock, log = ManualClock(), MemoryLog()
    store = LoggedSchemas(log, clock)
    schema = schema_of("charge", int)
    for _ in range(5):
        with pytest.raises(UnknownSchema):
            store.get(Fingerprint(schema.fingerprint))
    assert log.reads <= 2
    log.append([schema])
    clock.advance(1.1)
    assert store.get(Fingerprint(schema.fingerprint)) == schema
    reads = log.reads
    store.get(Fingerprint(schema.fingerprint))
    assert log.reads == reads


def test_foreign_records_in_the_topic_are_passed_over(embedded: Settings) -> None:
    """What somebody wrote there by mistake stops nobody."""
    from taskstream.broker.sender import Sender

    topic = Names(f"test{uuid4().hex[:12]}").schemas
    sender = Sender(embedded, client_id="test")
    for value in (None, b"", b"no json", b'{"type": "nonsense"}'):
        sender.send(topic, value, key=b"k", headers=(), on_done=lambda _ack, _error: None)
    assert sender.close(10) == 0
    store = LoggedSchemas(TopicLog(embedded, topic))
    store.put(schema_of("charge", int))
    assert store.names() == ["charge"]


def test_a_log_that_cannot_be_read_is_no_unknown_schema() -> None:
    """The worker pauses; it doesn't send tasks to the dead letters. Once it can, it goes on."""
    log = MemoryLog()
    log.schemas.append(schema_of("charge", int))
    log.failure = BrokerError("Kafka is away")
    store = LoggedSchemas(log)
    reference = Fingerprint(log.schemas[0].fingerprint)
    with pytest.raises(BrokerError, match="Kafka is away"):
        store.get(reference)
    log.failure = None
    assert store.get(reference) == log.schemas[0]


def test_a_registry_that_cannot_be_asked_is_no_unknown_schema() -> None:
    """Down, or in trouble: SchemaError, which is neither UnknownSchema nor Undecodable."""
    fake = FakeRegistry(refusal=(500, "out of memory"))
    broken = RegistrySchemas("http://registry", fake.transport)
    down = RegistrySchemas("http://127.0.0.1:1")
    for store, words in ((broken, "answered 500.*out of memory"), (down, "can't be reached")):
        with pytest.raises(SchemaError, match=words) as caught:
            store.get(RegistryId(1))
        assert type(caught.value) is SchemaError
        assert caught.value.__cause__ is not None
        store.close()


def test_a_version_that_the_registry_refuses_is_a_conflict() -> None:
    """Its own compatibility rule comes first."""
    fake = FakeRegistry(refusal=(409, "incompatible with an earlier schema"))
    store = RegistrySchemas("http://registry", fake.transport)
    with pytest.raises(SchemaConflict, match="incompatible with an earlier schema"):
        store.put(schema_of("charge", int))


@pytest.mark.parametrize("answer", ["no json", "[]", "{}", '{"id": -1}'])
def test_a_server_that_is_no_registry_is_told_as_such(answer: str) -> None:
    """A proxy's login page, say."""
    store = RegistrySchemas("http://registry", FakeRegistry(refusal=(200, answer)).transport)
    with pytest.raises(SchemaError, match="Schema Registry"):
        store.put(schema_of("charge", int))


def test_a_registry_is_asked_once() -> None:
    """Both ways: a record costs no request."""
    fake = FakeRegistry()
    store = RegistrySchemas("http://registry/apis/v7", fake.transport)
    for _ in range(2):
        prefix = store.put(schema_of("charge", int))
        store.get(parse(prefix).reference)
    assert fake.asked == [
        "GET /apis/v7/subjects/charge/versions/latest",
        "POST /apis/v7/subjects/charge/versions",
        "GET /apis/v7/schemas/ids/1",
    ]


def test_settings_choose_the_store(embedded: Settings) -> None:
    """A registry where one is set, a file when embedded, else the topic; no broker is an error."""
    names = Names("shop")
    store = open_schemas(embedded, names)
    prefix = store.put(schema_of("charge", int))
    assert open_schemas(embedded, names).get(parse(prefix).reference).name == "charge"
    assert open_schemas(embedded, Names("other")).names() == []
    registry = open_schemas(
        Settings(bootstrap_servers="k:1", schema_registry_url="http://r"), names
    )
    assert isinstance(registry, RegistrySchemas)
    registry.close()
    assert isinstance(open_schemas(Settings(bootstrap_servers="k:1"), names), LoggedSchemas)
    with pytest.raises(ConfigError, match="bootstrap_servers"):
        open_schemas(Settings(), names)


@pytest.mark.parametrize("url", ["http://[", "registry:99999999"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """As a setting, by its name."""
    with pytest.raises(ConfigError, match="schema_registry_url"):
        RegistrySchemas(url)
