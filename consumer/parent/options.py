"""What a worker's parent is told at its start, and which priorities follow from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taskstream.consumer.parent.autoscale import Range
from taskstream.consumer.parent.staffing import UNLIMITED, Limits
from taskstream.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentOptions:
    """How a worker runs. Times are in seconds.

    Args:
        name: the worker's name, unique in the cluster.
        queue_names: which queues it serves; empty means all of the app's.
        priorities: which of their priorities; empty means all.
        children: how many child processes run async and thread tasks; as many more are started
            for process tasks once the first one comes.
        autoscale: as many as the load asks for, within this range, instead of `children`.
        concurrency: how many tasks one child runs at once.
        limits: when a child is replaced.
        reserved: how many of these only urgent tasks may be; below `concurrency`.
        group: replaces the app's name in the consumer groups' names.
        instance: the worker's name in its groups, for static membership; None for none.
        drain: how long running tasks may go on after the first stop.
        exit_when_empty: end once every partition of ours is read and finished.
        child_command: arguments that a child is started with.
    """

    name: str
    queue_names: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    children: int = 2
    autoscale: Range | None = None
    concurrency: int = 50
    limits: Limits = UNLIMITED
    reserved: int = 0
    group: str | None = None
    instance: str | None = None
    drain: float = 30.0
    exit_when_empty: bool = False
    child_command: tuple[str, ...] = ()


def served(
    queues: Mapping[str, Mapping[str, int]], options: ParentOptions
) -> Iterator[tuple[str, str, int]]:
    """Which queues and priorities this worker serves, and their weights.

    Raises:
        ConfigError: an option names a queue or priority that the app doesn't have.
    """
    for name in options.queue_names:
        if name not in queues:
            raise ConfigError(f"--queues: the app has no queue {name!r}, only {', '.join(queues)}")
    known = {priority for priorities in queues.values() for priority in priorities}
    for name in options.priorities:
        if name not in known:
            raise ConfigError(
                f"--priorities: no queue has priority {name!r}, only {', '.join(known)}"
            )
    for queue, priorities in queues.items():
        if options.queue_names and queue not in options.queue_names:
            continue
        for priority, weight in priorities.items():
            if not options.priorities or priority in options.priorities:
                yield queue, priority, weight
