"""A worker process: its parent loop, its name, its signals, its health page."""

import os
import re
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskstream.consumer.parent.autoscale import Range
from taskstream.consumer.parent.children import Children
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.parent.staffing import UNLIMITED, Limits
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import ConfigError
from taskstream.core.names import check_part
from taskstream.core.settings import Settings
from taskstream.observability import logs

if TYPE_CHECKING:
    from taskstream.observability.metrics import Metrics

DEFAULT_CHILDREN = 2
"""How many child processes a worker has that is told nothing else."""

_INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What `taskstream worker` can be told. Times are in seconds.

    Args:
        app: the app as `module:attribute`.
        directory: where its modules are looked for; None is the working directory.
        queues: which queues to serve; empty means all.
        priorities: which priorities; empty means all.
        children: child processes.
        autoscale: as many as the load asks for, within this range, instead of `children`.
        concurrency: tasks that one child runs at once.
        limits: when a child is replaced.
        reserved: how many of these only urgent tasks may be, those of a queue's first priority; None
            is one of ten, but at least one.
        group: replaces the app's name in the consumer groups' names.
        instance: a name of its own that it keeps over restarts, for static membership.
        drain: how long running tasks may go on after a stop.
        exit_when_empty: end once everything that is there is finished.
        health_port: where /live, /ready and /metrics are served; None is nowhere.
        health_host: the address that they are served on.
        log_level: instead of the app's setting of that name; None is the setting.
        log_format: the same.
    """

    app: str
    directory: Path | None = None
    queues: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    children: int = DEFAULT_CHILDREN
    autoscale: Range | None = None
    concurrency: int = 50
    limits: Limits = UNLIMITED
    reserved: int | None = None
    group: str | None = None
    instance: str | None = None
    drain: float = 30.0
    exit_when_empty: bool = False
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    log_level: str | None = None
    log_format: str | None = None

    def __post_init__(self) -> None:
        if self.group is not None:
            check_part("group", self.group)
        for name in ("children", "concurrency"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: must be 1 or more")
        if self.instance is not None and not _INSTANCE.fullmatch(self.instance):
            raise ConfigError(
                f"--instance {self.instance!r}: use 1 to 100 letters, digits, '.', '_' or '-'"
            )
        if self.limits.tasks is not None and self.limits.tasks < 1:
            raise ConfigError(f"--max-tasks-per-child {self.limits.tasks}: must be 1 or more")
        if self.reserved is not None and not 0 <= self.reserved < self.concurrency:
            raise ConfigError(
                f"--reserved {self.reserved}: must be 0 or more, and below --concurrency "
                f"({self.concurrency}), for what is left over is for all tasks"
            )
        if self.drain < 0:
            raise ConfigError(f"--drain {self.drain:g}: must not be negative")

    @property
    def slots_reserved(self) -> int:
        """How many slots of each child only urgent tasks may take."""
        if self.reserved is not None:
            return self.reserved
        return min(max(1, self.concurrency // 10), self.concurrency - 1)


def run(
    options: WorkerOptions,
    clock: Clock = SYSTEM_CLOCK,
    *,
    on_ready: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
    metrics: "Metrics | None" = None,
) -> int:
    """Works until SIGTERM or SIGINT, or until empty where the options say so.

    The first signal drains and commits; the second stops hard. Call it from the main thread.

    Args:
        options: how.
        clock: the time.
        on_ready: called once, when the first child takes tasks; must not block.
        on_end: called at the end, before the last numbers are sent, for who counts in `metrics`, too.
        metrics: where things are counted; None for a place of its own.

    Returns:
        How many tasks were finished.

    Raises:
        ConfigError: the app can't be loaded, or what it needs is missing.
        BrokerError: Kafka refuses to go on.
    """
    told = _parent_options(options)
    children = Children(told, clock)
    children.start()
    # Only now, while the first child starts, which takes longest: Kafka's client and all that uses it.
    from taskstream.consumer.parent.loop import Parent  # noqa: PLC0415
    from taskstream.consumer.watch import Watchdog, dump_on_signal  # noqa: PLC0415

    def on_hello(settings: Settings) -> None:
        if logs.is_configured():  # else the process is somebody else's, and so is its log
            logs.configure_by(settings, level=options.log_level, form=options.log_format)

    parent = Parent(
        told,
        clock,
        children=children,
        on_hello=on_hello,
        on_ready=on_ready,
        on_end=on_end,
        metrics=metrics,
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda _number, _frame: parent.stop())
    health = None
    watchdog = Watchdog(parent.paces, dump=parent.dump, clock=clock)
    dump_on_signal()
    try:
        watchdog.start()
        if options.health_port is not None:
            # Rarely needed.
            from taskstream.observability.exposition import Exposition  # noqa: PLC0415
            from taskstream.observability.health import HealthServer  # noqa: PLC0415

            health = HealthServer(
                live=lambda: watchdog.problems,
                ready=lambda: parent.not_ready,
                notes=lambda: parent.held_back,
                metrics=Exposition(parent.metrics),
                host=options.health_host,
                port=options.health_port,
            )
            health.start()
        parent.run()
    finally:
        watchdog.close()
        if health is not None:
            health.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return parent.finished


def _parent_options(options: WorkerOptions) -> ParentOptions:
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    directory = (options.directory or Path.cwd()).resolve()
    return ParentOptions(
        name=name,
        queue_names=options.queues,
        priorities=options.priorities,
        children=options.children,
        autoscale=options.autoscale,
        concurrency=options.concurrency,
        limits=options.limits,
        reserved=options.slots_reserved,
        group=options.group,
        instance=options.instance,
        drain=options.drain,
        exit_when_empty=options.exit_when_empty,
        child_command=(
            "--worker", name, "--directory", str(directory),
            *logs.flags(options.log_level, options.log_format), options.app,
        ),
    )  # fmt: skip
