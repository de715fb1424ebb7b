"""The dashboard in a real browser: what can be seen, done and heard there, with and without scripts.

Broken on purpose once, and seen to fail: `autoescape=False` (an element of a task's error is made), a `label`
taken from the filters (axe), the look at what is in use left out of `dashboard.js` (the focus is lost), tables
without their scrolling frame (a phone's page is too wide), a `style` in a template (the policy forbids it), the zone
forgotten on the next page, spans that all stand at the edge.
"""

import re
from typing import Any, Literal
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect
from tests.browser.conftest import AXE, Site, served
from tests.support.eventually import eventually

from taskstream import Handle, State
from taskstream.observability.collector import from_jaeger

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}


EVERY_HOUR = {
    "task": "add", "when": "0 * * * *", "tz": "Europe/Berlin", "arguments": '{"n": 1}', "name": "hourly",
}  # fmt: skip


def _load_until(page: Page, path: str, told: str) -> None:
    """Loads a page until it tells that: of a dead letter it hears a moment after the row was stored."""

    def look() -> None:
        page.goto(path)
        assert told in page.inner_text("body")

    eventually(look, timeout=20.0, every=0.2)


def pages_of(site: Site) -> dict[str, str]:
    """Every page, by the name of its picture."""
    return {
        "overview": "/",
        "tasks": "/tasks",
        "tasks-dead": "/tasks?state=dead",
        "task": f"/tasks/{site.tasks['dies'].id}",
        "task-running": f"/tasks/{site.tasks['runs'].id}",
        "dead": "/dead",
        "preview": f"/dead/preview?what=redrive&id={site.tasks['dies'].id}",
        "queues": "/queues",
        "order": "/queues/preview?verb=pause&target=task%3Aadd",
        "replay": "/replay",
        "schedules": "/schedules",
        "schedule": "/schedules/of/nightly",
        "schedule-form": f"/schedules/form?{urlencode(EVERY_HOUR)}",
        "schedule-wrong": f"/schedules/form?{urlencode({**EVERY_HOUR, 'when': 'every 0.1 s', 'arguments': '{'})}",
        "dead-where": "/dead?where=n+>+1",
        "dead-wrong": "/dead?where=n+>&since=soon",
        "replay-preview": "/replay/preview?since=1h&task=receipt",
        "workers": "/workers",
        "schemas": "/schemas",
        "schema": "/schemas/receipt",
        "audit": "/audit",
        "login": "/login",
    }


def visit(page: Page, path: str) -> None:
    """Opens a page and waits until it has fetched what it fetches after its first byte."""
    page.goto(path)
    for part in ("Arguments and result", "Trace"):
        section = page.locator(f"section[aria-label='{part}']")
        if section.count():
            expect(section.locator("h2")).to_be_visible()
            expect(section.get_by_role("link", name=re.compile("^Read"))).to_have_count(0)
    expect(page.locator(".htmx-request")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_fit_for_everybody(
    chromium: Browser, site: Site, scheme: Literal["light", "dark"]
) -> None:
    """Axe finds nothing on any page, wide or narrow, in either colours; no page is wider than a phone."""
    context = chromium.new_context(
        base_url=site.url, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce"
    )
    page = context.new_page()
    for name, path in pages_of(site).items():
        page.set_viewport_size(WIDE)
        visit(page, path)
        page.add_script_tag(path=AXE)
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], (
                name,
                size,
            )
            if size is NARROW and scheme == "dark":
                continue  # what is laid out otherwise is so in both colours
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            told = [
                (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
                for one in found["violations"]
            ]
            assert told == [], (name, size, scheme)
    context.close()


def test_a_failed_task_is_found_from_the_overview_in_one_click(page: Page, site: Site) -> None:
    """Its whole story is on one page: attempts, tracebacks, timeline, arguments, trace and its link."""
    dies = site.tasks["dies"].id
    page.goto("/")
    page.get_by_role("link", name=dies).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("never_works")
    page.locator("summary").last.click()
    expect(page.get_by_text('raise ValueError(f"no {n} will do")').last).to_be_visible()
    expect(page.get_by_text('"n": 42')).to_be_visible()
    expect(page.locator(".timeline li")).to_have_count(9)
    expect(page.locator(".waterfall rect").first).to_be_visible()
    link = page.get_by_role("link", name="Open it in Jaeger").get_attribute("href") or ""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/trace/[0-9a-f]{32}", link)


def test_a_task_is_corrected_and_redriven_and_succeeds(page: Page, site: Site) -> None:
    """From the overview to its letter, its arguments put right, and on record with who and why."""
    pays = site.publish("pays", "o-99", -5)
    site.wait_for(pays, State.DEAD)
    page.goto("/")
    page.get_by_role("link", name=pays.id).first.click(timeout=30_000)
    page.get_by_role("link", name="Correct and redrive").click(timeout=30_000)
    expect(page.get_by_text("1 letter is meant; 1 task would run again.")).to_be_visible()
    page.get_by_label("Arguments").fill('{"order_id": "o-99", "cents": 500}')
    page.get_by_label("Reason").fill("the price was wrong")
    page.get_by_role("button", name="Redrive 1").click()
    expect(page.get_by_text("1 letter is meant; 1 task runs again.")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="To the task").click()
    expect(page.locator("#story .badge").first).to_have_text("succeeded", timeout=30_000)
    page.get_by_role("link", name="what they did to it").click()
    expect(page.get_by_role("row", name=re.compile("redrive.*the price was wrong"))).to_be_visible(
        timeout=10_000
    )
    _tells_its_whole_story(page, site, pays)


def _tells_its_whole_story(page: Page, site: Site, pays: Handle[Any]) -> None:
    """A task that failed, was tried again, died, was corrected and redriven: whole, three clicks away."""
    clicks: list[str] = []
    page.expose_binding("noteClick", lambda _, told: clicks.append(told))
    page.add_init_script(
        "addEventListener('click', (event) => noteClick(event.target.textContent), true);"
    )
    page.goto("/")
    page.get_by_role("region", name="By task").get_by_role("link", name="pays").click()
    page.get_by_role("link", name=pays.id).click()
    expect(page.locator("#story .badge").first).to_have_text("succeeded")
    expect(page.locator("#story caption", has_text="Run 1, asked for by")).to_contain_text(
        "the price was wrong"
    )
    states = page.get_by_role("region", name="Attempts of run 0").locator("td .badge")
    expect(states).to_have_text(["retrying", "retrying", "dead"])
    expect(page.get_by_text("-5 cents are no amount").first).to_be_visible()
    expect(page.locator("summary", has_text="Traceback")).to_have_count(3)
    expect(page.locator(".timeline li", has_text="asked to run again")).to_be_visible()
    expect(page.get_by_text('"cents": 500')).to_be_visible()
    expect(page.get_by_text("Correct and redrive")).to_have_count(0)
    rows = page.locator(".waterfall tbody tr")

    def look() -> None:
        page.reload()
        expect(rows.first).to_be_visible()
        for name in ("process", "send"):
            assert page.locator(".waterfall th", has_text=name).count() >= 4, name

    eventually(look, timeout=20.0)  # spans come to Jaeger in batches
    moved_in = page.locator(".waterfall tbody th").evaluate_all(
        "all => all.map((one) => parseFloat(getComputedStyle(one).paddingLeft))"
    )
    assert moved_in[0] < min(moved_in[1:])  # each span stands below its parent
    link = page.get_by_role("link", name="Open it in Jaeger")
    url, _, trace_id = (link.get_attribute("href") or "").partition("/trace/")
    spans = from_jaeger(url, trace_id)
    assert len(spans) == rows.count()
    known = {span.span_id for span in spans}
    assert len([span for span in spans if span.parent_id not in known]) == 1  # one story, one root
    link.click()
    expect(page).to_have_url(re.compile(rf"{url}/trace/{trace_id}"))
    assert len(clicks) == 3, clicks


def test_many_letters_are_redriven_and_purged_by_their_reason(page: Page, site: Site) -> None:
    """What is shown is counted in a preview, which touches nothing, and then done, and gone from the list."""
    handles = [site.publish("gives_up", number) for number in range(100, 103)]
    for handle in handles:
        site.wait_for(handle, State.DEAD)
    _load_until(page, "/dead?task=gives_up&text=10", "Open letters, newest first: 3")
    caption = page.locator("caption", has_text="Open letters")
    expect(caption).to_contain_text(": 3")
    page.get_by_role("link", name="Preview a redrive").click()
    expect(page.get_by_text("3 letters are meant; 3 tasks would run again.")).to_be_visible()
    page.get_by_label("Reason").fill("once more")
    page.get_by_role("button", name="Redrive 3").click()
    expect(page.get_by_text("3 letters are meant; 3 tasks run again.")).to_be_visible(
        timeout=30_000
    )

    def again() -> None:
        assert all(
            {row.run for row in site.stage.rows(handle) if row.state is State.DEAD} == {0, 1}
            for handle in handles
        )

    site.apart.submit(eventually, again, 30.0).result()
    meant = "3 letters are meant; 3 would be closed"
    _load_until(page, "/dead/preview?what=purge&task=gives_up&text=10", meant)
    expect(page.get_by_text(meant)).to_be_visible()
    page.get_by_label("Reason").fill("hopeless")
    page.get_by_role("button", name="Purge 3").click()
    expect(page.get_by_text("3 are closed")).to_be_visible(timeout=30_000)
    page.goto("/dead?task=gives_up&text=10")
    expect(caption).to_contain_text(": 0")


def test_tasks_are_replayed_after_a_dry_run(page: Page, site: Site) -> None:
    """The preview says how many, of which task, with some of them; the replay is on the list and on record."""
    page.goto("/replay")
    page.get_by_label("Written since").fill("1h")
    page.get_by_label("Task", exact=True).fill("rec*")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("1 task would be published again.")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("link", name=site.tasks["works"].id)).to_be_visible()
    page.get_by_label("Reason").fill("once more")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 task is published again.")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="Replay", exact=True).click()
    expect(page.get_by_role("row", name=re.compile("once more.*finished"))).to_be_visible(
        timeout=20_000
    )


def test_a_schedule_is_added_changed_and_removed(page: Page) -> None:
    """What is wrong is told at its field, what is right with its next firings; then it is there, and changed."""
    page.goto("/schedules")
    page.get_by_role("link", name="Add a schedule").click()
    page.get_by_label("Task", exact=True).fill("add")
    page.get_by_label("When").fill("every 0.1 s")
    page.get_by_label("Arguments").fill('{"n": 1}')
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_label("When")).to_have_accessible_description(
        re.compile("1 second to a year")
    )
    page.get_by_label("When").fill("every 2 h")
    page.get_by_text("More: name").click()
    page.get_by_label("Name").fill("two-hourly")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="It would fire at")).to_be_visible()
    expect(page.locator(".timeline li")).to_have_count(5)
    page.get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Add two-hourly").click()
    expect(page.get_by_text("It is there")).to_be_visible()
    page.get_by_role("link", name="Change its times").click()
    expect(page.get_by_label("When")).to_have_value("every 7200 s")
    page.get_by_label("When").fill("@daily")
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("Reason").fill("less often")
    page.get_by_role("button", name="Change two-hourly").click()
    expect(page.get_by_text("@daily")).to_be_visible()
    page.get_by_label("Reason").fill("enough")
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("It is removed")).to_be_visible()
    expect(page.get_by_role("link", name="two-hourly")).to_have_count(0)
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("row", name=re.compile("reschedule.*less often"))).to_be_visible(
        timeout=10_000
    )


def test_times_can_be_told_in_the_visitors_zone(chromium: Browser, site: Site) -> None:
    """In UTC at first; by the switch in his own, also what comes later, and on the next page."""
    context = chromium.new_context(base_url=site.url, timezone_id="America/New_York")
    page = context.new_page()
    page.goto("/schedules")
    next_one = page.get_by_role("row", name=re.compile("nightly")).locator("time").first
    expect(next_one).to_have_text(re.compile(r" 0[12]:00:00$"))
    page.get_by_role("button", name="Times in UTC or local").click()
    expect(next_one).to_have_text(re.compile(r" 2[0-2]:00:00$"))
    expect(page.get_by_role("columnheader", name="Next (local)")).to_be_visible()
    page.goto("/workers")
    expect(page.get_by_text("Last heartbeat (local)").first).to_be_visible()
    context.close()


def test_a_queue_is_paused_and_let_go(page: Page) -> None:
    """The preview says what it means and how many wait; the lane says that it is paused, and then not."""
    for verb, badges in (("pause", 1), ("resume", 0)):
        page.goto("/queues")
        page.get_by_label("Order", exact=True).select_option(verb)
        page.get_by_label("of", exact=True).select_option("queue:tasks.low")
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_text("tasks are queued or run")).to_be_visible(timeout=30_000)
        page.get_by_label("Reason").fill("a test")
        page.get_by_role("button", name=verb.capitalize()).click()
        expect(page.get_by_text("The order is given")).to_be_visible(timeout=30_000)
        expect(page.locator("table .badge", has_text="paused")).to_have_count(
            badges, timeout=30_000
        )


def test_what_happens_is_seen_without_loading_again(page: Page, site: Site) -> None:
    """A task that dies meanwhile comes up on the overview, and the charts are drawn."""
    page.goto("/")
    expect(page.locator("canvas")).to_have_count(4)
    handle = site.publish("gives_up", 1)
    expect(page.get_by_role("link", name=handle.id)).to_be_visible(timeout=30_000)


def test_what_is_in_use_is_not_replaced(page: Page, site: Site) -> None:
    """A link that has the focus keeps it while its table changes, and the pause button stops all."""
    page.goto("/")
    link = page.locator("section[sse-swap='failures'] a").nth(3)
    link.focus()
    handle = site.publish("gives_up", 2)
    # The table by task is elsewhere, and goes on.
    row = page.locator("section[sse-swap='task_lines'] tr", has_text="gives_up")
    expect(row).to_be_visible(timeout=30_000)
    site.wait_for(handle, State.DEAD)
    expect(link).to_be_focused()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")


def test_a_running_task_is_followed_to_its_end(page: Page, site: Site) -> None:
    """The page of a task tells of a cancel and of what came of it, with a reason for the audit log."""
    waits = site.tasks["waits"].id
    page.goto(f"/tasks/{waits}")
    expect(page.get_by_text("No trace of this id yet")).to_be_visible()
    page.get_by_role("button", name="Cancel this task").click()
    assert page.get_by_label("Reason").evaluate("input => !input.validity.valid")  # it is needed
    page.get_by_label("Reason").fill("sent by <b>mistake</b>")
    page.get_by_role("button", name="Cancel this task").click()
    expect(page.get_by_text("A cancel was requested")).to_be_visible()
    expect(page.locator("#story .badge").first).to_have_text("cancelled", timeout=30_000)
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("cell", name="sent by <b>mistake</b>")).to_be_visible(timeout=10_000)


def test_children_are_ordered_from_the_page_of_workers(page: Page) -> None:
    """The form says what it touches, and the worker follows before one's eyes."""
    page.goto("/workers")
    page.get_by_label("Children").fill("3")
    page.get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Give the order").click()
    expect(page.get_by_text("The order is given")).to_be_visible()
    children = page.locator(".facts div", has=page.locator("dt", has_text="Children"))
    expect(children.locator("dd")).to_have_text("3", timeout=30_000)


def test_filters_stand_in_the_address(page: Page, site: Site) -> None:
    """What was asked for can be sent to somebody, and comes back filled in."""
    page.goto("/tasks")
    page.get_by_label("dead", exact=True).check()
    page.get_by_label("Task", exact=True).fill("never_works")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"state=dead&task=never_works"))
    expect(page.get_by_role("link", name=site.tasks["dies"].id)).to_be_visible()
    expect(page.get_by_label("dead", exact=True)).to_be_checked()
    expect(page.get_by_label("Task", exact=True)).to_have_value("never_works")


def test_hostile_texts_stay_texts(page: Page, site: Site) -> None:
    """No script of anybody's runs, no element of anybody's is made, and no other server is asked."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hostile, result = site.tasks["hostile"].id, site.tasks["hostile result"].id
    paths = ["/", "/tasks", "/tasks?state=dead", f"/tasks/{hostile}", f"/tasks/{result}", "/audit"]
    paths += [
        f"/schedules/form?task=add&when=@daily&arguments={quote('</textarea><img src=x onerror=window.hurt=1>')}"
    ]
    paths += [f"/tasks?text={quote('<img src=x onerror=window.hurt=1>')}"]
    for path in paths:
        visit(page, path)
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert page.evaluate("window.hurt") is None, path
        assert (
            page.evaluate("document.querySelectorAll('iframe, img[src=x], base, style').length")
            == 0
        )
    assert [url for url in asked if not url.startswith(site.url)] == []


def test_it_works_by_keyboard_alone(page: Page, site: Site) -> None:
    """From the skip link over the menu to a task, with the focus to be seen at each step."""
    page.goto("/tasks?state=dead&task=never_works")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    link = page.get_by_role("link", name=site.tasks["dies"].id)
    for _ in range(40):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    expect(link).to_be_focused()
    assert link.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("never_works")


def test_it_works_without_scripts(chromium: Browser, site: Site) -> None:
    """Everything but charts and live parts: what is fetched later has a link instead."""
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    _load_until(page, "/", site.tasks["dies"].id)
    page.get_by_role("link", name=site.tasks["dies"].id).first.click()
    page.get_by_role("link", name="Read them").click()
    expect(page.get_by_text('"n": 42')).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Read it from Jaeger").click()
    expect(page.locator(".waterfall rect").first).to_be_visible()
    page.goto(f"/schedules/form?{urlencode({**EVERY_HOUR, 'name': 'scriptless'})}")
    page.get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Add scriptless").click()
    expect(page.get_by_text("It is there")).to_be_visible()
    expect(page.locator("time").last).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d "))
    page.goto("/dead?where=n+>+40+and+n+<+50")
    expect(page.get_by_role("link", name=site.tasks["dies"].id)).to_be_visible()
    context.close()


def test_the_colours_can_be_switched_and_stay(page: Page) -> None:
    """Light by the system, dark by the switch, and dark still on the next page."""
    page.goto("/")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.get_by_role("link", name="Queues", exact=True).click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_token_is_asked_for_once(chromium: Browser, site: Site) -> None:
    """The login leads on to where one wanted to go, live parts work behind it, and one can log out."""
    with served(site.stage, "--token", "secret", "--read-only") as url:
        context = chromium.new_context(base_url=url)
        page = context.new_page()
        page.goto("/queues")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("This is not the token.")
        page.get_by_label("Token").fill("secret")
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{url}/queues")
        expect(page.get_by_role("cell", name=f"{site.stage.app.name}.tasks.high")).to_be_visible(
            timeout=20_000
        )
        expect(page.get_by_text("read only")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        page.goto("/queues")
        expect(page.get_by_label("Token")).to_be_visible()
        context.close()
