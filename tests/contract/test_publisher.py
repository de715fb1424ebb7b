"""Tasks become acknowledged records, the same on the embedded broker and on a real Kafka."""

import asyncio
import json
import os
import time
from dataclasses import replace

import pytest
from tests.support.brokers import PARTITIONS, Broker

from taskstream.broker.tail import read_to_end
from taskstream.core.envelope import Envelope, Place, read
from taskstream.core.errors import PublishError, PublishTimeout, TooLarge
from taskstream.core.ids import new_id
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.producer.producer import Publisher
from taskstream.producer.routing import PublishRequest, partition_for


def test_a_task_is_written_with_its_metadata(broker: Broker) -> None:
    """The envelope read back is the one that was published."""
    publisher = _publisher(broker)
    request = _request(broker, key="o-17")

    ack = publisher.publish(request).wait(10.0)

    (record,) = read_to_end(broker.settings, broker.topic)
    assert (record.partition, record.offset) == ack
    assert (record.key, record.value) == (b"o-17", b"body")
    # A trace is there where an earlier test of this process has set up tracing.
    assert read(record.headers)._replace(trace=()) == request.envelope
    assert publisher.close(5.0) == 0


def test_it_can_be_awaited(broker: Broker) -> None:
    """From an event loop, a topic that is new to the process included."""

    async def scenario() -> list[object]:
        deliveries = [await publisher.publish_async(_request(broker)) for _ in range(100)]
        return [await delivery for delivery in deliveries]

    publisher = _publisher(broker)

    acks = asyncio.run(scenario())

    assert len(set(acks)) == 100
    assert publisher.close(5.0) == 0


def test_a_full_queue_does_not_block_the_event_loop(broker: Broker) -> None:
    """The wait for room is made in a thread; nothing is dropped."""
    narrow = replace(broker.settings, kafka={"queue.buffering.max.messages": 5, "linger.ms": 20})
    publisher = Publisher(narrow, Names(broker.topic.split(".")[0]))

    async def scenario() -> list[object]:
        deliveries = [await publisher.publish_async(_request(broker)) for _ in range(20)]
        return [await delivery for delivery in deliveries]

    assert len(set(asyncio.run(scenario()))) == 20
    publisher.close(5.0)


def test_a_delayed_task_waits_elsewhere(broker: Broker) -> None:
    """In the delay topic of its tier, with the home where it belongs by its key."""
    app = broker.topic.split(".")[0]
    delay = Names(app).delay(30.0)
    broker.create(delay)
    publisher = _publisher(broker)
    due = time.time() + 60

    publisher.publish(_request(broker, key="o-17", due=due)).wait(10.0)

    (record,) = read_to_end(broker.settings, delay)
    waiting = read(record.headers)
    assert waiting.home == Place(broker.topic, partition_for(b"o-17", PARTITIONS))
    assert waiting.due == pytest.approx(due, abs=1e-5)
    assert waiting.lookup
    assert read_to_end(broker.settings, broker.topic) == []
    publisher.close(5.0)


def test_too_large_is_refused_before_it_is_sent(broker: Broker) -> None:
    """The error names the task; nothing is in the topic."""
    publisher = _publisher(broker)
    request = _request(broker)._replace(value=b"x" * publisher.limit_bytes)

    with pytest.raises(TooLarge, match="task charge"):
        publisher.publish(request)

    publisher.close(5.0)
    assert read_to_end(broker.settings, broker.topic) == []


def test_a_closed_publisher_says_so(broker: Broker) -> None:
    """And closing again is harmless."""
    publisher = _publisher(broker)
    publisher.publish(_request(broker)).wait(10.0)
    publisher.close(5.0)

    with pytest.raises(PublishError, match="closed"):
        publisher.publish(_request(broker))
    assert publisher.close(5.0) == 0


def test_a_forked_child_publishes_with_a_client_of_its_own(broker: Broker) -> None:
    """It neither hangs nor disturbs the parent, and ends as any process does."""
    publisher = _publisher(broker)
    publisher.publish(_request(broker)).wait(10.0)
    reading, writing = os.pipe()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            ack = publisher.publish(_request(broker)).wait(10.0)
            left = publisher.close(5.0)
            os.write(writing, json.dumps([*ack, left]).encode())
            status = 0
        finally:
            os._exit(status)

    _, status = os.waitpid(child, 0)
    assert status == 0
    partition, offset, left = json.loads(os.read(reading, 100))
    publisher.publish(_request(broker)).wait(10.0)
    records = read_to_end(broker.settings, broker.topic)
    assert (partition, offset) in {(record.partition, record.offset) for record in records}
    assert (len(records), left) == (3, 0)
    os.close(reading)
    os.close(writing)
    publisher.close(5.0)


def test_an_unreachable_kafka_is_a_time_out() -> None:
    """Within `publish_timeout`, as our error, naming the task."""
    settings = Settings(bootstrap_servers="127.0.0.1:1", publish_timeout=0.5)
    publisher = Publisher(settings, Names("shop"))
    request = PublishRequest("shop.tasks.high", b"", Envelope("charge", id="id-1"))
    started = time.monotonic()

    with pytest.raises(PublishTimeout, match=r"charge \(id-1\)"):
        publisher.publish(request)

    assert time.monotonic() - started < 5.0
    publisher.close(1.0)


def _publisher(broker: Broker) -> Publisher:
    return Publisher(broker.settings, Names(broker.topic.split(".")[0]))


def _request(broker: Broker, *, key: str | None = None, due: float | None = None) -> PublishRequest:
    envelope = Envelope("charge", id=new_id(), priority="high", published=1.5, due=due)
    return PublishRequest(broker.topic, b"body", envelope, key)
