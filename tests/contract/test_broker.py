"""What the rest of the code counts on, the same on the embedded broker and on a real Kafka."""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.support.brokers import NOBODY, PARTITIONS, Broker, fresh
from tests.support.eventually import eventually

from taskstream.broker.failures import (
    ClientLost,
    NotReady,
    QueueFull,
    RecordTooLarge,
    UnknownTopic,
)
from taskstream.broker.follow import Follower
from taskstream.broker.records import Record
from taskstream.broker.sender import Ack, Sender
from taskstream.broker.tail import Tail, read_to_end
from taskstream.broker.topics import TopicSpec
from taskstream.core.envelope import Header, Place
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.producer.routing import partition_for


def test_a_record_arrives_as_it_was_sent(broker: Broker) -> None:
    """Key, value and headers, a header without a value and a repeated one included."""
    headers: list[Header] = [("ts-task", b"charge"), ("twice", b"1"), ("twice", b"2"), ("n", None)]
    before = time.time()

    (ack,) = broker.send([(b"o-17", b"value")], headers)

    (record,) = read_to_end(broker.settings, broker.topic)
    assert (record.topic, record.partition, record.offset) == (broker.topic, *ack)
    assert (record.key, record.value) == (b"o-17", b"value")
    assert list(record.headers) == headers
    assert before - 1 < record.timestamp < time.time() + 1


def test_a_key_goes_to_the_partition_that_routing_computes(broker: Broker) -> None:
    """So a delayed task comes home to where a direct publish goes."""
    keys = [f"key-{number}".encode() for number in range(200)]

    acks = broker.send([(key, b"") for key in keys])

    assert [ack.partition for ack in acks] == [partition_for(key, PARTITIONS) for key in keys]


def test_a_partition_can_be_chosen(broker: Broker) -> None:
    """A hand-off goes to exactly the partition of its home, whatever the key."""
    acks = broker.send([(b"a", b""), (b"b", b""), (b"c", b"")], partition=2)

    assert [ack.partition for ack in acks] == [2, 2, 2]


def test_a_follower_tells_what_was_there_then_what_comes(broker: Broker) -> None:
    """In order for each key, and it says when it has caught up with its start."""
    broker.send([(b"a", b"1"), (b"a", b"2")])
    heard: list[tuple[bytes | None, bool]] = []

    def hear(records: Sequence[Record], caught_up: bool) -> None:
        heard.extend((record.value, caught_up) for record in records)
        if not records:
            heard.append((None, caught_up))

    follower = Follower(broker.settings, broker.topic, hear, client_id="test-follower")
    follower.start()
    try:
        eventually(lambda: bool(heard) and heard[-1][1])
        assert [value for value, _ in heard if value is not None] == [b"1", b"2"]
        broker.send([(b"a", b"3")])
        eventually(lambda: heard[-1] == (b"3", True))
    finally:
        follower.close(10.0)


def test_every_record_has_one_report(broker: Broker) -> None:
    """Also when many are under way, from several threads."""
    reports: list[Ack | None] = []
    sender = Sender(broker.settings, client_id="test")

    def send_many() -> None:
        for number in range(2000):
            sender.send(
                broker.topic,
                b"v",
                key=str(number).encode(),
                headers=[],
                on_done=lambda ack, _: reports.append(ack),
            )

    threads = [threading.Thread(target=send_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sender.close(30.0) == 0
    assert len(reports) == 6000
    assert len(set(reports)) == 6000
    assert None not in reports


def test_a_record_that_is_too_large_is_refused_at_once(broker: Broker) -> None:
    """Nothing of it is sent, and a hand-off client with more room takes it."""
    sender = Sender(broker.settings, client_id="test")
    heard: list[object] = []
    value = b"x" * (sender.limit_bytes + 1)

    with pytest.raises(RecordTooLarge):
        sender.send(
            broker.topic,
            value,
            key=None,
            headers=[],
            on_done=lambda *outcome: heard.append(outcome),
        )

    assert sender.close(10.0) == 0
    assert heard == []
    assert sum(broker.topics.end_offsets(broker.topic).values()) == 0


def test_a_full_queue_waits_then_raises(broker: Broker) -> None:
    """What was accepted before is still delivered; nothing is dropped."""
    narrow = replace(broker.settings, kafka={"queue.buffering.max.messages": 10, "linger.ms": 300})
    sender = Sender(narrow, client_id="test")
    reports: list[Ack | None] = []

    def send(timeout: float) -> None:
        sender.send(
            broker.topic,
            b"v",
            key=b"k",
            headers=[],
            on_done=lambda ack, _: reports.append(ack),
            timeout=timeout,
        )

    for _ in range(10):
        send(0.0)
    with pytest.raises(QueueFull):
        send(0.0)
    send(10.0)  # waits for the linger to be over

    assert sender.close(10.0) == 0
    assert len(reports) == 11
    assert None not in reports


def test_closing_reports_what_was_not_sent(broker: Broker) -> None:
    """A record that is given up has its one report too: nobody waits for it for ever."""
    slow = replace(broker.settings, kafka={"max.in.flight": 1, "linger.ms": 10_000})
    sender = Sender(slow, client_id="test")
    reports: list[tuple[Ack | None, BrokerError | None]] = []
    for _ in range(50):
        sender.send(
            broker.topic,
            b"v",
            key=b"k",
            headers=[],
            on_done=lambda ack, error: reports.append((ack, error)),
        )

    given_up = sender.close(0.0)

    assert len(reports) == 50
    assert sum(error is not None for _, error in reports) <= given_up


def test_a_closed_sender_takes_nothing_more(broker: Broker) -> None:
    """The error says so, and closing again is harmless."""
    sender = Sender(broker.settings, client_id="test")
    sender.partitions(broker.topic)
    sender.close(5.0)

    with pytest.raises(BrokerError, match="closed"):
        sender.send(broker.topic, b"", key=None, headers=[], on_done=lambda *_: None)
    assert sender.close(5.0) == 0


def test_lag_counts_what_the_group_has_not_committed(broker: Broker) -> None:
    """Per partition, from fresh ends."""
    broker.send([(b"k", b"") for _ in range(5)], partition=1)
    broker.topics.commit(broker.group, {Place(broker.topic, 1): 2})

    lag = broker.topics.lag(broker.group, broker.topic)

    assert lag == {place: 3 if place.partition == 1 else 0 for place in broker.places}


def test_a_partition_that_the_client_has_forgotten_is_asked_for_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a broker restarts, a client may not know for a moment what the broker has just told."""
    broker.send([(b"k", b"v")], partition=0)
    forgetful = iter([KafkaError(KafkaError._UNKNOWN_PARTITION)])
    reader = broker.topics._reader

    class Reader:
        def __getattr__(self, name: str) -> object:
            return getattr(reader, name)

        def get_watermark_offsets(self, *asked: Any, **options: Any) -> object:
            for error in forgetful:
                raise KafkaException(error)
            return reader.get_watermark_offsets(*asked, **options)

    monkeypatch.setattr(broker.topics, "_reader", Reader())

    assert broker.topics.end_offsets(broker.topic)[Place(broker.topic, 0)] == 1


def test_starting_offsets_are_committed_once(broker: Broker) -> None:
    """At the begin or the end, and never over what a group has committed."""
    broker.send([(b"k", b"") for _ in range(5)], partition=1)
    other, end = f"{broker.group}.other", f"{broker.group}.end"

    assert broker.topics.commit_start(other, broker.topic) == dict.fromkeys(broker.places, 0)
    assert broker.topics.commit_start(other, broker.topic) == {}
    at_end = broker.topics.commit_start(end, broker.topic, at="end")
    assert at_end == broker.topics.end_offsets(broker.topic)
    assert broker.topics.committed(end, broker.topic) == at_end


def test_creating_again_changes_nothing(broker: Broker) -> None:
    """The report says what was created."""
    name = f"{broker.topic}-new"
    broker.made.append(name)
    spec = TopicSpec(name, PARTITIONS, 1)

    (first,) = broker.topics.create([spec])
    (second,) = broker.topics.create([spec])

    assert (first.created, second.created) == (True, False)
    assert first.drift == second.drift == ()
    assert broker.topics.partitions(name) == PARTITIONS


def test_read_to_end_reads_all_and_ends(broker: Broker) -> None:
    """An empty topic too; partitions each in order."""
    empty = f"{broker.topic}-empty"
    broker.create(empty)
    broker.send([(str(number).encode(), b"") for number in range(500)])

    records = read_to_end(broker.settings, broker.topic)

    assert read_to_end(broker.settings, empty) == []
    assert len(records) == 500
    for place in broker.places:
        offsets = [record.offset for record in records if record.partition == place.partition]
        assert offsets == list(range(len(offsets)))


def test_a_tail_misses_nothing_after_it_was_made(broker: Broker) -> None:
    """Its start is settled at once, though it reads only later; what stood there before is not read."""
    broker.send([(b"k", b"before")], partition=1)
    with Tail(broker.settings, broker.topic, partitions=[1]) as tail:
        assert tail.position == {1: 1}
        broker.send([(b"k", b"after")], partition=1)
        broker.send([(b"k", b"elsewhere")], partition=2)
        taken = eventually(lambda: tail.take(10, 1.0))

        assert [record.value for record in taken] == [b"after"]
        assert tail.position == {1: 2}


def test_a_tail_starts_at_offsets(broker: Broker) -> None:
    """Given by partition."""
    broker.send([(b"k", b"%d" % number) for number in range(5)], partition=0)
    taken: list[Record] = []
    with Tail(broker.settings, broker.topic, {0: 3}, partitions=[0]) as tail:
        while not tail.reached_end:
            taken += tail.take(10, 1.0)

    assert [record.offset for record in taken] == [3, 4]


@pytest.mark.usefixtures("hasty")
def test_a_tail_says_that_its_client_is_lost(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it gets no answer and a new one would; so its owner makes one, and goes on from there."""
    monkeypatch.setattr("taskstream.broker.tail.address", lambda _settings: NOBODY)
    with (
        fresh(Settings(bootstrap_servers=kafka)) as broker,
        Tail(broker.settings, broker.topic) as tail,
        pytest.raises(ClientLost, match="has lost all brokers"),
    ):
        eventually(lambda: tail.take(1, 0.1), timeout=30)


@pytest.mark.usefixtures("hasty")
def test_a_producer_that_has_lost_its_brokers_is_replaced(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited in it is reported as not sent, and the next record goes through a new one."""
    servers = iter([NOBODY])
    monkeypatch.setattr("taskstream.broker.sender.address", lambda _settings: next(servers, kafka))
    outcomes: list[tuple[Ack | None, BrokerError | None]] = []
    with fresh(Settings(bootstrap_servers=kafka, publish_timeout=20.0)) as broker:
        sender = Sender(broker.settings, client_id="test")
        sender._counts[broker.topic] = (1, math.inf)

        def send() -> None:
            sender.send(
                broker.topic, b"v", key=None, headers=[],
                on_done=lambda ack, error: outcomes.append((ack, error)),
            )  # fmt: skip

        send()
        eventually(lambda: outcomes, timeout=15)
        assert isinstance(outcomes[0][1], NotReady)
        send()
        assert sender.close(15.0) == 0
        assert outcomes[1][1] is None
        assert len(read_to_end(broker.settings, broker.topic)) == 1


def test_a_tail_starts_at_a_time(broker: Broker) -> None:
    """What is older is not read, whether or not the broker can look it up."""
    broker.send([(b"k", b"old")], partition=0)
    (old,) = read_to_end(broker.settings, broker.topic)
    since = old.timestamp + 0.001
    eventually(lambda: time.time() > since + 0.002)
    broker.send([(b"k", b"new")], partition=0)
    with Tail(broker.settings, broker.topic, since) as tail:
        taken = eventually(lambda: tail.take(10, 1.0))

    assert [record.value for record in taken] == [b"new"]


def test_two_tails_see_the_same(broker: Broker) -> None:
    """Reading without a group takes nothing from anybody."""
    with Tail(broker.settings, broker.topic) as one, Tail(broker.settings, broker.topic) as two:
        broker.send([(b"k", b"v")])

        assert [r.value for r in eventually(lambda: one.take(10, 1.0))] == [b"v"]
        assert [r.value for r in eventually(lambda: two.take(10, 1.0))] == [b"v"]


@pytest.mark.servers("kafka")
def test_a_missing_topic_is_an_error_that_says_so(broker: Broker) -> None:
    """And nothing is created by asking; the embedded broker creates whatever is asked for."""
    if broker.settings.embedded:
        assert broker.topics.partitions(f"{broker.topic}-touched") == PARTITIONS
        return
    missing = f"{broker.topic}-missing"
    sender = Sender(broker.settings, client_id="test")

    with pytest.raises(UnknownTopic, match="taskstream init"):
        sender.send(missing, b"", key=None, headers=[], on_done=lambda *_: None)
    with pytest.raises(UnknownTopic):
        broker.topics.partitions(missing)
    with pytest.raises(UnknownTopic):
        Tail(broker.settings, missing)
    assert missing not in broker.topics.names()
    sender.close(5.0)
