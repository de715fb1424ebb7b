"""`taskstream init`: everything an app needs on its servers, before the first task.

Safe to run again: what is missing is created, nothing that exists is altered, and what differs from
the settings is reported. Starting offsets are committed for every group, so that a missing one later
is a loss, and loud.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from taskstream.admin.schedules import Declared, declare_all
from taskstream.broker.settings import HANDOFF_ROOM_BYTES, record_limit_bytes
from taskstream.broker.topics import TopicReport, Topics, TopicSpec
from taskstream.core.control import lifetime
from taskstream.core.errors import ConfigError, StoreError, StoreUnavailable
from taskstream.core.limits import refuse_unshareable
from taskstream.core.names import Names, check_part
from taskstream.core.settings import Settings
from taskstream.core.tiers import DAY, HOUR

if TYPE_CHECKING:
    from taskstream.app.app import App

REPLIES_RETENTION = DAY
"""Seconds that a reply waits for whoever asks for it; the result store keeps it longer."""

HEARTBEAT_RETENTION = DAY
"""Seconds after which nothing is left of a worker that said no goodbye."""

HISTORY_RETENTION = 30 * DAY
"""Seconds that dead letters and events are kept at least, for people to look at."""

_TIMES = "LogAppendTime"
_QUORUM = 3
"""From so many replicas on, two must have a record before it counts as acknowledged."""


@dataclass(frozen=True, slots=True)
class InitReport:
    """What `init` found and did.

    Args:
        topics: each topic, and whether it was created just now.
        offsets: by group, how many partitions were given a starting offset just now.
        schemas: the names of the stored schemas.
        store: where results are kept; empty where no store is configured.
        drift: how what exists differs from the settings, in plain words.
        schedules: what became of the schedules that the code defines.
    """

    topics: tuple[TopicReport, ...]
    offsets: Mapping[str, int]
    schemas: tuple[str, ...]
    store: str
    drift: tuple[str, ...]
    schedules: Declared

    def as_json(self) -> dict[str, Any]:
        """The report as `init --json` shows it."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report for people; without the drift."""
        created = [topic.name for topic in self.topics if topic.created]
        yield f"topics   {len(self.topics)}, {len(created)} of them created now"
        committed = sum(self.offsets.values())
        yield f"offsets  {len(self.offsets)} groups, {committed} starting offsets committed now"
        yield f"schemas  {', '.join(self.schemas) or 'none: the app has no tasks'}"
        if told := self.schedules.line:
            yield f"schedules {told}"
        yield f"results  {self.store or 'no store: set cassandra_hosts to keep results'}"


def init(app: "App", *, group: str | None = None) -> InitReport:
    """Creates topics, starting offsets, schemas and result tables where they are missing.

    Args:
        app: the app; the modules of its `include` are imported.
        group: another name for the queues' consumer groups (`worker --group`), to be given starting
            offsets as well.

    Raises:
        ConfigError: a setting can't be; results would be forgotten before their tasks, say.
        BrokerError: Kafka refused or can't be reached.
        SchemaConflict: a stored schema has the fingerprint of one of the app's and another meaning.
        StoreUnavailable: the result store can't be reached.
    """
    if group is not None:
        check_part("group", group)
    app.load_tasks()
    settings = app.settings
    settings.require_broker()
    check(settings)
    check_limits(app)
    specs = specs_of(app)
    with Topics(settings, client_id="taskstream-init") as topics:
        reports = topics.create(specs)
        offsets = _commit_starts(topics, groups(app.names, app.queues, group))
    schemas = _store_schemas(app)
    store, store_drift = _create_store(app)
    declared = _declare(app)
    drift = [f"topic {one.name} {how}" for one in reports for how in one.drift]
    return InitReport(
        tuple(reports),
        offsets,
        schemas,
        store,
        (*drift, *([store_drift] if store_drift else ())),
        declared,
    )


def check(settings: Settings) -> None:
    """Refuses settings that break a promise.

    Raises:
        ConfigError: says which and what to do.
    """
    if settings.result_ttl < settings.retention:
        raise ConfigError(
            f"result_ttl ({settings.result_ttl:g} s) is below retention ({settings.retention:g} s): a "
            "task that is read again would find no trace of having finished. Raise result_ttl, or "
            "lower retention"
        )
    if settings.partitions < 1:
        raise ConfigError(f"partitions is {settings.partitions}: must be 1 or more")


def check_limits(app: "App") -> None:
    """Refuses a task's limit that can't be shared by the partitions that its queue is to have.

    Raises:
        ConfigError: says which and what to do.
    """
    for task in app.tasks.values():
        refuse_unshareable(
            task.name, (*task.concurrency, *task.rates), app.partitions_of(task.queue)
        )


def specs_of(app: "App") -> list[TopicSpec]:
    """Every topic of an app as it should be."""
    partitions = {queue: app.partitions_of(queue) for queue in app.queues}
    return plan(app.names, app.queues, app.settings, partitions)


def plan(
    names: Names,
    queues: Mapping[str, Mapping[str, int]],
    settings: Settings,
    partitions: Mapping[str, int] | None = None,
) -> list[TopicSpec]:
    """Every topic of an app as it should be.

    Args:
        names: the app's.
        queues: by queue, its priorities.
        settings: `partitions`, `replication`, `retention`, and the size of records.
        partitions: by queue, how many its topics have, where it is not what the settings say.
    """
    of_queue = partitions or {}
    # A record comes home with the headers of its hand-offs; in the delay and dead topics it may have
    # as much again.
    home_bytes = record_limit_bytes(settings) + HANDOFF_ROOM_BYTES
    handoff_bytes = home_bytes + HANDOFF_ROOM_BYTES
    history = max(settings.retention, HISTORY_RETENTION)

    def topic(name: str, config: Mapping[str, str], count: int | None = None) -> TopicSpec:
        # acks=all means all that are in sync, which with the broker's default may be one.
        quorum = {"min.insync.replicas": "2"} if settings.replication >= _QUORUM else {}
        return TopicSpec(
            name,
            settings.partitions if count is None else count,
            settings.replication,
            {**config, **quorum},
        )

    return [
        *(
            topic(
                names.tasks(queue, priority),
                _kept(settings.retention, home_bytes) | {"message.timestamp.type": _TIMES},
                of_queue.get(queue),
            )
            for queue, priorities in queues.items()
            for priority in priorities
        ),
        *(
            # A record stays for the tier's span, and longer while no scheduler runs.
            topic(
                name,
                _kept(span + settings.retention, handoff_bytes)
                | {"message.timestamp.type": _TIMES},
            )
            for name, span in names.delays.items()
        ),
        topic(names.dead, _kept(history, handoff_bytes)),
        topic(names.events, _kept(history, handoff_bytes)),
        topic(names.replies, _kept(REPLIES_RETENTION, handoff_bytes)),
        # One partition each: they are small, and what stands in them is read in one order.
        topic(names.workers, _heartbeats(), 1),
        topic(names.control, _orders(settings.retention), 1),
        topic(names.schedules, _schedules(), 1),
        topic(names.schemas, _latest(), 1),
    ]


def groups(
    names: Names, queues: Mapping[str, Mapping[str, int]], group: str | None = None
) -> list[tuple[str, str]]:
    """Every consumer group of an app with every topic that it reads: (group, topic).

    Args:
        names: the app's.
        queues: by queue, its priorities.
        group: another name for the queues' groups, beside the app's own.
    """
    lanes = [(queue, priority) for queue, priorities in queues.items() for priority in priorities]
    return [
        *(
            (names.group(queue, priority, one), names.tasks(queue, priority))
            for one in dict.fromkeys((None, group))
            for queue, priority in lanes
        ),
        *((names.scheduler_group, topic) for topic in names.delays),
    ]


def _kept(seconds: float, largest_bytes: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(round(seconds * 1000)),
        "max.message.bytes": str(largest_bytes),
    }


def _latest() -> dict[str, str]:
    return {"cleanup.policy": "compact"}


def _schedules() -> dict[str, str]:
    # Each firing leaves a record, and each scheduler reads them all when it starts: so the segment that is
    # being written, which is never compacted, is a small one.
    return {"cleanup.policy": "compact", "segment.ms": str(round(HOUR * 1000))}


def _orders(retention: float) -> dict[str, str]:
    # Every worker reads all of it when it starts, and cancels may be many: so the segment that is being
    # written, which is never compacted, is a small one, and tombstones go soon after what they end.
    return {
        "cleanup.policy": "compact,delete",
        "retention.ms": str(round(lifetime(retention) * 1000)),
        "segment.ms": str(round(HOUR * 1000)),
        "delete.retention.ms": str(round(HOUR * 1000)),
        "message.timestamp.type": _TIMES,
    }


def _heartbeats() -> dict[str, str]:
    # The segment that is being written is never compacted, and everyone who asks for a running task
    # reads it all: so it is a small one.
    return {
        "cleanup.policy": "compact,delete",
        "retention.ms": str(round(HEARTBEAT_RETENTION * 1000)),
        "segment.ms": str(round(HOUR * 1000)),
        "message.timestamp.type": _TIMES,
    }


def _commit_starts(topics: Topics, wanted: list[tuple[str, str]]) -> dict[str, int]:
    committed = dict.fromkeys((group for group, _ in wanted), 0)
    for group, topic in wanted:
        committed[group] += len(topics.commit_start(group, topic))
    return committed


def _store_schemas(app: "App") -> tuple[str, ...]:
    tasks = app.tasks.values()
    app.schema_store().put_all(
        [schema for task in tasks for schema in (task.schema.arguments, task.schema.result)]
    )
    return tuple(task.name for task in tasks)


def _declare(app: "App") -> Declared:
    """Brings the schedules in code to Kafka, and ends those that are not in it any more."""
    with Topics(app.settings, client_id="taskstream-init") as topics:
        ranges = topics.ranges(app.names.schedules).values()
    if app.schedules or any(high > low for low, high in ranges):
        return declare_all(app, decides=True)
    return Declared()


def _create_store(app: "App") -> tuple[str, str]:
    """Where results are kept, and how what is there differs from the settings; empty if it doesn't."""
    settings = app.settings
    store = app.result_store()
    if store is None:
        return "", ""
    name = (
        f"Cassandra, keyspace {settings.keyspace}"
        if settings.cassandra_hosts
        else "SQLite, embedded"
    )
    try:
        store.create()
    except StoreUnavailable:
        raise
    except StoreError as error:
        return name, str(error)
    return name, ""
