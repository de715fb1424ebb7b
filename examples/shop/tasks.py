"""The shop's tasks: what its web pages publish and its workers run.

taskstream init taskstream.demo.tasks:app
taskstream worker taskstream.demo.tasks:app
taskstream publish taskstream.demo.tasks:app charge '{"order_id": "o-1", "cents": 1200}'
"""

import asyncio
import time
from dataclasses import dataclass

from opentelemetry import trace

from taskstream import App, Retry, current

app = App("shop")
tracer = trace.get_tracer("shop")


@dataclass(frozen=True)
class Receipt:
    """What a customer gets for a payment."""

    order_id: str
    cents: int
    number: str


class WarehouseBusy(Exception):
    """The warehouse doesn't answer now; it will in a moment."""


class NoCarrier(Exception):
    """Nobody takes a parcel there."""


@app.task(priority="high", key="order_id")
async def charge(order_id: str, cents: int) -> Receipt:
    """Takes the money. High priority, and for each order one at a time."""
    await asyncio.sleep(0.005)  # the bank thinks
    return Receipt(order_id, cents, f"R-{order_id}")


@app.task
def pack(order_id: str, items: list[str]) -> str:
    """Packs a parcel: a plain function, which runs in a thread. Returns what its label says."""
    time.sleep(0.005)  # tape and paper
    return f"{order_id}, {100 + 250 * len(items)} g"


@app.task(priority="low")
async def recommend(customer: str) -> list[str]:
    """Picks what the customer may like. It can wait."""
    await asyncio.sleep(0.005)  # the model thinks
    return [f"more for {customer}"]


@app.task(retry=Retry(attempts=3, delays=(0.2, 0.4)))
async def reserve(order_id: str) -> str:
    """Asks the warehouse for a shelf: it fails twice, and then works."""
    with tracer.start_as_current_span("ask the warehouse"):
        await asyncio.sleep(0.01)
        if current().attempt < 3:
            raise WarehouseBusy(f"no answer for {order_id}")
    return "shelf 7"


@app.task(retry=Retry(attempts=2, delays=(0.2,)))
async def ship(order_id: str, country: str) -> str:
    """Sends the parcel: it never works, and ends as a dead letter."""
    raise NoCarrier(f"nobody takes {order_id} to {country}")
