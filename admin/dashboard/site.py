"""The addresses of the dashboard, and what holds them together."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from taskstream.admin.dashboard.actions import Actions
from taskstream.admin.dashboard.again import Again
from taskstream.admin.dashboard.dead import Dead
from taskstream.admin.dashboard.frames import Frames
from taskstream.admin.dashboard.guard import FIGURES, Guard, refused
from taskstream.admin.dashboard.jobs import Jobs
from taskstream.admin.dashboard.pages import Pages
from taskstream.admin.dashboard.parts import Parts
from taskstream.admin.dashboard.render import STATIC
from taskstream.admin.dashboard.schemas import Schemas
from taskstream.admin.dashboard.security import Access
from taskstream.admin.dashboard.shell import Shell
from taskstream.admin.dashboard.timetable import Timetable
from taskstream.admin.overview.live import Live
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import ConfigError, TaskstreamError

if TYPE_CHECKING:
    from taskstream.app.app import App


def build(
    app: "App", access: Access, *, jaeger_url: str = "", clock: Clock = SYSTEM_CLOCK
) -> Starlette:
    """The dashboard of an app.

    Args:
        app: the app.
        access: who may use it.
        jaeger_url: of Jaeger; by default that of a running `taskstream up`.
        clock: the time.
    """
    live = Live(app, clock=clock)
    jobs = Jobs(clock)
    shell = Shell(
        app, access, live, Frames(live, clock, read_only=access.read_only), jaeger_url, jobs, clock
    )
    pages, parts, actions = Pages(shell), Parts(shell), Actions(shell)
    dead, again, timetable, schemas = Dead(shell), Again(shell), Timetable(shell), Schemas(shell)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        live.start()
        threading.Thread(target=_open, args=(shell,), daemon=True).start()
        try:
            yield
        finally:
            jobs.stop()
            live.close()

    # One function of a request to an answer for each address; ids may hold anything, slashes too.
    routes = [
        Route("/", pages.overview),
        Route("/queues", pages.queues),
        Route("/tasks", pages.tasks),
        Route("/tasks/{id:path}", pages.task),
        Route("/schedules", timetable.index),
        Route("/schedules/form", timetable.form),
        Route("/schedules/of/{name}", timetable.one),
        Route("/actions/schedule", timetable.act, methods=["POST"]),
        Route("/queues/preview", again.order_preview),
        Route("/replay", again.replay),
        Route("/replay/preview", again.replay_preview),
        Route("/replay/resume", again.resume_preview),
        Route("/replay/compare", again.compare),
        Route("/dead", dead.letters),
        Route("/dead/preview", dead.preview),
        Route("/jobs/{id}", dead.job),
        Route("/workers", pages.workers),
        Route("/schemas", schemas.index),
        Route("/schemas/{name}", schemas.one),
        Route("/audit", pages.audit),
        Route("/login", pages.login, methods=["GET"]),
        Route("/login", actions.login, methods=["POST"]),
        Route("/logout", actions.logout, methods=["POST"]),
        Route("/live", parts.live),
        Route(FIGURES, parts.metrics),
        Route("/parts/story", parts.story),
        Route("/parts/values", parts.values),
        Route("/parts/trace", parts.trace),
        Route("/actions/replay", again.act_replay, methods=["POST"]),
        Route("/actions/queue", again.act_order, methods=["POST"]),
        Route("/parts/job", dead.job_part),
        Route("/actions/dead", dead.act, methods=["POST"]),
        Route("/actions/cancel", actions.cancel, methods=["POST"]),
        Route("/actions/scale", actions.scale, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    site = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access, clock=clock)],
        exception_handlers={HTTPException: _no_page, TaskstreamError: _trouble},
        lifespan=lifespan,
    )
    site.router.redirect_slashes = False  # an id may end in one
    site.state.live = live
    return site


def _open(shell: Shell) -> None:
    """Opens the stores before anybody asks for a page of theirs; who can't be reached is told on the page."""
    for opened in (shell.store, lambda: shell.app.schema_store().refresh()):
        with suppress(TaskstreamError):
            opened()


async def _no_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(request, error.status_code, error.detail, "")


async def _trouble(request: Request, error: Exception) -> Response:
    """What can't be told now, in a page and not in a trace on the server's terminal."""
    if isinstance(error, ConfigError):
        return refused(request, 400, "That can't be asked so", str(error))
    return refused(request, 503, "That can't be told now", str(error))
