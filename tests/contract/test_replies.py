"""Replies reach those who ask, before or after they come: embedded and on real Kafka."""

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from taskstream.broker.sender import Sender
from taskstream.broker.topics import Topics, TopicSpec
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.errors import BrokerError, TaskstreamError, Undecodable
from taskstream.core.ids import new_id
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.results.replies import Replies

PATIENCE = 20.0


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "kafka":
        return Settings(bootstrap_servers=request.getfixturevalue("kafka"))
    return Settings(bootstrap_servers="embedded", embedded_directory=str(tmp_path))


@pytest.fixture
def names(settings: Settings) -> Iterator[Names]:
    """An app of the test's own, with its replies topic."""
    names = Names(f"app-{new_id()}")
    with Topics(settings) as topics:
        topics.create([TopicSpec(names.replies, partitions=4)])
    yield names
    if not settings.embedded:
        with Topics(settings) as topics:
            topics.delete([names.replies])


@pytest.fixture
def replies(settings: Settings, names: Names) -> Iterator[Replies]:
    replies = Replies(settings, names, _read)
    yield replies
    replies.close()


@pytest.fixture
def sender(settings: Settings) -> Iterator[Sender]:
    sender = Sender(settings, client_id="test")
    yield sender
    sender.close(PATIENCE)


def _read(value: bytes) -> dict[str, bytes]:
    task_id, _, reply = value.partition(b"=")
    if not reply:
        raise Undecodable("no reply")
    return {task_id.decode(): reply}


def send(sender: Sender, replies: Replies, task_id: str, value: bytes) -> None:
    """Writes a reply as a worker does, and waits until Kafka has it."""
    done: Future[None] = Future()
    place = replies.place
    sender.send(
        place.topic,
        task_id.encode() + b"=" + value,
        key=None,
        headers=[],
        partition=place.partition,
        on_done=lambda ack, error: done.set_exception(error) if error else done.set_result(None),
    )
    done.result(PATIENCE)


def test_reply_reaches_everyone_who_waits(replies: Replies, sender: Sender) -> None:
    """Who listens before the reply is written gets it, however many they are; others don't."""
    task_id = new_id()
    first, second, other = (replies.expect(name) for name in (task_id, task_id, new_id()))
    for waiting in (first, second, other):
        waiting.listening.result(PATIENCE)
    send(sender, replies, task_id, b"done")
    assert first.reply.result(PATIENCE) == second.reply.result(PATIENCE) == b"done"
    assert not other.reply.done()


def test_reply_that_came_unasked_is_kept_for_a_while(replies: Replies, sender: Sender) -> None:
    """Once the reader is there, it doesn't matter whether the question or the reply comes first."""
    first, second = new_id(), new_id()
    witness = replies.expect(second)
    witness.listening.result(PATIENCE)
    send(sender, replies, first, b"1")
    send(sender, replies, second, b"2")
    assert witness.reply.result(PATIENCE) == b"2"
    assert replies.expect(first).reply.result(0) == b"1"
    assert replies.wait(first, 0.0) == b"1"


def test_without_a_store_the_reader_goes_back_to_the_publish(
    replies: Replies, sender: Sender
) -> None:
    """A reply from before the reader started is found when asked for since the publish."""
    early, task_id = new_id(), new_id()
    started = SYSTEM_CLOCK.now()
    send(sender, replies, task_id, b"done")
    assert replies.wait(early, 0.1) is None
    assert replies.wait(task_id, PATIENCE, since=started) == b"done"


def test_who_waits_in_vain_gets_none_and_leaves_nothing_behind(replies: Replies) -> None:
    """A time-out is no error here, and no memory is kept of it."""
    assert replies.wait(new_id(), 0.1) is None
    assert replies._mailbox.waiting() == []


def test_close_cancels_who_still_waits(replies: Replies) -> None:
    """Nobody hangs on a closed app; closing twice is harmless."""
    waiting = replies.expect(new_id())
    replies.close()
    replies.close()
    with pytest.raises(CancelledError):
        waiting.reply.result(PATIENCE)
    with pytest.raises(TaskstreamError, match="closed"):
        replies.expect(new_id()).listening.result(PATIENCE)


def test_place_is_one_partition_for_good(settings: Settings, names: Names) -> None:
    """What a process stamps on its tasks is what it reads."""
    replies = Replies(settings, names, _read, choose=lambda count: count - 1)
    assert replies.place == replies.place
    assert str(replies.place) == f"{names.replies}/3"


def test_broker_that_cant_be_read_fails_who_listens(
    settings: Settings, names: Names, sender: Sender
) -> None:
    """The reply isn't given up for that: the next who asks brings the reader back for all."""
    trouble = iter([BrokerError("no such topic")])

    def choose(count: int) -> int:
        for error in trouble:
            raise error
        return 0

    replies = Replies(settings, names, _read, choose=choose)
    task_id = new_id()
    first = replies.expect(task_id)
    with pytest.raises(BrokerError, match="no such topic"):
        first.listening.result(PATIENCE)
    second = replies.expect(task_id)
    second.listening.result(PATIENCE)
    send(sender, replies, task_id, b"done")
    assert first.reply.result(PATIENCE) == second.reply.result(PATIENCE) == b"done"
    replies.close()
