"""The one table of what can be seen: every attribute, span, log field and metric, with unit and meaning.

Invariant: no other file writes such a name down; the docs are generated from here. Names that start
with `messaging.`, `db.`, `cassandra.`, `error.` and `exception.` are those of the OpenTelemetry
semantic conventions 1.44 (`tests/unit/test_tracing.py` holds them against the official package).
The headers of a record are `taskstream.core.envelope`'s alone.
"""

from dataclasses import dataclass
from enum import StrEnum

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""Which version of the conventions the spans follow; collectors translate by it."""

INSTRUMENTATION = "taskstream"
"""The name of the instrumentation scope of all our spans."""


# --- attributes of spans ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something a span or a log record says.

    Args:
        name: as it is written on the wire.
        meaning: what the value tells, with its unit where it has one.
    """

    name: str
    meaning: str


MESSAGING_SYSTEM = Attribute("messaging.system", "always `kafka`")
OPERATION_NAME = Attribute(
    "messaging.operation.name", "what was done, in our words: send, redrive, replay, process"
)
OPERATION_TYPE = Attribute(
    "messaging.operation.type", "what was done, in the conventions' words: send, process"
)
DESTINATION = Attribute("messaging.destination.name", "the topic")
PARTITION = Attribute("messaging.destination.partition.id", "the partition's number, as text")
OFFSET = Attribute("messaging.kafka.offset", "the record's offset")
MESSAGE_KEY = Attribute(
    "messaging.kafka.message.key", "the ordering key; absent where there is none"
)
MESSAGE_ID = Attribute("messaging.message.id", "the task's id")
GROUP = Attribute("messaging.consumer.group.name", "the consumer group that works on the topic")

DB_SYSTEM = Attribute("db.system.name", "the result store: cassandra or sqlite")
DB_NAMESPACE = Attribute("db.namespace", "the keyspace")
DB_COLLECTION = Attribute("db.collection.name", "the table")
DB_OPERATION = Attribute("db.operation.name", "always `INSERT`: one row per attempt")
DB_BATCH_SIZE = Attribute(
    "db.operation.batch.size", "rows in the batch that carried this row; absent where it went alone"
)
CONSISTENCY = Attribute("cassandra.consistency.level", "how many replicas must have the row")
IDEMPOTENT = Attribute("cassandra.query.idempotent", "whether the same write may be sent again")

ERROR_TYPE = Attribute("error.type", "class name of the error, the word that dead letters use too")
EXCEPTION_TYPE = Attribute("exception.type", "class name of the error with its module")
EXCEPTION_MESSAGE = Attribute("exception.message", "the error's text")
EXCEPTION_STACKTRACE = Attribute(
    "exception.stacktrace", "the error's traceback, its causes included"
)

TASK = Attribute("taskstream.task", "the task's name")
RUN = Attribute("taskstream.run", "0 for the first publish, +1 for each redrive or replay")
ATTEMPT = Attribute("taskstream.attempt", "which try of the run this is; 1 is the first")
STATE = Attribute("taskstream.state", "how the attempt ended: retrying, succeeded, dead, …")
WORKER = Attribute("taskstream.worker", "who ran the attempt")


# --- spans -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A span that taskstream writes.

    Args:
        name: its name, with the varying part in braces.
        kind: its kind, as OpenTelemetry names them.
        meaning: from when to when, and whose child it is.
        attributes: what it can say; errors add those of `ERROR`.
    """

    name: str
    kind: str
    meaning: str
    attributes: tuple[Attribute, ...]


PUBLISH = Span(
    "send {topic}",
    "PRODUCER",
    "from publish or hand-off to Kafka's acknowledgement; child of what is current in the caller, or "
    "of the attempt that asked for the hand-off",
    (MESSAGING_SYSTEM, OPERATION_NAME, OPERATION_TYPE, DESTINATION, PARTITION, OFFSET, MESSAGE_KEY,
     MESSAGE_ID, TASK),
)  # fmt: skip
PROCESS = Span(
    "process {topic}",
    "CONSUMER",
    "one attempt, from its start to its verdict; child of, and linked to, the span that sent the record",
    (MESSAGING_SYSTEM, OPERATION_NAME, OPERATION_TYPE, DESTINATION, PARTITION, OFFSET, MESSAGE_KEY,
     MESSAGE_ID, GROUP, TASK, RUN, ATTEMPT, STATE, WORKER),
)  # fmt: skip
STORE = Span(
    "INSERT {table}",
    "CLIENT",
    "one row, from the verdict until the result store has it; child of the attempt",
    (DB_SYSTEM, DB_NAMESPACE, DB_COLLECTION, DB_OPERATION, DB_BATCH_SIZE, CONSISTENCY, IDEMPOTENT),
)

REDRIVE = Span(
    "redrive {topic}",
    "PRODUCER",
    "a dead task's record for its new run, until Kafka's acknowledgement; child of the span that sent the "
    "dead letter, so that one trace tells of all runs",
    PUBLISH.attributes,
)

REPLAY = Span(
    "replay {topic}",
    "PRODUCER",
    "a task's record that is published again, until Kafka's acknowledgement; begins a trace, linked to the "
    "old one",
    PUBLISH.attributes,
)

SPANS = (PUBLISH, PROCESS, STORE, REDRIVE, REPLAY)
"""All spans, in the order of a task's life."""

ERROR_EVENT = "exception"
"""The event that an error leaves on its span."""

ERROR = (ERROR_TYPE, EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE)
"""What an error adds to its span: the first on the span itself, the others on its event."""


# --- fields of log records -------------------------------------------------------------------------

LOG_TASK = Attribute("task", "name of the task in whose attempt the record was written")
LOG_ID = Attribute("task_id", "id of that task")
LOG_TRACE = Attribute("trace_id", "the current trace, 32 hex digits")
LOG_SPAN = Attribute("span_id", "the current span, 16 hex digits")

LOG_FIELDS = (LOG_TASK, LOG_ID, LOG_TRACE, LOG_SPAN)
"""What every log record carries; empty outside of a task or a trace."""


# --- metrics ---------------------------------------------------------------------------------------


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """What a metric is told apart by. Never an id or a key: their number has no bound."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that taskstream keeps.

    Args:
        name: its name by OpenTelemetry's rules; Prometheus sees `prometheus_name`.
        kind: counter, gauge or histogram.
        unit: "s", "By", or what is counted, in braces.
        meaning: what the number tells.
        labels: what it is told apart by.
        buckets: a histogram's upper bounds in its unit.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name at /metrics, without the `_total` that counters get there."""
        return self.name.replace(".", "_") + _PROMETHEUS_UNITS.get(self.unit, "")

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels, in order."""
        return tuple(label.name for label in self.labels)


_PROMETHEUS_UNITS = {"s": "_seconds", "By": "_bytes"}

_MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TASKS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
_ROWS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0)

QUEUE = Label("queue", "the queue's name")
PRIORITY = Label("priority", "the priority's name")
TOPIC = Label("topic", "the topic's name")
PARTITION_NUMBER = Label("partition", "the partition's number")
TASK_NAME = Label("task", "the task's name; only names that the app knows")
END = Label("state", "the attempt's verdict: retrying, succeeded, dead, cancelled, expired")
REASON = Label("reason", "one word: the error's class name, or ours")
OPERATION = Label("operation", "send or commit")
STORE_SYSTEM = Label("system", "cassandra or sqlite")

# fmt: off
SENT = Metric(
    "messaging.client.sent.messages", Kind.COUNTER, "{message}",
    "records that Kafka was asked to take", (TOPIC,),
)
CONSUMED = Metric(
    "messaging.client.consumed.messages", Kind.COUNTER, "{message}",
    "records taken from Kafka", (TOPIC,),
)
OPERATION_DURATION = Metric(
    "messaging.client.operation.duration", Kind.HISTOGRAM, "s",
    "how long Kafka took to acknowledge", (OPERATION,), _MOMENTS,
)
PROCESS_DURATION = Metric(
    "messaging.process.duration", Kind.HISTOGRAM, "s",
    "how long an attempt ran", (TASK_NAME, END), _TASKS,
)
STORE_DURATION = Metric(
    "db.client.operation.duration", Kind.HISTOGRAM, "s",
    "how long the result store took to acknowledge a batch", (STORE_SYSTEM,), _MOMENTS,
)
ATTEMPTS = Metric(
    "taskstream.attempts", Kind.COUNTER, "{attempt}",
    "attempts that have their verdict in the result store", (QUEUE, PRIORITY, END),
)
DEAD = Metric(
    "taskstream.dead", Kind.COUNTER, "{task}",
    "tasks that became dead letters", (QUEUE, REASON),
)
DROPPED = Metric(
    "taskstream.dropped", Kind.COUNTER, "{record}",
    "records dropped because their task was already judged, or is another group's", (QUEUE, REASON),
)
LAG = Metric(
    "taskstream.lag", Kind.GAUGE, "{record}",
    "records between the committed offset and the end", (TOPIC, PARTITION_NUMBER),
)
OLDEST_AGE = Metric(
    "taskstream.oldest.age", Kind.GAUGE, "s",
    "age of the oldest task that was taken in and is not finished; 0 where there is none", (QUEUE, PRIORITY),
)
WAITING = Metric(
    "taskstream.waiting", Kind.GAUGE, "{task}",
    "tasks taken in and not yet given to a child", (QUEUE, PRIORITY),
)
RUNNING = Metric(
    "taskstream.running", Kind.GAUGE, "{task}",
    "tasks given to children and not yet finished", (QUEUE, PRIORITY),
)
SLOTS = Metric(
    "taskstream.slots", Kind.GAUGE, "{task}",
    "how many tasks the children can run at once",
)
WATERMARK_GAP = Metric(
    "taskstream.watermark.gap", Kind.GAUGE, "{record}",
    "finished records behind an unfinished one", (TOPIC, PARTITION_NUMBER),
)
PAUSED = Metric(
    "taskstream.paused", Kind.GAUGE, "{partition}",
    "partitions whose intake waits because too much of them is unfinished", (QUEUE, PRIORITY),
)
HALTED = Metric(
    "taskstream.halted", Kind.GAUGE, "{priority}",
    "1 while nothing is given out because too many tasks died, else 0", (QUEUE, PRIORITY),
)
HELD_BACK = Metric(
    "taskstream.held_back", Kind.GAUGE, "{task}",
    "tasks that wait in a worker because of a pause or a drain", (QUEUE, PRIORITY),
)
DEFERRED = Metric(
    "taskstream.deferred", Kind.COUNTER, "{task}",
    "tasks that a pause or a drain has sent through a delay topic, each time", (QUEUE, PRIORITY),
)
COMMIT_FAILURES = Metric(
    "taskstream.commit.failures", Kind.COUNTER, "{commit}",
    "commits that Kafka refused or did not answer", (QUEUE, PRIORITY),
)
COMMIT_AGE = Metric(
    "taskstream.commit.age", Kind.GAUGE, "s",
    "time since the last acknowledged commit", (QUEUE, PRIORITY),
)
REBALANCE_DURATION = Metric(
    "taskstream.rebalance.duration", Kind.HISTOGRAM, "s",
    "from revocation until the partitions were given back", (QUEUE, PRIORITY), _TASKS,
)
CHILD_DEATHS = Metric(
    "taskstream.child.deaths", Kind.COUNTER, "{child}",
    "child processes that ended unasked", (REASON,),
)
ROWS_PENDING = Metric(
    "taskstream.rows.pending", Kind.GAUGE, "{row}",
    "rows that wait for the result store",
)
ROWS_PER_BATCH = Metric(
    "taskstream.rows.batch", Kind.HISTOGRAM, "{row}",
    "rows that left together", (), _ROWS,
)
DELAY_LATENESS = Metric(
    "taskstream.delay.lateness", Kind.HISTOGRAM, "s",
    "how long after its due time a delayed task, or a retry, came back to its queue", (), _MOMENTS,
)

METRICS = (
    SENT, CONSUMED, OPERATION_DURATION, PROCESS_DURATION, STORE_DURATION, ATTEMPTS, DEAD, DROPPED, LAG,
    OLDEST_AGE, WAITING, RUNNING, SLOTS, WATERMARK_GAP, PAUSED, HALTED, HELD_BACK, DEFERRED, COMMIT_FAILURES,
    COMMIT_AGE, REBALANCE_DURATION, CHILD_DEATHS, ROWS_PENDING, ROWS_PER_BATCH, DELAY_LATENESS,
)
# fmt: on
"""All metrics, in the order of a task's life, then of the machinery."""

RESERVED = (
    SENT, OPERATION_DURATION, PROCESS_DURATION, STORE_DURATION, ROWS_PER_BATCH,
)  # fmt: skip
"""Those whose names are settled, and which nobody counts yet."""


def lane_labels(lane: str) -> dict[str, str]:
    """The labels of a lane, `queue.priority`."""
    queue, priority = lane.rsplit(".", 1)
    return {QUEUE.name: queue, PRIORITY.name: priority}
