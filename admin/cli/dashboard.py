"""`taskstream dashboard`."""

import socket
import sys
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import AppPath, LogFormat, LogLevel, begin_logs, open_app
from taskstream.core.errors import ConfigError, MissingExtra

END_WITHIN = 2
"""Seconds that live pages have to go away when the server ends."""


def register(cli: typer.Typer) -> None:
    """Adds `dashboard` to the command line."""
    cli.command(epilog="Example: taskstream dashboard shop.main:app --port 8787")(dashboard)


def dashboard(
    app: AppPath,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for a free one.", min=0, max=65535)] = 8787,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, change nothing.")
    ] = False,
    token: Annotated[
        str,
        typer.Option(
            envvar="TASKSTREAM_DASHBOARD_TOKEN",
            show_envvar=True,
            show_default=False,
            help="What a visitor has to know; needed beyond this machine. Best given by the variable.",
        ),
    ] = "",
    user_header: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="The header in which a proxy says who a visitor is, for the audit log.",
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name by which it may be called; repeatable."),
    ] = None,
    jaeger_url: Annotated[
        str,
        typer.Option(
            envvar="TASKSTREAM_JAEGER_URL",
            show_envvar=True,
            show_default=False,
            help="Jaeger's pages and query API; by default that of `taskstream up`.",
        ),
    ] = "",
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Serve the pages on what an app does, until SIGTERM or Ctrl-C.

    Without a token it listens on an address of this machine alone.
    """
    from taskstream.admin.dashboard import asgi
    from taskstream.observability import logs

    try:
        import uvicorn

        from taskstream.admin.dashboard.security import bind_hosts
    except ModuleNotFoundError as error:
        raise MissingExtra("the dashboard", "dashboard") from error
    hosts = bind_hosts(host, token=token, allowed=frozenset(allow_host or ()))
    if jaeger_url and not jaeger_url.startswith(("http://", "https://")):
        raise ConfigError(f"jaeger_url {jaeger_url!r} must begin with http:// or https://")
    begin_logs(log_level, log_format)
    logs.catch_prints()
    opened = open_app(app)
    begin_logs(log_level, log_format, opened.settings)
    logs.catch_prints()
    site = asgi(
        opened,
        token=token,
        user_header=user_header,
        hosts=hosts,
        read_only=read_only,
        jaeger_url=jaeger_url,
    )
    config = uvicorn.Config(
        site,
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who a visitor is, and by which name he calls, is for our own options
        timeout_graceful_shutdown=END_WITHIN,
    )
    try:
        listening = config.bind_socket()
    except SystemExit as error:  # its way to say that the port is taken
        raise ConfigError(
            f"nothing can listen on {host}:{port}: is another dashboard running? Take another --port"
        ) from error
    # Handed down to each connection. The library leaves it out on a socket of its own, and then every
    # answer on a kept connection waits 40 ms for the acknowledgement of its headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"dashboard of {opened.name} on http://{name}:{listening.getsockname()[1]}/\n")
    uvicorn.Server(config).run([listening])
