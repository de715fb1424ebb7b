"""A child process from start to end: load the app, say hello, open, serve, leave.

It says hello as soon as it knows what the app is, so that the parent finds its way to Kafka while the
child loads drivers and enters the app's lifespan.

It lives only as long as its parent: when the parent's end of the socket closes, whatever runs here
could not be recorded any more in time, and the next owner will run it; so the process ends at once.
"""

import argparse
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskstream.app.app import App
from taskstream.app.configure import outside_settings
from taskstream.app.loader import load
from taskstream.consumer.begun import Begun
from taskstream.consumer.child.inbox import Inbox
from taskstream.consumer.child.link import Link
from taskstream.consumer.pipe import (
    Beat,
    Cancel,
    Failure,
    Hello,
    Recall,
    Stop,
    TaskFacts,
    pack_failure,
    pack_hello,
    pack_ready,
)
from taskstream.consumer.watch import dump_on_signal
from taskstream.core.clock import SYSTEM_CLOCK
from taskstream.core.errors import ConfigError, TaskstreamError
from taskstream.core.garbage import settle_in
from taskstream.core.settings import NAMES, Settings
from taskstream.observability import logs
from taskstream.observability.metrics import Metrics

if TYPE_CHECKING:
    from taskstream.consumer.child.service import Service
    from taskstream.consumer.child.vitals import Vitals
    from taskstream.results.store import ResultStore


_log = logs.logger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves one parent; `arguments` are those of the command line."""
    options = _parser().parse_args(arguments)
    link = Link(options.link)
    # The parent decides when we end; a signal to the whole process group is for it alone. Handlers,
    # not SIG_IGN, which what tasks start would inherit.
    signal.signal(signal.SIGTERM, _leave_it_to_the_parent)
    signal.signal(signal.SIGINT, _leave_it_to_the_parent)
    dump_on_signal()
    _begin_logs(options)
    try:
        app = _load(options)
        _begin_logs(options, app.settings)
        _say(link, pack_hello(_hello(app)))
        service, vitals, flush = _open(app, options, link)
    except BaseException as error:  # noqa: BLE001 - whatever a user's module raises must reach the user
        told = "" if isinstance(error, TaskstreamError) else traceback.format_exc()
        _say(link, pack_failure(Failure(str(error) or repr(error), told)))
        os._exit(1)
    settle_in()
    _say(link, pack_ready())
    inbox = Inbox()
    vitals.start()
    for name, work in (
        ("link", partial(_read, link, inbox, service, vitals)),
        ("prepare", partial(_prepare, inbox, service)),
    ):
        threading.Thread(target=work, name=f"taskstream-{name}", daemon=True).start()
    service.main.work()
    service.drain()
    app.close(timeout=10.0)
    with suppress(OSError):  # the parent has gone: nobody counts
        vitals.tell()
    flush()
    logging.shutdown()  # which no such exit calls
    os._exit(0)  # threads of tasks that never ended must not keep the process


def _begin_logs(options: argparse.Namespace, settings: Settings | None = None) -> None:
    """By the flags, then the app's settings; before there are any, by the environment and the file."""
    known = settings or outside_settings("log_level", "log_format")
    logs.configure_by(known, level=options.log_level, form=options.log_format)
    logs.catch_prints()


def _load(options: argparse.Namespace) -> App:
    app = load(options.app, directory=Path(options.directory))
    app.configure(quiet=options.quiet)
    app.load_tasks()
    _refuse_unserved(app)
    settings = app.settings
    settings.require_broker()
    if not settings.keeps_results:
        raise ConfigError(
            "a worker keeps results, and no store is configured: set cassandra_hosts "
            "(TASKSTREAM_CASSANDRA_HOSTS), or start local servers with `taskstream up`"
        )
    return app


def _open(
    app: App, options: argparse.Namespace, link: Link
) -> "tuple[Service, Vitals, Callable[[], None]]":
    """Opens what tasks need; the parent is under way to Kafka meanwhile."""
    metrics = Metrics()
    app.count_in(metrics)
    store = app.result_store()
    assert store is not None
    for name, connect in (("store", partial(_connect, store)), ("schemas", partial(_look_up, app))):
        threading.Thread(target=connect, name=f"taskstream-{name}", daemon=True).start()
    # Half of what a child loads, and nothing that its hello would need.
    from taskstream.consumer.child.service import Service  # noqa: PLC0415
    from taskstream.consumer.child.vitals import Vitals  # noqa: PLC0415
    from taskstream.observability import tracing  # noqa: PLC0415

    settings = app.settings
    flush = tracing.setup(settings.otlp_endpoint, f"{app.name}-worker")
    begun = Begun(options.begun)
    os.close(options.begun)
    service = Service(
        app,
        store,
        link,
        worker=options.worker,
        concurrency=options.concurrency,
        reserved=options.reserved,
        solo=options.solo,
        begun=begun,
        metrics=metrics,
        clock=SYSTEM_CLOCK,
    )
    service.open()
    return service, Vitals(link, service, metrics, SYSTEM_CLOCK), flush


def _connect(store: "ResultStore") -> None:
    """Connects before the first row needs it; what fails is tried again by who writes or reads."""
    with suppress(TaskstreamError):
        store.connect()


def _look_up(app: App) -> None:
    """Reads the stored schemas before the first task needs one of them; the same holds for these."""
    with suppress(TaskstreamError):
        app.schema_store().refresh()


def _say(link: Link, frame: bytes) -> None:
    try:
        link.send(frame)
    except OSError:
        os._exit(1)  # the parent has gone already


def _refuse_unserved(app: App) -> None:
    """Refuses what can be defined, but this version of the worker would not keep."""
    for task in app.tasks.values():
        if task.topic is not None:
            raise ConfigError(
                f"task {task.name}: topic= is not served by workers of this version yet; leave it out"
            )


def _hello(app: App) -> Hello:
    tasks = {}
    for task in app.tasks.values():
        facts = TaskFacts(
            task.name, task.queue, task.runs, task.strict_order, task.concurrency, task.rates
        )
        tasks.update(dict.fromkeys((task.name, *task.aliases), facts))
    return Hello(
        app.name,
        _for_the_parent(app.settings),
        {queue: dict(weights) for queue, weights in app.queues.items()},
        tasks,
    )


def _for_the_parent(settings: Settings) -> dict[str, Any]:
    """The settings by name, without what only a child needs and no frame can carry.

    Raises:
        ConfigError: an option of Kafka's clients is an object of Python, which stays in its process.
    """
    for name, value in settings.kafka.items():
        if not isinstance(value, str | int | float | bool | None):
            raise ConfigError(
                f"kafka option {name} is of type {type(value).__name__}: a worker hands the options on to "
                "its parent process, which takes text, numbers and booleans alone. In the place of a function "
                "for tokens, for example, use sasl.oauthbearer.method=oidc"
            )
    return {**{name: getattr(settings, name) for name in NAMES}, "cassandra": {}}


def _read(link: Link, inbox: Inbox, service: "Service", vitals: "Vitals") -> None:
    """Never blocks, so that the parent's end ends us at once, whatever else is going on."""
    for frame in link.frames():
        if isinstance(frame, Beat):
            vitals.hear(frame.limit)
            continue
        if isinstance(frame, Cancel):
            # Now, for preparing may wait for a store; and in its turn, for what waits to be prepared.
            service.cancel(frame.numbers, record=frame.record)
        elif isinstance(frame, Recall):
            service.recall(frame.numbers)
        inbox.put(frame)
    os._exit(1)


def _prepare(inbox: Inbox, service: "Service") -> None:
    try:
        while True:
            frame = inbox.get()
            if isinstance(frame, Stop):
                service.main.stop()
            elif isinstance(frame, Cancel):
                service.cancel(frame.numbers, record=frame.record)
            elif isinstance(frame, Recall):
                service.recall(frame.numbers)
            elif isinstance(frame, list):
                service.take(frame)
    except BaseException:  # noqa: BLE001 - a child that can't prepare tasks must not sit on them
        _log.exception(
            "a child can't prepare tasks; it ends, and they go to another one",
            advice=logs.REPORT_IT,
        )
        os._exit(1)  # what we held is given to another child


def _leave_it_to_the_parent(_number: int, _frame: object) -> None:
    """The parent has had the signal too, and tells us what to do."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="taskstream-child")
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--begun", type=int, required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--reserved", type=int, default=0)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--log-level")
    parser.add_argument("--log-format")
    parser.add_argument("--solo", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("app")
    return parser
