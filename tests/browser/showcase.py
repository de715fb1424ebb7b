"""A shop as the pictures of the dashboard show it: two queues, schedules, and everything that can befall a task.

Started as `tests.browser.showcase:app` by the processes that the pictures need, with the app's name in
their environment.
"""

import asyncio
import math
import os
import random
import time
from dataclasses import dataclass

from taskstream import App, Queue, Retry, every

NAME = "TASKSTREAM_SHOWCASE"
SOON = Retry(attempts=3, first=0.3, longest=1.0)


class CardDeclined(Exception):
    """The bank said no."""


class AddressUnknown(Exception):
    """Nobody lives there."""


class CarrierUnreachable(ConnectionError):
    """The parcel service does not answer."""


@dataclass
class Receipt:
    """What a customer gets."""

    order_id: str
    cents: int
    number: str


app = App(
    os.environ.get(NAME, "shop"),
    queues={
        "tasks": {"high": 6, "normal": 3, "low": 1},
        "media": Queue({"normal": 1}, partitions=2),
    },
)


def chance(order_id: str) -> float:
    """A number from 0 to 1 that belongs to an order, so that each attempt of it meets the same luck."""
    return random.Random(order_id).random()


@app.task(priority="high", key="order_id", retry=SOON)
async def charge_card(order_id: str, cents: int, currency: str = "EUR") -> Receipt:
    """Takes the money."""
    await asyncio.sleep(0.02 + 0.05 * random.random())
    if cents <= 0:
        raise ValueError(f"order {order_id}: {cents} cents can't be charged")
    if chance(order_id) < 0.02:
        raise CardDeclined(f"order {order_id}: insufficient funds")
    return Receipt(order_id, cents, f"R-{order_id[2:]}-{currency}")


@app.task(retry=SOON)
async def send_receipt(order_id: str, email: str) -> str:
    """Writes to the customer."""
    await asyncio.sleep(0.01 + 0.03 * random.random())
    return f"sent to {email}"


@app.task(key="order_id", retry=SOON)
async def book_parcel(order_id: str, city: str) -> str:
    """Has the parcel fetched."""
    await asyncio.sleep(0.05 + 0.2 * random.random())
    if city == "Atlantis":
        raise AddressUnknown(f"order {order_id}: no such city as {city}")
    if random.random() < 0.1:
        raise CarrierUnreachable("carrier.example: no answer within 2 s")
    return f"parcel to {city}"


@app.task(queue="media", priority="normal", retry=SOON)
def resize_picture(picture: str, width: int = 640) -> int:
    """Makes a picture smaller."""
    time.sleep(0.1 + 0.4 * random.random())
    return width


@app.task(priority="low", retry=SOON)
async def update_search_index(product: int, fields: list[str]) -> int:
    """Lets the search know of a product."""
    await asyncio.sleep(0.02)
    return product + len(fields)


@app.schedule("0 3 * * *", tz="Europe/Berlin", kwargs={"days": 30})
@app.task(priority="low")
async def delete_old_baskets(days: int) -> int:
    """Forgets what nobody bought."""
    return days


@app.schedule(every(20), kwargs={"warehouse": "Rotterdam"})
@app.task(priority="low", retry=SOON)
async def count_stock(warehouse: str) -> int:
    """Asks a warehouse what it has."""
    await asyncio.sleep(0.5)
    return len(warehouse)


@app.schedule("30 7 * * 1-5", tz="America/New_York", kwargs={"to": "ops@shop.example"})
@app.task(priority="low", retry=SOON)
async def write_report(to: str) -> str:
    """Sums yesterday up, which takes its time."""
    await asyncio.sleep(600)
    return to


def publish(seconds: float, a_second: float = 15.0) -> None:
    """Lets customers buy for some seconds; blocks meanwhile."""
    cities = ("Lyon", "Graz", "Porto", "Turku", "Gent", "Bergen", "Atlantis")
    weights = (9, 8, 7, 5, 5, 4, 1)
    luck = random.Random(17)
    begun = time.monotonic()
    number = 0
    while (passed := time.monotonic() - begun) < seconds:
        # A little more now and a little less then, as customers are.
        wanted = a_second * (passed + 6.0 * math.sin(passed / 9.0))
        while number < wanted:
            number += 1
            order = f"o-{4000 + number}"
            charge_card.publish_nowait(order, cents=luck.randrange(300, 30_000))
            send_receipt.publish_nowait(order, email=f"c{number}@shop.example")
            book_parcel.publish_nowait(order, city=luck.choices(cities, weights)[0])
            if not number % 4:
                resize_picture.publish_nowait(f"product-{number}.jpg")
                update_search_index.publish_nowait(number, fields=["price", "stock"])
        time.sleep(0.05)
    app.flush()
