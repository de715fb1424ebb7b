"""Options of the Kafka clients: pure functions from settings to what librdkafka is told.

What the promises need is set here (acknowledged by all replicas, no automatic commit, no silent
jump after lost offsets); `settings.kafka` is merged last, so a user's option always wins.
"""

import logging
from typing import Any

from taskstream.core.envelope import HEADER_ROOM_BYTES
from taskstream.core.errors import ConfigError
from taskstream.core.settings import Settings

Options = dict[str, Any]

RECORD_LIMIT_BYTES = 1_000_000
"""The largest record `publish` accepts unless `kafka={"message.max.bytes": …}` says otherwise."""

HANDOFF_ROOM_BYTES = 2 * HEADER_ROOM_BYTES
"""How much more than a task topic the delay and dead topics allow, for the headers of hand-offs."""

FETCH_WAIT = 0.25
"""Seconds that a broker holds back the answer to a member that it has nothing new for.

A new record ends that wait; a partition that is resumed sits it out, and comes back after half of it or so
(measured: 64 ms with 0.1, 212 ms with the client's own 0.5). Each answer costs the member some 80 µs, for
as long as it lives: with 0.1 an idle worker takes 1.1 % of a core, with this 0.9 %.
"""

_CLASSIC_ONLY = frozenset(
    {"session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"}
)

KAFKA_LOGGER = "taskstream.kafka"
"""Where the client library's own log lines go."""

# A process that has not set up logging gets our errors, not the client's chatter beside them.
logging.getLogger(KAFKA_LOGGER).addHandler(logging.NullHandler())


def _not_a_held_name(record: logging.LogRecord) -> bool:
    # Each try to join under a name that is held ends with this line, once a second in each group, for a
    # minute. `Joining` tells of it once, and the last refusal ends the worker.
    return "instance ID is still used by another member" not in record.getMessage()


logging.getLogger(KAFKA_LOGGER).addFilter(_not_a_held_name)

_OF_MEMBERS = (
    "group.protocol", "group.instance.id", "partition.assignment.strategy", "session.timeout.ms",
    "heartbeat.interval.ms", "max.poll.interval.ms",
)  # fmt: skip
"""Options of group members: no business of any other client, which would refuse them or warn."""


def producer_options(
    settings: Settings, address: str, *, client_id: str, room_bytes: int = 0
) -> Options:
    """Options of a producer whose acknowledgement means: stored by all in-sync replicas, once.

    Args:
        settings: `publish_timeout` bounds how long a record may wait for its acknowledgement.
        address: `host:port,…` of the brokers.
        client_id: how the broker's logs and quotas call this client.
        room_bytes: how much larger than a published record a record may be (hand-offs).
    """
    options = {
        "acks": "all",
        "enable.idempotence": True,
        # The same partition for a key as Java's producers choose.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        # Under load records group by themselves while five requests are under way; alone, one
        # leaves at once (a round trip of 0.1 ms on the embedded broker, 1.2 ms with a linger of 1).
        "linger.ms": 0,
        "message.timeout.ms": max(1, round(settings.publish_timeout * 1000)),
        # How long a missing topic may be one that was created a moment ago.
        "topic.metadata.propagation.max.ms": 5000,
        "queue.buffering.max.messages": 200_000,
        "queue.buffering.max.kbytes": 256 * 1024,
        **_common(settings, address, client_id),
    }
    options["message.max.bytes"] = record_limit_bytes(settings) + room_bytes
    return options


def consumer_options(
    settings: Settings,
    address: str,
    *,
    group: str,
    client_id: str,
    protocol: str = "consumer",
    instance_id: str | None = None,
    fetch_wait: float = FETCH_WAIT,
) -> Options:
    """Options of a group member that commits by hand and prefetches little.

    Args:
        settings: the settings; where `kafka` names a group protocol, that counts.
        address: `host:port,…` of the brokers.
        group: the consumer group.
        client_id: how the broker's logs and quotas call this member.
        protocol: the group protocol, "consumer" or "classic".
        instance_id: the member's name in static membership; None for a dynamic member.
        fetch_wait: see `FETCH_WAIT`.

    Raises:
        ConfigError: `settings.kafka` asks for an assignment strategy that stops the world, or for
            what the new protocol leaves to the brokers.
    """
    options = {
        "group.id": group,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # `latest` would skip and `earliest` would repeat after a loss, both in silence.
        "auto.offset.reset": "error",
        # Small prefetch: what waits here can't be chosen by priority any more.
        "queued.min.messages": 1000,
        "queued.max.messages.kbytes": 4096,
        # One fetch brings so much of each partition, compressed, whatever the two above say: at the
        # default of 1 MiB some 80,000 small records, and 50 MiB of memory.
        "max.partition.fetch.bytes": 64 * 1024,
        # After a full prefetch queue the default would look again only a second later.
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": round(fetch_wait * 1000),
        **_common(settings, address, client_id),
        **settings.kafka,
    }
    if instance_id is not None:
        options["group.instance.id"] = instance_id
    if options["group.protocol"] == "classic":
        strategy = options.setdefault("partition.assignment.strategy", "cooperative-sticky")
        if strategy != "cooperative-sticky":
            raise ConfigError(
                f'kafka={{"partition.assignment.strategy": {strategy!r}}} takes every partition '
                'from every worker at each rebalance: leave it out, or use "cooperative-sticky"'
            )
    elif classic := sorted(_CLASSIC_ONLY & settings.kafka.keys()):
        raise ConfigError(
            f'kafka={{"{classic[0]}": …}} is for the classic group protocol: leave it out, for the '
            'brokers decide it in the new one, or add "group.protocol": "classic"'
        )
    return options


def reader_options(settings: Settings, address: str, *, client_id: str, group: str = "") -> Options:
    """Options of a client that reads partitions by itself, without joining a group.

    Args:
        settings: the settings.
        address: `host:port,…` of the brokers.
        client_id: how the broker's logs and quotas call this client.
        group: the group whose offsets it looks up or commits; empty for none.
    """
    return {
        # The client library insists on a group, though one that never commits leaves no trace.
        "group.id": group or "taskstream.reader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": 16 * 1024,
        "fetch.queue.backoff.ms": 10,
        **_common(settings, address, client_id),
    }


def admin_options(settings: Settings, address: str, *, client_id: str) -> Options:
    """Options of an admin client."""
    return _common(settings, address, client_id)


def record_limit_bytes(settings: Settings) -> int:
    """The largest record that `publish` accepts: key, value and headers with their overhead."""
    return int(settings.kafka.get("message.max.bytes", RECORD_LIMIT_BYTES))


def _common(settings: Settings, address: str, client_id: str) -> Options:
    return {
        "bootstrap.servers": address,
        "client.id": client_id,
        "logger": logging.getLogger(KAFKA_LOGGER),
        # A broker that comes back is found within a second, not ten.
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        **{name: value for name, value in settings.kafka.items() if name not in _OF_MEMBERS},
    }
