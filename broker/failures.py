"""What Kafka's errors are called here: the border that no error of the client library crosses.

    BrokerError
    ├── TimedOut          no answer in time: the outcome is unknown
    ├── NotReady          a leader or coordinator is changing: nothing happened, try again
    ├── QueueFull         the local queue had no room in time: nothing was sent
    ├── RecordTooLarge    refused before or by the broker: nothing was stored
    ├── UnknownTopic      the topic does not exist
    ├── ClientLost        a client has lost all brokers, which are there: a new one is needed
    ├── NotOwner          the group has given the partition to somebody else
    └── OffsetLost        records that were not read yet are gone, or nobody knows where to start

Each message says what was being done, what Kafka answered, and what to do where that is known.
"""

from typing import TYPE_CHECKING

from taskstream.core.errors import BrokerError, ConfigError
from taskstream.core.secrets import without

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

    from taskstream.core.settings import Settings


class TimedOut(BrokerError):
    """No answer in time: what was asked for may or may not have happened."""


class NotReady(BrokerError):
    """A leader or coordinator is changing: nothing happened, and the same request may work soon."""


class QueueFull(BrokerError):
    """The client's own queue had no room in time: nothing was sent."""


class RecordTooLarge(BrokerError):
    """The record exceeds what the client or the topic allows: nothing was stored."""


class UnknownTopic(BrokerError):
    """The topic does not exist."""


class ClientLost(BrokerError):
    """A client has lost all brokers, though they can be reached: only a new one helps."""


class NotOwner(BrokerError):
    """The group has given the partition to somebody else, or has put this member out."""


class OffsetLost(BrokerError):
    """Records that were not read yet are gone, or there is no offset to start at."""


def broker_error(error: "KafkaError | BaseException", doing: str) -> BrokerError:
    """The error of ours for one of Kafka's.

    Args:
        error: a KafkaError, or the exception that carries one.
        doing: what was being done, to start the message with ("committing shop.tasks.high/3").
    """
    kafka_error = _unwrap(error)
    if kafka_error is None:
        return BrokerError(f"{doing}: {error}")
    name = root_name(kafka_error)
    kind = _KINDS.get(name, BrokerError)
    hint = _HINTS.get(name, "")
    return kind(f"{doing}: {kafka_error.str()} ({name}){hint}")


def client_refused(
    error: BaseException, settings: "Settings", what: str = "a Kafka client"
) -> ConfigError:
    """The error of ours for options that the client library does not take; it shows no secret.

    Args:
        error: what the library raised.
        settings: with the options.
        what: which client, to start the message with.
    """
    return ConfigError(f"{what}: {without(str(error), settings.kafka)}; look at the kafka settings")


def root_name(error: "KafkaError") -> str:
    """Kafka's name of an error; of a fatal one, the name of what it came from.

    The client reports every fatal error of a group member as `_FATAL`, and tells the cause in the
    text alone: in the words that it has for that cause.
    """
    if error.name() == "_FATAL":
        for name in _FATAL_CAUSES:
            if type(error)(getattr(error, name)).str() in error.str():
                return name
    return error.name()


def _unwrap(error: "KafkaError | BaseException") -> "KafkaError | None":
    if not isinstance(error, BaseException):
        return error
    carried = error.args[0] if error.args else None
    return carried if hasattr(carried, "name") and hasattr(carried, "str") else None


_KINDS: dict[str, type[BrokerError]] = {
    "_TIMED_OUT": TimedOut,
    "_TIMED_OUT_QUEUE": TimedOut,
    "_MSG_TIMED_OUT": TimedOut,
    "REQUEST_TIMED_OUT": TimedOut,
    "_TRANSPORT": TimedOut,
    "_ALL_BROKERS_DOWN": TimedOut,
    "NOT_LEADER_FOR_PARTITION": NotReady,
    "LEADER_NOT_AVAILABLE": NotReady,
    "FENCED_LEADER_EPOCH": NotReady,
    "UNKNOWN_LEADER_EPOCH": NotReady,
    "OFFSET_NOT_AVAILABLE": NotReady,
    "NOT_COORDINATOR": NotReady,
    "COORDINATOR_NOT_AVAILABLE": NotReady,
    "COORDINATOR_LOAD_IN_PROGRESS": NotReady,
    "UNSTABLE_OFFSET_COMMIT": NotReady,
    "_WAIT_COORD": NotReady,
    "_PURGE_QUEUE": NotReady,
    "_PURGE_INFLIGHT": TimedOut,
    "_QUEUE_FULL": QueueFull,
    "MSG_SIZE_TOO_LARGE": RecordTooLarge,
    "RECORD_LIST_TOO_LARGE": RecordTooLarge,
    "INVALID_MSG_SIZE": RecordTooLarge,
    "_UNKNOWN_TOPIC": UnknownTopic,
    "_UNKNOWN_PARTITION": UnknownTopic,
    "UNKNOWN_TOPIC_OR_PART": UnknownTopic,
    "UNKNOWN_TOPIC_ID": UnknownTopic,
    "UNKNOWN_MEMBER_ID": NotOwner,
    "ILLEGAL_GENERATION": NotOwner,
    "STALE_MEMBER_EPOCH": NotOwner,
    "FENCED_MEMBER_EPOCH": NotOwner,
    "FENCED_INSTANCE_ID": NotOwner,
    "UNRELEASED_INSTANCE_ID": NotOwner,
    "REBALANCE_IN_PROGRESS": NotOwner,
    "_MAX_POLL_EXCEEDED": NotOwner,
    "_AUTO_OFFSET_RESET": OffsetLost,
    "OFFSET_OUT_OF_RANGE": OffsetLost,
}

_FATAL_CAUSES = (
    "FENCED_INSTANCE_ID",
    "UNRELEASED_INSTANCE_ID",
    "UNSUPPORTED_VERSION",
    "UNSUPPORTED_ASSIGNOR",
    "GROUP_AUTHORIZATION_FAILED",
    "GROUP_MAX_SIZE_REACHED",
)

_NAME_TAKEN = (
    "; another live worker has this instance name: give each a name of its own, or stop one"
)

_HINTS = {
    "_TRANSPORT": "; is Kafka up, and bootstrap_servers right?",
    "_ALL_BROKERS_DOWN": "; is Kafka up, and bootstrap_servers right?",
    "_RESOLVE": "; check the host names in bootstrap_servers",
    "_UNKNOWN_TOPIC": "; `taskstream init` creates topics",
    "_UNKNOWN_PARTITION": "; `taskstream init` creates topics",
    "UNKNOWN_TOPIC_OR_PART": "; `taskstream init` creates topics",
    "UNSUPPORTED_VERSION": '; for brokers before 4.0 set kafka={"group.protocol": "classic"}',
    "FENCED_INSTANCE_ID": _NAME_TAKEN,
    "UNRELEASED_INSTANCE_ID": _NAME_TAKEN,
    "GROUP_AUTHORIZATION_FAILED": "; allow READ on the group",
}
