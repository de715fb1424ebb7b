"""What waits where, and what people order about it: pause, resume, drain and purge.

An order stands in the control topic, which all workers and schedulers follow; `core.queue_orders` says
what each of them means.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from taskstream.admin import audit
from taskstream.admin.letters import letters
from taskstream.admin.waiting import Concern, Waiting, count_left
from taskstream.admin.waiting import count as counted
from taskstream.admin.workers import Worker, workers
from taskstream.broker.tail import Tail, read_to_end
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.control import Control, lifetime
from taskstream.core.envelope import Place
from taskstream.core.errors import ConfigError, TaskstreamError
from taskstream.core.queue_orders import (
    DRAIN,
    PAUSE,
    PURGE,
    QueueOrders,
    of_queue,
    of_task,
)
from taskstream.core.settings import Settings
from taskstream.schemas.control import hear
from taskstream.schemas.records import Records

if TYPE_CHECKING:
    from taskstream.app.app import App

CLIENT = "taskstream-queues"

OLDEST_WITHIN = 5.0
"""Seconds that the search for a priority's oldest task may take."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One priority of a queue.

    Args:
        queue: the queue.
        priority: the priority.
        topic: its topic.
        partitions: how many the topic has.
        lag: offsets that the group has not finished.
        oldest_s: seconds since the oldest of them was published; None where nothing waits.
        paused: whether somebody has ordered that new tasks wait: by a pause, or by a drain.
        dead: open dead letters that came from here; not those that were redriven or purged.
    """

    queue: str
    priority: str
    topic: str
    partitions: int
    lag: int
    oldest_s: float | None
    paused: bool
    dead: int

    def waits_longer_than(self, seconds: float) -> bool:
        """Whether its oldest task was published more than so many seconds ago."""
        return self.oldest_s is not None and self.oldest_s > seconds

    def as_json(self) -> dict[str, Any]:
        """The lane as `queues list --json` shows it."""
        return asdict(self)


def lanes(
    app: "App",
    *,
    group: str | None = None,
    count_dead: bool = True,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Lane]:
    """Every priority of every queue, in the app's order.

    Args:
        app: the app; the modules of its `include` are imported, for the queues that tasks name.
        group: replaces the app's name in the consumer groups' names.
        count_dead: whether to read all dead letters, to tell where they came from; else `dead` is 0.
        clock: the time.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    app.load_tasks()
    dead = Counter(one.topic for one in letters(app).letters) if count_dead else Counter()
    return _lanes(app, list(_each(app.queues)), standing(app), dead, group=group, clock=clock)


def _lanes(
    app: "App",
    wanted: Iterable[tuple[str, str]],
    orders: QueueOrders,
    dead: Mapping[str, int],
    *,
    group: str | None = None,
    clock: Clock,
) -> list[Lane]:
    """Some priorities of queues, by the orders that hold and the open dead letters of each topic."""
    settings, names = app.settings, app.names
    with Topics(settings, client_id=CLIENT) as topics:
        found = []
        for queue, priority in wanted:
            topic = names.tasks(queue, priority)
            behind = topics.behind(names.group(queue, priority, group), topic)
            found.append(
                Lane(
                    queue=queue,
                    priority=priority,
                    topic=topic,
                    partitions=len(behind),
                    lag=sum(high - start for start, high in behind.values()),
                    oldest_s=_oldest(settings, topic, behind, clock),
                    paused=bool(orders.holding([of_queue(queue), of_queue(queue, priority)])),
                    dead=dead.get(topic, 0),
                )
            )
    return found


def _each(queues: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    for queue, priorities in queues.items():
        for priority in priorities:
            yield queue, priority


def _oldest(
    settings: Settings, topic: str, behind: Mapping[Place, tuple[int, int]], clock: Clock
) -> float | None:
    """Seconds since the oldest unfinished record was written; None where nothing waits."""
    starts = {place.partition: start for place, (start, high) in behind.items() if start < high}
    if not starts:
        return None
    written: dict[int, float] = {}
    until = clock.monotonic() + OLDEST_WITHIN
    with Tail(settings, topic, starts, partitions=list(starts)) as tail:
        while len(written) < len(starts) and clock.monotonic() < until:
            for record in tail.take(500, 0.2):
                written.setdefault(record.partition, record.timestamp)
    return max(0.0, clock.now() - min(written.values())) if written else None


# Orders


@dataclass(frozen=True, slots=True)
class Target:
    """What an order is about, as far as the app knows it.

    Args:
        name: `queue:NAME`, `queue:NAME.PRIORITY` or `task:NAME`.
        targets: the targets of the orders that it takes: one for each name that a task's records bear.
        lanes: the priorities of queues that are concerned, each a queue and a priority.
        tasks: the names in the records that are meant; None for all.
    """

    name: str
    targets: tuple[str, ...]
    lanes: tuple[tuple[str, str], ...]
    tasks: frozenset[str] | None = None

    def concern(self, until: float | None = None) -> Concern:
        """Which tasks are meant; those that had entered by then, where a time is given."""
        return Concern(self.lanes, self.tasks, until)


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order, and what it concerns.

    Args:
        verb: pause, resume, drain or purge.
        target: of what; as `Target.name`.
        changed: whether anything is other than before: False for a resume of what nothing held back.
        since: when it was appended to the control topic, seconds since 1970; None for a resume.
        holding: what still holds tasks of the target back, a sentence each.
        lanes: the priorities concerned, as they are now.
        workers: those alive that serve them.
    """

    verb: str
    target: str
    changed: bool
    since: float | None
    holding: tuple[str, ...]
    lanes: tuple[Lane, ...]
    workers: tuple[Worker, ...]

    def as_json(self) -> dict[str, Any]:
        """It as the command with `--json` shows it."""
        return asdict(self)


def pause(
    app: "App", target: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> Ordered:
    """Lets nothing more of a queue, of a priority or of one kind of task start; back when durable.

    In force within a second in all workers, and in those that start later. What runs goes on. It takes the
    place of a drain of the same target.

    Args:
        app: the app; the modules of its `include` are imported, for the queues that tasks name.
        target: `queue:NAME`, `queue:NAME.PRIORITY` or `task:NAME`.
        reason: why.
        who: who asks; whoever runs this process, unless given.
        clock: the time.

    Raises:
        ConfigError: the app has no such queue, priority or task.
        BrokerError: Kafka did not take the order, or `init` was never run.
    """
    return _hold(app, PAUSE, target, reason=reason, who=who, clock=clock)


def drain(
    app: "App", target: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> Ordered:
    """Lets what is there be finished, and nothing start that enters later; otherwise as `pause`.

    `left` counts what is not finished yet. It takes the place of a pause of the same target.
    """
    return _hold(app, DRAIN, target, reason=reason, who=who, clock=clock)


def resume(
    app: "App", target: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> Ordered:
    """Takes back the pauses and drains of a target, those of a queue's priorities with the queue's.

    Otherwise as `pause`.

    Raises:
        TaskstreamError: a priority is to be resumed, and what holds it back is an order to its queue.
    """
    known = find(app, target)
    orders = standing(app)
    inside = [of_queue(*lane) for lane in known.lanes] if known.tasks is None else []
    found = orders.holding([*known.targets, *inside])
    wider = [] if known.tasks is not None else orders.holding({of_queue(q) for q, _ in known.lanes})
    if not found and wider:
        raise TaskstreamError(
            f"{known.name} is not held back by itself, but {wider[0]}: resume {wider[0].target}"
        )
    if found:
        app.orders().take_back(f"{one.verb}/{one.target}".encode() for one in found)
        audit.record(app, "resume", known.name, reason=reason, who=who)
    return _ordered(app, "resume", known, changed=bool(found), clock=clock)


def purge(
    app: "App",
    target: str,
    *,
    reason: str = "",
    count: int | None = None,
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> Ordered:
    """Ends as cancelled what has entered up to now and does not run, delayed tasks and retries among it.

    Each gets its row with the reason, at the pace of rows; none of it runs. It can't be taken back.
    What enters later is no matter of it. Otherwise as `pause`.

    Args:
        app: the app.
        target: as in `pause`.
        reason: why.
        count: how many tasks were counted before, for the audit log.
        who: who asks; whoever runs this process, unless given.
        clock: the time.
    """
    known = find(app, target)
    _give(app, PURGE, known, reason, who)
    audit.record(app, PURGE, known.name, reason=reason, count=count, who=who)
    return _ordered(app, PURGE, known, clock=clock)


def waiting(app: "App", target: str, *, clock: Clock = SYSTEM_CLOCK) -> Waiting:
    """How many tasks of a target are not finished now: what a purge would touch, and what runs.

    Raises:
        ConfigError: the app has no such queue, priority or task.
        BrokerError: Kafka refused or can't be reached, or there was more to read than time.
    """
    return counted(app, find(app, target).concern(), clock=clock)


def left(app: "App", ordered: Ordered, *, clock: Clock = SYSTEM_CLOCK) -> Waiting:
    """How many tasks that had entered by the time of a drain or a purge are not finished yet.

    As long as older ones are left in a queue itself, the others are not counted. A retry can pass from one
    topic to the other between two looks: done is what twice nothing was left of. Otherwise as `waiting`.
    """
    return count_left(app, find(app, ordered.target).concern(ordered.since), clock=clock)


def standing(app: "App") -> QueueOrders:
    """The orders about queues and tasks that hold now.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    control = Control(lifetime(app.settings.retention))
    hear(control, Records(), read_to_end(app.settings, app.names.control, client_id=CLIENT))
    control.expire(SYSTEM_CLOCK.now())
    return control.queues


def holding(app: "App", target: str) -> tuple[str, ...]:
    """What holds tasks of a target back now, a sentence each: orders to it, its queue and its priorities.

    Raises:
        ConfigError: the app has no such queue, priority or task.
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    return _holding(standing(app), find(app, target))


def find(app: "App", target: str) -> Target:
    """What an order to that target would be about.

    Args:
        app: the app; the modules of its `include` are imported.
        target: `queue:NAME`, `queue:NAME.PRIORITY` or `task:NAME`.

    Raises:
        ConfigError: the app has no such queue, priority or task; names one that is meant, perhaps.
    """
    app.load_tasks()
    kind, _, name = target.partition(":")
    if kind == "task" and name:
        return _find_task(app, name)
    if kind != "queue" or not name:
        raise ConfigError(
            f"{target!r} names neither a queue nor a task: say queue:NAME, queue:NAME.PRIORITY or task:NAME"
        )
    queue, _, priority = name.partition(".")
    if queue not in app.queues:
        raise ConfigError(f"no queue {queue!r}{_guess(queue, app.queues)}")
    priorities = app.queues[queue]
    if priority and priority not in priorities:
        raise ConfigError(
            f"queue {queue} has no priority {priority!r}{_guess(priority, priorities)}"
        )
    lanes = tuple((queue, one) for one in priorities if priority in ("", one))
    return Target(target, (target,), lanes)


def _find_task(app: "App", name: str) -> Target:
    task = app.find(name)
    if task is None:
        raise ConfigError(f"no task {name!r}{_guess(name, app.tasks)}")
    names = (task.name, *task.aliases)
    lanes = tuple((task.queue, priority) for priority in app.queues[task.queue])
    return Target(of_task(task.name), tuple(of_task(one) for one in names), lanes, frozenset(names))


def _guess(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    told = ", ".join(sorted(known)) or "none"
    return f": did you mean {close[0]!r}? There are {told}" if close else f"; there are {told}"


def _hold(app: "App", verb: str, target: str, *, reason: str, who: str, clock: Clock) -> Ordered:
    known = find(app, target)
    other = DRAIN if verb == PAUSE else PAUSE
    replaced = [one for one in standing(app).holding(known.targets) if one.verb == other]
    _give(app, verb, known, reason, who)
    # Only now, so that at no moment neither of them holds.
    app.orders().take_back(f"{one.verb}/{one.target}".encode() for one in replaced)
    audit.record(app, verb, known.name, reason=reason, who=who)
    return _ordered(app, verb, known, clock=clock)


def _give(app: "App", verb: str, known: Target, reason: str, who: str) -> None:
    orders = app.orders()
    orders.give(orders.order(verb, target, reason=reason, who=who) for target in known.targets)


def _ordered(
    app: "App", verb: str, known: Target, *, changed: bool = True, clock: Clock
) -> Ordered:
    orders = standing(app)
    given = [one.since for one in orders.orders if one.verb == verb and one.target in known.targets]
    return Ordered(
        verb=verb,
        target=known.name,
        changed=changed,
        since=max(given, default=None),
        holding=_holding(orders, known),
        lanes=tuple(_lanes(app, known.lanes, orders, {}, clock=clock)),
        workers=tuple(
            worker
            for worker in workers(app, clock=clock)
            if {queue for queue, _ in known.lanes} & set(worker.queues)
        ),
    )


def _holding(orders: QueueOrders, known: Target) -> tuple[str, ...]:
    concerned = {of_queue(queue) for queue, _ in known.lanes}
    concerned |= {*known.targets, *(of_queue(*lane) for lane in known.lanes)}
    return tuple(str(one) for one in orders.holding(concerned))
