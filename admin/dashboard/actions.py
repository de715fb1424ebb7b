"""What a visitor may do: each one POST, with a reason, refused where the form is not ours."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskstream.admin import tasks, workers
from taskstream.admin.dashboard.forms import read_form, reason_of
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.render import render, segment
from taskstream.admin.dashboard.security import (
    CSRF_COOKIE,
    SESSION_COOKIE,
    SESSION_SECONDS,
    new_session,
    same,
)
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.core.errors import ConfigError


class Actions:
    """The actions.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def cancel(self, request: Request) -> Response:
        """Asks for a task's end."""
        form = await read_form(self._shell, request)
        task_id, reason = form.get("id", ""), reason_of(form)
        who = request.scope["state"]["user"]
        done = await aside(
            lambda: tasks.cancel(self._shell.app, task_id, reason=reason, who=who)
        )  # fmt: skip
        word = "cancel" if done.requested else "ended"
        return _to(request, f"/tasks/{segment(task_id)}?done={word}")

    async def scale(self, request: Request) -> Response:
        """Orders how many children a worker, or each of them, is to have."""
        form = await read_form(self._shell, request)
        number, reason = form.get("children", ""), reason_of(form)
        if not number.isascii() or not number.isdigit():
            raise ConfigError(f"children {number!r} is no number")
        worker = form.get("worker") or None
        who = request.scope["state"]["user"]
        await aside(
            lambda: workers.scale(
                self._shell.app, int(number), worker=worker, reason=reason, who=who
            )
        )
        return _to(request, "/workers?done=scale")

    async def login(self, request: Request) -> Response:
        """Takes the token, and gives a cookie for it."""
        form = await read_form(self._shell, request, acts=False)
        to, access = form.get("to", "/"), self._shell.access
        if not access.token or not same(form.get("token", ""), access.token):
            page = render("login.html", **self._shell.visitor(request), to=to, wrong=True)
            return Response(page, 401, media_type="text/html")
        answer = _to(
            request, to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"
        )
        answer.set_cookie(
            SESSION_COOKIE,
            new_session(access, self._shell.clock.now()),
            max_age=int(SESSION_SECONDS),
            path=root_of(request) or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            # Not strict: a link in a chat would end at the login. What acts needs the other cookie.
            samesite="lax",
        )
        return answer

    async def logout(self, request: Request) -> Response:
        """Takes the cookie back."""
        await read_form(self._shell, request, acts=False)
        answer = _to(request, "/login")
        for name in (SESSION_COOKIE, CSRF_COOKIE):
            answer.delete_cookie(name, path=root_of(request) or "/")
        return answer


def _to(request: Request, path: str) -> Response:
    return RedirectResponse(f"{root_of(request)}{path}", 303)
