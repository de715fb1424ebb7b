"""What a Kafka cluster says of itself, and which client library asks."""

from dataclasses import dataclass
from enum import StrEnum

import confluent_kafka
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

from taskstream.broker.embedded import address
from taskstream.broker.failures import NotReady, TimedOut, broker_error, client_refused
from taskstream.broker.settings import admin_options
from taskstream.core.settings import Settings

SESSION_TIMEOUT = 45.0
"""Kafka's default for both group protocols, in seconds."""

_PROTOCOLS = "group.coordinator.rebalance.protocols"
_SESSION_TIMEOUT = "group.consumer.session.timeout.ms"


class GroupProtocol(StrEnum):
    """How members of a group agree who owns what; the values are librdkafka's."""

    CONSUMER = "consumer"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster at this moment.

    Args:
        brokers: `host:port` of each that is there.
        protocols: the group protocols that it speaks ("classic", "consumer"); empty where it does
            not say: before Kafka 3.7, where its settings may not be read, and embedded.
        session_timeout: seconds that it allows a silent member of a KIP-848 group; Kafka's default where
            it does not say.
    """

    brokers: tuple[str, ...]
    protocols: tuple[str, ...]
    session_timeout: float = SESSION_TIMEOUT

    @property
    def protocol(self) -> GroupProtocol:
        """Which one our members speak there unless told otherwise: the new one where it is known."""
        new = GroupProtocol.CONSUMER in self.protocols
        return GroupProtocol.CONSUMER if new else GroupProtocol.CLASSIC


def look_at(settings: Settings, timeout: float = 10.0) -> Cluster:
    """Asks the cluster.

    Args:
        settings: where it is.
        timeout: seconds for each of two questions.

    Raises:
        BrokerError: it does not answer in time.
        ConfigError: no broker is configured.
    """
    admin, brokers = _ask(settings, timeout)
    told = {} if settings.embedded else _settings_of(admin, min(brokers), timeout)
    protocols = told.get(_PROTOCOLS, "").split(",")
    silence = told.get(_SESSION_TIMEOUT)
    return Cluster(
        tuple(brokers.values()),
        tuple(filter(None, protocols)),
        SESSION_TIMEOUT if silence is None else float(silence) / 1000,
    )


def session_timeout(settings: Settings, cluster: Cluster | None) -> float:
    """After how many seconds a group takes a silent member of ours to be gone: the shortest that may be.

    Which group protocol will be spoken is not known before; so it is the member's own option (classic)
    or the broker's (KIP-848), whichever is shorter.

    Args:
        settings: `kafka` may name the member's.
        cluster: what the brokers say; None where they don't, for Kafka's default.
    """
    classic = float(settings.kafka.get("session.timeout.ms", SESSION_TIMEOUT * 1000)) / 1000
    if settings.embedded:
        return classic
    return min(classic, SESSION_TIMEOUT if cluster is None else cluster.session_timeout)


def reach(settings: Settings, timeout: float) -> None:
    """Asks through a new client whether any broker is there.

    Args:
        settings: where the cluster is.
        timeout: seconds.

    Raises:
        BrokerError: none is, or none says so in time.
    """
    _ask(settings, timeout)


def client_version() -> str:
    """The version of the Kafka client library underneath, as text."""
    return str(confluent_kafka.libversion()[0])


def _ask(settings: Settings, timeout: float) -> tuple[AdminClient, dict[int, str]]:
    """A new client, and `host:port` of each broker by its number; one at least."""
    doing = f"asking {settings.bootstrap_servers}"
    options = admin_options(settings, address(settings), client_id="taskstream-look")
    try:
        admin = AdminClient(options)
    except (KafkaException, ValueError, TypeError) as error:
        raise client_refused(error, settings) from error
    try:
        brokers = admin.list_topics(timeout=timeout).brokers
    except KafkaException as error:
        raise broker_error(error, doing) from error
    if not brokers:  # so says one that has just been fenced
        raise NotReady(f"{doing}: the answer names no broker")
    return admin, {number: f"{broker.host}:{broker.port}" for number, broker in brokers.items()}


def _settings_of(admin: AdminClient, broker: int, timeout: float) -> dict[str, str]:
    """A broker's settings by name; none where they may not be read."""
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    doing = f"asking broker {broker} for its settings"
    answer = admin.describe_configs([resource], request_timeout=timeout)[resource]
    try:
        entries = answer.result(timeout)
    except TimeoutError as error:
        raise TimedOut(f"{doing}: no answer in {timeout:g} s") from error
    except KafkaException as error:
        failure = broker_error(error, doing)
        if isinstance(failure, TimedOut | NotReady):
            raise failure from error
        return {}  # not everyone may read a broker's settings
    return {name: entry.value for name, entry in entries.items() if entry.value is not None}
