"""The pages of the schedules: what fires when, and holding one back, letting it go or running it once."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskstream.admin import schedules
from taskstream.admin.dashboard.forms import read_form, reason_of
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.core.errors import ConfigError, TaskstreamError

VERBS = ("pause", "resume", "run")


class Timetable:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def schedules(self, request: Request) -> Response:
        """All schedules; they are fetched after the first byte."""
        done = "Done." if request.query_params.get("done") else ""
        return self._shell.page(request, "schedules.html", "Schedules", done=done)

    async def table(self, request: Request) -> Response:
        """The schedules and their last firings, with what can be done."""

        def read() -> str:
            found: list[schedules.ShownSchedule] = []
            trouble = ""
            try:
                found = schedules.schedules(self._shell.app)
            except TaskstreamError as error:
                trouble = str(error)
            visitor = self._shell.visitor(request)
            return render(
                "parts/schedules.html", found=found, trouble=trouble, verbs=VERBS, **visitor
            )

        text = await aside(read)
        if "hx-request" in request.headers:
            return Response(text, media_type="text/html")
        return self._shell.page(request, "alone.html", "Schedules", text=text)

    async def act(self, request: Request) -> Response:
        """Holds one schedule back, lets it go, or runs its task once."""
        form = await read_form(self._shell, request)
        verb, name, reason = form.get("verb", ""), form.get("name", ""), reason_of(form)
        if verb not in VERBS:
            raise ConfigError(f"verb {verb!r} is none: use {', '.join(VERBS)}")
        app, who = self._shell.app, request.scope["state"]["user"]

        def do() -> None:
            if verb == "run":
                schedules.run(app, name, reason=reason, who=who)
            else:
                change = schedules.pause if verb == "pause" else schedules.resume
                change(app, name, reason=reason, who=who)

        await aside(do)
        return RedirectResponse(f"{root_of(request)}/schedules?done=1", 303)
