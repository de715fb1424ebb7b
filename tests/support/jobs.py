"""The app that workers run in scenarios: one small task for each thing a task can do.

The worker process imports it as `tests.support.jobs:app`, with the app's name and the file where
every run is noted in its environment; a test builds the same app with `build`.
"""

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskstream import App, Context, Fatal, Rate, Retry, RetryAfter, Snooze, current

NAME = "TASKSTREAM_TEST_APP"
JOURNAL = "TASKSTREAM_TEST_JOURNAL"
WITHOUT = "TASKSTREAM_TEST_WITHOUT"
"""Names of tasks that this worker does not know, separated by commas: an older build."""

BROKEN = "TASKSTREAM_TEST_BROKEN"
"""Set where the worker runs a bad deploy: one task's code raises."""

CONSISTENCY = "TASKSTREAM_TEST_CONSISTENCY"
"""Another consistency level than LOCAL_QUORUM for this worker, to see whether a test notices."""

QUICKLY = Retry(attempts=3, first=0.05, longest=0.2)


@dataclass
class Receipt:
    """A result with more than one field."""

    order_id: str
    cents: int


def note(**more: object) -> None:
    """Writes one line of what ran, by whom, in one append: the oracle of all that happened."""
    journal = os.environ.get(JOURNAL)
    if journal is None:
        return
    me = current()
    words = [me.task, me.id, str(me.run), str(me.attempt), str(os.getpid()), f"{time.time():.6f}"]
    words += [f"{name}={value}" for name, value in more.items()]
    with Path(journal).open("a", encoding="utf-8") as lines:
        lines.write("\t".join(words) + "\n")


def journal() -> list[str]:
    """The lines of all that ran so far."""
    return Path(os.environ[JOURNAL]).read_text().splitlines()


def wait_for(path: str) -> str:
    """Blocks until the file exists."""
    while not Path(path).exists():
        time.sleep(0.02)
    return "done"


def build(name: str, **settings: Any) -> App:
    """The app of that name with all its tasks."""
    app = App(name, **settings)
    leaked: list[bytes] = []
    without = os.environ.get(WITHOUT, "").split(",")

    def known(task: str) -> bool:
        return task not in without

    if known("add"):

        @app.task(retry=QUICKLY)
        async def add(n: int, plus: int = 1) -> int:
            note()
            return n + plus

    @app.task(retry=QUICKLY)
    def add_in_thread(n: int) -> str:
        note(thread=threading.current_thread().name)
        return f"{n} in a thread"

    @app.task(retry=QUICKLY, runs="process")
    def add_in_process(n: int) -> str:
        note(main=threading.current_thread() is threading.main_thread())
        return f"{n} in a process"

    @app.task(retry=QUICKLY, priority="high")
    def receipt(order_id: str, cents: int) -> Receipt:
        note()
        return Receipt(order_id, cents)

    @app.task(retry=QUICKLY)
    def fails_twice(n: int) -> str:
        note()
        if current().attempt < 3:
            raise ConnectionError(f"not yet, attempt {current().attempt}")
        return f"{n} at last"

    @app.task(retry=QUICKLY)
    async def never_works(n: int) -> None:
        note()
        raise ValueError(f"no {n} will do")

    @app.task(retry=QUICKLY)
    async def pays(order_id: str, cents: int) -> int:
        note(cents=cents)
        if cents <= 0:
            raise ValueError(f"{cents} cents are no amount")
        return cents

    @app.task(retry=Retry(attempts=2, first=0.05), key="about")
    async def says(about: str, text: str, ends: str) -> str:
        """Gives the text back, or raises it where `ends` says so."""
        note()
        if ends == "badly":
            raise ValueError(text)
        return text

    @app.task(retry=None, priority="low")
    async def deployed(n: int) -> int:
        """Raises in a worker with the broken build."""
        note()
        if BROKEN in os.environ:
            raise ImportError("no module named 'forgotten'")
        return n

    @app.task(retry=Retry(attempts=10))
    async def gives_up(n: int) -> None:
        note()
        raise Fatal(f"{n} is hopeless")

    @app.task(retry=Retry(attempts=1))
    async def comes_back(n: int) -> int:
        """Snoozes twice, which costs no attempt."""
        note()
        runs = sum(current().id in line for line in journal())
        if runs <= n:
            raise Snooze(0.05)
        return runs

    @app.task(retry=Retry(attempts=2))
    async def obeys_retry_after() -> int:
        note()
        if current().attempt == 1:
            raise RetryAfter(0.3)
        return current().attempt

    def charges_apart(order_id: str, cents: int) -> int:
        """What runs in a shadow: it differs at 50 cents, and fails at 13."""
        note(shadow=True)
        if cents == 13:
            raise ValueError(f"{order_id}: no {cents} here")
        return cents + (cents == 50)

    @app.task(retry=None, shadow=charges_apart)
    async def charges(order_id: str, cents: int) -> int:
        note()
        return cents

    @app.task(retry=QUICKLY)
    async def tells_itself() -> str:
        me = current()
        return f"{me.task} {me.attempt} {me.key} {me.resources}"

    @app.task(retry=QUICKLY, key="customer")
    def keyed(customer: str, n: int) -> int:
        note(key=current().key, n=n)
        return n

    @app.task(retry=Retry(attempts=3, delays=[0.2]), key="customer", strict_order=True)
    def in_strict_order(customer: str, n: int, how: str) -> int:
        """Does as `how` says.

        It works; works at its third attempt; dies; snoozes once; comes back later, in 3 s, once; or
        snoozes until a path exists.
        """
        me = current()
        note(key=me.key, n=n, counted=me.attempt)
        seen = sum(run.split("\t")[1] == me.id for run in journal())
        if how == "dies" or (how == "third" and me.attempt < 3):
            raise ConnectionError(how)
        if (how == "snoozes" and seen == 1) or ("/" in how and not Path(how).exists()):
            raise Snooze(0.1)
        if how == "later" and seen == 1:
            raise RetryAfter(3.0)
        return n

    @app.task(retry=None, concurrency=5)
    async def few_at_once(n: int) -> int:
        import asyncio

        note(side="start")
        await asyncio.sleep(0.05)
        note(side="end")
        return n

    @app.task(retry=None, rate=Rate(8, period=1.0))
    async def now_and_then(n: int) -> int:
        note()
        return n

    @app.task(retry=None, key="customer", rate=Rate(2, period=1.0, scope="key"))
    async def seldom_for_each(customer: str, n: int) -> int:
        note(key=current().key, n=n)
        return n

    @app.task(retry=None)
    def waits_in_thread(path: str) -> str:
        note()
        return wait_for(path)

    @app.task(retry=None, timeout=0.3)
    async def sleeps_too_long() -> None:
        import asyncio

        note()
        await asyncio.sleep(60)

    @app.task(retry=None, timeout=0.3)
    def sleeps_too_long_in_thread() -> None:
        note()
        threading.Event().wait(5)

    @app.task(retry=None, timeout=0.3, runs="process")
    def sleeps_too_long_in_process() -> None:
        note()
        threading.Event().wait(60)

    @app.task(retry=QUICKLY)
    async def hears_of_it(task: str, id: str, reason: str, message: str) -> str:  # noqa: A002
        note(about=id)
        return f"{task} {id}: {reason}, {message}"

    @app.task(retry=None, on_dead=hears_of_it)
    async def dies_loudly() -> None:
        note()
        raise ValueError("listen")

    @app.task(retry=None)
    async def exits() -> None:
        note()
        raise SystemExit(1)

    @app.task(retry=None)
    def says_the_unsayable() -> None:
        note()
        raise FileNotFoundError("no \udcff.txt")

    @app.task(retry=QUICKLY)
    def kills_its_process(n: int) -> None:
        note()
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(retry=QUICKLY)
    def reads_nowhere() -> None:
        """Ends its process with a segmentation fault."""
        import ctypes

        note()
        ctypes.string_at(0)

    @app.task(retry=QUICKLY)
    def leaves() -> None:
        note()
        os._exit(3)

    @app.task(retry=QUICKLY)
    async def aborts() -> None:
        note()
        os.abort()

    @app.task(retry=QUICKLY, runs="process")
    def leaves_in_process() -> None:
        note()
        os._exit(3)

    @app.task(retry=QUICKLY)
    async def naps(seconds: float) -> str:
        import asyncio

        note()
        await asyncio.sleep(seconds)
        return "rested"

    @app.task(retry=QUICKLY, runs="process")
    def naps_in_process(seconds: float) -> str:
        note()
        time.sleep(seconds)
        return "rested"

    @app.task(retry=None, soft_timeout=0.2, timeout=60)
    async def minds_its_time() -> str:
        import asyncio

        note()
        while not current().cancelled:
            await asyncio.sleep(0.01)
        return "told"

    @app.task(retry=None, soft_timeout=0.2, timeout=60)
    def minds_its_time_in_thread() -> str:
        note()
        while not current().cancelled:
            time.sleep(0.01)
        return "told"

    @app.task(retry=None, soft_timeout=0.2, timeout=60, runs="process")
    def minds_its_time_in_process() -> str:
        note()
        try:
            time.sleep(60)
        except TimeoutError:
            return "interrupted"
        return "never"

    @app.task(retry=None, timeout=0.3)
    async def ignores_its_limit(path: str) -> None:
        """Suppresses its cancellation until the file exists."""
        import asyncio

        note()
        while not Path(path).exists():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                note(ignored=True)

    @app.task(retry=None, timeout=0.3, runs="process")
    def ignores_its_limit_in_process() -> None:
        note()
        while True:
            try:
                time.sleep(60)
            except TimeoutError:
                note(ignored=True)

    @app.task(retry=None, timeout=0.3)
    async def holds_the_loop(path: str) -> None:
        """Blocks its event loop until the file exists."""
        note()
        while not Path(path).exists():
            time.sleep(0.02)  # noqa: ASYNC251 - what it is for

    @app.task(retry=QUICKLY)
    async def keeps(size_bytes: int) -> int:
        """Leaks memory."""
        note()
        leaked.append(b"x" * size_bytes)
        return len(leaked)

    @app.task(retry=QUICKLY)
    async def returns_nonsense() -> int:
        note()
        return "not a number"  # type: ignore[return-value]

    @app.task(retry=QUICKLY)
    async def waits_for(path: str) -> str:
        """Runs until the file exists."""
        import asyncio

        note(began=True)
        while not Path(path).exists():
            await asyncio.sleep(0.02)
        return "done"

    @app.task(retry=QUICKLY, runs="process")
    def waits_in_process(path: str) -> str:
        """Runs in the main thread until the file exists."""
        note(began=True)
        while not Path(path).exists():
            time.sleep(0.02)
        return "done"

    @app.task(retry=QUICKLY, runs="process")
    def never_listens(path: str) -> str:
        """Runs in the main thread until the file exists, whatever is raised in it."""
        note(began=True)
        while not Path(path).exists():
            try:
                time.sleep(0.02)
            except BaseException:  # noqa: BLE001 - that is the point
                note(raised=True)
        return "done"

    @app.task(retry=QUICKLY)
    def looks_around(path: str) -> str:
        """Runs in a thread until it is told to end, or the file exists."""
        note(began=True)
        while not Path(path).exists():
            if current().cancelled:
                raise InterruptedError("told to end")
            time.sleep(0.02)
        return "done"

    @app.task(retry=Retry(attempts=3, delays=(3600.0,)))
    async def tries_much_later(n: int) -> None:
        note()
        raise ConnectionError(f"not before an hour: {n}")

    @app.task(retry=Retry(attempts=5, delays=(0.1,)))
    async def fails(how: str) -> None:
        """Raises the builtin error that `how` names, or a RetryAfter where it says `after SECONDS`."""
        import builtins

        note()
        if how.startswith("after "):
            raise RetryAfter(float(how.removeprefix("after ")), "busy")
        raise getattr(builtins, how)("as told")

    @app.task(retry=QUICKLY)
    async def blocks(path: str) -> str:
        """Holds up its event loop until the file exists."""
        note()
        while not Path(path).exists():
            time.sleep(0.02)  # noqa: ASYNC251 - the very thing not to do
        return "done"

    @app.task(retry=None, timeout=0.5)
    async def blocks_past_its_limit(path: str) -> None:
        """The same, and no cancellation reaches it."""
        note()
        while not Path(path).exists():
            time.sleep(0.02)  # noqa: ASYNC251 - the very thing not to do

    @app.task(retry=QUICKLY)
    async def tells_its_end(path: str) -> str:
        """Runs until the file exists, and says if it is cancelled before."""
        import asyncio

        note(began=True)
        try:
            while not Path(path).exists():
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note(cancelled=True)
            raise
        return "done"

    @app.task(retry=QUICKLY)
    async def publishes_another(n: int) -> str:
        handle = await app.publish_async("add", {"n": n})
        return handle.id

    @app.task(retry=QUICKLY)
    async def carries_baggage(publishes: int) -> str:
        """Its baggage; or, where it publishes itself so many times more, the id of the next one."""
        from opentelemetry import baggage

        note()
        current().log.info("baggage is here, %d to come", publishes)
        if not publishes:
            return str(dict(baggage.get_all()))
        handle = await app.publish_async("carries_baggage", {"publishes": publishes - 1})
        return handle.id

    @app.task(retry=QUICKLY)
    async def opens_a_span() -> str:
        from opentelemetry import trace

        with trace.get_tracer("jobs").start_as_current_span("inside the task"):
            return "traced"

    @app.lifespan
    async def resources() -> AsyncIterator[str]:
        yield "resources are here"

    @app.around
    def seen(context: Context) -> Iterator[None]:
        yield

    return app


if os.environ.get(CONSISTENCY):
    from cassandra import ConsistencyLevel

    ConsistencyLevel.LOCAL_QUORUM = getattr(ConsistencyLevel, os.environ[CONSISTENCY])

if NAME in os.environ:
    app = build(os.environ[NAME])
