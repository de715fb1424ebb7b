"""The settings: one frozen record, and how layers of them become it.

The first layer that names a setting wins; where the layers come from (flags, `App(...)`,
environment, files) is told by `taskstream.app.configure`, which reads them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from taskstream.core.errors import ConfigError
from taskstream.core.secrets import secrets_in, shown
from taskstream.core.tiers import DAY

EMBEDDED = "embedded"
"""The value of `bootstrap_servers` that asks for the broker inside the process."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """Everything that can be set from outside. Times are in seconds. Its text shows no secret.

    Args:
        bootstrap_servers: Kafka addresses, `host:port,host:port`, or "embedded".
        cassandra_hosts: Cassandra addresses, `host[:port],…`; empty means no result store.
        keyspace: Cassandra keyspace of the results.
        cassandra_datacenter: the driver's local datacenter; empty means that of the first host.
        otlp_endpoint: where spans and metrics go (OTLP over gRPC); empty means nowhere.
        schema_registry_url: a Schema Registry instead of the schema topic; empty means the topic.
        partitions: partitions of each task topic that `init` creates.
        replication: replication factor that `init` asks for; -1 is the broker's default.
        result_ttl: how long results are kept.
        retention: how long task topics keep records; `init` refuses a `result_ttl` below it.
        publish_timeout: how long `publish` waits for Kafka.
        unknown_grace: how long an unknown task or schema is put off before it dies.
        dead_limit: how many tasks of one priority may die, beyond what successes and an hour make up for,
            before a worker halts it (see docs/workers.md); 0 is no limit.
        dead_share: which share of a priority's tasks may die for ever: each success makes up for
            `dead_share / (1 - dead_share)` deaths.
        events: whether workers tell the events topic of every attempt, for `taskstream events`, the audit log,
            and a result store that can be rebuilt; costs some 5 µs a task.
        stuck_after: how long a part of a worker may make no step before /live fails.
        log_level: what our own processes log: debug, info, warning or error (see docs/logging.md).
        log_format: "text", or "json" for one JSON object a line.
        embedded_directory: where the embedded mode keeps its address and results.
        kafka: options passed untouched to every Kafka client (librdkafka's names).
        cassandra: options passed untouched to the driver's `Cluster`.
    """

    bootstrap_servers: str = ""
    cassandra_hosts: str = ""
    keyspace: str = "taskstream"
    cassandra_datacenter: str = ""
    otlp_endpoint: str = ""
    schema_registry_url: str = ""
    partitions: int = 8
    replication: int = -1
    result_ttl: float = 7 * DAY
    retention: float = 7 * DAY
    publish_timeout: float = 30.0
    unknown_grace: float = 600.0
    dead_limit: int = 100
    dead_share: float = 0.5
    events: bool = True
    stuck_after: float = 60.0
    log_level: str = "info"
    log_format: str = "text"
    embedded_directory: str = ""
    kafka: Mapping[str, Any] = field(default_factory=dict)
    cassandra: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        values = shown({name: getattr(self, name) for name in NAMES})
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    @property
    def secrets(self) -> frozenset[str]:
        """What must never be shown, wherever it stands in them."""
        return secrets_in({name: getattr(self, name) for name in NAMES})

    @property
    def embedded(self) -> bool:
        """Whether the broker runs inside a process of ours."""
        return self.bootstrap_servers == EMBEDDED

    @property
    def keeps_results(self) -> bool:
        """Whether a result store is configured: Cassandra, or the embedded mode's own."""
        return bool(self.cassandra_hosts) or self.embedded

    @property
    def alarming_age(self) -> float:
        """How many seconds a task may wait before that is an alarm: half of what Kafka keeps it for."""
        return self.retention / 2

    def require_broker(self) -> None:
        """Raises ConfigError where no broker is configured; says both ways out."""
        if not self.bootstrap_servers:
            raise ConfigError(
                "no Kafka is configured: set bootstrap_servers (TASKSTREAM_BOOTSTRAP_SERVERS), start local "
                'servers with `taskstream up`, or try without any: bootstrap_servers="embedded"'
            )


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one source.

    Args:
        source: where they come from, for error messages ("TASKSTREAM_* environment").
        values: by setting name; text is turned into the setting's type.
    """

    source: str
    values: Mapping[str, Any]


NAMES = tuple(setting.name for setting in fields(Settings))
"""The names of all settings."""


def resolve(layers: Sequence[Layer]) -> Settings:
    """Merges layers, the first one that names a setting wins.

    Raises:
        ConfigError: a name is unknown or a value has the wrong type; says in which source.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.values.items():
            if name not in _TYPES:
                raise ConfigError(
                    f"unknown setting {name!r} in {layer.source}; known are: {', '.join(sorted(_TYPES))}"
                )
            if name not in merged and value is not None:
                merged[name] = _convert(name, value, layer.source)
    return Settings(**merged)


_TYPES = {name: hint for name, hint in get_type_hints(Settings).items() if name in NAMES}


def _convert(name: str, value: Any, source: str) -> Any:
    wanted = _TYPES[name]
    if wanted is bool:
        return _yes_or_no(name, value, source)
    if wanted not in (str, int, float):
        if isinstance(value, Mapping):
            return dict(value)
        # Not its text: that may well be a table, with a password in it.
        raise ConfigError(
            f"setting {name} in {source} must be a table of options, not of type {type(value).__name__}"
        )
    if wanted is str and not isinstance(value, str):
        if isinstance(value, Sequence):
            return ",".join(str(part) for part in value)
        raise ConfigError(f"setting {name} in {source} must be text, not {shown(value)!r}")
    try:
        return wanted(value)
    except (TypeError, ValueError) as error:
        kind = {int: "a whole number", float: "a number"}[wanted]
        raise ConfigError(
            f"setting {name} in {source} must be {kind}, not {shown(value)!r}"
        ) from error


_YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _yes_or_no(name: str, value: Any, source: str) -> bool:
    meant = _YES_OR_NO.get(str(value).lower())
    if meant is None:
        raise ConfigError(f"setting {name} in {source} must be true or false, not {shown(value)!r}")
    return meant
