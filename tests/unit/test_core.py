"""Ids, names, tiers, retries and settings: pure words and numbers."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.errors import ConfigError
from taskstream.core.ids import derived_id, is_uuid7, new_id, time_of
from taskstream.core.names import Names, check_part
from taskstream.core.retry import Retry
from taskstream.core.settings import Layer, Settings, resolve
from taskstream.core.tiers import LONGEST_DELAY, TIERS, leaves_tier_at, span_name, tier_for


def test_an_id_tells_its_time() -> None:
    """A new id is a UUIDv7 of now; two are never the same."""
    before = time.time()
    one, other = new_id(), new_id()
    assert is_uuid7(one)
    assert one != other
    assert abs(time_of(one) - before) < 1.0


def test_no_two_threads_and_no_two_processes_make_the_same_id() -> None:
    """The random bytes that are kept for the next ids are taken once, and a fork begins with none.

    Broken on purpose once, and seen to fail: without `os.register_at_fork`.
    """
    new_id()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, "".join(new_id() for _ in range(1000)).encode())
        os._exit(0)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(1000)], range(4)))
    os.waitpid(pid, 0)
    told = os.read(reading, 36_000).decode()
    ids = [
        *(one for some in made for one in some),
        *(told[at : at + 36] for at in range(0, 36_000, 36)),
    ]
    random_bits = {one[14:] for one in ids}
    assert len(random_bits) == len(ids) == 5000


@given(
    st.integers(0, 2**47).map(lambda milliseconds: milliseconds / 1000), st.text(), st.integers()
)
def test_a_derived_id_follows_from_its_facts(seconds: float, name: str, index: int) -> None:
    """The same facts give the same id, others another, and its time can be read back."""
    one = derived_id(seconds, name, index)
    assert is_uuid7(one)
    assert one == derived_id(seconds, name, index)
    assert one != derived_id(seconds, name, index + 1)
    assert time_of(one) == seconds


def test_a_callers_id_has_no_time() -> None:
    """Text of another shape, and UUIDs of other versions, are not taken for ours."""
    assert not is_uuid7("inv-9")
    assert not is_uuid7("b5a5f0b2-3c1d-4e5f-8a6b-123456789abc")
    assert not is_uuid7(new_id().upper())


@pytest.mark.parametrize("name", ["", "a.b", "-a", "a b", "x" * 64, "ä"])
def test_names_that_would_break_a_topic_are_refused(name: str) -> None:
    """A part of a topic name has no dots, spaces or surprises."""
    with pytest.raises(ConfigError, match="queue name"):
        check_part("queue", name)


def test_a_queue_can_not_take_our_own_topics() -> None:
    """A queue named like one of our topics would share it."""
    with pytest.raises(ConfigError, match="reserved"):
        check_part("queue", "delay")


def test_topics_have_the_contract_names() -> None:
    """Names that scripts rely on."""
    names = Names("shop")
    assert names.tasks("tasks", "high") == "shop.tasks.high"
    assert names.group("tasks", "high") == "shop.tasks.high"
    assert names.group("tasks", "high", "shadow") == "shadow.tasks.high"
    assert [topic.removeprefix("shop.delay.") for topic in names.delays] == [
        "0", "5s", "30s", "2m", "10m", "1h", "6h", "1d", "7d", "30d",
    ]  # fmt: skip


@given(st.floats(0, LONGEST_DELAY))
def test_a_task_comes_home_through_ever_smaller_tiers(wait: float) -> None:
    """Each tier fits what is left, each hop leaves less, and the last one ends at the due time."""
    entered, due, hops = 1_000_000.0, 1_000_000.0 + wait, 0
    span = tier_for(wait)
    while True:
        assert span <= max(due - entered, 0.0) or span == TIERS[0]
        moves = leaves_tier_at(span, entered, due, entered)
        assert entered <= moves <= due
        if moves == due:
            break
        entered, hops = moves, hops + 1
        span = tier_for(due - entered)
    assert hops <= 50


def test_spans_are_named_shortly() -> None:
    """One unit, no fractions of it."""
    assert [span_name(span) for span in (0, 5, 90, 120, 3600, 86400, 172800)] == [
        "0", "5s", "90s", "2m", "1h", "1d", "2d",
    ]  # fmt: skip


@given(st.integers(1, 5000), st.floats(0, 100), st.floats(1, 10), st.floats(0, 1000))
def test_a_wait_is_bounded(attempt: int, first: float, factor: float, longest: float) -> None:
    """Never negative, never above the longest wait, however late the attempt."""
    policy = Retry(first=first, factor=factor, longest=longest)
    assert 0 <= policy.wait("id", 0, attempt) <= longest


def test_given_delays_are_kept_to() -> None:
    """Exact waits in order, the last one for all that follow."""
    policy = Retry(attempts=9, delays=(1, 5, 30))
    assert [policy.wait("id", 0, attempt) for attempt in (1, 2, 3, 4, 8)] == [1, 5, 30, 30, 30]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first": -1.0}, {"longest": 1e12}])
def test_a_policy_that_can_not_be_meant_is_refused(wrong: dict[str, float]) -> None:
    """The error names the field."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Retry(**wrong)  # type: ignore[arg-type]


def test_the_first_layer_wins() -> None:
    """Settings are merged in order, texts are turned into numbers, None means nothing."""
    settings = resolve(
        [
            Layer("flags", {"partitions": None, "keyspace": "mine"}),
            Layer("environment", {"partitions": "12", "keyspace": "theirs"}),
        ]
    )
    assert settings == Settings(partitions=12, keyspace="mine")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"partitons": 3}, "partitons"),
        ({"partitions": "many"}, "partitions"),
        ({"kafka": "x"}, "kafka"),
    ],
)
def test_a_wrong_setting_names_its_source(values: dict[str, object], named: str) -> None:
    """An unknown name or a wrong type is refused with the place it came from."""
    with pytest.raises(ConfigError, match=rf"{named}.*taskstream\.toml"):
        resolve([Layer("taskstream.toml", values)])


def test_no_broker_says_both_ways_out() -> None:
    """Without Kafka the error names `taskstream up` and the embedded mode."""
    with pytest.raises(ConfigError, match=r"taskstream up.*embedded"):
        Settings().require_broker()
