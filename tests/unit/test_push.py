"""Metrics on their way to a collector, and what becomes of them where it is gone or wants none.

Broken on purpose once, and seen to fail: a failure that is said each time; a last export to a collector that
did not answer before; series of which an empty label is told; a pace of 0; a collector
that is given up for good.
"""

import sys
from functools import partial
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.resources import Resource
from tests.support.eventually import eventually
from tests.support.numbers import Collector

from taskstream.app.connections import Lifeline
from taskstream.core.clock import ManualClock
from taskstream.core.errors import MissingExtra
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.observability import meters, table
from taskstream.observability.metrics import Metrics
from taskstream.observability.push import ASK_AGAIN, INTERVAL, Push, interval_of, message

TRACE, SPAN = "ab" * 16, "cd" * 8


class Exporter(MetricExporter):
    """Delivers, or does what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.does: Any = lambda: MetricExportResult.SUCCESS
        self.delivered: list[MetricsData] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any
    ) -> MetricExportResult:
        self.delivered.append(metrics_data)
        result: MetricExportResult = self.does()
        return result

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        pass


def pushing(exporter: Exporter, interval: float = 3600.0) -> Push:
    return Push(Metrics(), lambda: exporter, destination="there", service="shop", interval=interval)


def test_a_collector_that_is_gone_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """One when it goes and one when it comes back, whatever it fails with."""
    caplog.set_level("INFO")
    exporter = Exporter()
    sender = pushing(exporter)

    def broken() -> MetricExportResult:
        raise RuntimeError("boom")

    for does in (broken, lambda: MetricExportResult.FAILURE, broken):
        exporter.does = does
        sender.export()
    assert caplog.text.count("can't be delivered") == 1
    assert "RuntimeError: boom" in caplog.text
    exporter.does = lambda: MetricExportResult.SUCCESS
    sender.export()
    sender.export()
    assert caplog.text.count("delivered again") == 1


def test_the_end_sends_what_is_left_once() -> None:
    """Also where the first interval is not over; to finish again changes nothing."""
    exporter = Exporter()
    sender = pushing(exporter)
    sender.start()
    sender.finish()
    sender.finish()
    assert len(exporter.delivered) == 1


def test_the_end_does_not_wait_for_a_collector_that_has_gone() -> None:
    """What did not answer a moment ago is not asked again, for its time-out would hold up the exit."""
    exporter = Exporter()
    exporter.does = lambda: MetricExportResult.FAILURE
    sender = pushing(exporter)
    sender.export()
    sender.start()
    sender.finish()
    assert not sender._thread.is_alive()
    assert len(exporter.delivered) == 1


def test_the_message_says_what_the_page_says() -> None:
    """Under the conventions' names: cumulative sums, gauges, histograms with bounds and exemplars."""
    metrics = Metrics()
    metrics.counter(table.SENT, topic="a", error_type="").inc(3)
    metrics.counter(table.SENT, topic="a", error_type="TimedOut").inc()
    metrics.gauge(table.LAG, lambda: {("a", "0"): 17.0})
    waited = metrics.histogram(table.WAIT_DURATION, queue="tasks", priority="high")
    waited.observe(0.2, (TRACE, SPAN))
    waited.observe(99_999.0)
    data = message(metrics, Resource.create({}), 2_000_000_000.0)
    [scope] = data.resource_metrics[0].scope_metrics
    sent = {one.name: one for one in scope.metrics}
    points: Any = sent["messaging.client.sent.messages"].data.data_points
    told = {
        (point.attributes["messaging.destination.name"], point.attributes.get("error.type")): point
        for point in points
    }
    assert told["a", None].value == 3
    assert told["a", None].attributes["messaging.system"] == "kafka"
    assert told["a", "TimedOut"].value == 1
    [lag] = sent["taskstream.lag"].data.data_points
    assert dict(lag.attributes or {})["messaging.destination.partition.id"] == "0"
    [wait] = sent["taskstream.wait.duration"].data.data_points
    wait_point: Any = wait
    assert (wait_point.count, wait_point.sum) == (2, 99_999.2)
    assert len(wait_point.bucket_counts) == len(wait_point.explicit_bounds) + 1
    [exemplar] = wait_point.exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert {metric.name for _, metric in table.PROCESS_METRICS} <= sent.keys()


def test_a_real_collector_gets_them() -> None:
    """Over gRPC, with the service's name and an instance of its own, exemplars included."""
    metrics = Metrics()
    metrics.histogram(table.ROWS_PER_BATCH).observe(3, (TRACE, SPAN))
    with Collector() as collector:
        meters.send(metrics, collector.endpoint, "shop-worker")()
        [request] = collector.requests
    [resource] = request.resource_metrics
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert attributes["service.name"] == "shop-worker"
    assert attributes["service.instance.id"]
    sent = {one.name: one for one in resource.scope_metrics[0].metrics}
    [point] = sent["taskstream.rows.batch"].histogram.data_points
    assert (point.count, point.sum) == (1, 3)
    assert point.exemplars[0].trace_id.hex() == TRACE


def test_a_collector_that_takes_spans_alone_is_left_in_peace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Jaeger takes no metrics: it is said once, without an alarm, and it is asked again only now and then."""
    caplog.set_level("INFO")
    with Collector(takes_metrics=False) as collector:
        sender = Push(
            Metrics(),
            lambda: OTLPMetricExporter(f"http://{collector.endpoint}", timeout=3.0),
            destination=collector.endpoint,
            service="shop",
            interval=0.01,
        )
        sender.start()
        eventually(lambda: sender.pause == ASK_AGAIN, 20)
        sender.finish()
        assert not sender._thread.is_alive()
    assert [one.levelname for one in caplog.records if "takes no metrics" in one.message] == [
        "INFO"
    ]
    assert "Failed to export" not in caplog.text


def test_one_that_takes_them_after_all_gets_them(caplog: pytest.LogCaptureFixture) -> None:
    """A proxy that had lost it for a moment must not end the metrics of a process that runs for months."""
    caplog.set_level("INFO")
    exporter, unwanted = Exporter(), RuntimeError("StatusCode.UNIMPLEMENTED")
    push = pushing(exporter, interval=10.0)
    pauses = []
    for outcome in (unwanted, unwanted, RuntimeError("gone"), None):
        exporter.does = partial(answer, outcome)
        push.export()
        pauses.append(push.pause)
    assert pauses == [ASK_AGAIN, ASK_AGAIN, 10.0, 10.0]
    assert [message.partition(" endpoint")[0] for message in caplog.messages] == [
        "the collector takes no metrics: it is asked again now and then",
        "metrics can't be delivered until the collector answers",
        "metrics are delivered again",
    ]


def answer(error: Exception | None) -> MetricExportResult:
    """What an exporter does that is told to fail, or not to."""
    if error is not None:
        raise error
    return MetricExportResult.SUCCESS


def test_variables_of_opentelemetry_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics may go elsewhere than spans, or nowhere."""
    with Collector() as spans, Collector() as numbers:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", numbers.endpoint)
        meters.send(Metrics(), spans.endpoint, "shop")()
        assert (len(spans.requests), len(numbers.requests)) == (0, 1)
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        meters.send(Metrics(), spans.endpoint, "shop")()
        assert (len(spans.requests), len(numbers.requests)) == (0, 1)


@pytest.mark.parametrize("text", ["10s", "0", "-5", "nan", "inf", "1e300"])
def test_a_pace_that_can_not_be_read_is_the_usual_one(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said which variable holds it; neither does a publish fail by it, nor is there an export without a pause."""
    assert interval_of(text) == INTERVAL
    assert "OTEL_METRIC_EXPORT_INTERVAL" in caplog.text
    assert (interval_of("2500"), interval_of("")) == (2.5, INTERVAL)


def test_without_an_endpoint_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, and without the extra, it is said which one is missing."""
    monkeypatch.setitem(sys.modules, "taskstream.observability.push", None)
    meters.send(Metrics(), "", "shop")()
    with pytest.raises(MissingExtra, match=r"taskstream\[otlp\]"):
        meters.send(Metrics(), "127.0.0.1:1", "shop")


def observed(reader: InMemoryMetricReader) -> dict[str, Any]:
    """The points by metric, as the program's own provider reads them."""
    data = reader.get_metrics_data()
    return {
        metric.name: metric.data.data_points
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_a_publishing_program_s_own_provider_is_asked() -> None:
    """It reads what is kept when it wants to; nothing is sent by us, though there is an endpoint."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics = Metrics()
    assert meters.show(lambda: metrics, "127.0.0.1:1", "shop", provider) is None
    metrics.counter(table.SENT, topic="a", error_type="").inc(3)
    metrics.histogram(table.OPERATION_DURATION, operation="send", error_type="").observe(0.5)
    found = observed(reader)
    [sent] = found["messaging.client.sent.messages"]
    assert (sent.value, dict(sent.attributes)) == (
        3,
        {"messaging.destination.name": "a", "messaging.system": "kafka"},
    )
    [took] = found["messaging.client.operation.duration"]
    assert (took.count, took.sum) == (1, 0.5)
    assert dict(took.attributes)["messaging.operation.name"] == "send"
    provider.shutdown()


def test_what_an_app_counts_goes_to_the_endpoint_each_time_it_is_closed() -> None:
    """A program without a provider sends by the settings; an app that is used again counts and sends anew."""
    with Collector() as collector:
        settings = Settings(bootstrap_servers="nowhere:1", otlp_endpoint=collector.endpoint)
        lifeline = Lifeline(Names("shop"), lambda: settings, ManualClock())
        for count in (3, 5):
            lifeline.metrics().counter(table.SENT, topic="a", error_type="").inc(count)
            assert lifeline.metrics() is lifeline.metrics()
            lifeline.close(0)
        sent = [
            point.as_double
            for request in collector.requests
            for metric in request.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == table.SENT.name
            for point in metric.sum.data_points
        ]
    assert sent == [3, 5]


def test_a_forked_process_counts_anew() -> None:
    """Its parent's numbers are its parent's; and one that a worker counts for sends nothing itself."""
    settings = Settings(bootstrap_servers="nowhere:1")
    lifeline = Lifeline(Names("shop"), lambda: settings, ManualClock())
    before = lifeline.metrics()
    lifeline._start_over()
    assert lifeline.metrics() is not before
    metrics = Metrics()
    lifeline.count_in(metrics)
    lifeline.close(0)
    assert lifeline.metrics() is metrics


def test_two_apps_of_a_program_are_both_asked() -> None:
    """And one that was forked away, which counts anew, tells no more of what its parent has counted."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    first, second = Metrics(), Metrics()
    current: list[Metrics | None] = [first]
    meters.show(lambda: current[0], "", "shop", provider)
    meters.show(lambda: second, "", "bank", provider)
    first.counter(table.SENT, topic="shop.tasks", error_type="").inc(1)
    second.counter(table.SENT, topic="bank.tasks", error_type="").inc(2)
    data: Any = reader.get_metrics_data()
    topics = [
        point.attributes["messaging.destination.name"]
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    assert sorted(topics) == ["bank.tasks", "shop.tasks"]
    current[0] = None
    assert [point.value for point in observed(reader)["messaging.client.sent.messages"]] == [2]
    provider.shutdown()
