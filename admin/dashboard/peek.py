"""What a task was given and what it gave back, read from where it stands: its record and its row."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskstream.admin.overview.views import TaskView
from taskstream.admin.payloads import Payloads
from taskstream.broker.records import Record
from taskstream.broker.tail import Tail
from taskstream.core.clock import Clock
from taskstream.core.errors import TaskstreamError, Undecodable

if TYPE_CHECKING:
    from taskstream.app.app import App

WITHIN = 3.0
"""Seconds that a record may take to be read."""


@dataclass(frozen=True, slots=True)
class Values:
    """What a task was given, and what it gave back.

    Args:
        arguments: by name; None where they can't be read.
        why_not: why the arguments can't be read; empty where they can.
        source: where they were read, `topic/partition/offset`.
        result: what it returned.
        has_result: whether it returned something.
        why_no_result: why the result can't be read; empty where it can, or there is none.
    """

    arguments: dict[str, Any] | None
    why_not: str
    source: str
    result: Any
    has_result: bool
    why_no_result: str


def values(app: "App", task: TaskView, clock: Clock) -> Values:
    """The arguments and the result of a task; blocks for some seconds at most.

    Args:
        app: the app.
        task: the task.
        clock: measures the seconds.
    """
    payloads = Payloads(app)
    arguments, why_not, read_at = None, "no worker has met it yet, so nobody knows its record", ""
    for source in task.sources:
        try:
            record = _record_at(app, source, task.id, clock)
            arguments, why_not, read_at = payloads.decode(record.value), "", source
            break
        except TaskstreamError as error:
            why_not = str(error)
    result, why_no_result = None, ""
    value = task.row.value if task.row is not None else None
    if value is not None:
        try:
            result = payloads.decode(value)["value"]
        except (TaskstreamError, KeyError) as error:
            why_no_result = str(error)
    return Values(
        arguments, why_not, read_at, result, value is not None and not why_no_result, why_no_result
    )


def _record_at(app: "App", source: str, task_id: str, clock: Clock) -> Record:
    """The record that stands there, if it is this task's.

    Raises:
        Undecodable: the place can't be read, or holds something else by now.
        BrokerError: Kafka refused or can't be reached.
    """
    topic, partition, offset = _place(source)
    until = clock.monotonic() + WITHIN
    with Tail(
        app.settings, topic, {partition: offset}, partitions=[partition], client_id="taskstream-peek"
    ) as tail:  # fmt: skip
        if offset >= tail.ends.get(partition, 0):
            raise Undecodable(f"{source}: there is no such record")
        while clock.monotonic() < until:
            for record in tail.take(1, 0.2):
                if record.offset != offset or record.identity[0] != task_id:
                    raise Undecodable(f"{source} was deleted by Kafka")
                return record
    raise Undecodable(f"{source} did not come within {WITHIN:g} s")


def _place(source: str) -> tuple[str, int, int]:
    topic, _, numbers = source.rpartition("/")
    topic, _, partition = topic.rpartition("/")
    if not topic or not partition.isdigit() or not numbers.isdigit():
        raise Undecodable(f"{source!r} is not topic/partition/offset")
    return topic, int(partition), int(numbers)
