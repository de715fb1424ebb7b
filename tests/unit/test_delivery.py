"""A delivery is settled once, for whoever waits, in whatever way and order."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest

from taskstream.broker.failures import QueueFull, RecordTooLarge, TimedOut
from taskstream.broker.sender import Ack
from taskstream.core.envelope import Envelope
from taskstream.core.errors import BrokerError, PublishError, PublishTimeout, TooLarge
from taskstream.observability.tracing import PublishSpan
from taskstream.producer.delivery import Delivery
from taskstream.producer.routing import PublishRequest

ACK = Ack(3, 17)


def test_what_was_acknowledged_before_is_given_at_once() -> None:
    """Waiting for a settled delivery waits for nothing."""
    delivery = _delivery()
    assert not delivery.done()

    delivery.settle(ACK, None)

    assert delivery.done()
    assert delivery.wait() == ACK
    assert delivery.future.result(0) == ACK


def test_a_thread_that_waits_is_woken() -> None:
    """The report comes from another thread than the one that waits."""
    delivery = _delivery()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(delivery.wait, 10.0) for _ in range(3)]
        delivery.settle(ACK, None)

        assert [one.result(10) for one in waiting] == [ACK] * 3


def test_it_can_be_awaited_by_several() -> None:
    """One that gives up takes the outcome from nobody."""

    async def scenario() -> None:
        delivery = _delivery()

        async def wait() -> Ack:
            return await delivery

        hasty, patient = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        hasty.cancel()
        await asyncio.sleep(0)
        await asyncio.to_thread(delivery.settle, ACK, None)

        assert await patient == ACK
        assert await delivery == ACK
        with pytest.raises(asyncio.CancelledError):
            await hasty

    asyncio.run(scenario())


def test_too_little_patience_is_a_time_out_that_says_what_is_safe() -> None:
    """The record may still arrive, and the delivery still be settled."""
    delivery = _delivery()

    with pytest.raises(PublishTimeout, match=r"charge \(id-1\).*same id is safe"):
        delivery.wait(0.01)

    delivery.settle(ACK, None)
    assert delivery.wait() == ACK


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimedOut("no answer"), PublishTimeout),
        (RecordTooLarge("too large"), TooLarge),
        (QueueFull("full"), PublishError),
        (BrokerError("not allowed"), PublishError),
    ],
)
def test_a_refusal_is_our_error_and_names_the_task(
    error: BrokerError, expected: type[PublishError]
) -> None:
    """Each error of the broker has one of publishing, with the cause chained."""
    delivery = _delivery()

    delivery.settle(None, error)

    with pytest.raises(expected, match=r"charge \(id-1\)") as raised:
        delivery.wait()
    assert type(raised.value) is expected
    assert raised.value.__cause__ is error


def _delivery() -> Delivery:
    request = PublishRequest("shop.tasks.high", b"12345", Envelope("charge", id="id-1"))
    return Delivery(request, PublishSpan(None, ()), Lock())
