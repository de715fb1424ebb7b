"""What is wrong with delay topics, by what Kafka says of them.

Broken on purpose once, and seen to fail: the span compared in seconds with Kafka's milliseconds, and the
retention of the app left out.
"""

import pytest

from taskstream.admin.provision import plan
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.core.tiers import DAY
from taskstream.scheduler.retention import flaws

NAMES = Names("shop")
MONTH, SECONDS = "shop.delay.30d", "shop.delay.5s"


def test_what_init_creates_has_no_flaw() -> None:
    """Whatever the app's retention."""
    for retention in (1.0, 7 * DAY, 400 * DAY):
        specs = plan(NAMES, {"tasks": {"high": 1}}, Settings(retention=retention))
        configs = {spec.name: spec.config for spec in specs}
        assert flaws(NAMES.delays, configs, retention) == []


@pytest.mark.parametrize(
    ("config", "loses", "named"),
    [
        ({"retention.ms": str(int(30 * DAY * 1000) - 1)}, True, "wait for 30 days"),
        ({"retention.ms": str(int(36 * DAY * 1000))}, False, "after 6 days without a scheduler"),
        ({"retention.ms": str(int(30 * DAY * 1000))}, False, "after 0 s without a scheduler"),
        ({"retention.ms": "-1", "retention.bytes": "1000000"}, False, "1,000,000 bytes"),
        ({"retention.ms": "-1", "cleanup.policy": "compact,delete"}, True, "compacted"),
        ({"retention.ms": "-1", "message.timestamp.type": "CreateTime"}, False, "wrong clock"),
    ],
)
def test_a_topic_that_forgets_too_early_is_told_of(
    config: dict[str, str], loses: bool, named: str
) -> None:
    """What loses tasks for certain, and what only while nobody moves them; with a command that mends it."""
    (flaw,) = flaws(NAMES.delays, {MONTH: config}, 7 * DAY)
    assert (flaw.topic, flaw.loses) == (MONTH, loses)
    assert named in flaw.what
    assert f"--entity-name {MONTH} --add-config " in flaw.advice
    assert str(flaw).startswith(MONTH)


def test_the_right_retention_is_named_and_the_worst_comes_first() -> None:
    """Span and the app's retention, in milliseconds."""
    hour = str(3600 * 1000)
    found = flaws(
        NAMES.delays, {SECONDS: {"retention.ms": hour}, MONTH: {"retention.ms": hour}}, 7 * DAY
    )
    assert [(flaw.topic, flaw.loses) for flaw in found] == [(MONTH, True), (SECONDS, False)]
    assert f"retention.ms={37 * 24 * 3600 * 1000}" in found[0].advice


def test_a_topic_without_settings_is_passed_over() -> None:
    """It does not exist yet, or nobody may tell."""
    assert flaws(NAMES.delays, {}, 7 * DAY) == []
    assert flaws(NAMES.delays, {MONTH: {}}, 7 * DAY) == []
