"""Metrics as Prometheus fetches them, and as no-ops where it is missing."""

import re
import sys

import pytest
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.metrics import db_metrics
from prometheus_client.parser import text_string_to_metric_families

from taskstream.observability import table
from taskstream.observability.exposition import Exposition
from taskstream.observability.metrics import Metrics


def fetched(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(Exposition(metrics)().body.decode())
        for sample in family.samples
    }


def test_a_counter_counts_by_its_labels() -> None:
    """The same labels mean the same counter, others another one."""
    metrics = Metrics()
    for topic, amount in (("a", 1), ("b", 5), ("a", 2)):
        metrics.counter(table.CONSUMED, topic=topic).inc(amount)
    samples = fetched(metrics)
    assert samples["messaging_client_consumed_messages_total", (("topic", "a"),)] == 3
    assert samples["messaging_client_consumed_messages_total", (("topic", "b"),)] == 5


def test_a_histogram_has_the_buckets_of_the_table() -> None:
    """Seconds go into the table's buckets, under a name that says seconds."""
    metrics = Metrics()
    metrics.histogram(table.PROCESS_DURATION, task="charge", state="succeeded").observe(0.2)
    samples = fetched(metrics)
    name = "messaging_process_duration_seconds"
    labels = (("state", "succeeded"), ("task", "charge"))
    assert samples[f"{name}_sum", labels] == 0.2
    bounds = {float(dict(found)["le"]) for sample, found in samples if sample == f"{name}_bucket"}
    assert bounds == {*table.PROCESS_DURATION.buckets, float("inf")}


def test_a_gauge_is_read_at_each_fetch() -> None:
    """A partition that left has no series any more: nothing stale is shown."""
    metrics = Metrics()
    lag: dict[tuple[str, ...], float] = {("shop.tasks.high", "0"): 17.0}
    metrics.gauge(table.LAG, lambda: lag)
    metrics.gauge(table.LAG, lambda: {("shop.tasks.low", "1"): 2.0})
    first = ("taskstream_lag", (("partition", "0"), ("topic", "shop.tasks.high")))
    second = ("taskstream_lag", (("partition", "1"), ("topic", "shop.tasks.low")))
    assert fetched(metrics)[first] == 17
    lag.clear()
    assert first not in fetched(metrics)
    assert fetched(metrics)[second] == 2


def test_a_metric_without_labels_is_there_from_the_start() -> None:
    """What has no labels shows 0 before it first happens, so that alarms can be written on it."""
    metrics = Metrics()
    metrics.histogram(table.ROWS_PER_BATCH).observe(20)
    metrics.gauge(table.SLOTS, lambda: {(): 100.0})
    samples = fetched(metrics)
    assert samples["taskstream_rows_batch_count", ()] == 1
    assert samples["taskstream_delay_lateness_seconds_count", ()] == 0
    assert samples["taskstream_slots", ()] == 100


def test_a_gauge_that_fails_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and left out; the fetch succeeds."""
    metrics = Metrics()

    def broken() -> dict[tuple[str, ...], float]:
        raise RuntimeError("gone")

    metrics.gauge(table.SLOTS, broken)
    metrics.gauge(table.ROWS_PENDING, lambda: {(): 3.0})
    assert fetched(metrics)["taskstream_rows_pending", ()] == 3
    assert "metric=taskstream.slots" in caplog.text


def test_two_processes_worth_of_metrics_do_not_mix() -> None:
    """Each object has its own registry, and the user's default one is left alone."""
    one, other = Metrics(), Metrics()
    one.counter(table.CONSUMED, topic="a").inc()
    assert not any(name.startswith("messaging") for name, _ in fetched(other) if "consumed" in name)


@pytest.mark.parametrize("labels", [{}, {"topic": "a", "more": "b"}, {"queue": "a"}])
def test_other_labels_than_the_table_s_are_refused(labels: dict[str, str]) -> None:
    """A typo fails at once, with prometheus_client or without, and names what is right."""
    with pytest.raises(
        ValueError, match=re.escape("messaging.client.consumed.messages has the labels topic")
    ):
        Metrics().counter(table.CONSUMED, **labels)


def test_a_metric_of_another_kind_is_refused() -> None:
    """A gauge can't be counted, nor a counter read."""
    with pytest.raises(ValueError, match="is a gauge, not a counter"):
        Metrics().counter(table.LAG, topic="a", partition="0")
    with pytest.raises(ValueError, match="is a counter, not a gauge"):
        Metrics().gauge(table.CONSUMED, dict)


def test_without_prometheus_all_of_it_is_a_no_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """With base dependencies alone nobody has to ask first, and /metrics says what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    metrics = Metrics()
    metrics.counter(table.CONSUMED, topic="a").inc()
    metrics.histogram(table.ROWS_PER_BATCH).observe(0.1)
    metrics.gauge(table.LAG, dict)
    assert b"taskstream[worker]" in Exposition(metrics)().body


def test_every_metric_of_the_table_can_be_kept() -> None:
    """Names are unique, valid for Prometheus, and those outside `taskstream.` are the conventions'."""
    known_names = {
        name
        for conventions in (messaging_metrics, db_metrics)
        for name in vars(conventions).values()
        if isinstance(name, str)
    }
    names = [metric.name for metric in table.METRICS]
    assert len(names) == len(set(names))
    for metric in table.METRICS:
        assert metric.name.startswith(("taskstream.", "librdkafka.")) or metric.name in known_names
        assert re.fullmatch(r"[a-z_]+", metric.prometheus_name)
        assert bool(metric.buckets) == (metric.kind is table.Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(metric.buckets)


def test_the_table_lists_all_its_metrics() -> None:
    """A metric that is defined is also in the list that the docs are made from."""
    defined = [value for value in vars(table).values() if isinstance(value, table.Metric)]
    assert list(table.METRICS) == defined
