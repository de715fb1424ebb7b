"""Whether the delay topics keep what waits in them for long enough: pure, from their settings in Kafka.

A record stays in a tier for its span, and for as long again as nobody moves it. What Kafka deletes before
is lost without a trace, so a tier that forgets too early must be told of before it does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taskstream.core.tiers import DAY, HOUR, MINUTE

RETENTION, SIZE, POLICY, TIMES = (
    "retention.ms",
    "retention.bytes",
    "cleanup.policy",
    "message.timestamp.type",
)
"""The settings of a delay topic that decide what it keeps."""

Configs = Mapping[str, Mapping[str, str]]
"""By topic, its settings by their names in Kafka."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one delay topic.

    Args:
        topic: its name.
        loses: whether tasks are lost for certain; else only while no scheduler runs.
        what: in plain words.
        advice: what to do.
    """

    topic: str
    loses: bool
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.topic} {self.what}: {self.advice}"


def flaws(spans: Mapping[str, float], configs: Configs, retention: float) -> list[Flaw]:
    """What is wrong with the delay topics, those that lose tasks first.

    Args:
        spans: by topic, the seconds that a record waits there; one that has no settings is passed over.
        configs: what the brokers say.
        retention: for how many seconds a task is to outlive that nobody moves it, by the app's settings.
    """
    found = [
        flaw
        for topic, span in spans.items()
        if topic in configs
        for flaw in _flaws(topic, span, configs[topic], retention)
    ]
    return sorted(found, key=lambda flaw: not flaw.loses)


def _flaws(topic: str, span: float, config: Mapping[str, str], retention: float) -> Iterable[Flaw]:
    wanted = round((span + retention) * 1000)
    kept = int(config.get(RETENTION, "-1"))
    if 0 <= kept < span * 1000:
        yield Flaw(
            topic,
            True,
            f"keeps records for {_told(kept / 1000)} and lets them wait for {_told(span)}",
            _alter(topic, RETENTION, wanted),
        )
    elif 0 <= kept < wanted:
        yield Flaw(
            topic,
            False,
            f"keeps records for {_told(kept / 1000)}: after {_told(kept / 1000 - span)} without a "
            f"scheduler tasks are lost, and the app's retention promises {_told(retention)}",
            f"{_alter(topic, RETENTION, wanted)}, or lower the app's retention",
        )
    if int(config.get(SIZE, "-1")) >= 0:
        yield Flaw(
            topic,
            False,
            f"keeps {int(config[SIZE]):,} bytes of a partition at most, however long tasks wait",
            _alter(topic, SIZE, -1),
        )
    if "compact" in config.get(POLICY, "delete"):
        yield Flaw(
            topic,
            True,
            "is compacted: of tasks with one key all but the last are lost",
            _alter(topic, POLICY, "delete"),
        )
    if config.get(TIMES, "LogAppendTime") != "LogAppendTime":
        yield Flaw(
            topic,
            False,
            "bears the times of its producers, and a wrong clock among them misleads the scheduler",
            _alter(topic, TIMES, "LogAppendTime"),
        )


def _alter(topic: str, name: str, value: object) -> str:
    return (
        f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
        f"--add-config {name}={value}"
    )


def _told(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
