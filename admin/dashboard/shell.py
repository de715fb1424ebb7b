"""What all pages share: the app, what goes on, and how a page is filled in."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse

from taskstream.admin.dashboard.frames import Frames
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.jobs import Jobs
from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.security import Access
from taskstream.admin.overview.live import Live
from taskstream.admin.stores import store_of
from taskstream.core.clock import Clock
from taskstream.core.errors import TaskstreamError
from taskstream.infra.state import running

if TYPE_CHECKING:
    from taskstream.app.app import App
    from taskstream.results.store import ResultStore

T = TypeVar("T")

NAVIGATION = (
    ("", "Overview"),
    ("tasks", "Tasks"),
    ("queues", "Queues"),
    ("workers", "Workers"),
    ("dead", "Dead letters"),
    ("replay", "Replay"),
    ("schedules", "Schedules"),
    ("schemas", "Schemas"),
    ("audit", "Audit"),
)
"""Path and title of the pages in the menu."""


@dataclass(frozen=True, slots=True)
class Shell:
    """What a page is made with.

    Args:
        app: the app.
        access: who may do what.
        live: what goes on.
        frames: parts of pages that change by themselves.
        jaeger_url: of Jaeger; empty to look for that of `taskstream up`.
        jobs: actions that take longer.
        clock: the time.
    """

    app: "App"
    access: Access
    live: Live
    frames: Frames
    jaeger_url: str
    jobs: Jobs
    clock: Clock

    def page(
        self, request: Request, template: str, title: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A whole page."""
        return HTMLResponse(self.text(request, template, title, **values), status)

    def streamed(
        self,
        request: Request,
        template: str,
        title: str,
        look: Callable[[], str],
        *,
        status: int = 200,
        **values: Any,
    ) -> StreamingResponse:
        """A page whose head is sent at once, and the part that takes longer when it is found.

        Args:
            request: who asks.
            template: the page; it has a `place`.
            title: its title.
            look: finds the part, in a thread; what it raises of ours is told in its place.
            status: of the answer.
            values: for the template.
        """
        place = token_hex(16)
        text = self.text(request, template, title, place=place, **values)
        head, _, tail = text.partition(place)

        def found() -> str:
            try:
                return look()
            except TaskstreamError as error:
                return render("parts/trouble.html", trouble=str(error))

        async def stream() -> AsyncIterator[str]:
            yield head
            yield await aside(found)
            yield tail

        return StreamingResponse(stream(), status, media_type="text/html")

    def text(self, request: Request, template: str, title: str, **values: Any) -> str:
        """The text of a whole page."""
        self.live.start()
        root = root_of(request)
        return render(
            template,
            **self.visitor(request),
            title=title,
            here=request.url.path.removeprefix(root).strip("/").partition("/")[0],
            navigation=NAVIGATION,
            app=self.app.name,
            now=self.clock.now(),
            dead_letters=sum(lane.dead for lane in self.live.look.lanes),
            part=lambda name: self.frames.part(name, root),
            **values,
        )

    def visitor(self, request: Request) -> dict[str, Any]:
        """What templates ask of whoever looks."""
        return {
            "root": root_of(request),
            "csrf": request.scope["state"]["csrf"],
            "user": request.scope["state"]["user"],
            "read_only": self.access.read_only,
            "with_token": bool(self.access.token),
        }

    def store(self) -> "ResultStore":
        """The result store. Raises ConfigError where none is configured."""
        return store_of(self.app, "no task can be looked up")

    def jaeger(self) -> str:
        """Where Jaeger is; empty where nobody knows."""
        return (self.jaeger_url or (running() or {}).get("jaeger_url", "")).rstrip("/")


async def aside(function: Callable[[], T]) -> T:
    """The answer of a function that blocks, without holding up others."""
    return await run_in_threadpool(function)
