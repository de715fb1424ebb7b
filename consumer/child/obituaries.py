"""Publishes the `on_dead` task of a task that ended as dead, before its offset may be finished.

Its id follows from the dead task's, so an obituary that a crash repeats counts once.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from taskstream.app.definition import DEAD_ARGUMENTS
from taskstream.broker.failures import UnknownTopic
from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.verdict import Dead
from taskstream.core.errors import BrokerError, PublishError, PublishTimeout, TooLarge
from taskstream.core.ids import derived_id, is_uuid7, time_of
from taskstream.observability import logs
from taskstream.results.row import Row

AGAIN_AFTER = 1.0
"""Seconds before a publish that Kafka did not answer is tried again."""

UNKNOWN_PATIENCE = 60.0
"""Seconds for which Kafka may not know the on_dead task's topic, before it is given up."""

Recorded = list[tuple[Attempt, Row]]

_log = logs.logger(__name__)


def wanted(attempt: Attempt) -> bool:
    """Whether the attempt's end is to be told to another task."""
    task = attempt.task
    return isinstance(attempt.verdict, Dead) and task is not None and task.on_dead is not None


class Obituaries:
    """Publishes obituaries one after the other, in a thread of its own.

    Args:
        report: called with each attempt once its obituary is acknowledged, or can't be published.
    """

    def __init__(self, report: Callable[[Recorded], None]) -> None:
        self._report = report
        self._queue: SimpleQueue[tuple[Attempt, Row]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def publish(self, attempt: Attempt, row: Row) -> None:
        """Queues one; for one thread at a time."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="taskstream-on-dead", daemon=True
            )
            self._thread.start()
        self._queue.put((attempt, row))

    def _work(self) -> None:
        while True:
            attempt, row = self._queue.get()
            give_up_at = time.monotonic() + UNKNOWN_PATIENCE
            while not _published(attempt, patient=time.monotonic() < give_up_at):
                time.sleep(AGAIN_AFTER)
            self._report([(attempt, row)])


def _published(attempt: Attempt, *, patient: bool) -> bool:
    """Publishes one; False where the same must be tried again.

    Args:
        attempt: the one that died.
        patient: whether a topic that Kafka does not know may still appear.
    """
    envelope, verdict, task = attempt.envelope, attempt.verdict, attempt.task
    assert isinstance(verdict, Dead)
    assert task is not None
    assert task.on_dead is not None
    facts = {
        "task": envelope.task,
        "id": envelope.id,
        "reason": verdict.reason,
        "message": verdict.message,
    }
    parameters = {field.name for field in task.on_dead.schema.parameters}
    arguments = {name: facts[name] for name in DEAD_ARGUMENTS & parameters}
    born = time_of(envelope.id) if is_uuid7(envelope.id) else attempt.given.record.timestamp
    own_id = derived_id(born, envelope.id, envelope.run, "on_dead")
    try:
        if attempt.span is None:
            task.on_dead.options(id=own_id).publish(**arguments)
        else:
            with attempt.span.activate():
                task.on_dead.options(id=own_id).publish(**arguments)
    except Exception as error:  # noqa: BLE001 - a before_publish hook may raise anything
        if not worth_repeating(error, patient=patient):
            return _given_up(attempt, error)
        _log.warning(
            "an on_dead task waits for Kafka",
            task=task.on_dead.name,
            error=str(error),
            advice=logs.LOOK_AT_KAFKA,
        )
        return False
    return True


def worth_repeating(error: Exception, *, patient: bool) -> bool:
    """Whether Kafka may take tomorrow what it did not take today.

    Args:
        error: what publishing raised.
        patient: as in `_published`.
    """
    cause = error.__cause__ if isinstance(error, PublishError) else error
    if isinstance(error, TooLarge):
        return False
    if isinstance(cause, UnknownTopic):
        # A broker that comes back from an outage may say for some seconds that it knows no topic.
        return patient
    return isinstance(error, PublishTimeout) or isinstance(cause, BrokerError)


def _given_up(attempt: Attempt, error: Exception) -> bool:
    assert attempt.task is not None
    assert attempt.task.on_dead is not None
    _log.error(
        "an on_dead task can't be published; the dead letter tells the same",
        task=attempt.task.on_dead.name,
        dead_task=attempt.envelope.task,
        dead_id=attempt.envelope.id,
        error=str(error),
        advice="look the dead letter up: `taskstream dead show APP ID`",
    )
    return True
