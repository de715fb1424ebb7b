"""For your own tests: your app on the embedded broker, with a real worker beside it.

    from taskstream.testing import embedded

    def test_charging():
        with embedded("shop.main:app") as app:
            receipt = charge.publish("o-17", cents=1200).result(timeout=10)

No server is needed. Every block starts with nothing, and leaves nothing behind.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskstream.app.app import App
from taskstream.app.loader import load
from taskstream.broker.topics import Topics
from taskstream.consumer.process import WorkerProcess
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
            directory. What the app was told of servers counts for nothing inside the block.
        arguments: further options of `taskstream worker`.

    Raises:
        ConfigError: no such app, or it has opened its clients already.
        MissingExtra: what a worker needs is not installed.
    """
    app = load(path)
    with tempfile.TemporaryDirectory(
        prefix="taskstream-test-", ignore_cleanup_errors=True
    ) as folder:
        settings = {**_SETTINGS, "embedded_directory": folder}
        app.configure(**settings)
        app.load_tasks()
        # The process that touches the broker first owns it: this one, which lives the longest.
        with Topics(app.settings) as topics:
            topics.partitions(app.names.dead)
        worker = WorkerProcess(
            path,
            log=Path(folder) / "worker.log",
            environment={
                f"TASKSTREAM_{name.upper()}": _text(value) for name, value in settings.items()
            },
            arguments=("--log-level", "warning", *arguments),
        )
        try:
            with worker:
                yield app
        finally:
            app.close()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
