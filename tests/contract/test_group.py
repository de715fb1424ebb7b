"""Members of a group: the same on the embedded broker, and on Kafka in both group protocols."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.support.brokers import NOBODY, PARTITIONS, Broker, fresh
from tests.support.listening import Heard, Member

from taskstream.broker.failures import NotOwner, OffsetLost
from taskstream.broker.group import Assigned
from taskstream.broker.topics import TopicSpec
from taskstream.core.envelope import Place
from taskstream.core.settings import Settings

CLASSIC = {
    "group.protocol": "classic",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
}


@pytest.fixture(params=["embedded", "kafka", "kafka-classic"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The embedded broker, and Kafka in the protocol that is chosen for it and in the other one."""
    with fresh(_settings(request)) as broker:
        yield broker


@pytest.fixture(params=["kafka", "kafka-classic"])
def real_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The same without the embedded broker, whose groups know no sessions."""
    with fresh(_settings(request)) as broker:
        yield broker


def _settings(request: pytest.FixtureRequest) -> Settings:
    if request.param == "embedded":
        settings: Settings = request.getfixturevalue("embedded_settings")
        return settings
    options = CLASSIC if request.param == "kafka-classic" else {}
    return Settings(bootstrap_servers=request.getfixturevalue("kafka"), kafka=options)


def test_a_member_starts_where_its_group_committed(broker: Broker) -> None:
    """Offset and metadata come with the assignment, and reading goes on from there."""
    broker.send([(b"k", b"%d" % number) for number in range(5)], partition=1)
    place = Place(broker.topic, 1)
    with Member(broker) as first:
        first.until(lambda: len(first.records) == 5)
        first.consumer.commit_now({place: (3, "what is finished above it")}, 10.0)

    with Member(broker) as second:
        second.until(lambda: len(second.records) == 2)

    assert [record.offset for record in second.records] == [3, 4]
    (assigned,) = [one for one in second.heard.assignments if one.place == place]
    assert assigned == Assigned(
        place, 3, "what is finished above it", low=0, high=5, count=PARTITIONS
    )


def test_a_commit_is_answered_in_take(broker: Broker) -> None:
    """From any thread, and the listener hears it in the thread that takes."""
    place = Place(broker.topic, 0)
    with Member(broker) as member:
        member.until(lambda: len(member.heard.assignments) == PARTITIONS)
        thread = threading.Thread(target=member.consumer.commit, args=({place: (0, "m" * 4000)},))
        thread.start()
        thread.join()
        member.consumer.commit({Place(broker.topic, 77): (0, "not ours, so never sent")})
        member.until(lambda: bool(member.heard.commits))
        member.turn()

    assert member.heard.commits == [(None, {place: 0})]
    assert broker.topics.committed(broker.group, broker.topic)[place] == 0


def test_a_paused_partition_is_silent_and_goes_on_where_it_stopped(broker: Broker) -> None:
    """Nothing is lost and nothing comes twice, however often it is paused and resumed."""
    broker.send([(b"k", b"%d" % number) for number in range(300)], partition=1)
    broker.send([(b"k", b"") for _ in range(20)], partition=2)
    held = Place(broker.topic, 1)
    with Member(broker) as member:
        member.until(lambda: any(record.partition == 1 for record in member.records))
        for _ in range(5):
            member.consumer.pause([held])
            member.consumer.pause([held, Place("not-ours", 0)])
            before = _offsets(member, 1)
            member.turn()
            assert _offsets(member, 1) == before
            member.consumer.resume([held])
            member.consumer.resume([held])
            member.until(lambda: len(_offsets(member, 1)) in (len(before) + 1, 300))  # noqa: B023
            member.turn(limit=10)
        member.until(lambda: len(member.records) == 320)

    assert _offsets(member, 1) == list(range(300))
    assert _offsets(member, 2) == list(range(20))


def test_take_returns_no_more_than_its_limit(broker: Broker) -> None:
    """However much is there; the rest comes next."""
    broker.send([(str(number).encode(), b"") for number in range(100)])
    with Member(broker) as member:
        while len(member.records) < 100:
            assert len(member.turn(limit=7, timeout=1.0)) <= 7

    assert len({(record.partition, record.offset) for record in member.records}) == 100


def test_take_waits_for_the_first_record_only(broker: Broker) -> None:
    """One record is handed out at once, though more were asked for."""
    with Member(broker) as member:
        member.until(lambda: len(member.heard.assignments) == PARTITIONS)
        broker.send([(b"k", b"")])
        started = time.monotonic()
        while not member.records:  # a turn may end for what the group has to say
            member.turn(limit=1000, timeout=20.0)

    assert len(member.records) == 1
    assert time.monotonic() - started < 10.0


def test_partitions_move_to_a_second_member(broker: Broker) -> None:
    """The first may commit while it gives them up, and the second starts exactly there."""
    broker.send([(str(number).encode(), b"") for number in range(200)])
    heard = Heard()
    with Member(broker, heard) as first:

        def commit(places: Sequence[Place]) -> None:
            done = {place: len(_offsets(first, place.partition)) for place in places}
            first.consumer.commit_now({place: (done[place], "moved") for place in places}, 10.0)

        heard.on_revoked = commit
        first.until(lambda: len(first.records) == 200)
        with Member(broker) as second:
            first.until(lambda: second.turn(timeout=0.0) != [] or bool(second.heard.assignments))
            moved = {one.place for one in second.heard.assignments}
            broker.send([(str(number).encode(), b"") for number in range(200)])
            for member in (first, second):
                member.turn()
            first.until(
                lambda: (
                    second.turn(timeout=0.0) is None
                    or len(first.records) + len(second.records) == 400
                )
            )
            heard.on_revoked = None

    assert moved == set(heard.revocations)
    assert {one.metadata for one in second.heard.assignments} == {"moved"}
    both = first.records + second.records
    assert len({(record.partition, record.offset) for record in both}) == 400
    assert not heard.losses


def test_a_listeners_error_comes_out_of_take(broker: Broker) -> None:
    """As it is; the records that came along with it come again."""

    def fail(_: Sequence[Assigned]) -> None:
        raise LookupError("the worker's own")

    broker.send([(b"k", b"")])
    with Member(broker, Heard(on_assigned=fail)) as member:
        with pytest.raises(LookupError, match="the worker's own"):
            member.until(lambda: len(member.records) == 1)
        member.until(lambda: len(member.records) == 1)


def test_an_offset_beyond_the_end_is_loud(broker: Broker) -> None:
    """The partition does not start, the others do; `start` is the way on."""
    lost = Place(broker.topic, 3)
    broker.send([(b"k", b"")], partition=3)
    broker.send([(b"k", b"")], partition=0)
    broker.topics.commit(broker.group, {lost: 99})
    with Member(broker) as member:
        member.until(lambda: bool(member.heard.failures))
        member.until(lambda: len(member.records) == 1)
        ((error, fatal),) = member.heard.failures
        assert isinstance(error, OffsetLost)
        assert not fatal
        assert f"{lost} up to offset 99" in str(error)
        assert lost in member.consumer.assignment
        member.consumer.start(lost, 0)
        member.until(lambda: len(member.records) == 2)

    assert _offsets(member, 3) == [0]


def test_who_comes_before_init_stays_out_until_it_is_done(real_broker: Broker) -> None:
    """It says once what is missing, and joins when topic and offsets are there: a member would refuse them."""
    name = f"{real_broker.topic}.early"
    broker = replace(real_broker, topic=name, group=name)
    real_broker.made.append(name)
    with Member(broker) as member:
        member.until(lambda: bool(member.heard.failures))
        broker.topics.create([TopicSpec(name, PARTITIONS, 1)])
        for _ in range(20):  # it sees the topic, and still does not join
            member.turn()
        assert set(broker.topics.commit_start(name, name)) == set(broker.places)
        broker.send([(b"k", b"")])
        member.until(lambda: len(member.records) == 1)
        ((error, fatal),) = member.heard.failures

    assert isinstance(error, OffsetLost)
    assert "taskstream init" in str(error)
    assert not fatal


def test_watermarks_know_the_end(broker: Broker) -> None:
    """After a fetch they are those of the broker."""
    broker.send([(b"k", b"") for _ in range(3)], partition=0)
    with Member(broker) as member:
        member.until(lambda: len(member.records) == 3)

        assert member.consumer.watermarks()[Place(broker.topic, 0)] == (0, 3)
        assert set(member.consumer.watermarks()) == set(broker.places)


def test_a_named_member_comes_back_to_its_partitions(real_broker: Broker) -> None:
    """One that leaves and returns under its name takes nothing from the others, nor gives to them."""
    broker = real_broker
    with Member(broker, instance_id="other") as other:
        with Member(broker, instance_id="named") as named:
            named.until(lambda: other.turn(timeout=0.0) == [] and _shared(broker, named, other))
            before = set(named.consumer.assignment)
        told = len(other.heard.assignments), len(other.heard.revocations)
        for _ in range(25):  # some heartbeats: a departure would have been noticed
            other.turn()
        with Member(broker, instance_id="named") as again:
            again.until(
                lambda: other.turn(timeout=0.0) == [] and set(again.consumer.assignment) == before
            )

        assert (len(other.heard.assignments), len(other.heard.revocations)) == told


def test_of_two_members_with_one_name_one_ends(
    real_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the new protocol the later one, once it has waited; in the classic one the earlier one."""
    monkeypatch.setattr("taskstream.broker.joining.NAME_PATIENCE", 2.0)
    broker = real_broker
    with (
        Member(broker, instance_id="named") as earlier,
        Member(broker, instance_id="named") as later,
    ):
        earlier.until(lambda: len(earlier.consumer.assignment) == PARTITIONS)
        classic = broker.settings.kafka.get("group.protocol") == "classic"
        ending, staying = (earlier, later) if classic else (later, earlier)
        with pytest.raises(NotOwner, match="give each a name of its own"):
            ending.until(lambda: staying.turn(timeout=0.0) != [])
        staying.until(lambda: len(staying.consumer.assignment) == PARTITIONS)
        staying.consumer.commit_now({broker.places[0]: (0, "still ours")}, 10.0)

    assert [fatal for _, fatal in ending.heard.failures] == [True]
    assert staying.heard.losses == []


def test_a_partition_that_the_broker_does_not_know_yet_is_asked_for_again(broker: Broker) -> None:
    """As one that comes back from an outage may say: no reason to end, for the group gave it away."""
    broker.send([(b"k", b"v")], partition=2)
    with Member(broker) as member:
        forgetful = _Forgetful(member.consumer._consumer)
        member.consumer._consumer = forgetful
        member.until(lambda: len(member.records) == 1)

    assert forgetful.times == 0
    assert member.heard.failures == []


@pytest.mark.usefixtures("hasty")
def test_a_client_that_has_lost_its_brokers_is_replaced(real_broker: Broker) -> None:
    """What it owned is lost, and comes back to the new one; nothing is skipped."""
    broker = real_broker
    with Member(broker) as member:
        member.until(lambda: len(member.consumer.assignment) == PARTITIONS)
        member.consumer._consumer = _Brokerless(member.consumer._consumer)
        member.until(lambda: len(member.heard.losses) == PARTITIONS)
        broker.send([(b"k", b"v")], partition=2)
        member.until(lambda: len(member.records) == 1, timeout=90)

    assert member.heard.revocations == []
    assert member.heard.failures == []


@pytest.mark.usefixtures("hasty")
def test_a_client_that_never_found_a_broker_is_replaced(
    real_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it could join, too."""
    servers, there = iter([NOBODY]), real_broker.settings.bootstrap_servers
    monkeypatch.setattr("taskstream.broker.group.address", lambda _settings: next(servers, there))
    monkeypatch.setattr("taskstream.broker.group._COUNT_TIMEOUT", 0.5)
    with Member(real_broker) as member:
        member.until(lambda: len(member.consumer.assignment) == PARTITIONS)

    assert member.heard.losses == []


class _Around:
    """A client, but for what a subclass does in its place."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _Forgetful(_Around):
    """A client whose broker has forgotten its partitions the first three times it is asked."""

    times = 3

    def get_watermark_offsets(self, *place: Any, **how: Any) -> Any:
        if self.times and "timeout" in how:
            self.times -= 1
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return self._client.get_watermark_offsets(*place, **how)


class _Brokerless(_Around):
    """A client that gets no answer."""

    def list_topics(self, *_what: Any, **_how: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def poll(self, timeout: float) -> Any:
        """Nothing comes."""
        self._client.pause(self._client.assignment())
        return self._client.poll(timeout)


def _shared(broker: Broker, *members: Member) -> bool:
    """Whether all partitions have an owner among them, and each of them owns some."""
    owned = [set(member.consumer.assignment) for member in members]
    return all(owned) and set().union(*owned) == set(broker.places)


def _offsets(member: Member, partition: int) -> list[int]:
    return [record.offset for record in member.records if record.partition == partition]
