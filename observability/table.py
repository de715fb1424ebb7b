"""The one table of what can be seen: every attribute, span, log field and metric, with unit and meaning.

Invariant: no other file writes such a name down; the docs are generated from here. Names that start
with `messaging.`, `db.`, `cassandra.`, `error.` and `exception.` are those of the OpenTelemetry
semantic conventions 1.44 (`tests/unit/test_tracing.py` holds them against the official package), and
those that start with `librdkafka.` are the words of that library's STATISTICS.md. The headers of a
record are `taskstream.core.envelope`'s alone.
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
    "messaging.operation.name", "what was done, in our words: send, fire, redrive, replay, process"
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
ATTEMPT = Attribute(
    "taskstream.attempt",
    "which try of the run this is; 1 is the first. Of a record: the one that it asks for; of a dead "
    "letter: the last one that was made",
)
STATE = Attribute(
    "taskstream.state",
    "how the attempt ended: retrying, succeeded, dead, …; of a record, what it makes of its task: "
    "waiting, delayed, retrying, dead. Absent, with run and attempt, on the record of a plain publish",
)
FINAL = Attribute("taskstream.final", "whether nothing follows this attempt")
WORKER = Attribute("taskstream.worker", "who ran the attempt")
WAITED = Attribute(
    "taskstream.waited",
    "seconds since the attempt could have run (its publish, or its due time) until it began",
)
DELAY = Attribute(
    "taskstream.delay",
    "for how many seconds the record is to wait in delay topics; absent where it isn't",
)
DEATH_REASON = Attribute(
    "taskstream.reason", "of a dead letter: why, in one word; absent elsewhere"
)
KEPT = Attribute(
    "taskstream.kept",
    "true where the attempt failed in a trace that was not sampled, and was recorded for it: leave it "
    "out where spans are counted; absent elsewhere",
)
FIRED_BY = Attribute("taskstream.schedule", "the schedule that fired the task; absent elsewhere")


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
     MESSAGE_ID, TASK, RUN, ATTEMPT, STATE, DELAY, DEATH_REASON),
)  # fmt: skip
PROCESS = Span(
    "process {topic}",
    "CONSUMER",
    "one attempt, from its start to its verdict; child of the span that sent the record",
    (MESSAGING_SYSTEM, OPERATION_NAME, OPERATION_TYPE, DESTINATION, PARTITION, OFFSET, MESSAGE_KEY,
     MESSAGE_ID, GROUP, TASK, RUN, ATTEMPT, STATE, FINAL, WORKER, WAITED, KEPT),
)  # fmt: skip
STORE = Span(
    "INSERT {table}",
    "CLIENT",
    "one row, from the verdict until the result store has it; child of the attempt",
    (DB_SYSTEM, DB_NAMESPACE, DB_COLLECTION, DB_OPERATION, DB_BATCH_SIZE, CONSISTENCY, IDEMPOTENT),
)

_SENT_ANEW = (
    MESSAGING_SYSTEM, OPERATION_NAME, OPERATION_TYPE, DESTINATION, PARTITION, OFFSET, MESSAGE_KEY,
    MESSAGE_ID, TASK, RUN, ATTEMPT, STATE,
)  # fmt: skip

FIRE = Span(
    "fire {topic}",
    "PRODUCER",
    "the task of a schedule's instant, until Kafka's acknowledgement; begins a trace, linked to that of the "
    "last firing that this scheduler knows",
    (*_SENT_ANEW, FIRED_BY),
)

REDRIVE = Span(
    "redrive {topic}",
    "PRODUCER",
    "a dead task's record for its new run, until Kafka's acknowledgement; child of the span that sent the "
    "dead letter, so that one trace tells of all runs",
    _SENT_ANEW,
)

REPLAY = Span(
    "replay {topic}",
    "PRODUCER",
    "a task's record that is published again, until Kafka's acknowledgement; begins a trace, linked to the "
    "old one",
    _SENT_ANEW,
)

SPANS = (PUBLISH, PROCESS, STORE, FIRE, REDRIVE, REPLAY)
"""All spans, in the order of a task's life."""

ERROR_EVENT = "exception"
"""The event that an error leaves on its span."""

ERROR = (ERROR_TYPE, EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE)
"""What an error adds to its span: the first on the span itself, the others on its event."""


# --- fields of log records -------------------------------------------------------------------------

LOG_TASK = Attribute("task", "name of the task in whose attempt the record was written")
LOG_ID = Attribute("task_id", "id of that task")
LOG_RUN = Attribute(
    "run", "which run of it: 0 for the first publish, +1 for each redrive or replay"
)
LOG_ATTEMPT = Attribute("attempt", "which try of the run, as retries count; 1 is the first")
LOG_TRACE = Attribute("trace_id", "the current trace, 32 hex digits")
LOG_SPAN = Attribute("span_id", "the current span, 16 hex digits")

LOG_FIELDS = (LOG_TASK, LOG_ID, LOG_RUN, LOG_ATTEMPT, LOG_TRACE, LOG_SPAN)
"""What every log record carries; empty outside of a task or a trace."""


# --- metrics ---------------------------------------------------------------------------------------


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """What a metric is told apart by. Never an id or a key: their number has no bound. Compared as `Metric` is.

    Args:
        name: as Prometheus sees it.
        meaning: what it tells apart.
        attribute: its name by the semantic conventions, as OTLP sees it; by default `taskstream.` and the name.
    """

    name: str
    meaning: str
    attribute: str = ""

    @property
    def otel_name(self) -> str:
        """The attribute's name for OpenTelemetry."""
        return self.attribute or f"taskstream.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric that taskstream keeps. Each is one of a kind: as a key, by its fields, it would cost 0.6 µs more.

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
        name, unit = self.name.replace(".", "_"), _PROMETHEUS_UNITS.get(self.unit, "")
        return name if name.endswith(unit) else name + unit

    @property
    def sample_name(self) -> str:
        """What its samples at /metrics are called: with `_total`; of a histogram, how many there were."""
        return self.prometheus_name + _SAMPLE_ENDINGS[self.kind]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels, in order."""
        return tuple(label.name for label in self.labels)


_PROMETHEUS_UNITS = {"s": "_seconds", "By": "_bytes"}
_SAMPLE_ENDINGS = {Kind.COUNTER: "_total", Kind.GAUGE: "", Kind.HISTOGRAM: "_count"}

_MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TASKS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
_ROWS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0)

QUEUE = Label("queue", "the queue's name")
PRIORITY = Label("priority", "the priority's name")
TOPIC = Label("topic", "the topic's name", "messaging.destination.name")
PARTITION_NUMBER = Label(
    "partition", "the partition's number", "messaging.destination.partition.id"
)
TASK_NAME = Label("task", "the task's name; only names that the app knows")
END = Label("state", "the attempt's verdict: retrying, succeeded, dead, cancelled, expired")
REASON = Label("reason", "why, in a word or a few: the error's class name, or ours")
OPERATION = Label("operation", "send or commit", "messaging.operation.name")
STORE_SYSTEM = Label("system", "cassandra or sqlite", "db.system.name")
FAILURE = Label("error_type", "class name of the error; empty where there was none", "error.type")
CHANGE = Label("change", "assigned, revoked, or lost (gone without a word before)")
VERB = Label("verb", "what was ordered: cancel, pause, drain, purge, scale")
CHILD_KIND = Label(
    "kind", "shared (runs many tasks at once) or solo (one, in a process of its own)"
)
STOP = Label("to", "where the mover took it: home, tier (a shorter delay topic) or dead")
SCHEDULE = Label("schedule", "the schedule's name")
CLIENT = Label(
    "client",
    "which Kafka client: of a worker handoff and one for each queue.priority, of a scheduler delays, moves, "
    "hops, firings and notes, elsewhere publish",
)
QUANTILE = Label("quantile", "0.5 or 0.99")
ROLE = Label("role", "worker, scheduler, dashboard or publisher")
APP = Label("app", "the app's name")
VERSION = Label("version", "the version of taskstream", "service.version")

# fmt: off
SENT = Metric(
    "messaging.client.sent.messages", Kind.COUNTER, "{message}",
    "records that Kafka was asked to take, by its answer: a publish that failed has an error type",
    (TOPIC, FAILURE),
)
CONSUMED = Metric(
    "messaging.client.consumed.messages", Kind.COUNTER, "{message}",
    "records taken from Kafka", (TOPIC,),
)
OPERATION_DURATION = Metric(
    "messaging.client.operation.duration", Kind.HISTOGRAM, "s",
    "how long Kafka took to acknowledge a commit, or records; one sample for each round of answers",
    (OPERATION, FAILURE), _MOMENTS,
)
GIVEN = Metric(
    "taskstream.given", Kind.COUNTER, "{task}",
    "tasks given to children; a priority's part of the rate is its share, beside `taskstream.weight`",
    (QUEUE, PRIORITY),
)
WAIT_DURATION = Metric(
    "taskstream.wait.duration", Kind.HISTOGRAM, "s",
    "how long a task waited until it ran: from its append to Kafka, or its due time where that is later",
    (QUEUE, PRIORITY), _TASKS,
)
PROCESS_DURATION = Metric(
    "messaging.process.duration", Kind.HISTOGRAM, "s",
    "how long an attempt ran", (TASK_NAME, END), _TASKS,
)
STORE_DURATION = Metric(
    "db.client.operation.duration", Kind.HISTOGRAM, "s",
    "how long the result store took to answer a batch of rows", (STORE_SYSTEM, FAILURE), _MOMENTS,
)
ATTEMPTS = Metric(
    "taskstream.attempts", Kind.COUNTER, "{attempt}",
    "attempts that have their verdict in the result store", (QUEUE, PRIORITY, END),
)
RETRIES = Metric(
    "taskstream.retries", Kind.COUNTER, "{attempt}",
    "attempts that failed and are tried again", (TASK_NAME, REASON),
)
DEAD = Metric(
    "taskstream.dead", Kind.COUNTER, "{task}",
    "tasks that became dead letters", (QUEUE, REASON),
)
DROPPED = Metric(
    "taskstream.dropped", Kind.COUNTER, "{record}",
    "records dropped because their task was already judged, or is another group's", (QUEUE, REASON),
)
ABANDONED = Metric(
    "taskstream.abandoned", Kind.COUNTER, "{task}",
    "running tasks that were ended unrecorded, because they are, or may be, another worker's by now",
    (QUEUE, PRIORITY),
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
WEIGHT = Metric(
    "taskstream.weight", Kind.GAUGE, "1",
    "the share that a priority is to have of what its worker gives out, while all of them have tasks",
    (QUEUE, PRIORITY),
)
PARTITIONS = Metric(
    "taskstream.partitions", Kind.GAUGE, "{partition}",
    "partitions that this worker owns", (QUEUE, PRIORITY),
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
DEATH_BUDGET = Metric(
    "taskstream.death.budget", Kind.GAUGE, "1",
    "how much is left of the deaths after which the priority is halted: 1 is all, 0 none; absent without limit",
    (QUEUE, PRIORITY),
)
FENCED = Metric(
    "taskstream.fenced", Kind.GAUGE, "{priority}",
    "1 while nothing is given out because Kafka acknowledges no commit, else 0", (QUEUE, PRIORITY),
)
ORDERS = Metric(
    "taskstream.orders", Kind.GAUGE, "{order}",
    "orders in force that this worker knows of", (VERB,),
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
REBALANCES = Metric(
    "taskstream.rebalances", Kind.COUNTER, "{rebalance}",
    "how often partitions came or went", (QUEUE, PRIORITY, CHANGE),
)
REBALANCE_DURATION = Metric(
    "taskstream.rebalance.duration", Kind.HISTOGRAM, "s",
    "from revocation until the partitions were given back", (QUEUE, PRIORITY), _TASKS,
)
CHILDREN = Metric(
    "taskstream.children", Kind.GAUGE, "{child}",
    "child processes that take tasks", (CHILD_KIND,),
)
CHILD_DEATHS = Metric(
    "taskstream.child.deaths", Kind.COUNTER, "{child}",
    "child processes that ended unasked", (REASON,),
)
CHILD_CPU = Metric(
    "taskstream.child.cpu", Kind.COUNTER, "s",
    "processor time of all child processes, user and system",
)
CHILD_MEMORY = Metric(
    "taskstream.child.memory", Kind.GAUGE, "By",
    "resident memory of all child processes together",
)
ROWS_PENDING = Metric(
    "taskstream.rows.pending", Kind.GAUGE, "{row}",
    "rows that wait for the result store",
)
ROWS_PER_BATCH = Metric(
    "taskstream.rows.batch", Kind.HISTOGRAM, "{row}",
    "rows that left together", (), _ROWS,
)
STORE_FAILURES = Metric(
    "taskstream.store.failures", Kind.COUNTER, "{batch}",
    "batches of rows that the result store did not take; what is not refused is written again",
    (STORE_SYSTEM, REASON),
)
STORELESS = Metric(
    "taskstream.storeless", Kind.GAUGE, "{child}",
    "child processes that the result store does not answer",
)
DELAYED = Metric(
    "taskstream.delayed", Kind.GAUGE, "{record}",
    "tasks that wait for their time in the scheduler's partitions of a delay topic", (TOPIC,),
)
MOVED = Metric(
    "taskstream.moved", Kind.COUNTER, "{record}",
    "delayed tasks that the scheduler has moved", (STOP,),
)
DELAY_LATENESS = Metric(
    "taskstream.delay.lateness", Kind.HISTOGRAM, "s",
    "how long after its due time a delayed task, or a retry, came back to its queue", (), _MOMENTS,
)
SCHEDULES_FIRED = Metric(
    "taskstream.schedule.fired", Kind.COUNTER, "{firing}",
    "tasks that schedules have published", (SCHEDULE,),
)
SCHEDULE_LATENESS = Metric(
    "taskstream.schedule.lateness", Kind.HISTOGRAM, "s",
    "how long after its instant a schedule fired", (), _MOMENTS,
)
SCHEDULES_SKIPPED = Metric(
    "taskstream.schedule.skipped", Kind.COUNTER, "{firing}",
    "firings that were passed over", (SCHEDULE, REASON),
)
SCHEDULE_FAILURES = Metric(
    "taskstream.schedule.failures", Kind.COUNTER, "{firing}",
    "firings, or notes of them, that Kafka did not take; they are tried again", (SCHEDULE,),
)
QUEUE_LAG = Metric(
    "taskstream.queue.lag", Kind.GAUGE, "{task}",
    "tasks in Kafka that the app's own group has not finished, with or without a worker (dashboard)",
    (QUEUE, PRIORITY),
)
QUEUE_AGE = Metric(
    "taskstream.queue.age", Kind.GAUGE, "s",
    "time since the oldest of them was written to Kafka; 0 where there is none (dashboard)",
    (QUEUE, PRIORITY),
)
QUEUE_HELD = Metric(
    "taskstream.queue.held", Kind.GAUGE, "{priority}",
    "1 while a pause or a drain of the priority or its queue holds, else 0 (dashboard)",
    (QUEUE, PRIORITY),
)
WORKERS = Metric(
    "taskstream.workers", Kind.GAUGE, "{worker}",
    "workers alive that take tasks of the queue, by their heartbeats; 0 where there is none (dashboard)",
    (QUEUE,),
)
DEAD_OPEN = Metric(
    "taskstream.dead.open", Kind.GAUGE, "{task}",
    "dead letters that nobody has redriven or purged, 200,000 at most; absent where there is none (dashboard)",
    (QUEUE, REASON),
)
LOOK_AGE = Metric(
    "taskstream.look.age", Kind.GAUGE, "s",
    "time since the dashboard has last seen queues and workers, or since it began to look; what it tells of "
    "them is absent beyond 300 s (dashboard)",
)
CLIENTS_REPLACED = Metric(
    "taskstream.clients.replaced", Kind.COUNTER, "{client}",
    "Kafka clients that had lost all brokers and were made anew", (CLIENT,),
)
INFO = Metric(
    "taskstream.info", Kind.GAUGE, "1",
    "always 1: what this process is", (ROLE, APP, VERSION),
)

KAFKA_CONNECTS = Metric(
    "librdkafka.connects", Kind.COUNTER, "{connection}",
    "connections made to brokers, the repeated ones included", (CLIENT,),
)
KAFKA_DISCONNECTS = Metric(
    "librdkafka.disconnects", Kind.COUNTER, "{connection}",
    "connections to brokers that ended", (CLIENT,),
)
KAFKA_RTT = Metric(
    "librdkafka.rtt", Kind.GAUGE, "s",
    "how long the slowest broker took to answer requests, lately; a consumer's wait for records included", (CLIENT, QUANTILE),
)
KAFKA_TX = Metric(
    "librdkafka.tx", Kind.COUNTER, "{request}",
    "requests sent to brokers", (CLIENT,),
)
KAFKA_TX_BYTES = Metric(
    "librdkafka.tx_bytes", Kind.COUNTER, "By",
    "bytes sent to brokers", (CLIENT,),
)
KAFKA_RX_BYTES = Metric(
    "librdkafka.rx_bytes", Kind.COUNTER, "By",
    "bytes received from brokers", (CLIENT,),
)
KAFKA_RETRIES = Metric(
    "librdkafka.txretries", Kind.COUNTER, "{request}",
    "requests that were sent again", (CLIENT,),
)
KAFKA_ERRORS = Metric(
    "librdkafka.txerrs", Kind.COUNTER, "{request}",
    "requests that could not be sent", (CLIENT,),
)
KAFKA_TIMEOUTS = Metric(
    "librdkafka.req_timeouts", Kind.COUNTER, "{request}",
    "requests that no broker answered in time", (CLIENT,),
)
KAFKA_QUEUED = Metric(
    "librdkafka.msg_cnt", Kind.GAUGE, "{message}",
    "records in a producer's queue", (CLIENT,),
)
KAFKA_QUEUED_BYTES = Metric(
    "librdkafka.msg_size", Kind.GAUGE, "By",
    "bytes in a producer's queue", (CLIENT,),
)
KAFKA_FETCHED = Metric(
    "librdkafka.fetchq_cnt", Kind.GAUGE, "{message}",
    "records that a consumer has fetched ahead", (CLIENT,),
)
KAFKA_FETCHED_BYTES = Metric(
    "librdkafka.fetchq_size", Kind.GAUGE, "By",
    "bytes that a consumer has fetched ahead", (CLIENT,),
)
KAFKA_WAITING = Metric(
    "librdkafka.waitresp_cnt", Kind.GAUGE, "{request}",
    "requests that wait for a broker's answer", (CLIENT,),
)

METRICS = (
    SENT, CONSUMED, OPERATION_DURATION, GIVEN, WAIT_DURATION, PROCESS_DURATION, STORE_DURATION, ATTEMPTS,
    RETRIES, DEAD, DROPPED, ABANDONED, LAG, OLDEST_AGE, WAITING, RUNNING, SLOTS, WEIGHT, PARTITIONS,
    WATERMARK_GAP, PAUSED, HALTED, DEATH_BUDGET, FENCED, ORDERS, HELD_BACK, DEFERRED, COMMIT_FAILURES,
    COMMIT_AGE, REBALANCES, REBALANCE_DURATION, CHILDREN, CHILD_DEATHS, CHILD_CPU, CHILD_MEMORY, ROWS_PENDING,
    ROWS_PER_BATCH, STORE_FAILURES, STORELESS, DELAYED, MOVED, DELAY_LATENESS, SCHEDULES_FIRED,
    SCHEDULE_LATENESS, SCHEDULES_SKIPPED, SCHEDULE_FAILURES, QUEUE_LAG, QUEUE_AGE, QUEUE_HELD, WORKERS,
    DEAD_OPEN, LOOK_AGE, CLIENTS_REPLACED, INFO, KAFKA_CONNECTS, KAFKA_DISCONNECTS, KAFKA_RTT, KAFKA_TX,
    KAFKA_TX_BYTES, KAFKA_RX_BYTES, KAFKA_RETRIES, KAFKA_ERRORS, KAFKA_TIMEOUTS, KAFKA_QUEUED, KAFKA_QUEUED_BYTES, KAFKA_FETCHED, KAFKA_FETCHED_BYTES, KAFKA_WAITING,
)
# fmt: on
"""All metrics, in the order of a task's life, then of the machinery, then of the Kafka clients."""

PROCESS_METRICS = (
    ("process_cpu_seconds_total", Metric(
        "process.cpu.time", Kind.COUNTER, "s", "processor time of this process, user and system",
    )),
    ("process_resident_memory_bytes", Metric(
        "process.memory.usage", Kind.GAUGE, "By", "resident memory of this process",
    )),
    ("process_open_fds", Metric(
        "process.unix.file_descriptor.count", Kind.GAUGE, "{file_descriptor}", "files that it has open",
    )),
)  # fmt: skip
"""What a process tells of itself: the name that prometheus_client gives it, and the conventions' one, for OTLP."""

WORKER_ROLE, SCHEDULER_ROLE, DASHBOARD_ROLE = "worker", "scheduler", "dashboard"
PUBLISHER_ROLE = "publisher"

OF_DASHBOARD = (QUEUE_LAG, QUEUE_AGE, QUEUE_HELD, WORKERS, DEAD_OPEN, LOOK_AGE)
"""What the dashboard's page tells, and no other: it needs no worker, and each dashboard tells the same."""


def lane_labels(lane: str) -> dict[str, str]:
    """The labels of a lane, `queue.priority`."""
    queue, priority = lane.rsplit(".", 1)
    return {QUEUE.name: queue, PRIORITY.name: priority}
