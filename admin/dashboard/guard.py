"""What stands before every page: who may come in, and the headers that go with each answer."""

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.security import (
    CSRF_COOKIE,
    HEADERS,
    Access,
    cookies,
    csrf_token,
    is_in,
    knows_host,
    new_csrf_cookie,
    user_of,
)
from taskstream.core.clock import Clock

OPEN = ("/static/", "/login")
"""What anybody may see: no data is there."""


FIGURES = "/metrics"
"""What programs fetch: they get no form and no cookie, and nobody acts there, so it asks for no user."""


class Guard:
    """Lets in who may come in. What a page needs to know of the visitor stands in `scope["state"]`.

    Args:
        inner: the pages.
        access: who may come in.
        clock: tells how old a login is.
    """

    def __init__(self, inner: ASGIApp, access: Access, clock: Clock) -> None:
        self._inner = inner
        self._access = access
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        request = Request(scope)
        headers = {name.lower(): value for name, value in request.headers.items()}
        cookie = cookies(headers).get(CSRF_COOKIE, "") or new_csrf_cookie()
        scope.setdefault("state", {}).update(
            user=user_of(self._access, headers) or "",
            csrf=csrf_token(self._access, cookie),
            headers=headers,
        )
        fresh = "" if cookie in headers.get("cookie", "") else _set_cookie(request, cookie)
        # Now, for the router writes into the scope on the way to a file.
        static = path_of(request).startswith("/static/")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(MutableHeaders(scope=message), fresh, static=static)
            await send(message)

        response = self._refused(request, headers)
        await (self._inner if response is None else response)(scope, receive, answer)

    def _refused(self, request: Request, headers: dict[str, str]) -> Response | None:
        path = path_of(request)
        if not knows_host(self._access, headers):
            return refused(request, 421, "Unknown host", "Call it by a name that it knows: --allow-host adds one.")  # fmt: skip
        if path == FIGURES:
            known = is_in(self._access, headers, self._clock.now())
            return None if known else refused(request, 401, "Unknown", "Send the token as a bearer.")  # fmt: skip
        if path.startswith(OPEN):
            return None
        if user_of(self._access, headers) is None:
            return refused(request, 401, "Who are you?", f"The proxy in front must say so in {self._access.user_header}.")  # fmt: skip
        if is_in(self._access, headers, self._clock.now()):
            return None
        if request.method == "GET" and "hx-request" not in headers:
            wanted = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{root_of(request)}/login?to={quote(wanted, safe='')}", 303)
        return refused(
            request, 401, "Not logged in", "Log in first, or send the token as a bearer."
        )


def refused(request: Request, status: int, title: str, text: str) -> Response:
    """A short page that says no; a line of text where programs ask."""
    if path_of(request) == FIGURES:
        asks = {"www-authenticate": "Bearer"} if status == 401 else {}
        return PlainTextResponse(f"{title}. {text}\n", status, asks)
    page = render("refused.html", root=root_of(request), title=title, text=text)
    return Response(page, status, media_type="text/html")


def root_of(request: Request) -> str:
    """Where the dashboard is mounted: what stands before each of its own paths."""
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def path_of(request: Request) -> str:
    """The path within the dashboard, told from the whole one as the router does."""
    path: str = request.scope["path"]
    root = root_of(request)
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def _complete(headers: MutableHeaders, cookie: str, *, static: bool) -> None:
    if static:
        headers["cache-control"] = (
            "public, max-age=31536000, immutable"  # the address has a version
        )
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if cookie and "text/html" in headers.get("content-type", ""):
        headers.append("set-cookie", cookie)


def _set_cookie(request: Request, cookie: str) -> str:
    secure = "; Secure" if request.url.scheme == "https" else ""
    path = root_of(request) or "/"
    return f"{CSRF_COOKIE}={cookie}; Path={path}; HttpOnly; SameSite=Strict{secure}"
