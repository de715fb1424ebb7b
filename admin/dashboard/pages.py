"""The pages: each one function from a request to an answer, from memory or from one read of the store."""

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskstream.admin.dashboard.again import VERBS
from taskstream.admin.dashboard.forms import number
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.query import FINDABLE, Query
from taskstream.admin.dashboard.render import render, segment
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.admin.overview import views

TASKS = 50
"""Rows of a page of tasks."""

SEARCH_SECONDS = 2.0
"""How long a page of tasks looks for them; its head is sent before."""

ACTIONS = 100
"""Rows of a page of the audit log."""


class Pages:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def overview(self, request: Request) -> Response:
        """What goes on."""
        return self._shell.page(request, "overview.html", "Overview")

    async def queues(self, request: Request) -> Response:
        """Each priority of each queue."""
        app = self._shell.app
        await aside(app.load_tasks)
        targets = [f"queue:{queue}" for queue in app.queues]
        targets += [
            f"queue:{queue}.{priority}" for queue in app.queues for priority in app.queues[queue]
        ]
        targets += [f"task:{name}" for name in sorted(app.tasks)]
        return self._shell.page(
            request, "queues.html", "Queues", targets=targets, verbs=VERBS, done=_done(request)
        )

    async def workers(self, request: Request) -> Response:
        """Who is alive and what runs there."""
        return self._shell.page(request, "workers.html", "Workers", done=_done(request))

    async def tasks(self, request: Request) -> Response:
        """Tasks by filters. The head is sent at once, the rows when they are found."""
        if wanted := request.query_params.get("id", "").strip():
            return RedirectResponse(f"{root_of(request)}/tasks/{segment(wanted)}", 303)
        query = Query.of(_parameters(request))
        now = self._shell.clock.now()
        flaws = query.flaws(now)
        given: dict[str, Any] = {
            "query": query,
            "states": FINDABLE,
            "queues": self._shell.app.queues,
            "flaws": flaws,
        }
        if flaws:
            return self._shell.page(request, "tasks.html", "Tasks", status=400, place="", **given)
        return self._shell.streamed(
            request, "tasks.html", "Tasks", lambda: self._rows(request, query, now), **given
        )

    async def task(self, request: Request) -> Response:
        """One task, whole."""
        task_id = request.path_params["id"]
        view = await aside(lambda: self.view(task_id))
        status = 404 if view.row is None and not view.holder else 200
        return self._shell.page(
            request,
            "task.html",
            f"Task {task_id}",
            status=status,
            task=view,
            done=_done(request),
            letter=self._shell.live.morgue.of(task_id),
        )

    def view(self, task_id: str) -> views.TaskView:
        """What is known of a task; blocks for one read of the store."""
        live = self._shell.live
        rows = self._shell.store().read(task_id)
        return views.task_view(task_id, rows, live.look.workers, live.pulse.actions())

    async def audit(self, request: Request) -> Response:
        """What people did."""
        asked = {name: request.query_params.get(name, "").strip() for name in ("who", "verb", "target")}  # fmt: skip
        known = self._shell.live.pulse.actions()
        found = views.chosen(known, asked["who"], asked["verb"], asked["target"])
        page = number(request.query_params.get("page", "1"))
        return self._shell.page(
            request,
            "audit.html",
            "Audit",
            asked=asked,
            verbs=sorted({action.verb for action in known}),
            actions=found[(page - 1) * ACTIONS : page * ACTIONS],
            page=page,
            more=len(found) > page * ACTIONS,
            total=len(found),
        )

    async def login(self, request: Request) -> Response:
        """Where the token is asked for."""
        shell = self._shell
        page = render(
            "login.html", **shell.visitor(request), to=request.query_params.get("to", "/"), wrong=False
        )  # fmt: skip
        return Response(page, media_type="text/html")

    def _rows(self, request: Request, query: Query, now: float) -> str:
        found = self._shell.store().search(
            query.search(now), TASKS, after=query.mark(), seconds=SEARCH_SECONDS
        )
        return render(
            "parts/task_rows.html", root=root_of(request), query=query, found=found, now=now
        )


def _parameters(request: Request) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        given.setdefault(name, []).append(value)
    return given


_DONE: dict[str, Any] = {
    "cancel": "A cancel was requested: the task ends within a second or so.",
    "ended": "There was nothing to cancel: the task has ended.",
    "order": "The order is given: workers follow it within a second or so.",
    "run": "The schedule's task is published: it runs as soon as a worker takes it.",
    "scale": "The order is given: workers follow it within a second or so.",
}


def _done(request: Request) -> str:
    """What an action has led to, from a word in the address: never a text from there."""
    return str(_DONE.get(request.query_params.get("done", ""), ""))
