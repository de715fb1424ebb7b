"""Metrics as they are kept, added up over processes, and fetched by Prometheus.

Broken on purpose once, and seen to fail: `take` that forgets what it told, or tells it twice; exemplars of
traces in plain text; gauges of two processes of which one hides the other.
"""

import re
import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.metrics import db_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from taskstream.observability import table
from taskstream.observability.exposition import Exposition, process_readings
from taskstream.observability.metrics import Metrics, Told


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


def test_without_prometheus_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """With base dependencies alone all is counted, for other readers, and nobody has to ask first."""
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


TRACE, SPAN = "ab" * 16, "cd" * 8


def test_an_exemplar_leads_to_its_trace() -> None:
    """Who accepts OpenMetrics gets the latest value of each bucket with its trace; plain text has none."""
    metrics = Metrics()
    durations = metrics.histogram(table.WAIT_DURATION, queue="tasks", priority="high")
    durations.observe(0.2)
    durations.observe(0.3, (TRACE, SPAN))
    page = Exposition(metrics)("application/openmetrics-text; version=1.0.0")
    assert page.content_type.startswith("application/openmetrics-text")
    [line] = [one for one in page.body.decode().splitlines() if " # {" in one]
    assert 'le="0.5"' in line
    exemplar = line.partition(" # ")[2]
    assert exemplar.startswith(f'{{span_id="{SPAN}",trace_id="{TRACE}"}} 0.3 ')
    assert TRACE not in Exposition(metrics)("text/plain").body.decode()
    families = {one.name: one for one in openmetrics(page.body.decode())}  # type: ignore[no-untyped-call]
    assert families["taskstream_wait_duration_seconds"].type == "histogram"


def test_the_page_tells_of_the_process_too() -> None:
    """What prometheus_client tells of any Python process is there under the names that people know."""
    names = {name for name, _ in fetched(Metrics())}
    assert {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "python_gc_collections_total",
    } <= names
    readings = process_readings()
    assert all(readings[name] > 0 for name, _ in table.PROCESS_METRICS)


def carried(told: Told) -> Told:
    """As it comes out of a pipe."""
    return Told(*msgpack.unpackb(msgpack.packb(told), use_list=False))


amounts = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.floats(0, 100)), max_size=30
)


@given(events=amounts, taken=st.sets(st.integers(0, 29)))
def test_what_processes_tell_adds_up_to_what_happened(
    events: list[tuple[int, str, float]], taken: set[int]
) -> None:
    """However often each of three processes tells, one that hears them knows what one alone would."""
    alone, hearing, others = Metrics(), Metrics(), [Metrics() for _ in range(3)]

    def count(metrics: Metrics, name: str, amount: float) -> None:
        metrics.counter(table.CONSUMED, topic=name).inc(amount)
        metrics.histogram(table.PROCESS_DURATION, task=name, state="dead").observe(amount)

    for number, (process, name, amount) in enumerate(events):
        count(alone, name, amount)
        count(others[process], name, amount)
        if number in taken:
            hearing.hear(str(process), carried(others[process].take()))
    for process, metrics in enumerate(others):
        hearing.hear(str(process), carried(metrics.take()))
        assert metrics.take().counted == []
    assert fetched_numbers(hearing) == pytest.approx(fetched_numbers(alone))


def fetched_numbers(metrics: Metrics) -> dict[str, float]:
    """What the table's metrics say, by name and labels; those of the process change by themselves."""
    return {
        f"{name} {labels}": value
        for (name, labels), value in fetched(metrics).items()
        if name.startswith(("messaging", "taskstream"))
    }


def test_gauges_of_several_processes_are_one_series() -> None:
    """Numbers of things add up, of times the largest counts, and who has gone says nothing any more."""
    hearing, one = Metrics(), Metrics()
    for metrics, number in ((hearing, 1.0), (one, 4.0)):
        queued_now: dict[tuple[str, ...], float] = {("publish",): number}
        took: dict[tuple[str, ...], float] = {("publish", "0.5"): number}
        metrics.gauge(table.KAFKA_QUEUED, queued_now.copy)
        metrics.gauge(table.KAFKA_RTT, took.copy)
    queued = ("librdkafka_msg_cnt", (("client", "publish"),))
    rtt = ("librdkafka_rtt_seconds", (("client", "publish"), ("quantile", "0.5")))
    for _ in range(2):  # the last word of each counts
        hearing.hear("child 1", carried(one.take()))
    samples = fetched(hearing)
    assert (samples[queued], samples[rtt]) == (5, 4)
    hearing.forget("child 1")
    samples = fetched(hearing)
    assert (samples[queued], samples[rtt]) == (1, 1)


def test_exemplars_come_along() -> None:
    """What a child has counted of a traced attempt leads to the trace from the worker's page."""
    child, worker = Metrics(), Metrics()
    labels = {"task": "charge", "state": "dead"}
    child.histogram(table.PROCESS_DURATION, **labels).observe_all([(0.2, (TRACE, SPAN))])
    worker.hear("child", carried(child.take()))
    page = Exposition(worker)("application/openmetrics-text")
    assert TRACE in page.body.decode()


def test_a_metric_has_no_more_series_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    """Names that a program makes up don't fill a monitoring system: the rest is one series, said once."""
    metrics = Metrics(most_series=2)
    for name in "abcd":
        metrics.counter(table.CONSUMED, topic=name).inc()
    metrics.counter(table.CONSUMED, topic="a").inc()
    samples = fetched(metrics)
    found = {
        dict(labels)["topic"]: value
        for (name, labels), value in samples.items()
        if name == "messaging_client_consumed_messages_total"
    }
    assert found == {"a": 2, "b": 1, "other": 2}
    assert caplog.text.count("too many series") == 1


def test_names_that_the_table_does_not_have_are_passed_over() -> None:
    """A scheduler of the next version beside a worker of this one tells what it tells."""
    metrics = Metrics()
    before = fetched_numbers(metrics)
    metrics.hear(
        "scheduler", Told([("new", (), 1.0)], [("new", (), [1], 1.0, [])], [("new", (), 1.0)])
    )
    assert fetched_numbers(metrics) == before


def test_a_mirror_hears_each_value() -> None:
    """For what must also be told elsewhere; without labels and amount it would be of no use."""
    metrics, heard = Metrics(), []
    metrics.mirror(table.OPERATION_DURATION, lambda labels, amount: heard.append((labels, amount)))
    metrics.histogram(table.OPERATION_DURATION, operation="send", error_type="").observe(0.5)
    metrics.histogram(table.ROWS_PER_BATCH).observe(3)
    assert heard == [({"operation": "send", "error_type": ""}, 0.5)]
