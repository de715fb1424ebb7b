"""`taskstream up | down | status`: the local servers, seen from the terminal.

Standard output gets the answer (a table, or one JSON document), standard error everything that
is told on the way.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from taskstream.admin.cli.arguments import print_table
from taskstream.core.errors import ConfigError, ServerError
from taskstream.infra.catalogue import DEFAULT_SERVERS, Server, parse_servers
from taskstream.infra.lifecycle import START_TIMEOUT, ServerStatus
from taskstream.infra.lifecycle import down as stop_servers
from taskstream.infra.lifecycle import status as look_at_servers
from taskstream.infra.lifecycle import up as start_servers
from taskstream.infra.progress import Listener, Progress, Stage
from taskstream.infra.settings import ServerSettings, variable

FAILED, BAD_USAGE = 1, 2


def register(cli: typer.Typer) -> None:
    """Adds `up`, `down` and `status` to the command line."""
    cli.command(epilog="Example: taskstream up --only kafka,cassandra --kafka-port 19092")(up)
    cli.command(epilog="Example: taskstream down --wipe")(down)
    cli.command(epilog="Example: taskstream status --json")(status)


def _setting(name: str, text: str) -> Any:
    """An option that is one field of `ServerSettings`."""
    return typer.Option(
        f"--{name.replace('_', '-')}", help=f"{text} [{variable(name)}]", show_default=False
    )


def _default(name: str) -> str:
    return f"default {ServerSettings.__dataclass_fields__[name].default}"


_DataDir = Annotated[Path | None, _setting("data_dir", "Where the servers keep their data.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def up(
    *,
    only: Annotated[
        str,
        typer.Option(help="Just these, separated by commas: kafka, cassandra, jaeger, registry."),
    ] = "",
    registry: Annotated[
        bool, typer.Option("--registry", help="A schema registry as well.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a server has to answer.")
    ] = START_TIMEOUT,
    data_dir: _DataDir = None,
    cache_dir: Annotated[
        Path | None, _setting("cache_dir", "Where downloads and builds are kept, by version.")
    ] = None,
    kafka_port: Annotated[
        int | None, _setting("kafka_port", f"Kafka, {_default('kafka_port')}.")
    ] = None,
    kafka_controller_port: Annotated[
        int | None,
        _setting(
            "kafka_controller_port", f"Kafka's controller, {_default('kafka_controller_port')}."
        ),
    ] = None,
    cassandra_port: Annotated[
        int | None, _setting("cassandra_port", f"Cassandra (CQL), {_default('cassandra_port')}.")
    ] = None,
    cassandra_storage_port: Annotated[
        int | None,
        _setting(
            "cassandra_storage_port",
            f"Between Cassandra nodes, {_default('cassandra_storage_port')}.",
        ),
    ] = None,
    jaeger_port: Annotated[
        int | None, _setting("jaeger_port", f"Jaeger's pages and API, {_default('jaeger_port')}.")
    ] = None,
    otlp_port: Annotated[
        int | None, _setting("otlp_port", f"Spans over gRPC, {_default('otlp_port')}.")
    ] = None,
    otlp_http_port: Annotated[
        int | None, _setting("otlp_http_port", f"Spans over HTTP, {_default('otlp_http_port')}.")
    ] = None,
    registry_port: Annotated[
        int | None, _setting("registry_port", f"Schema registry, {_default('registry_port')}.")
    ] = None,
    kafka_heap: Annotated[
        str | None, _setting("kafka_heap", f"Kafka's Java heap, {_default('kafka_heap')}.")
    ] = None,
    cassandra_heap: Annotated[
        str | None,
        _setting("cassandra_heap", f"Cassandra's Java heap, {_default('cassandra_heap')}."),
    ] = None,
    registry_heap: Annotated[
        str | None,
        _setting("registry_heap", f"The registry's Java heap, {_default('registry_heap')}."),
    ] = None,
    nodes: Annotated[
        int | None,
        _setting("nodes", "Cassandra nodes, on 127.0.0.1, 127.0.0.2 and so on, default 1."),
    ] = None,
    jaeger_storage: Annotated[
        str | None,
        _setting("jaeger_storage", "Where Jaeger keeps traces: memory (default) or cassandra."),
    ] = None,
    jaeger_config: Annotated[
        str | None, _setting("jaeger_config", "A file to be laid over Jaeger's configuration.")
    ] = None,
    kafka_properties: Annotated[
        str | None,
        _setting("kafka_properties", "More of Kafka's configuration: name=value;name=value."),
    ] = None,
    way: Annotated[
        str | None,
        _setting("way", "containers or processes; by default containers if Docker answers."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Start local servers: Kafka, Cassandra and Jaeger.

    Waits until each answers its own protocol. What is up already stays as it is, so running it
    twice is harmless. The servers go on when the command ends; their data survive `down`.
    """
    with _told_errors():
        settings = ServerSettings.from_environment(
            os.environ,
            data_dir=data_dir,
            cache_dir=cache_dir,
            kafka_port=kafka_port,
            kafka_controller_port=kafka_controller_port,
            cassandra_port=cassandra_port,
            cassandra_storage_port=cassandra_storage_port,
            jaeger_port=jaeger_port,
            otlp_port=otlp_port,
            otlp_http_port=otlp_http_port,
            registry_port=registry_port,
            kafka_heap=kafka_heap,
            cassandra_heap=cassandra_heap,
            registry_heap=registry_heap,
            nodes=nodes,
            jaeger_storage=jaeger_storage,
            jaeger_config=jaeger_config,
            kafka_properties=kafka_properties,
            way=way,
        )
        servers = _wanted(only, registry=registry)
        with _progress(servers) as listen:
            found = start_servers(settings, servers, timeout=timeout, listen=listen)
        _show(found, as_json=as_json)


def down(
    *,
    wipe: Annotated[bool, typer.Option("--wipe", help="Also delete the servers' data.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Stop exactly the servers that `taskstream up` started."""
    with _told_errors():
        settings = ServerSettings.from_environment(os.environ, data_dir=data_dir)
        with _progress(()) as listen:
            stopped = stop_servers(settings, wipe=wipe, listen=listen)
        wiped = "; the data are deleted" if wipe else ""
        sys.stderr.write(f"{'stopped' if stopped else 'nothing was up'}{wiped}\n")


def status(*, data_dir: _DataDir = None, as_json: _Json = False) -> None:
    """Show the servers that `taskstream up` started, and whether they are well."""
    with _told_errors():
        settings = ServerSettings.from_environment(os.environ, data_dir=data_dir)
        _show(look_at_servers(settings), as_json=as_json)


def _wanted(only: str, *, registry: bool) -> tuple[Server, ...]:
    chosen = set(parse_servers(only) if only else DEFAULT_SERVERS)
    if registry:
        chosen.add(Server.REGISTRY)
    return tuple(server for server in Server if server in chosen)


def _show(found: Sequence[ServerStatus], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([one.as_json() for one in found], indent=2) + "\n")
        return
    if not found:
        sys.stderr.write("nothing is up here: start servers with `taskstream up`\n")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("server", "version", "address", "pid", "memory", "health"):
        table.add_column(
            column, justify="right" if column in ("pid", "memory") else "left", no_wrap=True
        )
    # Wherever it breaks, a path must be there to be copied.
    table.add_column("log", overflow="fold")
    for one in found:
        table.add_row(
            one.server,
            one.version,
            one.address,
            str(one.pid or "-"),
            f"{one.memory / 2**20:.0f} MiB" if one.memory else "-",
            Text("healthy", "green") if one.healthy else Text(one.ailment, "red"),
            one.log,
        )
    print_table(table)


@contextmanager
def _told_errors() -> Iterator[None]:
    """Turns our errors into lines for people and the exit codes of the contract."""
    try:
        yield
    except ConfigError as error:
        sys.stderr.write(f"taskstream: {error}\n")
        raise typer.Exit(BAD_USAGE) from error
    except ServerError as error:
        sys.stderr.write(f"taskstream: {error}\n")
        raise typer.Exit(FAILED) from error


@contextmanager
def _progress(servers: Sequence[Server]) -> Iterator[Listener]:
    """Tells how far the servers are: a live table on a terminal, else a line for each stage."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _print_to(console.file.write)
        return
    board = _Board(servers)
    with Live(get_renderable=board.draw, console=console, refresh_per_second=10):
        yield board.hear


def _print_to(write: Callable[[str], Any]) -> Listener:
    begun = monotonic()

    def hear(news: Progress) -> None:
        # A failure is told once, as the error at the end.
        if news.stage is not Stage.FAILED:
            write(f"{monotonic() - begun:6.1f} s  {news.server}: {news.stage} {news.detail}\n")

    return hear


class _Board:
    """The latest news of each server, drawn again ten times a second."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._begun = monotonic()
        self._lock = threading.Lock()
        self._news: dict[Server, tuple[Progress, float]] = {
            server: (Progress(server, Stage.STARTING), self._begun) for server in servers
        }
        self._spinner = Spinner("dots")

    def hear(self, news: Progress) -> None:
        with self._lock:
            self._news[news.server] = (news, monotonic())

    def draw(self) -> Table:
        table = Table.grid(padding=(0, 1))
        with self._lock:
            latest = list(self._news.values())
        mark: RenderableType
        for news, at in latest:
            match news.stage:
                case Stage.ANSWERS | Stage.WAS_UP | Stage.STOPPED:
                    mark, until = Text("✓", "green"), at
                case Stage.FAILED:
                    mark, until = Text("✗", "red"), at
                case _:
                    mark, until = self._spinner.render(monotonic()), monotonic()
            detail = "" if news.stage is Stage.FAILED else news.detail
            table.add_row(
                mark, news.server, news.stage, detail, Text(f"{until - self._begun:.1f} s", "dim")
            )
        return table
