"""A listener that remembers what a group member was told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from taskstream.broker.group import Assigned, GroupConsumer
from taskstream.broker.records import Record
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from tests.support.brokers import Broker
from tests.support.eventually import eventually


@dataclass(slots=True)
class Heard:
    """Everything a listener was told, in order; and what to do when partitions are revoked."""

    assignments: list[Assigned] = field(default_factory=list)
    revocations: list[Place] = field(default_factory=list)
    losses: list[Place] = field(default_factory=list)
    commits: list[tuple[BrokerError | None, dict[Place, int]]] = field(default_factory=list)
    failures: list[tuple[BrokerError, bool]] = field(default_factory=list)
    on_revoked: Callable[[Sequence[Place]], None] | None = None
    on_assigned: Callable[[Sequence[Assigned]], None] | None = None

    def assigned(self, partitions: Sequence[Assigned]) -> None:
        self.assignments += partitions
        if self.on_assigned is not None:
            self.on_assigned(partitions)

    def revoked(self, places: Sequence[Place]) -> None:
        self.revocations += places
        if self.on_revoked is not None:
            self.on_revoked(places)

    def lost(self, places: Sequence[Place]) -> None:
        self.losses += places

    def committed(self, error: BrokerError | None, offsets: Mapping[Place, int]) -> None:
        self.commits.append((error, dict(offsets)))

    def failed(self, error: BrokerError, fatal: bool) -> None:
        self.failures.append((error, fatal))


class Member:
    """A group member that a test drives by hand.

    Args:
        broker: whose topic and group it takes.
        heard: what it is told.
        instance_id: its name, for a static member.
    """

    def __init__(
        self, broker: Broker, heard: Heard | None = None, *, instance_id: str | None = None
    ) -> None:
        self.heard = heard or Heard()
        self.records: list[Record] = []
        self.consumer = GroupConsumer(
            broker.settings,
            group=broker.group,
            topics=[broker.topic],
            client_id="test-member",
            listener=self.heard,
            instance_id=instance_id,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.consumer.close(10.0)

    def turn(self, limit: int = 1000, timeout: float = 0.1) -> list[Record]:
        """One `take`, remembered."""
        taken = self.consumer.take(limit, timeout)
        self.records += taken
        return taken

    def until(self, true: Callable[[], bool], timeout: float = 30.0) -> None:
        """Takes until something is true."""

        def look() -> bool:
            if true():
                return True
            self.turn()
            return true()

        eventually(look, timeout, every=0.0)
