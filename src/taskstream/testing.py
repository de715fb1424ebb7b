"""For your own tests: your app on the embedded broker, with a real worker beside it.

    from taskstream.testing import embedded

    def test_charging():
        with embedded("shop.main:app") as app:
            receipt = charge.publish("o-17", cents=1200).result(timeout=10)

No server is needed. Every block starts with nothing, and leaves nothing behind.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskstream.app.app import App
from taskstream.app.loader import load
from taskstream.broker.topics import Topics
from taskstream.consumer.process import WorkerProcess
from taskstream.core.errors import ConfigError
from taskstream.core.settings import EMBEDDED

__all__ = ["embedded"]

_SETTINGS: Mapping[str, Any] = {
    "bootstrap_servers": EMBEDDED,
    "cassandra_hosts": "",
    "schema_registry_url": "",
    "otlp_endpoint": "",
    "kafka": {},
    "cassandra": {},
}


@contextmanager
def embedded(path: str, *, arguments: Sequence[str] = ()) -> Iterator[App]:
    """The app on a fresh embedded broker, with a worker and a scheduler, while the block lasts.

    Args:
        path: the app as `module:attribute`, which the worker's processes import from the working
            directory. Servers that the environment or a file names count for nothing in the block.
        arguments: further options of `taskstream worker`.

    Raises:
        ConfigError: no such app, its code names servers itself, or it has opened clients already.
        MissingExtra: what a worker needs is not installed.
    """
    app = load(path)
    with tempfile.TemporaryDirectory(
        prefix="taskstream-test-", ignore_cleanup_errors=True
    ) as folder:
        settings = {**_SETTINGS, "embedded_directory": folder}
        environment = {f"TASKSTREAM_{name.upper()}": _text(one) for name, one in settings.items()}
        with _environment(environment):
            app.configure()
            _refuse_servers_in_code(app, settings)
            app.load_tasks()
            # Who asks for the broker first owns it: this process, which outlives the worker.
            with Topics(app.settings) as topics:
                topics.partitions(app.names.dead)
            log = Path(folder) / "worker.log"
            words = ("--log-level", "warning", *arguments)
            try:
                with WorkerProcess(path, log=log, environment={}, arguments=words):
                    yield app
            finally:
                app.close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _refuse_servers_in_code(app: App, settings: Mapping[str, Any]) -> None:
    """The worker's processes see the same code: a test must never reach what it names."""
    for name, value in settings.items():
        if getattr(app.settings, name) != value:
            raise ConfigError(
                f"App({app.name!r}, {name}=...) is set in code, where nothing else counts: leave it to "
                f"TASKSTREAM_{name.upper()} or taskstream.toml, so that a test can set another"
            )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
