"""What the Kafka clients are told, and that a user's options win."""

import logging

import pytest

from taskstream.broker.settings import (
    HANDOFF_ROOM_BYTES,
    KAFKA_LOGGER,
    RECORD_LIMIT_BYTES,
    admin_options,
    consumer_options,
    producer_options,
    reader_options,
    record_limit_bytes,
)
from taskstream.core.errors import ConfigError
from taskstream.core.settings import Settings

SETTINGS = Settings(bootstrap_servers="ignored:1", publish_timeout=2.5)


def test_a_producer_waits_for_all_replicas() -> None:
    """Acknowledged means stored by all in-sync replicas, once, within the publish time-out."""
    options = producer_options(SETTINGS, "k:9092", client_id="c")

    assert options["bootstrap.servers"] == "k:9092"
    assert options["acks"] == "all"
    assert options["enable.idempotence"] is True
    assert options["partitioner"] == "murmur2_random"
    assert options["message.timeout.ms"] == 2500


def test_a_member_commits_by_hand_and_never_jumps() -> None:
    """Nothing is committed or skipped behind our back."""
    options = consumer_options(SETTINGS, "k:9092", group="g", client_id="c", instance_id="i")

    assert options["enable.auto.commit"] is False
    assert options["enable.auto.offset.store"] is False
    assert options["auto.offset.reset"] == "error"
    assert options["group.protocol"] == "consumer"
    assert options["group.instance.id"] == "i"


@pytest.mark.parametrize("of", ["producer", "consumer", "reader", "admin"])
def test_a_users_options_win(of: str) -> None:
    """`settings.kafka` is merged last, for every kind of client."""
    settings = Settings(kafka={"security.protocol": "SSL", "client.id": "mine"})
    options = {
        "producer": lambda: producer_options(settings, "k", client_id="c"),
        "consumer": lambda: consumer_options(settings, "k", group="g", client_id="c"),
        "reader": lambda: reader_options(settings, "k", client_id="c"),
        "admin": lambda: admin_options(settings, "k", client_id="c"),
    }[of]()

    assert options["security.protocol"] == "SSL"
    assert options["client.id"] == "mine"


def test_the_classic_protocol_moves_partitions_one_by_one() -> None:
    """For older brokers; a strategy that stops every worker at each rebalance is refused."""
    classic = Settings(kafka={"group.protocol": "classic"})
    options = consumer_options(classic, "k", group="g", client_id="c")
    assert options["partition.assignment.strategy"] == "cooperative-sticky"

    eager = Settings(kafka={"group.protocol": "classic", "partition.assignment.strategy": "range"})
    with pytest.raises(ConfigError, match=r"partition\.assignment\.strategy"):
        consumer_options(eager, "k", group="g", client_id="c")


def test_the_protocol_is_the_callers_unless_the_user_names_one() -> None:
    """What was found out about the brokers gives way to what was asked for."""
    chosen = consumer_options(SETTINGS, "k", group="g", client_id="c", protocol="classic")
    assert chosen["group.protocol"] == "classic"
    assert chosen["partition.assignment.strategy"] == "cooperative-sticky"

    asked = Settings(kafka={"group.protocol": "consumer"})
    options = consumer_options(asked, "k", group="g", client_id="c", protocol="classic")
    assert options["group.protocol"] == "consumer"
    assert "partition.assignment.strategy" not in options


def test_options_of_the_classic_protocol_need_its_name() -> None:
    """The new one leaves them to the brokers; the error says both ways out."""
    settings = Settings(kafka={"session.timeout.ms": 6000})

    with pytest.raises(ConfigError, match=r'session\.timeout\.ms.*"group\.protocol": "classic"'):
        consumer_options(settings, "k", group="g", client_id="c")


def test_a_reader_joins_no_group() -> None:
    """What the members are told about their group is not passed to it."""
    of_members = {
        "group.protocol": "consumer",
        "group.instance.id": "i",
        "max.poll.interval.ms": 10_000,
    }
    options = reader_options(Settings(kafka=of_members), "k", client_id="c", group="g")

    assert options["group.id"] == "g"
    assert not of_members.keys() & options.keys()


def test_a_producer_hears_nothing_of_groups() -> None:
    """What the members are told about their group would only make its client warn."""
    settings = Settings(kafka={"group.protocol": "classic", "session.timeout.ms": 6000})
    options = producer_options(settings, "k", client_id="c")

    assert not settings.kafka.keys() & options.keys()


def test_a_held_name_is_told_by_us(caplog: pytest.LogCaptureFixture) -> None:
    """The client library's line about it, once a second in each group, is dropped; others are not."""
    log = logging.getLogger(KAFKA_LOGGER)
    log.critical("FATAL [c] The instance ID is still used by another member in the consumer group")
    log.critical("FATAL [c] something else")

    assert caplog.messages == ["FATAL [c] something else"]


def test_hand_offs_may_be_larger_than_what_is_published() -> None:
    """They carry more headers, also where the user sets the size."""
    settings = Settings(kafka={"message.max.bytes": "5000"})

    assert record_limit_bytes(SETTINGS) == RECORD_LIMIT_BYTES
    assert record_limit_bytes(settings) == 5000
    options = producer_options(settings, "k", client_id="c", room_bytes=HANDOFF_ROOM_BYTES)
    assert options["message.max.bytes"] == 5000 + HANDOFF_ROOM_BYTES
