"""What pages fetch after their first byte: what has to wait for Kafka or Jaeger, and what is sent live.

And what Prometheus fetches, which is no page.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from taskstream.admin.dashboard.guard import refused
from taskstream.admin.dashboard.peek import Values, values
from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.admin.dashboard.waterfall import Waterfall, waterfall
from taskstream.admin.overview import views
from taskstream.admin.overview.gauges import of_overview
from taskstream.core.errors import ServerError
from taskstream.observability.collector import from_jaeger
from taskstream.observability.exposition import Exposition
from taskstream.observability.metrics import Metrics

SEND_EVERY = 1.0
"""Seconds between two looks at what has changed."""

STAY_ALIVE = 15.0
"""Seconds after which a line without meaning is sent, so that no proxy thinks that nobody is there."""

VISITORS = 200
"""How many live pages are served at once."""

LIVE_SECONDS = 3600.0
"""How long one is served; its browser comes again by itself, and has to be let in anew."""


class Parts:
    """Parts of pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._visitors = 0
        metrics = Metrics()
        of_overview(metrics, shell.live, shell.app.name)
        self._metrics = Exposition(metrics)

    async def live(self, request: Request) -> Response:
        """Server-sent events: the named parts, each when it has changed."""
        root = self._shell.visitor(request)["root"]
        known = self._shell.frames.names
        names = [name for name in request.query_params.get("want", "").split(",") if name in known]
        if self._visitors >= VISITORS:
            return refused(request, 503, "Too many live pages", "Close some.")
        self._shell.live.start()
        return StreamingResponse(
            self._stream(list(dict.fromkeys(names)), root),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    async def _stream(self, names: list[str], root: str) -> AsyncIterator[str]:
        self._visitors += 1
        try:
            sent: dict[str, str] = {}
            quiet = 0.0
            until = self._shell.clock.monotonic() + LIVE_SECONDS
            while self._shell.clock.monotonic() < until and not self._shell.live.closed:
                changed = await aside(lambda: self._changed(names, root, sent))
                quiet = 0.0 if changed else quiet + SEND_EVERY
                if changed:
                    yield "".join(_event(name, text) for name, text in changed.items())
                elif quiet >= STAY_ALIVE:
                    quiet = 0.0
                    yield ": still here\n\n"
                await asyncio.sleep(SEND_EVERY)
        finally:
            self._visitors -= 1

    def _changed(self, names: list[str], root: str, sent: dict[str, str]) -> dict[str, str]:
        changed = {
            name: text
            for name in names
            if (text := self._shell.frames.part(name, root)) != sent.get(name)
        }
        sent.update(changed)
        return changed

    async def story(self, request: Request) -> Response:
        """What changes of a task until it has ended."""
        task_id = request.query_params.get("id", "")
        live = self._shell.live
        rows = await aside(lambda: self._shell.store().read(task_id))
        task = views.task_view(task_id, rows, live.look.workers, live.pulse.actions())
        return self._part(request, "story", task=task)

    async def values(self, request: Request) -> Response:
        """A task's arguments and result, decoded."""
        task_id = request.query_params.get("id", "")

        def read() -> Values:
            rows = self._shell.store().read(task_id)
            view = views.task_view(task_id, rows, self._shell.live.look.workers, ())
            return values(self._shell.app, view, self._shell.clock)

        return self._part(request, "values", values=await aside(read))

    async def trace(self, request: Request) -> Response:
        """A trace as Jaeger has it."""
        trace_id = request.query_params.get("trace", "")
        url = self._shell.jaeger()
        found, trouble = Waterfall((), 0.0, 0, 0), ""
        if len(trace_id) != 32 or set(trace_id) - set("0123456789abcdef"):
            trouble = "This is no trace id."
        elif not url:
            trouble = "No Jaeger is known: give its address by --jaeger-url."
        else:
            try:
                found = waterfall(await aside(lambda: from_jaeger(url, trace_id)))
            except ServerError as error:
                trouble = str(error)
        return self._part(
            request, "trace", trace=found, trouble=trouble, link=f"{url}/trace/{trace_id}"
        )

    async def metrics(self, request: Request) -> Response:
        """What is so with or without a worker, for Prometheus."""
        self._shell.live.start()
        accept = request.headers.get("accept", "")
        page = await aside(lambda: self._metrics(accept))
        return Response(page.body, headers={"content-type": page.content_type})

    def _part(self, request: Request, name: str, **given: Any) -> Response:
        """A part, or, for who asks without scripts, a page with nothing else."""
        visitor = self._shell.visitor(request)
        text = render(f"parts/{name}.html", now=self._shell.clock.now(), **visitor, **given)
        if "hx-request" in request.headers:
            return HTMLResponse(text)
        return self._shell.page(request, "alone.html", name.capitalize(), text=text)


def _event(name: str, text: str) -> str:
    """One event; its text may have lines, and no line of it can begin another event."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{lines}\n"
