"""Who is measured: one entry each, with the commands of its workers and what it was tuned by."""

from collections.abc import Iterable
from dataclasses import dataclass

PEERS = "{peers}"
"""Stands in a command for the folder with the programs of the peers' environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to run tasks.

    Args:
        name: how it is asked for.
        title: how it is shown.
        project: which of its kind share a name in the targets ("celery").
        side: the module of its publishing side, in `sides/` or `peers/`.
        variant: what the side is told as BENCH_VARIANT.
        workers: the commands of its worker processes, which together have two processes that run tasks.
        servers: which servers it uses, and so whose CPU is counted.
        results: whether it keeps results.
        tasks: how many a drain has in a full run: enough for some seconds.
        tuned: what its docs advise and was done.
        peer: whether it is somebody else's.
    """

    name: str
    title: str
    project: str
    side: str
    workers: tuple[tuple[str, ...], ...]
    servers: tuple[str, ...]
    tasks: int
    tuned: str
    variant: str = ""
    results: bool = True
    peer: bool = True


OURS = Contender(
    name="taskstream",
    title="taskstream",
    project="taskstream",
    side="ours",
    workers=(
        ("{python}", "-m", "taskstream", "worker", "ours:app", "--health-port", "{port}", "--log-level", "warning"),
    ),
    servers=("kafka", "cassandra"),
    tasks=100_000,
    tuned="as installed: one worker with two children, its scheduler, and /metrics served",
    peer=False,
)  # fmt: skip

BARE = Contender(
    name="bare",
    title="bare loop",
    project="bare",
    side="bare",
    workers=(),
    servers=("kafka", "cassandra"),
    tasks=100_000,
    tuned="one process; consume(500), rows grouped by partition, TCP_NODELAY, protocol 5",
    peer=False,
)

_CELERY = (f"{PEERS}/celery", "-A", "celery_side", "worker", "-l", "error",
           "--without-gossip", "--without-mingle", "--without-heartbeat")  # fmt: skip
_PREFORK = (*_CELERY, "-P", "prefork", "-c", "2", "-n", "bench@%h")
_SOLO = tuple((*_CELERY, "-P", "solo", "-n", f"bench{number}@%h") for number in (1, 2))
_CELERY_TUNED = "prefetch multiplier 64, no gossip, mingle, heartbeats or task events, one producer"
_TASKIQ = (f"{PEERS}/taskiq", "worker", "taskiq_side:broker", "--workers", "2", "--no-parse",
           "--max-prefetch", "100", "--log-level", "ERROR")  # fmt: skip
_TASKIQ_TUNED = (
    "uvloop, orjson, no parsing of parameters, 100 more prefetched, 100 publishes at a time"
)

CONTENDERS = (
    OURS,
    BARE,
    Contender(
        name="celery-redis", title="Celery, Redis, prefork", project="celery",
        side="celery_side", variant="redis", workers=(_PREFORK,), servers=("redis",), tasks=5_000,
        tuned=_CELERY_TUNED,
    ),
    Contender(
        name="celery-rabbitmq", title="Celery, RabbitMQ, prefork", project="celery",
        side="celery_side", variant="rabbitmq", workers=(_PREFORK,), servers=("rabbitmq", "redis"),
        tasks=5_000, tuned=_CELERY_TUNED,
    ),
    Contender(
        name="celery-rabbitmq-solo", title="Celery, RabbitMQ, solo x 2", project="celery",
        side="celery_side", variant="rabbitmq", workers=_SOLO, servers=("rabbitmq", "redis"),
        tasks=8_000, tuned=f"{_CELERY_TUNED}; no pool between intake and task",
    ),
    Contender(
        name="celery-kafka", title="Celery, Kafka, Cassandra", project="celery-kafka",
        side="celery_side", variant="kafka", workers=_SOLO, servers=("kafka", "cassandra"),
        tasks=1_500,
        tuned=f"{_CELERY_TUNED}; solo, for prefork pools can't share its consumer; 8 partitions, poll of 0.5 s",
    ),
    Contender(
        name="dramatiq", title="Dramatiq, RabbitMQ, Redis", project="dramatiq",
        side="dramatiq_side",
        workers=((f"{PEERS}/dramatiq", "dramatiq_side", "--processes", "2", "--threads", "8"),),
        servers=("rabbitmq", "redis"), tasks=8_000,
        tuned="a process for each core, 8 threads and its prefetch as by default, no Prometheus",
    ),
    Contender(
        name="taskiq-redis", title="Taskiq, Redis", project="taskiq", side="taskiq_side",
        variant="redis", workers=(_TASKIQ,), servers=("redis",), tasks=8_000, tuned=_TASKIQ_TUNED,
    ),
    Contender(
        name="taskiq-kafka", title="Taskiq, Kafka, Redis", project="taskiq", side="taskiq_side",
        variant="kafka", workers=(_TASKIQ,), servers=("kafka", "redis"), tasks=8_000,
        tuned=f"{_TASKIQ_TUNED}; 8 partitions, acks=1 as by default",
    ),
    Contender(
        name="huey", title="Huey, Redis", project="huey", side="huey_side", variant="poll",
        workers=((f"{PEERS}/huey_consumer", "huey_side.huey", "-k", "process", "-w", "2", "-n", "-q"),),
        servers=("redis",), tasks=15_000,
        tuned="two processes, no periodic tasks, blocking pop, hiredis, results asked for every ms",
    ),
    Contender(
        name="huey-notify", title="Huey, Redis, notified", project="huey", side="huey_side",
        variant="notify",
        workers=((f"{PEERS}/huey_consumer", "huey_side.huey", "-k", "process", "-w", "2", "-n", "-q"),),
        servers=("redis",), tasks=15_000,
        tuned="as Huey, with notify_result: a waiting reader hears of its result at once",
    ),
    Contender(
        name="faststream", title="FastStream, Kafka, no results", project="faststream",
        side="faststream_side",
        workers=((f"{PEERS}/faststream", "run", "faststream_side:app", "--workers", "2"),),
        servers=("kafka",), results=False, tasks=20_000,
        tuned="uvloop, two processes, 8 partitions, acks=1 as by default, no log line a message, 100 publishes at a time",
    ),
)  # fmt: skip
"""All contenders, in the order in which the first round takes them."""


def chosen(only: Iterable[str], *, peers: bool) -> tuple[Contender, ...]:
    """Those that are asked for; all where nobody is named.

    Args:
        only: names of contenders or of projects.
        peers: whether somebody else's are wanted where nobody is named.

    Raises:
        ValueError: names one that does not exist.
    """
    wanted = set(only)
    known = {one.name for one in CONTENDERS} | {one.project for one in CONTENDERS}
    if unknown := sorted(wanted - known):
        raise ValueError(f"no contender {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    if wanted:
        return tuple(one for one in CONTENDERS if {one.name, one.project} & wanted)
    return tuple(one for one in CONTENDERS if peers or not one.peer)


def order(contenders: tuple[Contender, ...], round_number: int) -> tuple[Contender, ...]:
    """The order of one round: each begins elsewhere and every other one goes backwards.

    So no contender always follows the same one, or always has the servers when they are warmest.
    """
    if not contenders:
        return ()
    start = round_number * max(1, len(contenders) // 3) % len(contenders)
    turned = contenders[start:] + contenders[:start]
    return turned[::-1] if round_number % 2 else turned
