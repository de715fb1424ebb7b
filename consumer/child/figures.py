"""What a child counts of the attempts that it reports: many at once, for each of them costs.

How long it ran and how long it waited is taken from what its row says anyway. The parent hears of it with
the child's pulse.
"""

from collections.abc import Sequence

from taskstream.consumer.child.attempt import Attempt
from taskstream.core.envelope import Envelope
from taskstream.core.states import State
from taskstream.observability import logs, table
from taskstream.observability.metrics import Histogram, Metrics, Span
from taskstream.results.row import Row

UNKNOWN_TASK = "unknown"
"""What a task is called that this worker does not know: any name could stand in a record."""

_log = logs.logger(__name__)

Timed = list[tuple[float, Span | None]]


def due_from(envelope: Envelope, appended: float) -> float:
    """From when on a task could have run: since its append, or its due time. Pure.

    A task that was sent away because an order held it back has waited since it first came.

    Args:
        envelope: its metadata.
        appended: when its record was appended, seconds since 1970.
    """
    if envelope.deferred:
        return envelope.entered or appended
    return envelope.due or appended


class Figures:
    """Counts attempts. Any thread may call it.

    Args:
        metrics: where.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runs: dict[tuple[str, State], Histogram] = {}
        self._waits: dict[tuple[str, str], Histogram] = {}

    def note(self, recorded: Sequence[tuple[Attempt, Row]]) -> None:
        """Counts attempts whose rows are stored; what did not run here is passed over. Never raises."""
        try:
            self._note(recorded)
        except Exception:  # noqa: BLE001 - a number that is missing must not end what is counted
            _log.exception(
                "attempts could not be counted", attempts=len(recorded), advice=logs.REPORT_IT
            )

    def _note(self, recorded: Sequence[tuple[Attempt, Row]]) -> None:
        runs: dict[tuple[str, State], Timed] = {}
        waits: dict[tuple[str, str], Timed] = {}
        for attempt, row in recorded:
            if attempt.found is not None:
                continue
            if row.state is State.RETRYING:
                self._retries(attempt, row)
            if row.started is None or row.finished is None:
                continue
            ran = row.finished - row.started
            waited = row.started - due_from(attempt.envelope, attempt.given.record.timestamp)
            span = None
            if row.trace_id is not None and attempt.span is not None:
                span = attempt.span.ids
            runs.setdefault((row.task, row.state), []).append((ran, span))
            # Below zero where the broker's clock runs ahead of ours.
            waits.setdefault((row.queue, row.priority), []).append((max(0.0, waited), span))
        for ended, timed in runs.items():
            self._run(*ended).observe_all(timed)
        for lane, timed in waits.items():
            self._wait(*lane).observe_all(timed)

    def _retries(self, attempt: Attempt, row: Row) -> None:
        task = UNKNOWN_TASK if attempt.task is None else attempt.task.name
        self._metrics.counter(table.RETRIES, task=task, reason=row.error_type or "").inc()

    def _run(self, task: str, state: State) -> Histogram:
        known = self._runs.get((task, state))
        if known is None:
            known = self._metrics.histogram(table.PROCESS_DURATION, task=task, state=str(state))
            self._runs[task, state] = known
        return known

    def _wait(self, queue: str, priority: str) -> Histogram:
        known = self._waits.get((queue, priority))
        if known is None:
            known = self._metrics.histogram(table.WAIT_DURATION, queue=queue, priority=priority)
            self._waits[queue, priority] = known
        return known
