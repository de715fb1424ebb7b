"""What clients of Kafka count, and what is read of their own statistics.

Broken on purpose once, and seen to fail: totals of a client that are added again and again; a user's own
`stats_cb` that is replaced; a duration that is looked at for each record of a round; gauges of a client that stay
when it has been closed.
"""

import gc
import json
import weakref
from typing import Any

import pytest

from taskstream.broker.failures import TimedOut
from taskstream.broker.figures import Answers, Commits, Statistics, read_statistics
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Spread
from taskstream.observability.table import Metric


def statistics(**brokers: dict[str, Any]) -> dict[str, Any]:
    """Statistics of a producer, as STATISTICS.md tells of them."""
    return {"type": "producer", "msg_cnt": 7, "msg_size": 900, "brokers": brokers, "topics": {}}


def broker(**more: Any) -> dict[str, Any]:
    """What is said of one broker."""
    return {
        "rtt": {"p50": 1500, "p99": 20_000, "cnt": 3},
        "connects": 1, "disconnects": 0, "tx": 10, "txbytes": 1000, "rxbytes": 500, "txretries": 0,
        "txerrs": 0, "req_timeouts": 0, "waitresp_cnt": 2,
        **more,
    }  # fmt: skip


def value(metrics: Metrics, metric: Metric, *labels: str) -> float | Spread:
    return metrics.series(metric)[labels]


def test_the_chosen_few_are_read() -> None:
    """Sums over brokers; of round trips the slowest broker's, in seconds; one that was never asked has none."""
    slow = broker(rtt={"p50": 9000, "p99": 9500, "cnt": 1})
    silent = broker(rtt={"p50": 0, "p99": 0, "cnt": 0})
    told = read_statistics(statistics(a=broker(), b=slow, c=silent))
    assert told[table.KAFKA_RTT] == {("0.5",): 0.009, ("0.99",): 0.02}
    assert told[table.KAFKA_TX_BYTES] == {(): 3000}
    assert told[table.KAFKA_QUEUED] == {(): 7}
    assert told[table.KAFKA_WAITING] == {(): 6}
    assert table.KAFKA_FETCHED not in told


def test_a_consumer_tells_what_it_has_fetched() -> None:
    """Over all partitions; the client's internal one counts as nothing, where it says -1."""
    partitions = {"0": {"fetchq_cnt": 4, "fetchq_size": 80}, "-1": {"fetchq_cnt": -1}}
    document = {"type": "consumer", "brokers": {}, "topics": {"a": {"partitions": partitions}}}
    told = read_statistics(document)
    assert told[table.KAFKA_FETCHED] == {(): 4}
    assert told[table.KAFKA_FETCHED_BYTES] == {(): 80}
    assert table.KAFKA_RTT not in told


def test_totals_are_added_once() -> None:
    """A client says how many there were since its start; a new one in its place begins again."""
    metrics = Metrics()
    for totals in ((10, 25), (5,)):
        client = Statistics(metrics, "publish", {})
        for tx in totals:
            client.hear(json.dumps(statistics(a=broker(tx=tx))))
        client.end()
    assert value(metrics, table.KAFKA_TX, "publish") == 30
    assert metrics.series(table.KAFKA_QUEUED) == {}


def test_a_client_that_was_closed_has_no_gauges() -> None:
    """Not even where it had something to say after that; and what has ended is not asked, or kept, any more."""
    metrics = Metrics()
    client = Statistics(metrics, "publish", {})
    client.end()
    client.end()
    client.hear(json.dumps(statistics(a=broker())))
    assert metrics.series(table.KAFKA_QUEUED) == {}
    assert value(metrics, table.KAFKA_TX, "publish") == 10
    ended = weakref.ref(client)
    del client
    gc.collect()
    assert ended() is None


def test_what_can_not_be_read_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The callback is called from C code: it says so in the log and goes on."""
    client = Statistics(Metrics(), "publish", {})
    client.hear("no json")
    client.hear(json.dumps({"brokers": {"a": {"rtt": 7}}}))
    assert caplog.text.count("statistics can't be read") == 2


def test_a_user_s_own_statistics_stay_his() -> None:
    """Who has a callback keeps it; who has chosen the interval keeps that; who counts nothing asks nothing."""
    assert Statistics(Metrics(), "a", {"stats_cb": print}).options == {}
    assert Statistics(Metrics(), "a", {"statistics.interval.ms": 0}).options.keys() == {"stats_cb"}
    assert Statistics(None, "a", {}).options == {}
    assert Statistics(Metrics(), "a", {}).options.keys() == {"stats_cb", "statistics.interval.ms"}


class Message:
    """A record that took so long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def latency(self) -> float:
        return self.seconds


def test_answers_are_counted_one_by_one_and_timed_once_a_round() -> None:
    """A failure has the name of its error; one before the client was asked counts as well."""
    metrics = Metrics()
    answers = Answers(metrics)
    for _ in range(2):
        answers.new_round()
        for seconds in (0.2, 0.3, 0.4):
            answers.acknowledged("a", Message(seconds))
    answers.failed("a", TimedOut("no answer"))
    assert value(metrics, table.SENT, "a", "") == 6
    assert value(metrics, table.SENT, "a", "TimedOut") == 1
    durations = value(metrics, table.OPERATION_DURATION, "send", "")
    assert isinstance(durations, Spread)
    assert sum(durations.counts) == 2
    assert durations.total == pytest.approx(0.4)


def test_commits_are_measured() -> None:
    """With the name of the error of one that was refused."""
    metrics = Metrics()
    Commits(metrics).answered(0.1, None)
    Commits(metrics).answered(0.1, TimedOut("no answer"))
    assert metrics.series(table.OPERATION_DURATION).keys() == {
        ("commit", ""),
        ("commit", "TimedOut"),
    }


def test_without_metrics_nothing_is_counted() -> None:
    """A client of a command counts nowhere, and goes the same way."""
    answers = Answers(None)
    answers.new_round()
    answers.acknowledged("a", Message(0.1))
    answers.failed("a", TimedOut("no answer"))
    Commits(None).answered(0.1, None)


def test_troubles_of_a_connection_are_counted() -> None:
    """What ended, what was sent again, what could not be sent, and what nobody answered."""
    metrics = Metrics()
    client = Statistics(metrics, "publish", {})
    trouble = broker(connects=3, disconnects=2, txretries=4, txerrs=5, req_timeouts=6)
    client.hear(json.dumps(statistics(a=trouble, b=broker())))
    assert value(metrics, table.KAFKA_CONNECTS, "publish") == 4
    assert value(metrics, table.KAFKA_DISCONNECTS, "publish") == 2
    assert value(metrics, table.KAFKA_RETRIES, "publish") == 4
    assert value(metrics, table.KAFKA_ERRORS, "publish") == 5
    assert value(metrics, table.KAFKA_TIMEOUTS, "publish") == 6
