"""The workers that are alive, by their heartbeats, and how many children they are to have."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from taskstream.admin import audit
from taskstream.app.outcomes import HEARTBEAT_COUNTS
from taskstream.broker.records import Record
from taskstream.broker.tail import read_to_end
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.control import EVERYBODY, SCALE, Order
from taskstream.core.errors import ConfigError, TaskstreamError, Undecodable
from taskstream.observability import logs
from taskstream.schemas.records import Records

if TYPE_CHECKING:
    from taskstream.app.app import App

MOST_CHILDREN = 1000
"""More than that is a slip of the hand."""

_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that a worker's children hold.

    Args:
        id: its id.
        run: 0 for the first publish, +1 for each redrive or replay.
        attempt: which try it is.
        source: topic, partition and offset of its record, `topic/partition/offset`.
        since: when it was given out, seconds since 1970.
        task: its name.
        child: pid of the child process that has it; 0 where nobody says.
    """

    id: str
    run: int
    attempt: int
    source: str
    since: float
    task: str = ""
    child: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, as its last heartbeat tells. Times are seconds since 1970.

    Args:
        worker: its name.
        host: its machine.
        pid: its parent process.
        version: of taskstream.
        queues: which it serves.
        since: when it started.
        seen: when it said so.
        children: how many child processes it has.
        running: the tasks that have run for a second or longer, the longest-running first.
        paused: what it holds back on somebody's order: queue:NAME, queue:NAME.PRIORITY, task:NAME.
        halted: the priorities, queue.priority, that it halts because too many of their tasks died.
    """

    worker: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    since: float
    seen: float
    children: int
    running: tuple[RunningTask, ...]
    paused: tuple[str, ...] = ()
    halted: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The worker as `workers list --json` shows it."""
        return asdict(self)


def workers(app: "App", *, clock: Clock = SYSTEM_CLOCK) -> list[Worker]:
    """The workers that were heard of in the last minute, the oldest first.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    records = read_to_end(app.settings, app.names.workers, client_id="taskstream-workers")
    return alive(records, clock.now())


def alive(heartbeats: Iterable[Record], now: float) -> list[Worker]:
    """The workers that are alive by these heartbeats, oldest first; pure.

    Args:
        heartbeats: of the workers topic, in its order.
        now: seconds since 1970.
    """
    latest = {record.key: record for record in heartbeats}
    ours = Records()
    found = []
    for record in latest.values():
        if record.value is None or record.timestamp < now - HEARTBEAT_COUNTS:
            continue
        try:
            found.append(_worker(ours.decode(record.value)[1]))
        except Undecodable as error:
            _log.warning(
                "a worker of another version can't be shown",
                worker=record.key,
                error=str(error),
                advice="look at workers with the newest version that is deployed",
            )
    return sorted(found, key=lambda worker: (worker.since, worker.worker))


def scale(
    app: "App",
    children: int,
    *,
    worker: str | None = None,
    reason: str = "",
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> list[Worker]:
    """Orders how many child processes workers are to have; back when the order is durable.

    It holds for workers that start later as well, where it is to all of them, until another order or
    `unscale`: the last one counts.

    Args:
        app: the app.
        children: how many, 1 or more.
        worker: only this one; None for all, also those to come.
        reason: why, for whoever reads the order.
        who: who orders it; whoever runs this process, unless given.
        clock: the time.

    Returns:
        The workers it concerns now, as they were.

    Raises:
        ConfigError: the number can't be.
        TaskstreamError: no such worker is alive.
        BrokerError: Kafka did not take the order, or `init` was never run.
    """
    if not 1 <= children <= MOST_CHILDREN:
        raise ConfigError(
            f"{children} children: a worker has 1 to {MOST_CHILDREN}; to run nothing, stop the worker"
        )
    concerned = _concerned(app, worker, clock)
    orders = app.orders()
    target = worker or EVERYBODY
    orders.give([orders.order(SCALE, target, number=float(children), reason=reason, who=who)])
    details = {"children": str(children)}
    audit.record(app, "scale", target, reason=reason, details=details, who=who)
    return concerned


def unscale(
    app: "App", *, worker: str | None = None, reason: str = "", clock: Clock = SYSTEM_CLOCK
) -> list[Worker]:
    """Takes the order to that worker, or to all, back: what it was started with counts again.

    Otherwise as `scale`.
    """
    concerned = _concerned(app, worker, clock)
    names = [worker] if worker is not None else [EVERYBODY, *(one.worker for one in concerned)]
    app.orders().take_back(Order(verb=SCALE, target=name, at=0, who="").key for name in names)
    audit.record(app, "unscale", worker or EVERYBODY, reason=reason)
    return concerned


def _concerned(app: "App", name: str | None, clock: Clock) -> list[Worker]:
    known = workers(app, clock=clock)
    if name is None:
        return known
    found = [worker for worker in known if worker.worker == name]
    if not found:
        told = ", ".join(worker.worker for worker in known)
        raise TaskstreamError(
            f"no worker {name!r} is alive, {f'only {told}' if told else 'and no other'}"
        )
    return found


def _worker(fields: dict[str, Any]) -> Worker:
    return Worker(
        worker=fields["worker"],
        host=fields["host"],
        pid=fields["pid"],
        version=fields["version"],
        queues=tuple(fields["queues"]),
        since=fields["started"] / 1e6,
        seen=fields["at"] / 1e6,
        children=fields["children"],
        running=tuple(
            RunningTask(
                id=task["task_id"],
                run=task["run"],
                attempt=task["attempt"],
                source=f"{task['topic']}/{task['partition']}/{task['offset']}",
                since=task["since"] / 1e6,
                task=task["task"],
                child=task["child"],
            )
            for task in fields["running"]
        ),
        paused=tuple(fields["paused"]),
        halted=tuple(fields["halted"]),
    )
