"""What is wrong with a set-up: every part that an app needs is asked, and what fails says what to do."""

import importlib.util
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from taskstream.admin import provision, queues
from taskstream.broker.cluster import look_at
from taskstream.broker.topics import Topics
from taskstream.core.errors import StoreUnavailable, TaskstreamError
from taskstream.core.ids import new_id
from taskstream.core.secrets import Veil, without_user
from taskstream.scheduler.retention import flaws

if TYPE_CHECKING:
    from taskstream.app.app import App

OTLP_PORT = 4317
OTLP_TIMEOUT = 3.0

# The modules that tell whether an extra is installed.
_EXTRAS = {
    "cassandra": ("cassandra",),
    "otlp": ("opentelemetry.sdk", "grpc"),
    "registry": ("httpx",),
    "worker": ("msgpack", "prometheus_client", "cronsim"),
}


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Args:
        check: what was looked at.
        health: how it is.
        detail: what was found.
        advice: what to do; empty where nothing need be done.
    """

    check: str
    health: Health
    detail: str
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as `doctor --json` shows it."""
        return asdict(self)


def examine(load: Callable[[], "App"]) -> Iterator[Finding]:
    """Checks everything that the app needs, each finding as soon as it is there.

    What can't be asked because something before it failed is left out. No finding shows a secret.

    Args:
        load: gives the app.
    """
    try:
        app = load()
        app.load_tasks()
        settings = app.settings
        settings.require_broker()
    except TaskstreamError as error:
        told = without_user(str(error))
        yield Finding("settings", Health.FAIL, told, "then run `taskstream doctor` again")
        return
    veil = Veil(settings.secrets)
    for found in _checks(app):
        yield replace(found, detail=veil.over(found.detail))


def _checks(app: "App") -> Iterator[Finding]:
    yield Finding(
        "settings",
        Health.OK,
        f"app {app.name} with {_counted(len(app.tasks), 'task')}, {_told(app)}",
    )
    yield _extras(app)
    kafka = _kafka(app)
    yield kafka
    if kafka.health is not Health.FAIL:
        yield from _topics(app)
        yield _schemas(app)
        yield _backlog(app)
    yield _results(app)
    yield _otlp(app)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _told(app: "App") -> str:
    settings = app.settings
    told = {
        "Kafka": settings.bootstrap_servers,
        "Cassandra": settings.cassandra_hosts,
        "OTLP": settings.otlp_endpoint,
        "registry": settings.schema_registry_url,
    }
    return ", ".join(f"{name} {value}" for name, value in told.items() if value)


def _extras(app: "App") -> Finding:
    settings = app.settings
    needed = {
        "cassandra": bool(settings.cassandra_hosts),
        "otlp": bool(settings.otlp_endpoint),
        "registry": bool(settings.schema_registry_url),
        "worker": True,
    }
    missing = [
        name
        for name, modules in _EXTRAS.items()
        if needed[name] and not all(_installed(module) for module in modules)
    ]
    if not missing:
        return Finding("extras", Health.OK, "all that the settings need are installed")
    only_worker = missing == ["worker"]
    return Finding(
        "extras",
        Health.WARN if only_worker else Health.FAIL,
        f"not installed: {', '.join(missing)}"
        + ("; tasks can be published from here, not run" if only_worker else ""),
        f"pip install 'taskstream[{','.join(missing)}]'",
    )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


def _kafka(app: "App") -> Finding:
    settings = app.settings
    try:
        cluster = look_at(settings)
    except TaskstreamError as error:
        return Finding(
            "kafka", Health.FAIL, str(error), "check bootstrap_servers, or run `taskstream up`"
        )
    detail = f"{_counted(len(cluster.brokers), 'broker')}: {', '.join(cluster.brokers)}"
    if settings.embedded:
        return Finding("kafka", Health.WARN, f"embedded, {detail}", "never use it in production")
    asked = settings.kafka.get("group.protocol")
    if asked and cluster.protocols and asked not in cluster.protocols:
        return Finding(
            "kafka", Health.FAIL, f"{detail}; no group protocol {asked!r}",
            "leave group.protocol out of the kafka settings, or use Kafka 4.0 or newer",
        )  # fmt: skip
    return Finding("kafka", Health.OK, f"{detail}; group protocol {asked or cluster.protocol}")


def _topics(app: "App") -> Iterator[Finding]:
    specs = provision.specs_of(app)
    try:
        with Topics(app.settings, client_id="taskstream-doctor") as topics:
            known = set(topics.names())
            missing = [spec.name for spec in specs if spec.name not in known]
            if missing and not app.settings.embedded:
                yield Finding(
                    "topics", Health.FAIL, f"missing: {', '.join(missing)}", "run `taskstream init`"
                )
                return
            drift = [
                f"{name} {how}" for name, found in topics.drift(specs).items() for how in found
            ]
            yield Finding(
                "topics", Health.WARN if drift else Health.OK,
                "; ".join(drift) or f"{len(specs)} topics, all as the settings say",
                "change the settings, or alter the topics with Kafka's own tools" if drift else "",
            )  # fmt: skip
            yield _offsets(app, topics)
            if not app.settings.embedded:  # which knows no settings of topics
                yield _delays(app, topics)
    except TaskstreamError as error:
        yield Finding("topics", Health.FAIL, str(error), "run `taskstream init`")


def _offsets(app: "App", topics: Topics) -> Finding:
    wanted = provision.groups(app.names, app.queues)
    missing = sorted(
        {group for group, topic in wanted if None in topics.committed(group, topic).values()}
    )
    if missing and not app.settings.embedded:
        return Finding(
            "offsets", Health.FAIL, f"no committed offset for some partitions of {', '.join(missing)}",
            "if `taskstream init` was never run, run it now; else tasks may have been lost: look first",
        )  # fmt: skip
    return Finding(
        "offsets", Health.OK, f"{len({group for group, _ in wanted})} groups have theirs"
    )


def _delays(app: "App", topics: Topics) -> Finding:
    """Whether each tier keeps what waits in it, by what Kafka really does."""
    spans = app.names.delays
    found = flaws(spans, topics.configs(list(spans)), app.settings.retention)
    if found:
        return Finding(
            "delays", Health.FAIL if found[0].loses else Health.WARN,
            "; ".join(f"{flaw.topic} {flaw.what}" for flaw in found),
            "; ".join(flaw.advice for flaw in found),
        )  # fmt: skip
    return Finding(
        "delays", Health.OK, f"{len(spans)} tiers, each keeps tasks for longer than they wait in it"
    )


def _backlog(app: "App") -> Finding:
    """Queues that are read too slowly, or by nobody, before Kafka deletes what waits in them."""
    limit = app.settings.alarming_age
    try:
        waiting = [lane for lane in queues.lanes(app, count_dead=False) if lane.lag]
    except TaskstreamError as error:
        return Finding("backlog", Health.FAIL, str(error), "run `taskstream init`")
    old = [lane for lane in waiting if lane.waits_longer_than(limit)]
    if old:
        told = ", ".join(f"{lane.topic} ({lane.lag} tasks, {lane.oldest_s:.0f} s)" for lane in old)
        return Finding(
            "backlog", Health.FAIL, f"unread for half of the retention: {told}",
            "start workers for these queues before Kafka deletes the tasks, or raise the topics' retention",
        )  # fmt: skip
    return Finding(
        "backlog",
        Health.OK,
        f"waiting: {_counted(sum(lane.lag for lane in waiting), 'task')}, none for long",
    )


def _schemas(app: "App") -> Finding:
    try:
        store = app.schema_store()
        missing = [name for name in app.tasks if store.latest(name) is None]
    except TaskstreamError as error:
        return Finding(
            "schemas",
            Health.FAIL,
            str(error),
            "run `taskstream init`, or check schema_registry_url",
        )
    if missing:
        return Finding(
            "schemas", Health.WARN, f"not stored yet: {', '.join(missing)}", "run `taskstream init`"
        )
    return Finding("schemas", Health.OK, f"stored, of {_counted(len(app.tasks), 'task')}")


def _results(app: "App") -> Finding:
    try:
        store = app.result_store()
        if store is None:
            return Finding(
                "results", Health.WARN, "no store is configured: tasks can be published, not run",
                "set cassandra_hosts (TASKSTREAM_CASSANDRA_HOSTS)",
            )  # fmt: skip
        store.read(new_id())  # an id that nobody has: asks for the tables as well
    except StoreUnavailable as error:
        return Finding(
            "results", Health.FAIL, str(error), "run `taskstream up` or `taskstream init`"
        )
    except TaskstreamError as error:
        return Finding("results", Health.FAIL, str(error), "check cassandra_hosts and keyspace")
    return Finding("results", Health.OK, "the store answers, and has its tables")


def _otlp(app: "App") -> Finding:
    endpoint = app.settings.otlp_endpoint
    if not endpoint:
        return Finding(
            "traces", Health.WARN, "no otlp_endpoint: traces go nowhere",
            "set otlp_endpoint (TASKSTREAM_OTLP_ENDPOINT), or start Jaeger with `taskstream up`",
        )  # fmt: skip
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    try:
        address = (parts.hostname or "", parts.port or OTLP_PORT)
        socket.create_connection(address, OTLP_TIMEOUT).close()
    except (OSError, ValueError) as error:
        # Without a collector traces are lost, and nothing else.
        return Finding(
            "traces", Health.WARN, f"{endpoint} can't be reached: {error}",
            "check otlp_endpoint, or run `taskstream up`",
        )  # fmt: skip
    return Finding("traces", Health.OK, f"{endpoint} takes connections")
