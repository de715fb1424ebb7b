"""Delays on real servers: how far ahead, what expires while it waits, and topics that forget too early.

Broken on purpose once, and seen to fail: the scheduler without its look at the topics, `doctor` without it,
and an expiry that is looked at where a task is published only.
"""

import time

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from tests.support.eventually import eventually
from tests.support.pages import Pages
from tests.support.stage import Stage

from taskstream import State
from taskstream.admin.delays import tiers
from taskstream.admin.doctor import Finding, Health, examine
from taskstream.broker.tail import read_to_end
from taskstream.broker.topics import Topics
from taskstream.core.envelope import read
from taskstream.core.tiers import DAY, LONGEST_DELAY


def _keep(stage: Stage, topic: str, milliseconds: int) -> None:
    """Lets a topic keep its records for so long, as an operator would."""
    admin = AdminClient({"bootstrap.servers": stage.app.settings.bootstrap_servers})
    entry = ConfigEntry(
        "retention.ms", str(milliseconds), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource("topic", topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(15)


def _finding(stage: Stage) -> Finding:
    (found,) = [one for one in examine(lambda: stage.app) if one.check == "delays"]
    return found


def test_a_task_waits_for_a_year_in_the_largest_tier(stage: Stage) -> None:
    """Its record is there, with its home and its time; nobody moves it, and a cancel brings it home."""
    handle = stage.task("add").options(delay=LONGEST_DELAY - 60).publish(1)
    topic = stage.app.names.delay(30 * DAY)
    (record,) = read_to_end(stage.app.settings, topic)
    waits = read(record.headers)
    assert waits.id == handle.id
    assert waits.due == pytest.approx(handle.due, abs=1e-6)
    assert waits.home is not None
    assert waits.home.topic == stage.app.names.tasks("tasks", "normal")
    stage.worker()
    soon = stage.task("add").options(delay=6).publish(2)
    assert soon.result(timeout=60) == 3
    assert len(read_to_end(stage.app.settings, topic)) == 1
    assert handle.state() is State.DELAYED
    handle.cancel("not this year")
    stage.wait_for([handle], {State.CANCELLED: 1})
    assert [run.id for run in stage.journal] == [soon.id]


def test_what_has_expired_while_it_waited_is_not_run(stage: Stage) -> None:
    """The scheduler brings it home at its due time; the worker comes later than it may run."""
    handle = stage.task("add").options(delay=0.5, expires=1.0).publish(1)
    scheduler = stage.scheduler()
    home = stage.app.names.tasks("tasks", "normal")
    eventually(lambda: read_to_end(stage.app.settings, home), timeout=30)
    expires = (handle.due or 0.0) + 0.5
    eventually(lambda: time.time() > expires)
    stage.worker("--no-scheduler")
    stage.wait_for([handle], {State.EXPIRED: 1})
    assert stage.journal == []
    assert scheduler.stop() == 0


def test_what_waits_is_listed_by_tier(stage: Stage) -> None:
    """Before a scheduler was there, and while it holds them in memory; what came home counts no more."""
    add = stage.task("add")
    for delay in (3700, 3800, 100_000):
        add.options(delay=delay).publish(1)
    before = {tier.span_s: tier.waiting for tier in tiers(stage.app) if tier.waiting}
    assert before == {3600.0: 2, DAY: 1}
    stage.worker()
    assert add.options(delay=0.2).publish(2).result(timeout=60) == 3

    def look() -> None:
        assert {tier.span_s: tier.waiting for tier in tiers(stage.app) if tier.waiting} == before

    eventually(look, timeout=30)


def test_a_tier_that_forgets_too_early_is_told_of(stage: Stage) -> None:
    """By `doctor`, and by every scheduler that starts, in words that say what to do; it works on."""
    topic = stage.app.names.delay(30 * DAY)
    assert _finding(stage).health is Health.OK
    _keep(stage, topic, round(36 * DAY * 1000))
    eventually(lambda: _finding(stage).health is Health.WARN)
    _keep(stage, topic, round(DAY * 1000))
    eventually(lambda: _finding(stage).health is Health.FAIL)
    assert "wait for 30 days" in _finding(stage).detail
    with Topics(stage.app.settings) as topics:
        assert topics.configs([topic, "nowhere"]).keys() == {topic}
    worker = stage.worker()
    eventually(lambda: "a delay topic loses tasks" in worker.log.read_text(), timeout=30)
    assert f"--entity-name {topic} --add-config retention.ms=" in worker.log.read_text()
    assert stage.task("add").options(delay=1).publish(2).result(timeout=60) == 3


def test_lateness_is_counted_where_tasks_come_home(stage: Stage) -> None:
    """One histogram at /metrics of each worker: a delayed task, and a retry."""
    pages = Pages.of(stage)
    stage.task("add").options(delay=0.5).publish(1).result(timeout=60)
    assert stage.task("fails_twice").publish(1).result(timeout=60) == "1 at last"
    assert pages.metric("taskstream_delay_lateness_seconds_count") == 3
