"""The dashboard's pages and actions over ASGI, on the real servers; in a browser: `tests/browser`.

Broken on purpose once, and seen to fail: `autoescape=False` in the templates' environment, `read_form`
without `refusal`, without its look at `read_only`, `Guard` without its look at the session, `admin.tasks.cancel`
without `who`, `_record_at` without its look at the id, a schedule in code that can be changed, one that is added
without `who`, a replay that is resumed without it, letters chosen without the condition, the forms of a schedule's page
shown to who may only read, a gauge of the dashboard that nobody reads, `/metrics` open to who does not know the token.
"""

import asyncio
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.support.eventually import eventually
from tests.support.hostile import HOSTILE
from tests.support.stage import ROOT, Stage

from taskstream import Handle, State
from taskstream.admin import audit, queues, replay, schedules
from taskstream.admin.dashboard import asgi
from taskstream.core.ids import new_id
from taskstream.core.replay import ReplayProgress, ReplayRequest
from taskstream.observability import table
from taskstream.results.row import Row, partition_of
from taskstream.schemas.derive import derive

ORIGIN = "http://dash.example"
PAGES = (
    "/",
    "/queues",
    "/tasks",
    "/dead",
    "/replay",
    "/replay/compare",
    "/schedules",
    "/schedules/form",
    "/schedules/of/nightly",
    "/workers",
    "/schemas",
    "/audit",
)


@dataclass(slots=True)
class Visitor:
    """A browser without scripts: keeps cookies, follows no redirect by itself.

    Args:
        client: sends the requests.
    """

    client: httpx.AsyncClient
    loop: asyncio.AbstractEventLoop

    def get(self, path: str, **headers: str) -> httpx.Response:
        """A page."""
        return self.loop.run_until_complete(self.client.get(path, headers=headers))

    def post(self, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
        """A form, as a browser sends it from one of our pages."""
        given = {"origin": ORIGIN, **headers}
        return self.loop.run_until_complete(self.client.post(path, data=form, headers=given))

    def token_of(self, page: str) -> str:
        """What the forms of a page send along."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert found, page
        return found[1]


@contextmanager
def visiting(stage: Stage, *, at: str = "", **options: Any) -> Iterator[Visitor]:
    """A visitor of a dashboard with these options, mounted at `at`."""
    site = asgi(stage.app, **options)
    mounted = Starlette(routes=[Mount(at, site)]) if at else site
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url=ORIGIN)
    try:
        yield Visitor(client, loop)
    finally:
        site.state.live.close()
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Reader(HTMLParser):
    """Notes what a browser would act on: every element, and every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


HARMLESS = frozenset(
    ["html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "ul", "ol", "li", "form", "label", "input", "button", "div", "span", "main", "h1", "h2", "h3", "section", "p", "table", "caption", "thead", "tbody", "tr", "th", "td", "bdi", "b", "small", "pre", "code", "time", "dl", "dt", "dd", "details", "summary", "fieldset", "legend", "datalist", "option", "select", "img", "figure", "figcaption", "svg", "rect", "path", "textarea"]
)  # fmt: skip


def assert_inert(text: str) -> None:
    """Nothing in a page is anything but what our templates write."""
    for tag, attributes in Reader(text).elements:
        assert tag in HARMLESS, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "srcdoc", "hx-on", "hx-vals"), (tag, name)
            if name in ("href", "src", "action", "hx-get", "sse-connect"):
                ours = value is not None and re.match(
                    r"(/(?!/)|#main$|http://127\.0\.0\.1:\d+/trace/)", value
                )
                assert ours, (tag, name, value)
        if tag == "script":
            assert (attributes.get("src") or "").startswith("/static/")


def write(stage: Stage, *rows: Row) -> None:
    """Stores rows, as a worker would."""
    store = stage.app.result_store()
    assert store is not None
    outcomes: list[object] = []
    for row in rows:
        store.write(partition_of(row.task_id), [row], outcomes.append)
    eventually(lambda: _are_stored(outcomes, len(rows)))


def _are_stored(outcomes: list[object], count: int) -> None:
    assert outcomes == [None] * count


def test_every_page_is_there_alone_and_mounted(stage: Stage) -> None:
    """Each answers, escapes its links' root, forbids what it should, and is kept by nobody."""
    for at in ("", "/ops/shop"):
        with visiting(stage, at=at) as visitor:
            for page in PAGES:
                answer = visitor.get(f"{at}{page}")
                assert answer.status_code == 200, (page, answer.text)
                assert answer.headers["cache-control"] == "no-store"
                assert "script-src 'self'" in answer.headers["content-security-policy"]
                for tag, attributes in Reader(answer.text).elements:
                    for name in ("href", "src", "action", "hx-get", "sse-connect"):
                        link = attributes.get(name)
                        assert link in (None, "#main") or link.startswith(f"{at}/"), (tag, link)
            style = visitor.get(f"{at}/static/dashboard.css")
            assert style.headers["cache-control"].startswith("public")
            assert visitor.get(f"{at}/nothing").status_code == 404


def test_a_task_is_told_from_its_row_to_its_arguments(stage: Stage) -> None:
    """Found by its filters, with each attempt's traceback, its arguments and its result as they were."""
    failing = stage.task("never_works").publish(42)
    working = stage.task("receipt").publish("o-17", cents=1200)
    stage.worker()
    stage.wait_for([failing, working], {State.DEAD: 1, State.SUCCEEDED: 1})
    with visiting(stage) as visitor:
        listed = visitor.get("/tasks?state=dead&task=never_works&text=NO+42")
        assert failing.id in listed.text
        assert working.id not in listed.text
        for filters in ("error=Value*", "text=ValueErr", "state=dead&state=retrying"):
            listed = visitor.get(f"/tasks?{filters}")
            (link,) = re.findall(r'href="(/replay\?[^"]+)"', listed.text)
            preview = html.unescape(link).replace("/replay?", "/replay/preview?")
            assert "1 task would be published again." in visitor.get(preview).text
        whole = visitor.get(f"/tasks/{failing.id}").text
        assert whole.count("<summary>Traceback") == 3
        assert "no 42 will do" in whole
        values = visitor.get(f"/parts/values?id={failing.id}", **{"hx-request": "true"}).text
        assert "&#34;n&#34;: 42" in values
        assert "<html" not in values
        result = visitor.get(f"/parts/values?id={working.id}").text
        assert result.count("&#34;cents&#34;: 1200") == 2
        (found,) = re.findall(r"trace=([0-9a-f]{32})\"", whole)[:1]
        eventually(lambda: _has_spans(visitor, found), 20.0)
        assert visitor.get(f"/tasks?id={failing.id}").headers["location"] == f"/tasks/{failing.id}"
        assert visitor.get("/tasks/no-such-task").status_code == 404


def _has_spans(visitor: Visitor, trace_id: str) -> None:
    assert "<rect" in visitor.get(f"/parts/trace?trace={trace_id}").text


def test_a_record_of_another_task_is_not_shown_as_this_ones(stage: Stage) -> None:
    """A row that points at somebody else's record, as after a topic was made anew, shows no arguments."""
    other = stage.task("never_works").publish(42)
    stage.worker()
    stage.wait_for([other], {State.DEAD: 1})
    task_id = new_id()
    write(stage, stage.rows(other)[0]._replace(task_id=task_id))
    with visiting(stage) as visitor:
        values = visitor.get(f"/parts/values?id={task_id}").text
        assert "was deleted by Kafka" in values
        assert "42" not in values


def test_pages_go_on_where_the_one_before_ended(stage: Stage) -> None:
    """120 tasks on three pages by the links of each, every one of them once."""
    ids = [new_id() for _ in range(120)]
    write(stage, *[row_of(task_id) for task_id in ids])
    found: list[str] = []
    with visiting(stage) as visitor:
        page: str | None = "/tasks?task=charge"
        while page:
            text = visitor.get(page).text
            found += re.findall(r'href="/tasks/([0-9a-f-]{36})"', text)
            more = re.search(r'rel="next" href="([^"]+)"', text)
            page = more[1].replace("&amp;", "&") if more else None
    assert sorted(found) == sorted(ids)


def row_of(task_id: str, text: str = "") -> Row:
    """A dead attempt in which every text is this one."""
    return Row(
        task_id=task_id, run=0, attempt=1, state=State.DEAD, task=text or "charge", written_us=1, queue=text,
        priority=text, key=text or None, worker=text, error_type=text or "ValueError", error=text,
        traceback=text or None, source=text, published=time.time(), started=time.time(), finished=time.time(),
    )  # fmt: skip


def test_hostile_texts_are_shown_and_nothing_else(stage: Stage) -> None:
    """In names, keys, errors, tracebacks, ids, filters, reasons and users: each page has our elements alone."""
    pairs = [(f"{text[:60]} {number}", text) for number, text in enumerate(HOSTILE)]
    write(stage, *[row_of(task_id, text) for task_id, text in pairs])
    for text in HOSTILE:
        audit.record(stage.app, text[:60], text[:60], reason=text, details={text: text}, who=text)
    with visiting(stage) as visitor:
        eventually(lambda: _has_actions(visitor), 20.0)
        for task_id, text in pairs:
            part = quote(text, safe="")
            for page in (
                f"/tasks/{quote(task_id, safe='')}",
                f"/tasks?task={part}&key={part}&queue={part}&priority={part}&worker={part}",
                f"/tasks?text={part}",
                f"/tasks?state={part}",
                f"/tasks?since={part}",
                f"/tasks?after={part}",
                f"/audit?who={part}&verb={part}&target={part}",
                f"/parts/values?id={quote(task_id, safe='')}",
                f"/parts/trace?trace={part}",
                f"/dead?reason={part}&task={part}&text={part}&id={part}",
                f"/dead?since={part}",
                f"/dead/preview?what=redrive&task={part}",
                f"/jobs/{part}?task={part}",
                f"/replay/preview?since=1h&task={part}&where={part}",
                f"/replay/preview?since={part}",
                f"/queues/preview?verb=pause&target={part}",
                f"/queues/preview?verb={part}",
                f"/dead?where={part}",
                f"/replay?task={part}&state={part}&error={part}&text={part}&shadow={part}",
                f"/replay/resume?name={part}",
                f"/replay/compare?shadow={part}",
                f"/schedules/of/{part}",
                f"/schedules/form?task={part}&when={part}&tz={part}&arguments={part}&name={part}&queue={part}&key={part}",
                f"/schedules/form?task=says&when=@daily&arguments={quote(json.dumps(dict.fromkeys(('about', 'text', 'ends'), text[:999])), safe='')}",
                f"/schemas/{part}",
                f"/login?to={part}",
                f"/{part}",
            ):
                answer = visitor.get(page)
                assert answer.status_code in (200, 400, 404), (page, answer.text)
                assert "taken" not in answer.headers.get("set-cookie", "")
                assert_inert(answer.text)
        for page in PAGES:
            assert_inert(visitor.get(page).text)


def _has_actions(visitor: Visitor) -> None:
    assert f"newest first: {len(HOSTILE)}" in visitor.get("/audit").text


def test_a_cancel_is_on_record_with_who_and_why(stage: Stage) -> None:
    """By the name that the proxy gives; the page says what came of it, and the task never runs."""
    waiting = stage.task("add").publish(1)
    with visiting(stage, user_header="X-User") as visitor:
        assert visitor.get("/").status_code == 401
        visitor.client.headers["x-user"] = "ann"
        form = {
            "csrf": visitor.token_of(f"/tasks/{waiting.id}"),
            "id": waiting.id,
            "reason": "sent twice",
        }
        assert visitor.post("/actions/cancel", {**form, "reason": " "}).status_code == 400
        answer = visitor.post("/actions/cancel", form)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"/tasks/{waiting.id}?done=cancel",
        )
        assert "A cancel was requested" in visitor.get(answer.headers["location"]).text
        (action,) = audit.actions(stage.app)
        assert (action.verb, action.target, action.who, action.reason) == (
            "cancel", waiting.id, "ann", "sent twice",
        )  # fmt: skip
        stage.worker()
        stage.wait_for([waiting], {State.CANCELLED: 1})
        assert visitor.post("/actions/cancel", form).headers["location"].endswith("?done=ended")


def test_a_dashboard_tells_what_no_worker_is_there_to_tell(stage: Stage) -> None:
    """After the last worker went: what waits and how old it is, that nobody works, and what died."""
    dead = stage.task("never_works").publish(1)
    worker = stage.worker()
    stage.wait_for([dead], {State.DEAD: 1})
    assert worker.stop() == 0
    stage.task("add").publish_many([{"n": number} for number in range(5)])
    queues.pause(stage.app, "queue:tasks.high")
    with visiting(stage, user_header="X-User", token="secret") as visitor:
        refused = visitor.get("/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "set-cookie" not in refused.headers
        eventually(lambda: _tells(visitor), timeout=30)
        found = _numbers(visitor)
    lanes = {(queue, priority) for queue, some in stage.app.queues.items() for priority in some}
    lag = {"queue": "tasks", "priority": "normal"}
    assert found["taskstream_queue_lag"] == [
        ({"queue": queue, "priority": priority}, 5.0 if priority == lag["priority"] else 0.0)
        for queue, priority in sorted(lanes)
    ]
    ages = [value for labels, value in found["taskstream_queue_age_seconds"] if labels == lag]
    assert 0 < ages[0] < 120
    held = [labels for labels, value in found["taskstream_queue_held"] if value]
    assert held == [{"queue": "tasks", "priority": "high"}]
    assert {value for _, value in found["taskstream_workers"]} == {0.0}
    letter = {"queue": "tasks", "reason": "ValueError"}
    assert found["taskstream_dead_open"] == [(letter, 1.0)]
    assert [labels["role"] for labels, _ in found["taskstream_info"]] == ["dashboard"]


def _tells(visitor: Visitor) -> None:
    """All of it is there, and the worker's last word has been heard."""
    found = _numbers(visitor)
    missing = [one for one in table.OF_DASHBOARD if one.sample_name not in found]
    assert missing == []
    assert sum(value for _, value in found["taskstream_queue_lag"]) == 5


def _numbers(visitor: Visitor) -> dict[str, list[tuple[dict[str, str], float]]]:
    """By name what a dashboard's page says, in the order of the labels."""
    answer = visitor.get("/metrics", authorization="Bearer secret")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "set-cookie" not in answer.headers
    assert "<html" not in answer.text
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    for samples in found.values():
        samples.sort(key=lambda sample: tuple(sorted(sample[0].items(), reverse=True)))
    return found


def test_workers_are_shown_and_scaled(stage: Stage) -> None:
    """A worker by its heartbeat, with a link to the task it runs; an order on its children is on record."""
    held = stage.task("waits_in_thread").publish(str(stage.directory / "never"))
    stage.worker()
    with visiting(stage) as visitor:
        eventually(lambda: _shows(visitor, "/workers", held.id), 30.0)
        assert "running" in visitor.get(f"/tasks/{held.id}").text
        form = {
            "csrf": visitor.token_of("/workers"),
            "children": "3",
            "worker": "",
            "reason": "a test",
        }
        assert visitor.post("/actions/scale", {**form, "children": "many"}).status_code == 400
        assert visitor.post("/actions/scale", form).status_code == 303
        eventually(lambda: _shows(visitor, "/workers", "<dd>3</dd>"), 30.0)
        (action,) = audit.actions(stage.app)
        assert (action.verb, dict(action.details)) == ("scale", {"children": "3"})


def _shows(visitor: Visitor, page: str, text: str) -> None:
    assert text in visitor.get(page).text


def test_a_schedule_is_added_changed_held_back_run_and_removed(stage: Stage) -> None:
    """Each with a preview or a page that says what it means, and on record with who and why."""
    with visiting(stage, user_header="X-User") as visitor:
        visitor.client.headers["x-user"] = "ann"
        fields = {
            "task": "add",
            "when": "0 3 * * *",
            "tz": "Europe/Berlin",
            "name": "nightly",
            "arguments": '{"n": 1}',
        }
        preview = visitor.get(f"/schedules/form?{urlencode(fields)}").text
        assert preview.count("<li") - preview.count("<nav") >= 5
        assert "It would fire at" in preview
        assert schedules.schedules(stage.app) == []  # a look is no order
        form = {"csrf": visitor.token_of("/login"), "reason": "a test", "name": "nightly"}
        wanted = {f"which-{name}": text for name, text in fields.items()}
        assert (
            visitor.post(
                "/actions/schedule", {**form, "verb": "add", "reason": "", **wanted}
            ).status_code
            == 400
        )
        added = visitor.post("/actions/schedule", {**form, "verb": "add", **wanted})
        assert added.headers["location"] == "/schedules/of/nightly?done=add"
        assert (
            visitor.post("/actions/schedule", {**form, "verb": "add", **wanted}).status_code == 400
        )
        table = visitor.get("/schedules").text
        assert "nightly" in table
        assert "0 3 * * *" in table
        filled_in = visitor.get("/schedules/form?change=nightly").text
        assert "Europe/Berlin" in filled_in
        changed = {**wanted, "which-change": "nightly", "which-when": "every 5 min"}
        visitor.post("/actions/schedule", {**form, "verb": "change", **changed})
        assert "every 5 min" in visitor.get("/schedules/of/nightly").text
        visitor.post("/actions/schedule", {**form, "verb": "pause"})
        assert ">paused<" in visitor.get("/schedules/of/nightly").text
        ran = visitor.post("/actions/schedule", {**form, "verb": "run"}).headers["location"]
        assert re.fullmatch(r"/tasks/[0-9a-f-]{36}\?done=run", ran)
        assert visitor.post("/actions/schedule", {**form, "verb": "forget"}).status_code == 400
        visitor.post("/actions/schedule", {**form, "verb": "remove"})
        assert "no schedule" in visitor.get("/schedules/of/nightly").text
        done = [(one.verb, one.target, one.who, one.reason) for one in audit.actions(stage.app)]
        assert done == [
            (verb, "schedule:nightly", "ann", "a test")
            for verb in ("schedule", "reschedule", "pause", "run", "unschedule")
        ]


def test_a_schedule_in_code_is_changed_there(stage: Stage) -> None:
    """A change at run time would be undone by the next deploy, or undo it: it is refused, and says so."""
    stage.app.schedule("@daily", kwargs={"n": 1})(stage.task("add"))
    schedules.declare_all(stage.app, decides=True)
    with visiting(stage) as visitor:
        form = {"csrf": visitor.token_of("/login"), "reason": "a test", "verb": "change"}
        fields = {"change": "add", "task": "add", "when": "@hourly", "arguments": '{"n": 1}'}
        wanted = {f"which-{name}": text for name, text in fields.items()}
        answer = visitor.post("/actions/schedule", {**form, **wanted})
        assert answer.status_code == 400
        assert "change it there" in answer.text
        assert "changed there" in visitor.get("/schedules/of/add").text


def test_letters_are_chosen_by_a_condition(stage: Stage) -> None:
    """Over their arguments, in the list and in what a purge touches; one that is none is told at its field."""
    handles = [stage.task("gives_up").publish(number) for number in (1, 20, 30)]
    stage.worker()
    stage.wait_for(handles, {State.DEAD: 3})
    with visiting(stage) as visitor:
        eventually(lambda: _shows(visitor, "/dead", "newest first: 3"), 20.0)
        listed = visitor.get("/dead?where=n+>+10").text
        assert [handle.id in listed for handle in handles] == [False, True, True]
        assert "what=redrive&amp;" in listed or "where=n" in listed
        untold = visitor.get("/dead?where=cents+>+10").text
        assert "Of 3 more it can" in untold
        wrong = visitor.get("/dead?where=n+>")
        assert wrong.status_code == 400
        assert 'aria-invalid="true" aria-describedby="flaw-where' in wrong.text
        preview = visitor.get("/dead/preview?what=purge&where=n+>+10").text
        assert "2 letters are meant" in preview
        fields = {"csrf": visitor.token_of("/login"), "what": "purge", "reason": "a test"}
        fields |= dict(re.findall(r'name="(which-[a-z]+)" value="([^"]*)"', preview))
        fields = {name: html.unescape(text) for name, text in fields.items()}
        job = visitor.post("/actions/dead", fields).headers["location"]
        eventually(lambda: _shows(visitor, job, "2 are closed"), 20.0)
        assert audit.actions(stage.app)[-1].details["where"] == "n > 10"


def test_a_replay_that_ended_early_goes_on(stage: Stage) -> None:
    """From the page that lists it, by who asks and why; a shadow's outcomes are compared from there, too."""
    handles = stage.task("add").publish_many({"n": n} for n in range(3))
    stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 3})
    plan = replay.settle(stage.app, ReplayRequest(name="halted", since=0.0, rate=1.0))

    def stop(_: ReplayProgress) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        replay.replay(stage.app, plan, tell=stop)
    with visiting(stage, user_header="X-User") as visitor:
        visitor.client.headers["x-user"] = "ann"
        assert "/replay/resume?name=halted" in visitor.get("/replay").text
        assert "records are behind it" in visitor.get("/replay/resume?name=halted").text
        form = {
            "csrf": visitor.token_of("/login"), "reason": "go on", "which-resume": "halted", "rate": "1000",
        }  # fmt: skip
        job = visitor.post("/actions/replay", form).headers["location"]
        eventually(lambda: _shows(visitor, job, "are published again"), 30.0)
        assert "/replay/resume" not in visitor.get("/replay").text
        assert "does not exist" in visitor.get("/replay/compare?shadow=next").text
    resumed = [one for one in audit.actions(stage.app) if one.details.get("state") == "resumed"]
    assert [(one.who, one.reason) for one in resumed] == [("ann", "go on")]


def test_a_task_that_has_ended_is_run_again_from_its_page(stage: Stage) -> None:
    """As one further run of its own, counted before, and on record; the page of another record finds nothing."""
    handle, other = (stage.task("add").publish(n) for n in (1, 2))
    stage.worker()
    stage.wait_for([handle, other], {State.SUCCEEDED: 2})
    with visiting(stage) as visitor:
        (link,) = re.findall(
            r'href="(/replay/preview[^"]+)"', visitor.get(f"/tasks/{handle.id}").text
        )
        preview = visitor.get(html.unescape(link)).text
        assert "1 task would be published again." in preview
        assert handle.id in preview
        assert other.id not in preview
        for elsewhere in ("others.tasks.high/0/0", f"{stage.app.names.dead}/0/0"):
            assert (
                visitor.get(f"/replay/preview?record={quote(elsewhere, safe='')}").status_code
                == 400
            )
        form = {"csrf": visitor.token_of("/login"), "reason": "once more"}
        form |= dict(re.findall(r'name="(which-[a-z]+)" value="([^"]*)"', preview))
        job = visitor.post(
            "/actions/replay", {name: html.unescape(text) for name, text in form.items()}
        )
        eventually(
            lambda: _shows(visitor, job.headers["location"], "1 task is published again"), 20.0
        )
        eventually(lambda: _has_run(stage, handle, 1), 20.0)
    assert {row.run for row in stage.rows(other)} == {0}


def _has_run(stage: Stage, handle: Handle[Any], run: int) -> None:
    assert any(row.run == run and row.state is State.SUCCEEDED for row in stage.rows(handle))


def test_versions_of_a_schema_are_told_with_their_changes(stage: Stage) -> None:
    """All that are stored, the newest first, each with what it changed."""

    def newer(n: int, plus: int = 1, currency: str = "EUR") -> None: ...

    stage.app.schema_store().put(derive(newer, task="add").arguments)
    with visiting(stage) as visitor:
        page = visitor.get("/schemas/add").text
        assert page.index("Version 2") < page.index("Version 1")
        assert "currency was added: string, default &#34;EUR&#34;" in page
        assert "the code here differs" in page
        assert "/schemas/add" in visitor.get("/schemas").text
        assert visitor.get("/schemas/nobody").status_code == 404


def test_no_other_site_can_act(stage: Stage) -> None:
    """Without the cookie, the token or the origin of our own page, nothing is asked for."""
    task = stage.task("add").publish(1)
    with visiting(stage) as visitor:
        form = {"csrf": visitor.token_of(f"/tasks/{task.id}"), "id": task.id, "reason": "harm"}
        for changed, headers in (
            ({}, {"origin": "http://evil.example"}),
            ({}, {"origin": "null"}),
            ({}, {"origin": ""}),
            ({}, {"sec-fetch-site": "cross-site"}),
            ({"csrf": ""}, {}),
            ({"csrf": "0" * 64}, {}),
        ):
            for action in ("cancel", "scale", "dead", "replay", "queue", "schedule"):
                answer = visitor.post(f"/actions/{action}", {**form, **changed}, **headers)
                assert answer.status_code == 403, (action, changed, headers)
        visitor.client.cookies.clear()
        assert visitor.post("/actions/cancel", form).status_code == 403
        assert visitor.get(f"/actions/cancel?id={task.id}&reason=harm").status_code == 405
    assert audit.actions(stage.app) == []


def test_read_only_changes_nothing(stage: Stage) -> None:
    """No form that acts is shown, and one that is sent all the same is refused."""
    task = stage.task("add").publish(1)
    with visiting(stage, read_only=True) as visitor:
        schedules.add(stage.app, "add", "@daily", {"n": 1}, name="nightly")
        for page in (
            "/workers", f"/tasks/{task.id}", "/schedules", "/schedules/of/nightly", "/replay", "/replay/preview?since=1h",
            "/schedules/form?task=add&when=@daily&arguments=%7B%22n%22%3A1%7D", "/queues/preview?verb=pause&target=queue:tasks",
        ):  # fmt: skip
            shown = visitor.get(page).text
            assert "/actions/" not in shown, page
            assert "Add a schedule</a>" not in shown, page
        eventually(lambda: _shows(visitor, "/queues", "tasks.high"), 20.0)
        assert "/queues/preview" not in visitor.get("/queues").text
        form = {"csrf": visitor.token_of("/login"), "id": task.id, "reason": "harm"}
        for action in ("cancel", "scale", "dead", "replay", "queue", "schedule"):
            assert visitor.post(f"/actions/{action}", form).status_code == 403
    assert [one.verb for one in audit.actions(stage.app)] == ["schedule"]  # our own, above


def test_without_the_token_nothing_is_seen(stage: Stage) -> None:
    """Every page leads to the login and back; a wrong token, or another site to go to, leads nowhere."""
    with visiting(stage, token="secret") as visitor:
        for page in (*PAGES, "/tasks/x", "/tasks?state=dead"):
            answer = visitor.get(page)
            assert (answer.status_code, answer.headers["location"]) == (
                303, f"/login?to={quote(page, safe='')}",
            )  # fmt: skip
        for page in ("/live?want=cards", "/parts/values?id=x"):
            assert visitor.get(page, **{"hx-request": "true"}).status_code == 401
        assert visitor.get("/", authorization="Bearer secret").status_code == 200
        form = {"csrf": visitor.token_of("/login"), "token": "wrong", "to": "/tasks?state=dead"}
        assert visitor.post("/login", form).status_code == 401
        assert visitor.post("/actions/cancel", form).status_code == 401
        there = visitor.post("/login", {**form, "token": "secret"})
        assert there.headers["location"] == "/tasks?state=dead"
        assert visitor.get("/").status_code == 200
        for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example"):
            away = visitor.post("/login", {**form, "token": "secret", "to": elsewhere})
            assert away.headers["location"] == "/"
        assert visitor.post("/logout", form).status_code == 303
        assert visitor.get("/").status_code == 303


def test_what_cant_be_told_is_a_page_not_a_trace(stage: Stage) -> None:
    """A store that is gone is said on the page, in the list as well, where the head was sent before."""
    with visiting(stage) as visitor:
        visitor.get("/")
        store = stage.app.result_store()
        assert store is not None
        store.close()
        assert "this result store is closed" in visitor.get("/tasks").text
        answer = visitor.get("/tasks/x")
        assert answer.status_code == 503
        assert "this result store is closed" in answer.text
        stage.app.close()  # the next look opens it anew


def test_the_command_refuses_to_be_open_to_others(stage: Stage) -> None:
    """Beyond this machine it needs a token; an address that is taken, or none, is told in a line."""
    for options, told in (
        (("--host", "0.0.0.0"), "give a --token"),
        (("--jaeger-url", "javascript:alert(1)"), "must begin with http"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "taskstream", "dashboard", "tests.support.jobs:app", "--port", "0", *options],
            cwd=ROOT, env={**os.environ, **stage.environment}, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
