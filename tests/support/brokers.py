"""Brokers for tests: the embedded one and the real one, with fresh names for each test."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from taskstream.broker.sender import Ack, Sender
from taskstream.broker.topics import Topics, TopicSpec
from taskstream.core.envelope import Header, Place
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings

PARTITIONS = 4

NOBODY = "127.0.0.1:1"
"""Where no broker listens."""


@dataclass(slots=True)
class Broker:
    """A broker, and what one test may use of it.

    Args:
        settings: how to reach it.
        topic: a fresh topic with 4 partitions.
        group: a fresh group that has committed its start there.
    """

    settings: Settings
    topic: str
    group: str
    topics: Topics
    made: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[Place]:
        """The topic's partitions."""
        return [Place(self.topic, number) for number in range(PARTITIONS)]

    def send(
        self,
        records: Sequence[tuple[bytes | None, bytes]],
        headers: Sequence[Header] = (),
        partition: int = -1,
    ) -> list[Ack]:
        """Sends keys and values, waits for all, and gives their places in order."""
        outcomes: dict[int, Ack | None] = {}
        sender = Sender(self.settings, client_id="test-send")
        for number, (key, value) in enumerate(records):

            def report(ack: Ack | None, error: BrokerError | None, number: int = number) -> None:
                outcomes[number] = ack

            sender.send(
                self.topic, value, key=key, headers=headers, on_done=report, partition=partition
            )
        assert sender.close(30.0) == 0
        acks = [outcomes[number] for number in range(len(records))]
        return [ack for ack in acks if ack is not None]

    def create(self, name: str) -> None:
        """One more topic that goes away with the test."""
        self.topics.create([TopicSpec(name, PARTITIONS, 1)])
        self.made.append(name)


@pytest.fixture(scope="session")
def embedded_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an embedded broker that this test run shares."""
    directory = tmp_path_factory.mktemp("embedded")
    return Settings(bootstrap_servers="embedded", embedded_directory=str(directory))


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One broker of each kind in turn, with a fresh topic and group."""
    if request.param == "embedded":
        settings: Settings = request.getfixturevalue("embedded_settings")
    else:
        settings = Settings(bootstrap_servers=request.getfixturevalue("kafka"))
    with fresh(settings) as broker:
        yield broker


@contextmanager
def fresh(settings: Settings) -> Iterator[Broker]:
    """A fresh topic and group on that broker, which go away at the end."""
    name = f"t{uuid.uuid4().hex[:12]}.tasks.high"
    with Topics(settings) as topics:
        broker = Broker(settings, name, name, topics)
        topics.create([TopicSpec(name, PARTITIONS, 1)])
        topics.commit_start(name, name)
        yield broker
        if not settings.embedded:
            topics.delete([name, *broker.made])
