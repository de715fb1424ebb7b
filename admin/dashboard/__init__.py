"""The dashboard: pages on what an app does, on its own or mounted in another ASGI app."""

from typing import TYPE_CHECKING

from taskstream.core.errors import MissingExtra

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from taskstream.app.app import App


def asgi(
    app: "App",
    *,
    token: str = "",
    user_header: str = "",
    hosts: frozenset[str] = frozenset(),
    read_only: bool = False,
    jaeger_url: str = "",
) -> "Starlette":
    """The dashboard as an ASGI app, to serve or to mount.

    Mounted (`Mount("/tasks", dashboard.asgi(app))`), it is as open as the app around it, unless given a
    token. It begins to read Kafka at its first request.

    Args:
        app: the app that it shows; the modules of its `include` are imported.
        token: what a visitor has to know; empty for nothing.
        user_header: the header in which a proxy in front says who a visitor is, for the audit log; a
            request without it is refused. The proxy must take it out of what it is sent.
        hosts: names by which it may be called; empty for any.
        read_only: whether nothing may be changed.
        jaeger_url: of Jaeger's pages and query API; by default that of a running `taskstream up`.

    Raises:
        MissingExtra: the libraries of the extra `dashboard` are not installed.
    """
    # Here, because they load the libraries of the extra.
    try:
        from taskstream.admin.dashboard.security import Access  # noqa: PLC0415
        from taskstream.admin.dashboard.site import build  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("the dashboard", "dashboard") from error
    access = Access.of(token=token, user_header=user_header, hosts=hosts, read_only=read_only)
    return build(app, access, jaeger_url=jaeger_url)
