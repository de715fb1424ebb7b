"""Names of topics and consumer groups, and the rule for names that users choose.

Dots separate the parts of a topic name, so they are refused inside a part.
"""

import re
from dataclasses import dataclass

from taskstream.core.errors import ConfigError
from taskstream.core.tiers import TIERS, span_name

_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")

# Second parts of our own topics and groups: a queue of such a name would share them.
RESERVED_QUEUES = frozenset(
    {"control", "dead", "delay", "events", "replay", "replies", "schedules", "schemas", "workers"}
)


def check_part(kind: str, name: str) -> str:
    """The name itself, if it may be part of a topic name.

    Raises:
        ConfigError: it is empty, too long or has other characters than letters, digits, `_`, `-`.
    """
    if not _PART.match(name):
        raise ConfigError(
            f"{kind} name {name!r} is not allowed: use 1 to 63 letters, digits, '_' or '-' "
            "(dots separate the parts of a topic name)"
        )
    if kind == "queue" and name in RESERVED_QUEUES:
        raise ConfigError(
            f"queue name {name!r} is reserved for taskstream's own topics: choose another"
        )
    return name


def queue_and_priority(topic: str) -> tuple[str, str]:
    """Those of a task topic, of whatever app: the inverse of `Names.tasks`."""
    queue, _, priority = topic.partition(".")[2].rpartition(".")
    return queue, priority


@dataclass(frozen=True, slots=True)
class Names:
    """All topic and group names of one app."""

    app: str

    def tasks(self, queue: str, priority: str) -> str:
        """The topic of a queue's priority."""
        return f"{self.app}.{queue}.{priority}"

    def lane(self, topic: str) -> str:
        """`queue.priority` of such a topic: the inverse of `tasks`; of another app's, the whole name."""
        return topic.removeprefix(f"{self.app}.")

    def group(self, queue: str, priority: str, group: str | None = None) -> str:
        """The consumer group that works on it; `group` replaces the app's name."""
        return f"{group or self.app}.{queue}.{priority}"

    def delay(self, span: float) -> str:
        """The topic of a delay tier, by its span in seconds."""
        return f"{self.app}.delay.{span_name(span)}"

    @property
    def delays(self) -> dict[str, float]:
        """Every delay topic and its span in seconds, shortest first."""
        return {self.delay(span): span for span in TIERS}

    @property
    def scheduler_group(self) -> str:
        """The consumer group of the delay topics."""
        return f"{self.app}.scheduler"

    def replay_group(self, name: str) -> str:
        """The consumer group, without members, whose offsets tell how far a replay is."""
        return f"{self.app}.replay.{name}"

    @property
    def dead(self) -> str:
        """Dead letters, byte for byte."""
        return f"{self.app}.dead"

    @property
    def workers(self) -> str:
        """Heartbeats, compacted, keyed by worker."""
        return f"{self.app}.workers"

    @property
    def events(self) -> str:
        """The audit log and live feed."""
        return f"{self.app}.events"

    @property
    def replies(self) -> str:
        """Final states for those who wait."""
        return f"{self.app}.replies"

    @property
    def control(self) -> str:
        """Cancel, pause and rate, compacted."""
        return f"{self.app}.control"

    @property
    def schedules(self) -> str:
        """Cron schedules, compacted."""
        return f"{self.app}.schedules"

    @property
    def schemas(self) -> str:
        """Avro schemas, compacted, keyed by fingerprint."""
        return f"{self.app}.schemas"
