"""A contender's publishing side: a process that does what the bench asks for, line by line.

A side is a class with these methods, plain or `async`; times are in seconds:

    publish(n, size)          publishes n no-op tasks, `size` bytes of arguments where it isn't 0; back
                              once all are acknowledged
    settle(n)                 back once the results of n tasks are stored since the last `reset`; asked
                              only after n bodies have run
    latency(rate, seconds)    publishes so many a second; how long each took until its result was in hand
                              (empty where no results are kept)
    reset()                   what is stored by now counts no more
    close()                   removes what it made on the servers

and may have others, which the bench asks for by name. A request is `{"do": "publish", "n": 100}`, an
answer `{"answer": …, "seconds": …, "cpu": …}` or `{"error": …}`, all in JSON, one a line.

Standard library only: it runs in the peers' environment as well as in ours.
"""

import asyncio
import importlib
import inspect
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

PATIENCE = 120.0
"""How long a side waits for what it was promised."""


def serve(module: str) -> None:
    """Makes the side, says `{"answer": "ready"}`, and serves standard input until it ends.

    Args:
        module: where the class `Side` is, and maybe `LOOP`, which makes the event loop (uvloop's, say). It
            is imported by its name, as workers do, for peers that name tasks by their module.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    try:
        imported = importlib.import_module(module)
        with asyncio.Runner(loop_factory=getattr(imported, "LOOP", None)) as runner:
            side = imported.Side()
            print(json.dumps({"answer": "ready"}), file=answers)
            for line in sys.stdin:
                print(json.dumps(_answer(side, json.loads(line), runner)), file=answers)
    except Exception:
        print(json.dumps({"error": traceback.format_exc()}), file=answers)
        raise


def until(true: Callable[[], bool], what: str) -> None:
    """Asks until it is so, every two milliseconds."""
    give_up_at = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not in {PATIENCE:g} s: {what}")
        time.sleep(0.002)


async def until_async(true: Callable[[], Awaitable[bool]], what: str) -> None:
    """`until`, for a question to be awaited."""
    give_up_at = time.monotonic() + PATIENCE
    while not await true():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not in {PATIENCE:g} s: {what}")
        await asyncio.sleep(0.002)


def paced(
    rate: float, seconds: float, publish: Callable[[float], Any], get: Callable[[Any], Any]
) -> list[float]:
    """Publishes at a steady rate in one thread, and gets the results in another, in their order.

    Args:
        rate: tasks a second.
        seconds: for how long.
        publish: publishes one task that is told the time; gives its handle.
        get: waits for the result behind a handle.

    Returns:
        For each task the seconds from before its publish until its result was in hand.
    """
    handles: queue.SimpleQueue[tuple[Any, float] | None] = queue.SimpleQueue()

    def send() -> None:
        started = time.monotonic()
        try:
            for number in range(round(rate * seconds)):
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
                published = time.time()
                handles.put((publish(published), published))
        finally:
            handles.put(None)

    sender = threading.Thread(target=send)
    sender.start()
    found = []
    while (sent := handles.get()) is not None:
        handle, published = sent
        get(handle)
        found.append(time.time() - published)
    sender.join()
    return found


async def paced_async(
    rate: float, seconds: float, one: Callable[[float], Coroutine[Any, Any, Any]]
) -> list[float]:
    """`paced` for coroutines: `one` publishes a task that is told the time, and awaits its result."""

    async def timed() -> float:
        published = time.time()
        await one(published)
        return time.time() - published

    started, under_way = time.monotonic(), []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
        under_way.append(asyncio.create_task(timed()))
    return list(await asyncio.gather(*under_way))


async def in_flight(n: int, most: int, one: Callable[[int], Coroutine[Any, Any, Any]]) -> None:
    """Runs `one` for each number below n, `most` of them at a time."""
    numbers = iter(range(n))

    async def lane() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(lane() for _ in range(most)))


def _answer(side: Any, request: dict[str, Any], runner: asyncio.Runner) -> dict[str, Any]:
    method = getattr(side, request.pop("do"))
    started, cpu = time.perf_counter(), time.process_time()
    try:
        answer = method(**request)
        if inspect.iscoroutine(answer):
            answer = runner.run(answer)
    except Exception:
        return {"error": traceback.format_exc()}
    return {
        "answer": answer,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    serve(sys.argv[1])
