"""Takes the pictures of every page for the docs: light and dark, wide and narrow. `make screenshots`.

What they show is the shop of `showcase.py`, after a minute and a half of customers.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tests.browser.conftest import served_app
from tests.browser.test_pages import NARROW, WIDE, visit
from tests.support.cql import drop_keyspace
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.stage import ROOT

from taskstream import App, Handle, State
from taskstream.admin import queues, replay, schedules
from taskstream.admin.provision import init
from taskstream.admin.redrive import redrive
from taskstream.admin.selection import Selection
from taskstream.broker.topics import Topics
from taskstream.core.replay import ReplayProgress, ReplayRequest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

FOLDER = Path(__file__).parents[2] / "docs" / "dashboard"
NAME = "webshop"
ANN = "ann@shop.example"
COLOURS = 256
"""Of a picture: the less there are, the fewer bytes it takes."""


@dataclass(slots=True)
class Shop:
    """The shop with its dashboard.

    Args:
        url: of the dashboard.
        dies: a task that died.
        recovers: one that died, was corrected and redriven, and succeeded.
        report: one that runs.
    """

    url: str
    dies: Handle[Any]
    recovers: Handle[Any]
    report: Handle[Any]


@pytest.fixture(scope="module")
def shop(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop that customers have bought from for a while."""
    settings = {**servers.addresses, "keyspace": NAME, "partitions": "4"}
    environment = {f"TASKSTREAM_{name.upper()}": text for name, text in settings.items()}
    environment["TASKSTREAM_SHOWCASE"] = NAME
    os.environ.update(environment)
    # The browser's driver runs an event loop in this thread.
    with ThreadPoolExecutor(1) as apart, ExitStack() as stack:
        opened = apart.submit(
            lambda: stack.enter_context(_opened(tmp_path_factory.mktemp("shop"), environment))
        )
        try:
            yield opened.result()
        finally:
            apart.submit(stack.close).result()


@contextmanager
def _opened(directory: Path, environment: dict[str, str]) -> Iterator[Shop]:
    from tests.browser import showcase

    app = showcase.app
    init(_last_year())
    init(app)
    with ExitStack() as stack:
        stack.callback(drop_keyspace, app.settings.cassandra_hosts, NAME)
        stack.callback(app.close)
        stack.callback(_delete_topics, app)
        for number in range(2):
            stack.enter_context(_worker(directory / f"worker-{number}.log", environment))
        url = stack.enter_context(
            served_app("tests.browser.showcase:app", directory=directory, environment=environment)
        )
        report = showcase.write_report.publish("ops@shop.example")
        showcase.publish(60.0)
        queues.pause(app, "queue:media", reason="the pictures' disk is full", who=ANN)
        schedules.add(
            app, "count_stock", "*/10 6-22 * * *", {"warehouse": "Gent"}, name="stock-gent", tz="Europe/Brussels",
            overlap="skip", reason="the new warehouse", who=ANN,
        )  # fmt: skip
        schedules.pause(app, "delete_old_baskets", reason="until the audit is over", who=ANN)
        recovers = _corrected(app)
        dies = showcase.charge_card.publish("o-3999", cents=-1500)
        showcase.publish(30.0)
        _replayed(app)
        _wait_for(app, dies, State.DEAD)
        yield Shop(url, dies, recovers, report)


def _last_year() -> App:
    """The shop as it was when there was one currency."""
    old = App(NAME)

    @old.task
    def charge_card(order_id: str, cents: int, note: str = "") -> None: ...

    return old


def _corrected(app: App) -> Handle[Any]:
    """A task that dies, is corrected and redriven, and succeeds."""
    handle = app.publish("charge_card", {"order_id": "o-3998", "cents": -1200})
    _wait_for(app, handle, State.DEAD)

    def correct() -> None:
        wanted = Selection(ids=frozenset({handle.id}))
        done = redrive(
            app, wanted, arguments={"order_id": "o-3998", "cents": 1200, "currency": "EUR"},
            reason="the shop had sent a refund", who=ANN,
        )  # fmt: skip
        assert done.redriven == 1

    eventually(correct, 30.0, every=0.5)  # its letter comes a moment after its row
    _wait_for(app, handle, State.SUCCEEDED)
    return handle


def _replayed(app: App) -> None:
    """A replay that came to its end, and one that did not."""
    anew = ReplayRequest(name="search-anew", since="1m", tasks=("update_search_index",))
    replay.replay(app, replay.settle(app, anew), reason="a new index", who=ANN)

    def stop(_: ReplayProgress) -> None:
        raise KeyboardInterrupt

    receipts = ReplayRequest(name="receipts", since="1m", tasks=("send_receipt",), rate=1.0)
    plan = replay.settle(app, receipts)
    with pytest.raises(KeyboardInterrupt):
        replay.replay(app, plan, reason="the mail server lost some", who=ANN, tell=stop)


def _wait_for(app: App, handle: Handle[Any], state: State) -> None:
    def look() -> None:
        assert app.handle(handle.id).state() is state

    eventually(look, 60.0, every=0.5)


@contextmanager
def _worker(log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskstream", "worker", "tests.browser.showcase:app"],
            cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait(10.0)


def _delete_topics(app: App) -> None:
    with Topics(app.settings) as topics:
        topics.delete(topics.names(f"{NAME}."))


def _pages(shop: Shop) -> dict[str, str]:
    """Every page, by the name of its picture; those first that tell of this minute."""
    form = "task=count_stock&when=0+*%2F6+*+*+*&tz=Europe%2FLisbon&arguments=%7B%22warehouse%22%3A+%22Porto%22%7D&name=stock-porto"
    return {
        "overview": "/",
        "workers": "/workers",
        "queues": "/queues",
        "tasks": "/tasks",
        "tasks-dead": "/tasks?state=dead",
        "task": f"/tasks/{shop.recovers.id}",
        "task-dead": f"/tasks/{shop.dies.id}",
        "task-running": f"/tasks/{shop.report.id}",
        "dead": "/dead",
        "dead-where": "/dead?where=cents+%3E+20000",
        "preview": f"/dead/preview?what=redrive&id={shop.dies.id}",
        "order": "/queues/preview?verb=drain&target=queue%3Atasks.low",
        "replay": "/replay",
        "replay-preview": "/replay/preview?since=1h&task=charge_card&where=cents+%3E+25000",
        "schedules": "/schedules",
        "schedule": "/schedules/of/stock-gent",
        "schedule-form": f"/schedules/form?{form}",
        "schemas": "/schemas",
        "schema": "/schemas/charge_card",
        "audit": "/audit",
        "login": "/login",
    }


def test_pictures(chromium: Browser, shop: Shop) -> None:
    """Every page, as it is above the fold; the one of a task as a whole."""
    FOLDER.mkdir(exist_ok=True)
    pictures = [
        (scheme, name, size)
        for scheme in ("light", "dark")
        for name, size in (("wide", WIDE), ("narrow", NARROW))
    ]
    for title, path in _pages(shop).items():
        for scheme, name, size in pictures:
            context = chromium.new_context(
                base_url=shop.url,
                viewport=size,
                color_scheme="light" if scheme == "light" else "dark",
                reduced_motion="reduce",
            )
            page = context.new_page()
            visit(page, path)
            if title == "overview":
                expect(page.locator("canvas")).to_have_count(4)
            whole = title == "task" and name == "wide"
            keep(page, FOLDER / f"{title}-{scheme}-{name}.png", whole=whole)
            context.close()


def keep(page: Page, path: Path, *, whole: bool) -> None:
    """Writes a picture with few colours, which takes few bytes."""
    taken = page.screenshot(scale="css", full_page=whole)
    with Image.open(BytesIO(taken)) as picture:
        plain = picture.convert("RGB")
    plain.quantize(palette=_palette(plain), dither=Image.Dither.NONE).save(path, optimize=True)


def _palette(picture: Image.Image) -> Image.Image:
    """Half of it the colours that most of the picture has, half of it spread over all others there are."""
    counted: Any = picture.getcolors(picture.width * picture.height)
    colours = [colour for _, colour in sorted(counted, reverse=True)]
    kept, others = colours[: COLOURS // 2], colours[COLOURS // 2 :]
    parts = [part for colour in kept for part in colour]
    if others:
        each_once = Image.new("RGB", (len(others), 1))
        each_once.putdata(others)
        spread = each_once.quantize(COLOURS // 2, dither=Image.Dither.NONE).getpalette() or []
        parts += spread[: 3 * (COLOURS // 2)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(parts)
    return palette
