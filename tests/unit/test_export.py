"""The exporter that stays calm, against an inner one that fails on command.

Broken on purpose once, and seen to fail: drops that are not counted while it rests; a queue without a
bound.
"""

import logging
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from taskstream.core.clock import ManualClock
from taskstream.observability import export
from taskstream.observability.export import CalmExporter

FOREIGN = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")


class Collector(SpanExporter):
    """An inner exporter that is up, down or broken, and logs as the real one does."""

    def __init__(self) -> None:
        self.answer: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.tries = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.tries += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is SpanExportResult.FAILURE:
            FOREIGN.error("Failed to export traces to %s", "there", exc_info=ValueError("long"))
        return self.answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def exporter(
    collector: Collector, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> CalmExporter:
    # The SDK's own filter there remembers what other tests logged.
    monkeypatch.setattr(FOREIGN, "filters", [])
    return CalmExporter(collector, "http://there:4317", clock)


def test_a_lost_collector_is_one_line_and_its_return_another(
    exporter: CalmExporter,
    collector: Collector,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often it fails in between, the log has two lines, with the reason and no traceback."""
    caplog.set_level(logging.INFO)
    collector.answer = SpanExportResult.FAILURE
    for _ in range(20):
        exporter.export(())
        clock.advance(10)
    collector.answer = SpanExportResult.SUCCESS
    exporter.export(())
    exporter.export(())

    lost, back = caplog.records
    assert lost.levelname == "WARNING"
    assert "http://there:4317" in lost.getMessage()
    assert "Failed to export traces to there" in lost.getMessage()
    assert back.getMessage().startswith("spans are delivered again")
    assert not lost.exc_info


def test_a_lost_collector_is_not_asked_all_the_time(
    exporter: CalmExporter, collector: Collector, clock: ManualClock
) -> None:
    """Between tries spans are dropped at once, so that the queue stays empty and no task waits."""
    collector.answer = SpanExportResult.FAILURE
    for _ in range(10):
        assert exporter.export(()) is SpanExportResult.FAILURE
        clock.advance(1)
    assert collector.tries == 2


def test_an_exporter_that_raises_is_a_failure_like_any_other(
    exporter: CalmExporter, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """A span that can't be encoded reaches neither the SDK's log nor the process."""
    collector.answer = UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates")
    assert exporter.export(()) is SpanExportResult.FAILURE
    [line] = caplog.records
    assert "UnicodeEncodeError" in line.getMessage()


def test_the_end_is_not_delayed_by_a_collector_that_fails(
    exporter: CalmExporter, collector: Collector
) -> None:
    """What is queued at the end gets one try; after its failure the rest is dropped."""
    exporter.finish_within(3)
    collector.answer = SpanExportResult.FAILURE
    for _ in range(100):
        exporter.export(())
    assert collector.tries == 1


def test_the_end_is_not_delayed_by_a_collector_that_is_slow(
    exporter: CalmExporter, collector: Collector, clock: ManualClock
) -> None:
    """Batches go out until the last seconds are over."""
    exporter.finish_within(3)
    for _ in range(100):
        exporter.export(())
        clock.advance(1)
    assert collector.tries == 3


def test_an_exporter_of_the_user_s_own_still_speaks(
    exporter: CalmExporter, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what is logged while we export is held back, and nothing after our end."""
    collector.answer = SpanExportResult.FAILURE
    exporter.export(())
    caplog.clear()
    FOREIGN.error("theirs")
    exporter.shutdown()
    assert caplog.messages == ["theirs"]
    assert not FOREIGN.filters


SPAN = ReadableSpan("send t")


def test_what_is_lost_is_counted_and_said_once(
    exporter: CalmExporter,
    collector: Collector,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those of the try that failed, and those that came while it rested; not those before or after."""
    caplog.set_level(logging.INFO)
    exporter.export([SPAN] * 5)
    collector.answer = SpanExportResult.FAILURE
    for _ in range(4):
        exporter.export([SPAN] * 10)
    clock.advance(10)
    collector.answer = SpanExportResult.SUCCESS
    exporter.export([SPAN] * 3)
    exporter.shutdown()
    assert caplog.messages[-1] == "spans are delivered again endpoint=http://there:4317 dropped=40"


def test_the_end_tells_of_what_was_lost(
    exporter: CalmExporter, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the collector never came back."""
    caplog.set_level(logging.INFO)
    collector.answer = SpanExportResult.FAILURE
    exporter.export([SPAN] * 7)
    exporter.shutdown()
    assert caplog.messages[-1] == "spans were dropped endpoint=http://there:4317 dropped=7"


def test_a_full_queue_drops_and_says_so_once(
    exporter: CalmExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for room; once spans go out again, new ones are taken."""
    caplog.set_level(logging.INFO)
    taken = sum(exporter.has_room() for _ in range(export._QUEUE + 100))
    assert taken == export._QUEUE
    exporter.export([SPAN] * 1_000)
    assert sum(exporter.has_room() for _ in range(1_000)) == 1_000
    assert not exporter.has_room()
    faster, again, still = caplog.messages
    assert "faster than the collector" in faster
    assert again.endswith("dropped=100")
    assert still == faster


def test_a_forked_child_begins_with_an_empty_queue(exporter: CalmExporter) -> None:
    """What its parent had queued is the parent's: it takes no room in the child."""
    for _ in range(export._QUEUE):
        exporter.has_room()
    assert not exporter.has_room()
    exporter.forget()
    assert exporter.has_room()
