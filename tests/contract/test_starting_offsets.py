"""Where a group starts, and what the commit says of it."""

from tests.support.brokers import Broker
from tests.support.listening import Member

from taskstream.broker.offset_codec import decode
from taskstream.broker.offsets import Progress
from taskstream.broker.sender import Sender


def metadata_of(broker: Broker) -> dict[int, tuple[int, str]]:
    """By partition, the committed offset that a member is told, and what stands beside it."""
    with Member(broker) as member:
        member.until(lambda: len(member.heard.assignments) == len(broker.places))
        return {
            one.place.partition: (one.committed or 0, one.metadata)
            for one in member.heard.assignments
        }


def test_a_new_topics_start_says_that_nothing_was_given_out(broker: Broker) -> None:
    """So the first worker of an app need not look a single task up."""
    found = metadata_of(broker)
    assert [decode(at, metadata) for at, metadata in found.values()] == [Progress.at(0)] * 4


def test_a_start_before_records_says_nothing(broker: Broker) -> None:
    """They may be those of a group whose offsets were lost: the owner must assume the least."""
    sender = Sender(broker.settings, client_id="test")
    sender.send(broker.topic, b"x", key=None, headers=(), on_done=lambda *_: None, partition=2)
    sender.close(10.0)
    broker.group += "-later"
    assert set(broker.topics.commit_start(broker.group, broker.topic)) == set(broker.places)
    found = metadata_of(broker)
    assert {number for number, (_, metadata) in found.items() if not metadata} == {2}
