"""What a task's spans cost its publisher and its worker, in processor time: off, and at 0, 1 and 100 %.

No server is asked and no span leaves the process: each figure is the time of our own calls and of the SDK,
the best of several rounds. What sending costs beside it is the sweep's to tell (`make bench ONLY=tracing`).

    make bench ONLY=spans                (ROUNDS=7 and SPANS=20000 are the defaults)
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from taskstream.core.states import State
from taskstream.observability import tracing
from taskstream.observability.tracing import Header, attempt_attributes, failure_of

ROUNDS = int(os.environ.get("ROUNDS", "7"))
SPANS = int(os.environ.get("SPANS", "20000"))
TOPIC = "shop.tasks.normal"
SHARES = ("off", "0", "1", "100")
"""Percent of traces kept; off is a process without a tracer."""


def provide(share: str) -> None:
    """Makes a provider as `tracing.setup` does, whose spans end in the queue of nobody."""
    if share == "off":
        return
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(int(share) / 100)
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from taskstream.observability.export import DrawnIds

    trace.set_tracer_provider(TracerProvider(id_generator=DrawnIds()))


def publish() -> tuple[Header, ...]:
    """The span of one publish, acknowledged; gives its headers."""
    span = tracing.publish_span(TOPIC, task="charge", task_id="o-17", key=None)
    span.acknowledged(3, 42)
    return span.headers


def attempt(headers: tuple[Header, ...], error: Exception | None = None) -> None:
    """The spans of one attempt and of its row."""
    span = tracing.process_span(
        tracing.current_maker(),
        topic=TOPIC,
        headers=headers,
        describe=partial(
            attempt_attributes,
            task="charge", task_id="o-17", run=0, attempt=1, topic=TOPIC, partition=3, offset=42,
            group=TOPIC, key=None, worker="w1", waited=0.25,
        ),
    )  # fmt: skip
    with span.activate():
        pass
    span.decide(failed=error is not None)
    row = tracing.store_span(span, keyspace="shop", table="results")
    span.finish(State.SUCCEEDED, None if error is None else failure_of(error))
    row.finish(20)


def cost(call: Callable[[int], object]) -> float:
    """Microseconds of processor time of one call."""
    best = float("inf")
    for _ in range(ROUNDS):
        before = time.process_time()
        for number in range(SPANS):
            call(number)
        best = min(best, time.process_time() - before)
    return round(1e6 * best / SPANS, 2)


def measure(share: str) -> dict[str, float]:
    """One share, in this process."""
    provide(share)
    published = [publish() for _ in range(SPANS)]
    error = ValueError("declined")
    return {
        "publish_us": cost(lambda _number: publish()),
        "attempt_us": cost(lambda number: attempt(published[number])),
        "failed_attempt_us": cost(lambda number: attempt(published[number], error)),
    }


def main() -> None:
    """Measures each share in a process of its own, which has one provider for life; prints one document."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    found = {
        share: json.loads(
            subprocess.run(
                [sys.executable, __file__, share], check=True, capture_output=True, text=True
            ).stdout
        )
        for share in SHARES
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "percent_kept": found}, indent=2))


if __name__ == "__main__":
    main()
