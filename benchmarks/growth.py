"""How taskstream's cost grows with the work: one thing varies at a time, the rest stays as it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import OURS
from benchmarks.rounds import drain
from benchmarks.servers import Servers
from benchmarks.stage import Stage
from benchmarks.targets import point

TASKS = 50_000
"""How many tasks a point has unless its axis says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One drain of taskstream.

    Args:
        axis: what varies.
        value: what it is here, in the unit of its axis.
        tasks: how many are published first.
        size: bytes of payload; 0 for none.
        environment: what the app is told.
        options: of the worker.
    """

    axis: str
    value: int | float
    tasks: int = TASKS
    size: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As targets ask for it."""
        return point(self.axis, self.value)


AXES = {
    "backlog": "tasks waiting",
    "partitions": "partitions of the topic",
    "children": "child processes",
    "payload": "bytes of payload",
    "tracing": "% of traces kept (-1: no tracing at all)",
}
"""What varies, in words."""


def points(scale: float = 1.0) -> Iterator[Point]:
    """All of them, axis by axis, with so many times their full number of tasks."""
    for full in (1_000, 10_000, 100_000, 1_000_000):
        yield Point(axis="backlog", value=_scaled(full, scale), tasks=_scaled(full, scale))
    tasks = _scaled(TASKS, scale)
    for count in (8, 16, 32, 64):
        told = {"BENCH_PARTITIONS": str(count)}
        yield Point(axis="partitions", value=count, tasks=tasks, environment=told)
    for count in (1, 2, 3, 4):
        options = ("--children", str(count))
        yield Point(axis="children", value=count, tasks=tasks, options=options)
    for size, full in ((100, TASKS), (1_000, TASKS), (10_000, 20_000), (100_000, 4_000)):
        yield Point(axis="payload", value=size, size=size, tasks=_scaled(full, scale))
    yield Point(axis="tracing", value=-1, tasks=tasks)
    for percent in (0, 1, 100):
        told = {"BENCH_TRACING": str(percent / 100)}
        yield Point(axis="tracing", value=percent, tasks=tasks, environment=told)


def measure(one: Point, servers: Servers, folder: Path) -> dict[str, float]:
    """The drain of one point, once. Raises as `rounds.measure` does."""
    if "BENCH_TRACING" in one.environment:
        servers.require(["jaeger"])
    with Stage(OURS, servers, folder, environment=one.environment, options=one.options) as stage:
        found = drain(stage, one.tasks, one.size)
        stage.stop()
    found.pop("first_body_s")
    return found


def _scaled(tasks: int, scale: float) -> int:
    return max(100, round(tasks * scale))
