"""Takes the pictures of every page for the docs: light and dark, wide and narrow. `make screenshots`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.conftest import Site, opened
from tests.browser.test_pages import NARROW, WIDE, pages_of, visit
from tests.support.servers import Servers

FOLDER = Path(__file__).parents[2] / "docs" / "dashboard"

TEXTS = ("thank you", "the order o-42 has no address", "a parcel for Atlantis")


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same with texts that say something to readers of the docs."""
    with opened(tmp_path_factory.mktemp("site"), TEXTS, **servers.addresses) as site:
        yield site


pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_pictures(chromium: Browser, site: Site) -> None:
    """Every page, as it is above the fold."""
    FOLDER.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            context = chromium.new_context(
                base_url=site.url,
                viewport=size,
                color_scheme="light" if scheme == "light" else "dark",
                reduced_motion="reduce",
            )
            page = context.new_page()
            for title, path in pages_of(site).items():
                visit(page, path)
                if title == "overview":
                    expect(page.locator("canvas")).to_have_count(4)
                page.screenshot(path=FOLDER / f"{title}-{scheme}-{name}.png", scale="css")
            context.close()
