"""The app that the workers of the fault harness run; each task notes its start first of all."""

import asyncio
import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

from taskstream import App, Fatal, Retry, current
from tests.support.faults.journal import note_end, note_start

APP = "TASKSTREAM_TEST_FAULTS_APP"
"""Names the app in a worker's environment."""

KAFKA = "TASKSTREAM_TEST_FAULTS_KAFKA"
"""Its librdkafka options there, as JSON: which group protocol, and its session time-out."""

TWICE_MORE = Retry(attempts=3, first=0.1, factor=2.0, longest=1.0)

BOMB_BYTES = 4 << 30
"""What the memory bomb asks for."""

ROOM_BYTES = 64 << 20
"""What it may have."""


def build(name: str, **settings: Any) -> App:
    """The app of that name with all its tasks."""
    app = App(name, **settings)

    # What should succeed.

    @app.task(retry=TWICE_MORE)
    async def quick(n: int) -> int:
        _note()
        return n + 1

    @app.task(retry=TWICE_MORE, priority="high")
    async def urgent(n: int) -> int:
        _note()
        return n + 1

    @app.task(retry=TWICE_MORE, priority="low")
    def lowly(n: int) -> int:
        _note()
        return n + 1

    @app.task(retry=TWICE_MORE)
    async def naps(n: int, seconds: float) -> int:
        _note()
        await asyncio.sleep(seconds)
        return n + 1

    @app.task(retry=TWICE_MORE)
    def naps_in_thread(n: int, seconds: float) -> int:
        _note()
        time.sleep(seconds)
        return n + 1

    @app.task(retry=TWICE_MORE, runs="process")
    def alone(n: int) -> int:
        _note()
        return n + 1

    @app.task(retry=TWICE_MORE, key="customer")
    async def ordered(customer: str, n: int) -> int:
        with _Noted():
            await asyncio.sleep(0.002)
        return n + 1

    @app.task(retry=TWICE_MORE, key="customer")
    def ordered_in_thread(customer: str, n: int) -> int:
        with _Noted():
            time.sleep(0.002)
        return n + 1

    @app.task(retry=TWICE_MORE)
    async def flaky(n: int, failures: int) -> int:
        _note()
        if current().attempt <= failures:
            raise ConnectionError(f"{n} fails for the {current().attempt}. time")
        return n + 1

    # What should die.

    @app.task(retry=Retry(attempts=2, first=0.1, longest=0.2))
    def hopeless(n: int) -> int:
        _note()
        raise ValueError(f"{n} will not do")

    @app.task(retry=TWICE_MORE)
    async def fatal(n: int) -> int:
        _note()
        raise Fatal(f"{n} is not to be tried again")

    @app.task(retry=TWICE_MORE)
    async def unencodable(n: int) -> int:
        _note()
        return f"{n} is text"  # type: ignore[return-value]

    # What should cost its process, and nobody else a task.

    @app.task(retry=TWICE_MORE)
    async def exits(n: int) -> int:
        _note()
        os._exit(3)

    @app.task(retry=TWICE_MORE)
    def segfaults(n: int) -> int:
        _note()
        # In this thread, as a real one is: sent to the process, another thread takes it later, and
        # the task may have returned by then.
        signal.raise_signal(signal.SIGSEGV)
        return n

    @app.task(retry=None, timeout=1.0, runs="process")
    def loops(n: int) -> int:
        _note()
        while True:
            pass

    @app.task(retry=None, timeout=1.0)
    def loops_in_thread(n: int) -> int:
        _note()
        while True:
            time.sleep(0.01)

    @app.task(retry=None, timeout=1.0)
    async def blocks_the_loop(n: int) -> int:
        _note()
        threading.Event().wait()
        return n

    @app.task(retry=None, runs="process")
    def bombs(n: int) -> int:
        _note()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        # Whatever it may have beyond what this process has: it must not eat up the machine.
        resource.setrlimit(resource.RLIMIT_AS, (_mapped_bytes() + ROOM_BYTES, hard))
        try:
            return len(bytearray(BOMB_BYTES))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return app


class _Noted:
    """Notes start and end of what runs inside it."""

    def __enter__(self) -> None:
        _note()

    def __exit__(self, *_: object) -> None:
        me = current()
        note_end(me)


def _mapped_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _note() -> None:
    me = current()
    note_start(me)


if APP in os.environ:
    app = build(os.environ[APP], kafka=json.loads(os.environ.get(KAFKA, "{}")))
