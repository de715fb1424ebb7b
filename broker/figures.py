"""What clients of Kafka count: what is sent, how long answers take, and what librdkafka says of itself.

Nothing here costs more than one addition for a record: how long Kafka took is looked at once in each round
of answers, for those that come together have waited together; and the library's statistics come every ten
seconds.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from taskstream.observability import logs, table
from taskstream.observability.metrics import Counter, Histogram, Metrics, Reading
from taskstream.observability.table import Kind, Metric

STATISTICS_EVERY = 10.0
"""Seconds between two statistics of a client, unless `statistics.interval.ms` says otherwise; 0 there is never."""

SEND, COMMIT = "send", "commit"
"""Values of the label `operation`."""

Series = dict[tuple[str, ...], float]
"""Values by labels; by those that follow the client's own, where it is one client's."""

_log = logs.logger(__name__)


class Answers:
    """Counts Kafka's answers to one producer, by topic. Any thread may call any method.

    Args:
        metrics: where; None counts nothing.
    """

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics
        self._acknowledged: dict[str, Counter] = {}
        self._durations: Histogram | None = None
        self._timed = True

    def new_round(self) -> None:
        """The next answer is the first of those that come together."""
        self._timed = self._metrics is None

    def acknowledged(self, topic: str, message: Any) -> None:
        """Counts a record that Kafka has. Never raises: what calls is the client's C code.

        Args:
            topic: where it is.
            message: the client's own, which knows how long it took.
        """
        try:
            counter = self._acknowledged.get(topic)
            if counter is None:
                counter = self._acknowledged[topic] = self._counter(topic)
            counter.inc()
            if not self._timed:
                self._timed = True
                self._observe(message.latency())
        except Exception:  # noqa: BLE001 - see above
            _log.exception("a record could not be counted", topic=topic, advice=logs.REPORT_IT)

    def failed(self, topic: str, error: BaseException) -> None:
        """Counts a record that Kafka does not have, as far as is known."""
        if self._metrics is not None:
            kind = type(error).__name__
            self._metrics.counter(table.SENT, topic=topic, error_type=kind).inc()

    def _counter(self, topic: str) -> Counter:
        if self._metrics is None:
            return Counter()  # which nobody reads
        return self._metrics.counter(table.SENT, topic=topic, error_type="")

    def _observe(self, seconds: float | None) -> None:
        if seconds is None:  # it was not sent by this client's own rules
            return
        if self._durations is None:
            assert self._metrics is not None
            self._durations = self._metrics.histogram(
                table.OPERATION_DURATION, operation=SEND, error_type=""
            )
        self._durations.observe(seconds)


class Commits:
    """Measures the commits of one group member; their answers come in the order in which they were sent.

    Args:
        metrics: where; None measures nothing.
    """

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics

    def answered(self, seconds: float, error: BaseException | None) -> None:
        """Counts one that took so long."""
        if self._metrics is not None:
            kind = "" if error is None else type(error).__name__
            self._metrics.histogram(
                table.OPERATION_DURATION, operation=COMMIT, error_type=kind
            ).observe(seconds)


def read_statistics(document: Mapping[str, Any]) -> dict[Metric, Series]:
    """The chosen few of a client's statistics. Pure.

    Args:
        document: as librdkafka's STATISTICS.md tells.
    """
    # Bootstrap addresses and the coordinator's own connection are listed as brokers, too.
    brokers = list(document.get("brokers", {}).values())
    partitions = [
        partition
        for topic in document.get("topics", {}).values()
        for partition in topic.get("partitions", {}).values()
    ]

    def every(name: str, of: Iterable[Mapping[str, Any]]) -> Series:
        return {(): float(sum(max(0, one.get(name, 0)) for one in of))}

    rtts = [broker["rtt"] for broker in brokers if broker.get("rtt", {}).get("cnt")]
    told: dict[Metric, Series] = {
        table.KAFKA_CONNECTS: every("connects", brokers),
        table.KAFKA_DISCONNECTS: every("disconnects", brokers),
        table.KAFKA_TX: every("tx", brokers),
        table.KAFKA_TX_BYTES: every("txbytes", brokers),
        table.KAFKA_RX_BYTES: every("rxbytes", brokers),
        table.KAFKA_RETRIES: every("txretries", brokers),
        table.KAFKA_ERRORS: every("txerrs", brokers),
        table.KAFKA_TIMEOUTS: every("req_timeouts", brokers),
        table.KAFKA_WAITING: every("waitresp_cnt", brokers),
    }
    if rtts:  # microseconds there
        told[table.KAFKA_RTT] = {
            ("0.5",): max(rtt["p50"] for rtt in rtts) / 1e6,
            ("0.99",): max(rtt["p99"] for rtt in rtts) / 1e6,
        }
    if document.get("type") == "producer":
        told[table.KAFKA_QUEUED] = {(): float(document.get("msg_cnt", 0))}
        told[table.KAFKA_QUEUED_BYTES] = {(): float(document.get("msg_size", 0))}
    else:
        told[table.KAFKA_FETCHED] = every("fetchq_cnt", partitions)
        told[table.KAFKA_FETCHED_BYTES] = every("fetchq_size", partitions)
    return told


class Statistics:
    """Keeps what one client says of itself.

    Args:
        metrics: where it is shown; None asks for nothing.
        client: how it is called there.
        options: the client's, in which a user may have asked for statistics himself.

    Attributes:
        options: what the client must be told beside those.
    """

    def __init__(self, metrics: Metrics | None, client: str, options: Mapping[str, Any]) -> None:
        self._metrics = metrics
        self._client = client
        self._latest: dict[Metric, Series] = {}
        self._gauges: list[Callable[[], None]] = []
        self.options: dict[str, Any] = {}
        if metrics is None or "stats_cb" in options:
            return
        self.options = {
            "statistics.interval.ms": round(STATISTICS_EVERY * 1000),
            "stats_cb": self.hear,
        }
        if "statistics.interval.ms" in options:
            del self.options["statistics.interval.ms"]
        self._gauges = [
            metrics.gauge(metric, partial(self._reading, metric))
            for metric in table.METRICS
            if metric.kind is Kind.GAUGE and table.CLIENT in metric.labels
        ]

    def hear(self, text: str) -> None:
        """Takes statistics in. Never raises, for the caller is the client's C code."""
        try:
            self._keep(read_statistics(json.loads(text)))
        except Exception:  # noqa: BLE001 - see above
            _log.exception(
                "a client's statistics can't be read", client=self._client, advice=logs.REPORT_IT
            )

    def end(self) -> None:
        """The client is closed, or was never made: its gauges end, whatever it still says."""
        for end in self._gauges:
            end()

    def replaced(self) -> None:
        """The client has lost its brokers, and another one takes its place."""
        if self._metrics is not None:
            self._metrics.counter(table.CLIENTS_REPLACED, client=self._client).inc()
        self.end()

    def _keep(self, told: dict[Metric, Series]) -> None:
        assert self._metrics is not None
        before, self._latest = self._latest, told
        for metric, series in told.items():
            if metric.kind is Kind.COUNTER:
                fresh = series[()] - before.get(metric, {}).get((), 0.0)
                self._metrics.counter(metric, client=self._client).inc(max(0.0, fresh))

    def _reading(self, metric: Metric) -> Reading:
        return {
            (self._client, *more): value for more, value in self._latest.get(metric, {}).items()
        }
