"""A dashboard with something to show, on real servers, and a real browser that looks at it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.support.eventually import eventually
from tests.support.hostile import HOSTILE
from tests.support.servers import Servers
from tests.support.stage import ROOT, Stage, staged

from taskstream import Handle, State
from taskstream.admin import schedules

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(slots=True)
class Site:
    """A dashboard that is served, and what is there to see.

    Args:
        stage: its app.
        url: where it is.
        tasks: some tasks, by what they are for.
        apart: a thread for what blocks: the browser's driver runs an event loop in the test's own.
    """

    stage: Stage
    url: str
    tasks: dict[str, Handle[Any]]
    apart: ThreadPoolExecutor

    def publish(self, task: str, *arguments: Any) -> Handle[Any]:
        """Publishes a task of the app."""
        return self.apart.submit(self.stage.task(task).publish, *arguments).result()

    def wait_for(self, handle: Handle[Any], state: State) -> None:
        """Waits until the store has it in that state."""
        self.apart.submit(self.stage.wait_for, [handle], {state: 1}).result()


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A dashboard beside a worker that has run tasks of each kind."""
    with opened(tmp_path_factory.mktemp("site"), HOSTILE, **servers.addresses) as site:
        yield site


@contextmanager
def opened(directory: Path, hostile_texts: Sequence[str], **settings: str) -> Iterator[Site]:
    """A dashboard beside a worker that has run tasks of each kind, these texts among them."""
    with ThreadPoolExecutor(1) as apart, ExitStack() as stack:

        def enter() -> Site:
            stage = stack.enter_context(staged(directory, **settings))
            stage.worker()
            tasks = publish(stage, directory, hostile_texts)
            return Site(stage, stack.enter_context(served(stage)), tasks, apart)

        try:
            yield apart.submit(enter).result()
        finally:
            apart.submit(stack.close).result()


def publish(
    stage: Stage, directory: Path, hostile_texts: Sequence[str] = HOSTILE
) -> dict[str, Handle[Any]]:
    """Some tasks of each kind, ended but for those that are to go on; the one that dies does so last."""
    tasks = {
        "works": stage.task("receipt").publish("o-17", cents=1200),
        "recovers": stage.task("fails_twice").publish(17),
        "runs": stage.task("waits_in_thread").publish(str(directory / "never")),
        "waits": stage.task("add").options(delay=3600).publish(1),
    }
    many = stage.task("add").publish_many({"n": n} for n in range(60))
    hostile = [
        stage.task("says").publish(text[:200], text, ends)
        for text in hostile_texts
        for ends in ("well", "badly")
    ]
    schedules.add(
        stage.app,
        "add",
        "0 3 * * *",
        {"n": 1},
        name="nightly",
        tz="Europe/Berlin",
        reason="every night",
    )
    stage.wait_for(many, {State.SUCCEEDED: len(many)})
    stage.wait_for([tasks["works"], tasks["recovers"]], {State.SUCCEEDED: 2})
    stage.wait_for(hostile, dict.fromkeys((State.SUCCEEDED, State.DEAD), len(hostile_texts)))
    tasks["dies"] = stage.task("never_works").publish(42)
    stage.wait_for([tasks["dies"]], {State.DEAD: 1})
    return {**tasks, "hostile result": hostile[0], "hostile": hostile[1]}


def served(stage: Stage, *options: str) -> AbstractContextManager[str]:
    """A `taskstream dashboard` of a stage's app while the block lasts; gives its address."""
    return served_app(
        "tests.support.jobs:app", *options, directory=stage.directory, environment=stage.environment
    )


@contextmanager
def served_app(
    app: str, *options: str, directory: Path, environment: Mapping[str, str]
) -> Iterator[str]:
    """A `taskstream dashboard` while the block lasts; gives its address.

    Args:
        app: which one, `module:attribute`.
        options: of the command line.
        directory: where its log goes.
        environment: what it has beside ours.
    """
    path = directory / f"dashboard-{len(options)}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskstream", "dashboard", app, "--port", "0", *options],
            cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def look() -> str:
        assert process.poll() is None, path.read_text()
        found = re.search(r"on (http://\S+)/", path.read_text())
        assert found, path.read_text()
        return found[1]

    try:
        yield eventually(look, 20.0)
    finally:
        process.terminate()
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)
            raise


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium without a window; where there is none, the test skips, or fails in CI."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        line = "NO CHROMIUM, the pages are not tested in a browser: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(line, pytrace=False)
        pytest.skip(line)
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container's root has not; what it opens is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


VIOLATIONS = """
    document.addEventListener("securitypolicyviolation", (event) =>
        noteViolation(`${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`));
"""
"""Tells the test of whatever the content security policy had to forbid."""


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """A page of a fresh browser profile, at the dashboard.

    Any script error, any dialog and any violation of the content security policy fails the test.
    """
    context = chromium.new_context(base_url=site.url, viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    context.expose_binding("noteViolation", lambda _, told: errors.append(str(told)))
    context.add_init_script(VIOLATIONS)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield page
    context.close()
    assert errors == []
