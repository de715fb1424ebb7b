"""Brokers for tests: the embedded one and the real one, with fresh names for each test."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from taskstream.broker.topics import Topics, TopicSpec
from taskstream.core.envelope import Place
from taskstream.core.settings import Settings

PARTITIONS = 4


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
    name = f"t{uuid.uuid4().hex[:12]}.tasks.high"
    with Topics(settings) as topics:
        fresh = Broker(settings, name, name, topics)
        topics.create([TopicSpec(name, PARTITIONS, 1)])
        topics.commit_start(name, name)
        yield fresh
        if not settings.embedded:
            topics.delete([name, *fresh.made])
