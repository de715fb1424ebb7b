"""What the dashboard's /metrics makes of what was seen; asks no server.

Broken on purpose once, and seen to fail: a look that counts for ever, an unknown age told as 0, dead letters told
before all of them are read, kinds of letters without a bound, letters counted on that Kafka has deleted.
"""

from dataclasses import replace

from taskstream import App
from taskstream.admin.overview import gauges
from taskstream.admin.overview.live import Live, Look
from taskstream.admin.overview.morgue import Morgue
from taskstream.admin.queues import Lane
from taskstream.admin.workers import Worker
from taskstream.broker.records import Record
from taskstream.core.clock import ManualClock
from taskstream.core.envelope import Death, Envelope, bury, write
from taskstream.observability import table
from taskstream.observability.metrics import OTHER, Metrics

HIGH = Lane("tasks", "high", "shop.tasks.high", 4, 7, 30.0, paused=False, dead=0)
LOW = replace(HIGH, priority="low", topic="shop.tasks.low", lag=0, oldest_s=None, paused=True)
WORKER = Worker("a", "host", 1, "1", ("gpu",), 0.0, 0.0, 2, ())


def test_an_old_look_is_no_look() -> None:
    """Numbers grow old with their look, and are left out when it is too old; how old it is, is told always."""
    clock = ManualClock()
    live, metrics = Live(App("shop"), clock=clock), Metrics()
    gauges.of_overview(metrics, live, "shop")
    assert not metrics.series(table.QUEUE_LAG)
    live.see([HIGH, LOW], [WORKER])
    clock.advance(10.0)
    assert metrics.series(table.QUEUE_LAG) == {("tasks", "high"): 7.0, ("tasks", "low"): 0.0}
    assert metrics.series(table.QUEUE_AGE) == {("tasks", "high"): 40.0, ("tasks", "low"): 0.0}
    assert metrics.series(table.QUEUE_HELD) == {("tasks", "high"): 0.0, ("tasks", "low"): 1.0}
    assert metrics.series(table.WORKERS) == {("tasks",): 0.0}
    clock.advance(gauges.COUNTS_FOR)
    told = (table.QUEUE_LAG, table.QUEUE_AGE, table.QUEUE_HELD, table.WORKERS)
    assert not any(metrics.series(metric) for metric in told)
    assert metrics.series(table.LOOK_AGE) == {(): 10.0 + gauges.COUNTS_FOR}


def test_dead_letters_are_told_once_all_are_read() -> None:
    """Before that there would be too few of them."""
    live, metrics = Live(App("shop")), Metrics()
    gauges.of_overview(metrics, live, "shop")
    live.morgue.by_kind()["shop.tasks.high", "ValueError"] = 3
    assert not metrics.series(table.DEAD_OPEN)
    live.morgue.caught_up = True
    assert metrics.series(table.DEAD_OPEN) == {("tasks", "ValueError"): 3.0}


def test_letters_that_kafka_has_deleted_are_open_no_more() -> None:
    """By retention, while the dashboard lives on: nobody could redrive them, and an alert would never end."""
    morgue = Morgue()
    death = Death("Fatal", "no", "shop.tasks.high/2/17", 5.0)
    for partition, offset in ((0, 3), (0, 4), (1, 3)):
        headers = bury(write(Envelope("charge", id=f"{partition}-{offset}", attempt=1)), death, ())
        record = Record("shop.dead", partition, offset, b"k", b"v", tuple(headers), 6.0)
        morgue.hear([record], True)
    assert morgue.by_kind() == {("shop.tasks.high", "Fatal"): 3}
    morgue.forget({0: 4, 1: 0})
    assert {letter.id for letter in morgue.letters()} == {"0-4", "1-3"}
    assert morgue.by_topic() == {"shop.tasks.high": 2}


def test_an_age_that_nobody_could_tell_is_left_out() -> None:
    """Where something waits and its oldest was not found in time, 0 would say that nothing does."""
    assert gauges.ages([replace(HIGH, oldest_s=None)], 1.0) == {}


def test_workers_are_counted_by_the_queues_they_serve() -> None:
    """One that serves two counts in both; a queue that the app does not know is left out."""
    both = replace(WORKER, queues=("tasks", "gpu"))
    look = Look(1.0, (HIGH, LOW, replace(HIGH, queue="gpu")), (WORKER, both))
    assert gauges.serving(look) == {("tasks",): 1, ("gpu",): 2}


def test_rare_kinds_of_letters_are_counted_as_one() -> None:
    """Class names can be made up without end; none is lost from the sum."""
    kinds = {("shop.tasks.high", f"Error{number}"): 2 for number in range(gauges.KINDS)}
    kinds |= {("shop.tasks.low", "Error0"): 1, ("foreign", "Rare"): 1, ("foreign", "Rarer"): 1}
    found = gauges.by_queue(kinds)
    assert found["tasks", "Error0"] == 3
    assert len(found) == gauges.KINDS + 1
    assert found[OTHER, OTHER] == 2
    assert sum(found.values()) == sum(kinds.values())
