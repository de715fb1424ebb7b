"""The queues of an app, their priorities and weights, and which of them a task goes to. Pure.

A queue is what a pool of workers serves. Where `App(queues=...)` names them, no other exists; where
it doesn't, the queues are those that tasks and routes name, each with the default priorities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from taskstream.core.errors import BadArguments, ConfigError, DefinitionError
from taskstream.core.names import check_part

DEFAULT_QUEUE = "tasks"
DEFAULT_PRIORITY = "normal"
DEFAULT_WEIGHTS: Mapping[str, int] = {"high": 6, "normal": 3, "low": 1}


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that is to differ from the others in more than its priorities.

    Args:
        priorities: the weight of each.
        partitions: how many `init` gives each of its topics; None is the setting of that name.
    """

    priorities: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    partitions: int | None = None

    def __post_init__(self) -> None:
        if self.partitions is not None and (
            type(self.partitions) is not int or self.partitions < 1
        ):
            raise ConfigError(
                f"Queue(partitions={self.partitions!r}): must be a whole number of 1 or more"
            )


class Queues:
    """What an app knows of its queues.

    Args:
        declared: by queue, the weight of each priority, or a `Queue`; None for whatever tasks and
            routes name.
        routes: by pattern of task names (`fnmatch`), the queue they go to; the first match wins,
            over what the task's own definition says.

    Raises:
        ConfigError: a name that can't be part of a topic's, a weight that is no positive whole
            number, or a route to a queue that is not declared.
    """

    def __init__(
        self,
        declared: Mapping[str, Mapping[str, int] | Queue] | None,
        routes: Mapping[str, str] | None,
    ) -> None:
        self._open = declared is None
        self._routes = dict(routes or {})
        self._weights: dict[str, dict[str, int]] = {}
        self._partitions: dict[str, int] = {}
        for queue, told in (declared or {DEFAULT_QUEUE: DEFAULT_WEIGHTS}).items():
            weights = told.priorities if isinstance(told, Queue) else told
            if isinstance(told, Queue) and told.partitions is not None:
                self._partitions[queue] = told.partitions
            self._weights[check_part("queue", queue)] = _check_weights(queue, weights)
        for pattern, queue in self._routes.items():
            if self._open:
                self._admit(queue)
            elif queue not in self._weights:
                raise ConfigError(
                    f"App(routes={{{pattern!r}: {queue!r}}}): no such queue; App(queues=...) has "
                    f"{', '.join(self._weights)}"
                )

    @property
    def weights(self) -> Mapping[str, Mapping[str, int]]:
        """By queue, the weight of each of its priorities, in the order they were given."""
        return self._weights

    @property
    def partitions(self) -> Mapping[str, int]:
        """By queue, how many partitions its topics are to have, where that was said."""
        return self._partitions

    def assign(self, task: str, queue: str | None, priority: str | None) -> tuple[str, str]:
        """The queue and the priority of a task that is being defined.

        Args:
            task: its name.
            queue: what its definition says; None for the app's default queue.
            priority: what its definition says; None for "normal".

        Raises:
            DefinitionError: the queue, or the priority in it, doesn't exist.
        """
        routed = next(
            (to for pattern, to in self._routes.items() if fnmatchcase(task, pattern)), None
        )
        chosen = routed or queue or self._default_queue(task)
        if self._open:
            self._admit(chosen)
        elif chosen not in self._weights:
            raise DefinitionError(
                f"task {task}: no queue {chosen!r}; App(queues=...) has {', '.join(self._weights)}"
            )
        priorities = self._weights[chosen]
        if priority is None and DEFAULT_PRIORITY not in priorities and len(priorities) == 1:
            priority = next(iter(priorities))
        priority = DEFAULT_PRIORITY if priority is None else priority
        if priority not in priorities:
            raise DefinitionError(
                f"task {task}: queue {chosen} has no priority {priority!r}; set priority= to one of "
                f"{', '.join(priorities)}"
            )
        return chosen, priority

    def place(self, task: str, queue: str | None, priority: str | None) -> tuple[str, str]:
        """The same for a publish of a task that this process has no definition of.

        Raises:
            BadArguments: the queue, or the priority in it, doesn't exist.
        """
        try:
            return self.assign(task, queue, priority)
        except DefinitionError as error:
            raise BadArguments(str(error)) from error

    def check(self, queue: str, priority: str, *, task: str) -> None:
        """Raises BadArguments where a publish asks for a queue or priority that doesn't exist."""
        priorities = self._weights.get(queue)
        if priorities is None:
            raise BadArguments(
                f"task {task}: no queue {queue!r}; there are {', '.join(self._weights)}"
            )
        if priority not in priorities:
            raise BadArguments(
                f"task {task}: queue {queue} has no priority {priority!r}; there are "
                f"{', '.join(priorities)}"
            )

    def _admit(self, queue: str) -> None:
        if queue not in self._weights:
            self._weights[check_part("queue", queue)] = dict(DEFAULT_WEIGHTS)

    def _default_queue(self, task: str) -> str:
        if DEFAULT_QUEUE in self._weights:
            return DEFAULT_QUEUE
        if len(self._weights) == 1:
            return next(iter(self._weights))
        raise DefinitionError(
            f"task {task}: say queue=, as App(queues=...) has no {DEFAULT_QUEUE!r} but "
            f"{', '.join(self._weights)}"
        )


def _check_weights(queue: str, weights: object) -> dict[str, int]:
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"queue {queue}: {weights!r} is neither a Queue nor weights by priority, as {{'normal': 1}}"
        )
    if not weights:
        raise ConfigError(f"queue {queue}: needs a priority at least, as {{'normal': 1}}")
    for priority, weight in weights.items():
        check_part("priority", priority)
        if type(weight) is not int or weight < 1:
            raise ConfigError(
                f"queue {queue}: the weight of priority {priority} must be a whole number of 1 or "
                f"more, not {weight!r}"
            )
    return dict(weights)
