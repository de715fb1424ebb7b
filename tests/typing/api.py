"""The public API as a type checker sees it. NOT meant to be executed: `mypy tests/typing` is the test.

A wrong call carries `# type: ignore[code]`; were it ever taken for right, mypy would report the
ignore as unused.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_type

from taskstream import (
    App,
    Concurrency,
    Context,
    Handle,
    Queue,
    Rate,
    Retry,
    RetryAfter,
    State,
    current,
    every,
)


@dataclass
class Receipt:
    """What `charge` gives."""

    cents: int


app = App("shop", include=["shop.tasks"], routes={"thumb_*": "gpu"}, bootstrap_servers="embedded")
App("shop", queues={"tasks": {"high": 6, "normal": 1}}, retry=None, result_ttl=60)
App("shop", queues={"tasks": {"high": 6, "low": 1}, "one": Queue({"normal": 1}, partitions=1)})
App("shop", bootstrap_server="typo")  # type: ignore[call-arg]
App("shop", partitions="many")  # type: ignore[arg-type]


# Defining: with and without parentheses, async def and def


@app.task
async def charge(order_id: str, cents: int = 100) -> Receipt:
    """Async, bare."""
    return Receipt(cents)


@app.task(queue="tasks", priority="high", timeout=30, key="order_id", retry=Retry(attempts=5))
def resize(order_id: str, width: int) -> bytes:
    """Plain, with parentheses."""
    return b""


@app.task
def bury(task: str, reason: str) -> None:
    """For the dead."""


@app.task(on_dead=bury, aliases=["greet_old"], retry=None)
async def greet(name: str) -> None:
    """Async, with parentheses."""


@app.remote
def refund(order_id: str) -> int: ...  # type: ignore[empty-body]


@app.remote(queue="mail", key=lambda to: to)
async def notify(to: str) -> bool: ...  # type: ignore[empty-body]


@app.task(concurrency=10, rate="100/m")
def plain_limits() -> None:
    """A number and a text."""


@app.task(
    key="to",
    concurrency=[Concurrency(20), Concurrency(5, scope="worker")],
    rate=Rate(1, period=60, scope="key"),
)
def scoped_limits(to: str) -> None:
    """One limit or several."""


app.task(concurrency="10")  # type: ignore[arg-type]
app.task(rate=0.5)  # type: ignore[call-overload]
Rate(1, scope="host")  # type: ignore[arg-type]
app.task(timeuot=3)  # type: ignore[call-overload]
app.task(runs="fiber")  # type: ignore[call-overload]
app.remote(timeout=3)  # type: ignore[call-overload]


# Schedules keep the task what it was


@app.schedule("*/5 * * * *", tz="Europe/Berlin", kwargs={"shop": "north"}, overlap="skip")
@app.schedule(every(30), args=("south",), name="south", catch_up="once")
@app.task
def tidy(shop: str) -> int:
    """Twice over."""
    return 1


assert_type(tidy.publish("north"), Handle[int])
assert_type(app.schedule("@daily")(tidy)("north"), int)
app.schedule("@daily", overlap="never")  # type: ignore[arg-type]
app.schedule(30)  # type: ignore[arg-type]
app.schedule("@daily", timezone="UTC")  # type: ignore[call-arg]


# Publishing is checked like a call, and gives a handle on what the function returns

assert_type(charge.publish("o-17", cents=1200), Handle[Receipt])
assert_type(charge.publish("o-17").result(timeout=10), Receipt)
assert_type(charge.publish_nowait("o-17"), Handle[Receipt])
assert_type(charge.publish_many([{"order_id": "o-17"}]), list[Handle[Receipt]])
assert_type(resize.publish("o-17", 80).result(), bytes)
assert_type(refund.publish("o-17").result(), int)
assert_type(notify.publish(to="me").result(), bool)
assert_type(charge.options(delay=60, id="inv-9").publish("o-17"), Handle[Receipt])
assert_type(charge.publish("o-17").state(), State)

charge.publish()  # type: ignore[call-arg]
charge.publish(17)  # type: ignore[arg-type]
charge.publish("o-17", cent=1200)  # type: ignore[call-arg]
charge.publish("o-17", cents="1200")  # type: ignore[arg-type]
charge.publish_nowait("o-17", 1, 2)  # type: ignore[call-arg]
charge.options(delay=60).publish(17)  # type: ignore[arg-type]
refund.publish(17)  # type: ignore[arg-type]
charge.publish_many({"order_id": "o-17"})  # type: ignore[dict-item]

charge.options(at=datetime.now(UTC), expires=60, priority="low", unordered=True, key="o-17")
charge.options(retry=Retry(attempts=2, on=[OSError, "Declined"], within=60.0)).publish("o-17")
charge.options(retry=None).publish("o-17")
charge.options(retry=3)  # type: ignore[arg-type]
Retry(on=[int])  # type: ignore[list-item]
RetryAfter(datetime.now(UTC))
RetryAfter("120")
RetryAfter(None)  # type: ignore[arg-type]
charge.options(dely=60)  # type: ignore[call-arg]
charge.options(delay="60")  # type: ignore[arg-type]


async def publishes() -> None:
    """The twins."""
    assert_type(await charge.publish_async("o-17"), Handle[Receipt])
    assert_type(await charge.publish_many_async([{"order_id": "o-17"}]), list[Handle[Receipt]])
    assert_type(await (await charge.publish_async("o-17")).result_async(timeout=3), Receipt)
    assert_type(await resize.options(delay=3).publish_async("o-17", 3), Handle[bytes])
    assert_type(await app.handle("inv-9").state_async(), State)
    await charge.publish_async(17)  # type: ignore[arg-type]
    async with app as same:
        assert_type(same, App)


# By name

assert_type(app.publish("refund", {"order_id": "o-17"}, delay=3), Handle[Any])
assert_type(app.handle("inv-9"), Handle[Any])
app.publish("refund")  # type: ignore[call-arg]
app.publish("refund", {"order_id": "o-17"}, dely=3)  # type: ignore[call-arg]


# Calling: still the function it was

assert_type(resize("o-17", 80), bytes)
resize("o-17")  # type: ignore[call-arg]


async def calls() -> None:
    """An async task is awaited as before."""
    assert_type(await charge("o-17", 1200), Receipt)
    await charge(17)  # type: ignore[arg-type]


# Hooks


@app.lifespan
async def resources() -> AsyncIterator[dict[str, int]]:
    """An async generator."""
    yield {"pool": 1}


@app.around
def timed(context: Context) -> Iterator[None]:
    """A generator of one yield."""
    context.progress(0.5)
    yield


@app.around  # type: ignore[arg-type]
async def timed_async(context: Context) -> AsyncIterator[None]:
    """Refused: it would not run in threads."""
    yield


assert_type(current(), Context)
assert_type(current().cancelled, bool)


# Replays and shadows


def charge_apart(order_id: str, cents: int = 100) -> Receipt:
    """What runs in a shadow."""
    return Receipt(cents)


@app.task(name="charge_too", shadow=charge_apart)
async def charge_with_a_shadow(order_id: str, cents: int = 100) -> Receipt:
    """Keeps the type of its own function."""
    return Receipt(cents)


assert_type(charge_with_a_shadow.publish("o-17").result(), Receipt)
assert_type(app.replay(since="2h ago", tasks=["charge"], rate=5, dry_run=True).count, int)
assert_type(app.replay(since=datetime.now(UTC), offsets={0: (1, None)}).count, int)
app.replay(since=0, task="charge")  # type: ignore[call-arg]
app.replay(since=0, progress=lambda how_far: print(how_far.read, how_far.total))  # noqa: T201


async def replays() -> None:
    """The twin."""
    assert_type((await app.replay_async(since=0, ids="same")).count, int)
