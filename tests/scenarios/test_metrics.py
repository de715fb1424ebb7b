"""Every metric of the table is really counted: a worker does the main job, and each name has a sample.

What needs a fault is shown by a unit test, which is named here. Broken on purpose once, and seen to fail: a
child that tells nothing with its pulse; a scheduler that tells nothing to its worker; a gauge that nobody
reads; a metric of which nothing but its line in the table is left. What a dashboard tells is shown in
`test_dashboard.py`.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.support.eventually import eventually
from tests.support.numbers import Collector
from tests.support.pages import Pages
from tests.support.servers import free_ports
from tests.support.stage import ROOT, Stage

from taskstream import State
from taskstream.admin import schedules
from taskstream.core.cron import Every
from taskstream.observability import table
from taskstream.observability.table import Kind, Metric

UNIT = ROOT / "tests" / "unit"

SHOWN_ELSEWHERE = {
    table.ABANDONED: "test_parent.py",
    table.DEFERRED: "test_orders_in_a_worker.py",
    table.COMMIT_FAILURES: "test_ownership.py",
    table.REBALANCE_DURATION: "test_handover.py",
    table.CHILD_DEATHS: "test_parent.py",
    table.STORE_FAILURES: "test_batching.py",
    table.SCHEDULE_FAILURES: "test_firing.py",
    table.CLIENTS_REPLACED: "test_sender.py",
    table.KAFKA_DISCONNECTS: "test_client_figures.py",
    table.KAFKA_RETRIES: "test_client_figures.py",
    table.KAFKA_ERRORS: "test_client_figures.py",
    table.KAFKA_TIMEOUTS: "test_client_figures.py",
}
"""What takes a fault to be counted, and the unit test that shows it."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where the worker sends its metrics."""
    with Collector() as collector:
        yield collector


def sampled(pages: Pages) -> set[str]:
    """The names at /metrics that have a sample; of what is counted, one above 0."""
    counted = {one.sample_name for one in table.METRICS if one.kind is not Kind.GAUGE}
    lines = httpx.get(f"{pages.url}/metrics", timeout=5.0).text.splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    return {
        name
        for line in samples
        if (name := line.partition("{")[0].partition(" ")[0]) not in counted
        or float(line.rpartition(" ")[2]) > 0
    }


def names(metrics: set[Metric]) -> list[str]:
    """For the message of a test that fails."""
    return sorted(metric.name for metric in metrics)


def test_no_name_of_the_table_is_left_uncounted(stage: Stage, collector: Collector) -> None:
    """In a main job with retries, a dead letter, a repeated id, a delay and two schedules; OTLP says the same."""
    stage.environment |= {
        "TASKSTREAM_KAFKA": json.dumps({"statistics.interval.ms": 500}),
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse")
    schedules.add(stage.app, "naps", Every(1), {"seconds": 30.0}, name="nap", overlap="skip")
    pages = Pages.of(stage)
    stage.task("add").publish_many([{"n": number} for number in range(20)])
    works = [
        stage.task("fails_twice").publish(1),
        stage.task("publishes_another").publish(1),
        stage.task("add").options(delay=1).publish(2),
        stage.task("add").options(id="twice").publish(3),
    ]
    dies = stage.task("never_works").publish(1)
    stage.wait_for([*works, dies], {State.SUCCEEDED: 4, State.DEAD: 1})
    stage.task("add").options(id="twice").publish(3)
    wanted = {
        one for one in table.METRICS if one not in SHOWN_ELSEWHERE and one not in table.OF_DASHBOARD
    }

    def look() -> None:
        found = sampled(pages)
        assert names({one for one in wanted if one.sample_name not in found}) == []

    eventually(look, timeout=60, every=0.5)

    def hear() -> None:
        sent = {
            metric.name
            for request in list(collector.requests)
            for scope in request.resource_metrics[0].scope_metrics
            for metric in scope.metrics
        }
        assert names({one for one in wanted if one.name not in sent}) == []

    eventually(hear, timeout=30, every=0.5)
    _check_exemplars(pages, stage.rows(works[0])[-1].trace_id)


def _check_exemplars(pages: Pages, trace_id: str | None) -> None:
    """The run time of the task that is retried leads to its trace."""
    accepts = {"Accept": "application/openmetrics-text; version=1.0.0"}
    page = httpx.get(f"{pages.url}/metrics", headers=accepts, timeout=5.0)
    families = text_string_to_metric_families(page.text)  # type: ignore[no-untyped-call]
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for family in families
        if family.name == table.PROCESS_DURATION.prometheus_name
        for sample in family.samples
        if sample.exemplar is not None and sample.labels["task"] == "fails_twice"
    }
    assert exemplars == {trace_id}


def test_what_needs_a_fault_is_shown_by_a_unit_test() -> None:
    """Each of these names stands in the test that is said to show it."""
    constants = {value: name for name, value in vars(table).items() if isinstance(value, Metric)}
    missing = [
        constants[metric]
        for metric, test in SHOWN_ELSEWHERE.items()
        if f"table.{constants[metric]}" not in (UNIT / test).read_text()
    ]
    assert missing == []


def test_a_scheduler_of_its_own_has_pages(stage: Stage) -> None:
    """It is ready once partitions are its own, and shows what it has moved."""
    (port,) = free_ports(1)
    stage._start("scheduler", "--health-port", str(port))
    pages = Pages(f"http://127.0.0.1:{port}")
    stage.task("add").options(delay=0.5).publish(1)
    eventually(lambda: pages.problems("ready") == [], timeout=30)
    assert pages.problems("live") == []
    eventually(lambda: pages.metric("taskstream_moved_total") == 1, timeout=30)
    assert pages.metric("taskstream_info") == 1


def test_a_program_that_publishes_is_read_by_its_own_provider(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sets a meter provider and publishes; nothing else, and nothing is sent on its behalf."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", provider)
    stage.task("add").publish_many([{"n": number} for number in range(30)])
    data: Any = reader.get_metrics_data()
    points = {
        metric.name: metric.data.data_points
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    topic = stage.app.names.tasks("tasks", "normal")
    [sent] = points[table.SENT.name]
    assert sent.value == 30
    assert dict(sent.attributes) == {
        "messaging.destination.name": topic,
        "messaging.system": "kafka",
    }
    assert sum(point.count for point in points[table.OPERATION_DURATION.name]) > 0
    provider.shutdown()
