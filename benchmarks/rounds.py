"""One repeat of one contender: all of its measures, in the order that needs the fewest starts."""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Self

from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.figures import percentiles_ms
from benchmarks.servers import Servers
from benchmarks.stage import Stage

RATE = 100.0
"""Tasks a second while latencies are taken."""

SLEEPERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything is done. Times are in seconds.

    Args:
        scale: what each contender's number of tasks is multiplied by.
        latency: for how long latencies are taken.
        idle: for how long an idle worker is watched.
        short: only publish, drain, cold start and latency, with one start of the workers.
        repeats: how often all of it is done.
    """

    scale: float = 1.0
    latency: float = 10.0
    idle: float = 10.0
    short: bool = False
    repeats: int = 3

    def tasks(self, contender: Contender) -> int:
        """How many tasks a drain of it has."""
        return max(100, round(contender.tasks * self.scale))


FULL = Plan()
SHORT = Plan(scale=0.02, latency=1.0, idle=1.0, short=True, repeats=1)


def measure(contender: Contender, plan: Plan, servers: Servers, folder: Path) -> dict[str, float]:
    """All measures of one contender, once.

    Raises:
        MissingPeer, MissingServer: it can't be run here.
        Failed: it was run, and did not do what it should.
    """
    with Stage(contender, servers, folder) as stage:
        if contender == BARE:
            return _bare(stage, plan)
        if plan.short:
            return _short(stage, plan)
        found = _from_the_start(stage, plan)
        found |= _at_once(stage, plan)
        stage.stop()
        found |= _backlog(stage, plan.tasks(contender))
        stage.stop()
        if contender == OURS:
            found |= _only_ours(stage, plan)
    if contender == OURS:
        found |= _sleepers(servers, folder) | {"import_ms": import_ms()}
    return found


def warm_up(plan: Plan, servers: Servers, folder: Path) -> None:
    """Drains without counting: servers compile what they run often, and the first contender would pay for it."""
    for contender in (BARE, OURS):
        with Stage(contender, servers, folder) as stage:
            if contender == BARE:
                _bare(stage, replace(plan, scale=plan.scale / 4))
            else:
                drain(stage, plan.tasks(contender) // 2)


def drain(stage: Stage, n: int, size: int = 0) -> dict[str, float]:
    """Publishes n tasks, then starts workers and lets them finish.

    Rate and CPU are those of the time from the first tenth of the task bodies to the storage of the last
    result: in the first tenth connections are opened, and some processes still start.
    """
    stage.forget()
    stage.ask("publish", n=1, size=size)  # opens what is opened once
    servers = stage.servers.cpu
    published = stage.ask("publish", n=n, size=size)
    publishing_servers = stage.servers.cpu - servers
    started = time.monotonic()
    stage.start()
    stage.await_runs(n // 10)
    before, since = stage.tally.count, time.monotonic()
    workers, servers = stage.workers.cpu, stage.servers.cpu
    with _Watch(stage) as watch:
        stage.await_runs(n + 1, look=0.01)
        ended = stage.settle(n + 1)
    drained = n + 1 - before
    return {
        "publish_per_s": n / published["seconds"],
        "publish_cpu_s": 1000 * published["cpu"] / n,
        "publish_servers_cpu_s": 1000 * publishing_servers / n,
        "drain_per_s": drained / (ended - since),
        "drain_cpu_s": 1000 * (stage.workers.cpu - workers) / drained,
        "drain_servers_cpu_s": 1000 * (stage.servers.cpu - servers) / drained,
        "busy_mib": watch.memory_mib,
        "parent_mib": watch.roots_mib,
        "first_body_s": stage.tally.first - started,
    }


def import_ms() -> float:
    """What `import taskstream` takes in a new interpreter, the best of five."""
    code = "import time; t = time.perf_counter(); import taskstream; print(time.perf_counter() - t)"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(5)
    ]
    return 1000 * min(float(run) for run in runs)


def _short(stage: Stage, plan: Plan) -> dict[str, float]:
    found = drain(stage, plan.tasks(stage.contender))
    found["cold_start_s"] = found.pop("first_body_s")
    del found["parent_mib"]
    return found | _latency(stage, plan)


def _from_the_start(stage: Stage, plan: Plan) -> dict[str, float]:
    """Cold start with one task waiting, then the quiet worker: its latency, CPU and memory."""
    stage.forget()
    stage.ask("publish", n=1)
    started = time.monotonic()
    stage.start()
    stage.await_runs(1)
    found = {"cold_start_s": stage.settle(1) - started}
    time.sleep(2.0)  # what goes on after a start is over
    cpu, since = stage.workers.cpu, time.monotonic()
    time.sleep(plan.idle)
    found |= {
        "idle_cpu_percent": 100 * (stage.workers.cpu - cpu) / (time.monotonic() - since),
        "idle_mib": stage.workers.memory_mib,
        "processes": len(stage.workers.all),
    }
    return found | _latency(stage, plan)


def _latency(stage: Stage, plan: Plan) -> dict[str, float]:
    stage.forget()
    warm_up = min(1.0, plan.latency)  # the first ones open connections
    stage.ask("latency", rate=RATE, seconds=warm_up)
    stage.await_runs(round(RATE * warm_up))
    stage.forget()
    results = stage.ask("latency", rate=RATE, seconds=plan.latency)["answer"]
    stage.await_runs(round(RATE * plan.latency))
    return percentiles_ms("body", stage.waits) | percentiles_ms("result", results)


def _at_once(stage: Stage, plan: Plan) -> dict[str, float]:
    n = plan.tasks(stage.contender)
    stage.forget()
    started = time.monotonic()
    stage.ask("publish", n=n)
    stage.await_runs(n)
    return {"both_per_s": n / (stage.settle(n) - started)}


def _backlog(stage: Stage, n: int) -> dict[str, float]:
    found = drain(stage, n)
    del found["first_body_s"]
    if stage.contender != OURS:
        del found["parent_mib"]
    return found


def _only_ours(stage: Stage, plan: Plan) -> dict[str, float]:
    """The other ways to publish; what they leave behind goes with the topic."""
    n = plan.tasks(stage.contender)
    found = {}
    for way, count in (("nowait", n), ("async", n // 4), ("each", n // 20)):
        found[f"publish_{way}_per_s"] = count / stage.ask(f"publish_{way}", n=count)["seconds"]
    return found


def _sleepers(servers: Servers, folder: Path) -> dict[str, float]:
    """From before their publish, with the worker up and idle, until the last result is stored."""
    # Room for all at once: a tenth of a child's slots is reserved for the highest priority, and of one
    # partition at most 1,000 tasks are unfinished.
    options = ("--children", "1", "--concurrency", str(SLEEPERS + SLEEPERS // 4))
    room = {"BENCH_PARTITIONS": "16"}
    with Stage(OURS, servers, folder, environment=room, options=options) as stage:
        stage.forget()
        stage.ask("publish", n=1)
        stage.start()
        stage.await_runs(1)
        stage.settle(1)
        stage.forget()
        started = time.monotonic()
        stage.ask("publish_sleepers", n=SLEEPERS)
        stage.await_runs(SLEEPERS)
        return {"sleepers_s": stage.settle(SLEEPERS) - started}


def _bare(stage: Stage, plan: Plan) -> dict[str, float]:
    n = plan.tasks(stage.contender)
    size = stage.ask("record_bytes")["answer"]
    raw = stage.ask("produce", n=n, size=size)["answer"]
    stage.ask("publish", n=n)
    found = {
        "record_bytes": size,
        "raw_produce_per_s": n / raw["seconds"],
        "publish_cpu_s": 1000 * raw["cpu"] / n,
    }
    servers = stage.servers.cpu
    drained = stage.ask("drain", n=n, results=True)["answer"]
    found |= {
        "drain_per_s": n / drained["seconds"],
        "drain_cpu_s": 1000 * drained["cpu"] / n,
        "drain_servers_cpu_s": 1000 * (stage.servers.cpu - servers) / n,
    }
    plain = stage.ask("drain", n=n, results=False)["answer"]
    found["plain_drain_per_s"] = n / plain["seconds"]
    stage.ask("floor", rate=RATE, seconds=min(1.0, plan.latency))
    floor: Mapping[str, list[float]] = stage.ask("floor", rate=RATE, seconds=plan.latency)["answer"]
    for name, seconds in floor.items():
        found |= percentiles_ms(name, seconds)
    return found


class _Watch:
    """The highest memory of a stage's workers while it is entered, looked at twice a second."""

    def __init__(self, stage: Stage) -> None:
        self.memory_mib = 0.0
        self.roots_mib = 0.0
        self._stage = stage
        self._over = Event()
        self._thread = Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        over = False
        while not over:
            workers = self._stage.workers
            self.memory_mib = max(self.memory_mib, workers.memory_mib)
            self.roots_mib = max(self.roots_mib, workers.roots_mib)
            over = self._over.wait(0.5)
