"""Where a task is written, and the partition of a key as Java computes it."""

import pytest
from confluent_kafka import murmur2 as librdkafka_partition
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.envelope import Envelope, Place
from taskstream.core.errors import PublishError
from taskstream.core.names import Names
from taskstream.core.tiers import LONGEST_DELAY, TIERS
from taskstream.producer.routing import PublishRequest, murmur2, partition_for, route

NAMES = Names("shop")
NOW = 1_700_000_000.0

# From Kafka's own UtilsTest.java, where they are signed.
JAVA_VALUES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "expected"), JAVA_VALUES.items())
def test_murmur2_is_javas(data: bytes, expected: int) -> None:
    """The hash has the values that Kafka's own test expects."""
    assert murmur2(data) == expected % 2**32


@given(st.binary(max_size=100), st.integers(1, 1000))
def test_partitions_are_librdkafkas(key: bytes, count: int) -> None:
    """For any key and count the partition is the one that librdkafka computes."""
    assert partition_for(key, count) == librdkafka_partition(key, count)


def test_a_task_of_now_goes_to_its_topic() -> None:
    """Without a due time nothing is asked and nothing changed."""
    request = _request()

    routed = route(request, names=NAMES, now=NOW, partitions=_refuse)

    assert routed.topic == "shop.tasks.high"
    assert routed.envelope is request.envelope


def test_a_task_that_is_due_already_goes_to_its_topic() -> None:
    """A due time that has passed is no delay."""
    routed = route(_request(due=NOW - 1), names=NAMES, now=NOW, partitions=_refuse)

    assert routed.topic == "shop.tasks.high"


@pytest.mark.parametrize(
    ("wait", "topic"),
    [(0.5, "shop.delay.0"), (5, "shop.delay.5s"), (60, "shop.delay.30s"), (86400, "shop.delay.1d")],
)
def test_a_delayed_task_waits_in_the_largest_tier_that_fits(wait: float, topic: str) -> None:
    """It goes to a delay topic, with the home that a direct publish would have found."""
    request = _request(due=NOW + wait, key="o-17")

    routed = route(request, names=NAMES, now=NOW, partitions={"shop.tasks.high": 8}.__getitem__)

    assert routed.topic == topic
    assert routed.envelope.home == Place("shop.tasks.high", partition_for(b"o-17", 8))
    assert routed.envelope.lookup


@given(st.floats(0.001, LONGEST_DELAY - 1))
def test_every_delay_has_a_topic(wait: float) -> None:
    """Whatever the wait, the tier's span is not longer than it."""
    routed = route(_request(due=NOW + wait), names=NAMES, now=NOW, partitions=lambda _: 4)

    assert NAMES.delays[routed.topic] <= wait + 1e-6
    assert NAMES.delays[routed.topic] in TIERS


def test_more_than_a_year_is_refused() -> None:
    """The error names the task and the limit."""
    with pytest.raises(PublishError, match=r"charge \(id-1\).*furthest is 366"):
        route(_request(due=NOW + LONGEST_DELAY + 1), names=NAMES, now=NOW, partitions=_refuse)


def test_the_key_of_a_task_without_one_is_its_id() -> None:
    """So tasks without a key spread over the partitions."""
    assert _request().key_bytes == b"id-1"
    assert _request(key="ö").key_bytes == "ö".encode()


def _request(due: float | None = None, key: str | None = None) -> PublishRequest:
    return PublishRequest("shop.tasks.high", b"", Envelope("charge", id="id-1", due=due), key)


def _refuse(topic: str) -> int:
    raise AssertionError(f"nobody should ask for the partitions of {topic}")
