"""Topics and group offsets from outside: creating, measuring, and where a group starts.

Nothing here joins a group. The embedded broker creates a topic when it is asked about by name,
always with 4 partitions; configuration, deletion and look-ups by time are unknown to it.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from taskstream.broker.embedded import address
from taskstream.broker.failures import (
    NotReady,
    OffsetLost,
    TimedOut,
    UnknownTopic,
    broker_error,
    client_refused,
)
from taskstream.broker.offset_codec import decode, encode
from taskstream.broker.offsets import Progress
from taskstream.broker.settings import admin_options, reader_options
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings

_TIMEOUT = 15.0
_LOOK_AGAIN = 0.02


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    Args:
        name: its name.
        partitions: how many.
        replication: replicas of each; -1 for the broker's default.
        config: the broker's names and values, as text.
    """

    name: str
    partitions: int
    replication: int = -1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What `Topics.create` found or did.

    Args:
        name: the topic.
        created: whether it was created just now.
        drift: how an existing one differs from its spec, in plain words; empty where it doesn't.
    """

    name: str
    created: bool
    drift: tuple[str, ...] = ()


class Topics:
    """Asks and tells Kafka about topics and offsets. Methods block, for 15 seconds at most each.

    Use it as a context manager, or call `close`. Every method raises BrokerError where Kafka
    refuses or can't be reached, and UnknownTopic where a topic does not exist.

    Args:
        settings: where Kafka is.
        client_id: how the broker's logs call this client.
        clock: measures waits.

    Raises:
        ConfigError: an option is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client_id: str = "taskstream-topics",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._client_id = client_id
        self._servers = address(settings)
        self._reader = self._connect("")
        self._groups: dict[str, Consumer] = {}
        self._admin_client: AdminClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, specs: Sequence[TopicSpec]) -> list[TopicReport]:
        """Creates what does not exist, and says how the rest differs; safe to run again."""
        if self._settings.embedded:
            before = set(self.names())
            for spec in specs:
                self.partitions(spec.name)
            return [TopicReport(spec.name, created=spec.name not in before) for spec in specs]
        wanted = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=spec.replication,
                config=dict(spec.config),
            )
            for spec in specs
        ]
        outcomes = self._admin.create_topics(wanted, request_timeout=_TIMEOUT) if wanted else {}
        existing = [spec for spec in specs if not self._was_created(spec.name, outcomes)]
        self._await_leaders([spec.name for spec in specs])
        drift = self.drift(existing) if existing else {}
        return [
            TopicReport(spec.name, spec.name not in drift, drift.get(spec.name, ()))
            for spec in specs
        ]

    def drift(self, specs: Sequence[TopicSpec]) -> dict[str, tuple[str, ...]]:
        """How existing topics differ from their specs, in plain words, by name; empty where they don't.

        The embedded broker knows no configuration, so nothing differs there.
        """
        if self._settings.embedded:
            return {spec.name: () for spec in specs}
        resources = {spec.name: ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs}
        answers = self._admin.describe_configs(list(resources.values()), request_timeout=_TIMEOUT)
        topics = self._ask("listing topics", lambda: self._admin.list_topics(timeout=_TIMEOUT))
        drift = {}
        for spec in specs:
            entries = self._wait(answers[resources[spec.name]], f"reading config of {spec.name}")
            partitions = topics.topics[spec.name].partitions
            replicas = len(partitions[0].replicas)
            found = []
            if len(partitions) != spec.partitions:
                found.append(f"has {len(partitions)} partitions, not {spec.partitions}")
            if spec.replication > 0 and replicas != spec.replication:
                found.append(f"has {replicas} replicas, not {spec.replication}")
            for name, value in spec.config.items():
                actual = entries[name].value if name in entries else None
                if actual != value:
                    found.append(f"{name} is {actual}, not {value}")
            drift[spec.name] = tuple(found)
        return drift

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings of topics by their names in Kafka; those that do not exist are left out.

        The embedded broker knows no settings, and has none to tell.
        """
        if self._settings.embedded:
            return {}
        known = set(self.names())
        resources = {
            name: ConfigResource(ResourceType.TOPIC, name) for name in names if name in known
        }
        if not resources:
            return {}
        answers = self._admin.describe_configs(list(resources.values()), request_timeout=_TIMEOUT)
        return {
            name: {
                entry.name: entry.value
                for entry in self._wait(answers[resource], f"reading config of {name}").values()
                if entry.value is not None
            }
            for name, resource in resources.items()
        }

    def delete(self, names: Sequence[str]) -> None:
        """Deletes topics with all their records; those that don't exist are passed over."""
        if self._settings.embedded:
            raise BrokerError("the embedded broker can't delete topics: they end with its process")
        if not names:
            return
        for name, outcome in self._admin.delete_topics(
            list(names), request_timeout=_TIMEOUT
        ).items():
            try:
                outcome.result()
            except KafkaException as error:
                failure = broker_error(error, f"deleting topic {name}")
                if not isinstance(failure, UnknownTopic):
                    raise failure from error

    def names(self, prefix: str = "") -> list[str]:
        """The topics that this client may see and whose names begin so, in order of the alphabet."""
        found = self._ask(
            "listing topics", lambda: self._admin.list_topics(timeout=_TIMEOUT).topics
        )
        return sorted(name for name in found if name.startswith(prefix))

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        # Only a client that may create topics can touch the embedded broker's into being.
        client: Any = self._admin if self._settings.embedded else self._reader
        found = self._ask(
            f"looking up topic {topic}",
            lambda: client.list_topics(topic, timeout=_TIMEOUT).topics[topic],
        )
        if found.error is not None:
            raise broker_error(found.error, f"looking up topic {topic}")
        return len(found.partitions)

    def begin_offsets(self, topic: str) -> dict[Place, int]:
        """The first offset that each partition still has."""
        return {place: low for place, (low, _) in self.ranges(topic).items()}

    def end_offsets(self, topic: str) -> dict[Place, int]:
        """The offset that each partition's next record will have."""
        return {place: high for place, (_, high) in self.ranges(topic).items()}

    def ranges(self, topic: str) -> dict[Place, tuple[int, int]]:
        """First and end offset of each partition, fresh from the broker."""
        ranges = {}
        for number in range(self.partitions(topic)):
            wanted = TopicPartition(topic, number)
            ranges[Place(topic, number)] = self._ask(
                f"looking up offsets of {topic}/{number}",
                partial(self._reader.get_watermark_offsets, wanted, timeout=_TIMEOUT),
                # The broker has just told of this partition: the client's own list forgets it for a
                # moment when it reconnects, after a restart of the broker above all.
                passing=(NotReady, UnknownTopic),
            )
        return ranges

    def offsets_at(self, topic: str, seconds: float) -> dict[Place, int]:
        """The first offset of each partition whose record is not older than `seconds` since 1970.

        Where all are older, the end of the partition. Not known to the embedded broker.
        """
        if self._settings.embedded:
            raise BrokerError("the embedded broker can't look up offsets by time")
        # Upwards, so that nothing older is found; but not by what a float has after the microsecond.
        milliseconds = math.ceil(seconds * 1000 - 0.001)
        outcomes = self._admin.list_offsets(
            {
                TopicPartition(topic, partition): OffsetSpec.for_timestamp(milliseconds)
                for partition in range(self.partitions(topic))
            },
            request_timeout=_TIMEOUT,
        )
        ends = self.end_offsets(topic)
        found = {}
        for partition, outcome in outcomes.items():
            place = Place(partition.topic, partition.partition)
            offset = self._wait(outcome, f"looking up offsets of {place} by time").offset
            found[place] = offset if offset >= 0 else ends[place]
        return found

    def committed(self, group: str, topic: str) -> dict[Place, int | None]:
        """The group's committed offset of each partition; None where there is none."""
        return {
            place: None if commit is None else commit[0]
            for place, commit in self._commits(group, topic).items()
        }

    def progress(self, group: str, topic: str) -> dict[Place, Progress | None]:
        """What the group's last commit says of each partition; None where it is none of ours."""
        return {
            place: None if commit is None else decode(*commit)
            for place, commit in self._commits(group, topic).items()
        }

    def _commits(self, group: str, topic: str) -> dict[Place, tuple[int, str] | None]:
        places = [TopicPartition(topic, number) for number in range(self.partitions(topic))]
        doing = f"looking up offsets of group {group}"
        found = self._ask(doing, lambda: self._of_group(group).committed(places, timeout=_TIMEOUT))
        commits: dict[Place, tuple[int, str] | None] = {}
        for partition in found:
            if partition.error is not None:
                raise broker_error(partition.error, doing)
            commit = (partition.offset, partition.metadata or "") if partition.offset >= 0 else None
            commits[Place(topic, partition.partition)] = commit
        return commits

    def commit_start(
        self, group: str, topic: str, at: Literal["begin", "end"] = "begin"
    ) -> dict[Place, int]:
        """Commits a starting offset for every partition that has none, so that a loss is seen later.

        Args:
            group: the consumer group; while it has members, only they may commit.
            topic: what it reads.
            at: the partition's first record, or its end.

        Returns:
            What was committed; empty where the group had an offset for every partition.
        """
        missing = [
            place for place, offset in self.committed(group, topic).items() if offset is None
        ]
        if not missing:
            return {}
        ranges = self.ranges(topic)
        starts = {place: ranges[place][at == "end"] for place in missing}
        self._commit(
            group,
            # Where nothing lies ahead, nothing can have been given out, and the metadata says so: no
            # look-ups at the start. Records that are there may be those of a group whose offsets were
            # lost, and may be finished: their first owner looks.
            {
                place: (start, encode(Progress.at(start)) if start == ranges[place][1] else "")
                for place, start in starts.items()
            },
        )
        return starts

    def commit(
        self, group: str, offsets: Mapping[Place, int], notes: Mapping[Place, str] | None = None
    ) -> None:
        """Sets offsets of a group that has no members; its next owners look up what was started.

        Args:
            group: the consumer group.
            offsets: by partition.
            notes: by partition, what is kept beside its offset, 4,096 bytes at most; for groups that
                never have members.
        """
        told = notes or {}
        self._commit(
            group, {place: (offset, told.get(place, "")) for place, offset in offsets.items()}
        )

    def noted(self, group: str) -> dict[Place, tuple[int, str]]:
        """Every committed offset of a group, whatever the topic, and the note beside it.

        Not known to the embedded broker.
        """
        if self._settings.embedded:
            raise BrokerError("the embedded broker can't list what a group has committed")
        doing = f"looking up offsets of group {group}"
        asked = [ConsumerGroupTopicPartitions(group)]
        outcome = self._admin.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT)[group]
        found = {}
        for partition in self._wait(outcome, doing).topic_partitions:
            if partition.error is not None:
                raise broker_error(partition.error, doing)
            if partition.offset >= 0:
                place = Place(partition.topic, partition.partition)
                found[place] = (partition.offset, partition.metadata or "")
        return found

    def groups(self, prefix: str) -> list[str]:
        """The groups whose names begin so, in order of the alphabet. Not known to the embedded broker."""
        if self._settings.embedded:
            raise BrokerError("the embedded broker can't list groups")
        outcome = self._admin.list_consumer_groups(request_timeout=_TIMEOUT)
        listed = self._wait(outcome, "listing groups").valid
        return sorted(one.group_id for one in listed if one.group_id.startswith(prefix))

    def _commit(self, group: str, offsets: Mapping[Place, tuple[int, str]]) -> None:
        doing = f"setting offsets of group {group}"
        wanted = [
            TopicPartition(place.topic, place.partition, offset, metadata)
            for place, (offset, metadata) in offsets.items()
        ]
        outcome = self._ask(
            doing, lambda: self._of_group(group).commit(offsets=wanted, asynchronous=False)
        )
        for partition in outcome or ():
            if partition.error is not None:
                raise broker_error(partition.error, f"{doing}: {partition.topic}")

    def lag(self, group: str, topic: str) -> dict[Place, int]:
        """How many offsets of each partition the group has not finished.

        Raises:
            OffsetLost: a partition has no committed offset, so nobody knows.
        """
        return {place: end - start for place, (start, end) in self.behind(group, topic).items()}

    def behind(self, group: str, topic: str) -> dict[Place, tuple[int, int]]:
        """From which offset to which end of each partition the group has not finished.

        Raises:
            OffsetLost: a partition has no committed offset, so nobody knows.
        """
        ranges = self.ranges(topic)
        behind = {}
        for place, offset in self.committed(group, topic).items():
            low, high = ranges[place]
            if offset is None:
                if not self._settings.embedded:
                    raise OffsetLost(
                        f"group {group} has no committed offset for {place}: `taskstream init` "
                        "commits starting offsets"
                    )
                offset = low  # noqa: PLW2901 - where its members will start
            # What retention has deleted can't be done any more; a commit may be ahead of a range
            # that was asked for before it.
            start = min(max(offset, low), high)
            behind[place] = (start, high)
        return behind

    def close(self) -> None:
        """Lets the connections go."""
        for reader in (self._reader, *self._groups.values()):
            reader.close()
        self._groups.clear()

    @property
    def _admin(self) -> Any:
        """Opened at its first use: most look-ups do without."""
        if self._admin_client is None:
            options = admin_options(self._settings, self._servers, client_id=self._client_id)
            try:
                client = AdminClient(options)
            except (KafkaException, ValueError, TypeError) as error:
                raise client_refused(error, self._settings) from error
            # What is asked of a client that has not found its brokers yet waits until it looks for them
            # again: 3 s, in half of all cases (measured). So first it finds them.
            self._ask("listing topics", lambda: client.list_topics(timeout=_TIMEOUT))
            self._admin_client = client
        return self._admin_client

    def _connect(self, group: str) -> Consumer:
        options = reader_options(
            self._settings, self._servers, client_id=self._client_id, group=group
        )
        try:
            return Consumer(options)
        except (KafkaException, ValueError, TypeError) as error:
            raise client_refused(error, self._settings) from error

    def _of_group(self, group: str) -> Consumer:
        if group not in self._groups:
            self._groups[group] = self._connect(group)
        return self._groups[group]

    def _ask(
        self,
        doing: str,
        request: Callable[[], Any],
        *,
        passing: tuple[type[BrokerError], ...] = (NotReady,),
    ) -> Any:
        give_up_at = self._clock.monotonic() + _TIMEOUT
        while True:
            try:
                return request()
            except (KafkaException, RuntimeError) as error:
                failure = broker_error(error, doing)
                # A topic's leaders may move for a moment, above all when it is new.
                if not isinstance(failure, passing) or self._clock.monotonic() > give_up_at:
                    raise failure from error
                time.sleep(_LOOK_AGAIN)

    def _wait(self, outcome: "Future[Any]", doing: str) -> Any:
        return self._ask(doing, lambda: outcome.result(_TIMEOUT))

    def _was_created(self, name: str, outcomes: "Mapping[str, Future[Any]]") -> bool:
        try:
            outcomes[name].result(_TIMEOUT)
        except KafkaException as error:
            if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                return False
            raise broker_error(error, f"creating topic {name}") from error
        return True

    def _await_leaders(self, names: Sequence[str]) -> None:
        """Waits until created topics can be used: brokers learn of them after the answer."""
        give_up_at = self._clock.monotonic() + _TIMEOUT
        missing = list(names)
        while missing:
            if self._clock.monotonic() > give_up_at:
                raise TimedOut(f"topics without a leader {_TIMEOUT:g} s after creation: {missing}")
            known = self._ask(
                "listing topics", lambda: self._reader.list_topics(timeout=_TIMEOUT).topics
            )
            missing = [name for name in names if not _has_leaders(known.get(name))]
            if missing:
                time.sleep(_LOOK_AGAIN)


def _has_leaders(topic: Any) -> bool:
    if topic is None or topic.error is not None or not topic.partitions:
        return False
    return all(partition.leader >= 0 for partition in topic.partitions.values())
