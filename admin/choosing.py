"""Which records of a topic a replay publishes again: one judge, for the dry run and for the replay.

The order of the records in each partition decides, and nothing else that could differ between two passes: of
a task that stands there more than once (a retry, a copy that a crash has left, a redrive) the first counts,
and of its outcomes the last one before the plan was settled.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from taskstream.broker.records import Record
from taskstream.core.envelope import Envelope, read
from taskstream.core.errors import MissingExtra, SchemaError, Undecodable
from taskstream.core.ids import is_uuid7
from taskstream.core.replay import Plan, Sample, Skip
from taskstream.results.row import Row, current
from taskstream.results.search import Search

SAMPLES = 10
"""How many of the chosen ones are kept to be shown."""

Decode = Callable[[bytes | None], Mapping[str, Any]]
"""The arguments in a record's value, as `admin.payloads.Payloads.decode`."""

Rows = Callable[[Sequence[str]], Mapping[str, Sequence[Row]]]
"""The rows of tasks by their ids, as `ResultStore.read_many`."""


class Chosen(NamedTuple):
    """A record that is published again.

    Args:
        record: as it was read.
        envelope: what its headers say; a foreign record's id is derived.
    """

    record: Record
    envelope: Envelope


class Chooser:
    """Judges the records of a plan, those of each partition in their order. For one thread.

    Args:
        plan: what was asked for.
        decode: gives the arguments in a record's value; asked only where something depends on them.
        shadowed: whether a task has a function for the shadow; asked only where the plan names one.
        rows: the rows of tasks; must be there where the plan wants certain outcomes.

    Attributes:
        tasks: by task, how many were chosen.
        skipped: by reason, how many were not.
        untold: why the condition could not be told of the first record of which it could not.
        samples: some of the chosen ones.

    Raises:
        ConfigError: the condition is no expression.
        MissingExtra: conditions need the extra `cli`.
    """

    def __init__(
        self,
        plan: Plan,
        decode: Decode,
        *,
        shadowed: Callable[[str], bool] = lambda _task: True,
        rows: Rows | None = None,
    ) -> None:
        self.tasks: Counter[str] = Counter()
        self.skipped: Counter[Skip] = Counter()
        self.untold = ""
        self.samples: list[Sample] = []
        self._plan = plan
        self._decode = decode
        self._shadowed = shadowed
        self._rows = rows
        self._key = None if plan.key is None else plan.key.encode()
        self._meets = _condition(plan.where)
        # By the header's bytes: most records of a topic are of few tasks.
        self._asked_for: dict[bytes | None, bool] = {}
        self._met: dict[tuple[str, int], set[int | str]] = {}

    def choose(self, records: Sequence[Record]) -> list[Chosen | None]:
        """For each record itself and its metadata where it is published again; None where it is not.

        Raises:
            BrokerError: the schema store can't be read.
            StoreError: the plan wants certain outcomes, and the result store did not answer.
        """
        judged = [self._judge(record) for record in records]
        if self._plan.by_outcome:
            judged = self._by_outcome(judged)
        return [self._noted(*both) for both in zip(records, judged, strict=True)]

    @property
    def count(self) -> int:
        """How many were chosen so far."""
        return self.tasks.total()

    def _noted(self, record: Record, judged: Envelope | Skip) -> Chosen | None:
        """Counts a judgement."""
        if isinstance(judged, Skip):
            self.skipped[judged] += 1
            return None
        self.tasks[judged.task] += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(self._sample(record, judged))
        return Chosen(record, judged)

    def _by_outcome(self, judged: Iterable[Envelope | Skip]) -> list[Envelope | Skip]:
        """Leaves out whose task has not ended as the plan wants; one look at the store for all."""
        judged = list(judged)
        ids = [one.id for one in judged if not isinstance(one, Skip)]
        assert self._rows is not None
        rows = self._rows(ids) if ids else {}
        return [
            one if isinstance(one, Skip) else _unwanted(self._plan, rows.get(one.id, ())) or one
            for one in judged
        ]

    def _judge(self, record: Record) -> Envelope | Skip:
        plan = self._plan
        if (plan.since is not None and record.timestamp < plan.since) or (
            plan.until is not None and record.timestamp >= plan.until
        ):
            return Skip.TIME
        name = dict(record.headers).get("ts-task")
        asked_for = self._asked_for.get(name)
        if asked_for is None:
            asked_for = self._asked_for[name] = self._names(name)
        if not asked_for:
            return Skip.TASK
        if self._key is not None and record.key != self._key:
            return Skip.KEY
        try:
            envelope = read(record.headers)
        except Undecodable:
            return Skip.UNREADABLE
        if envelope.attempt != 1:
            return Skip.LATER_ATTEMPT
        if plan.shadow and not self._shadowed(envelope.task):
            return Skip.NO_SHADOW
        unfit = self._weigh(record, envelope)
        if unfit is not None:
            return unfit
        if not envelope.id:
            envelope = envelope._replace(id=record.identity[0])
        return Skip.COPY if self._is_copy(record, envelope.id) else envelope

    def _names(self, header: bytes | None) -> bool:
        """Whether the plan asks for tasks of this name; what has none is judged by its headers."""
        if header is None or not self._plan.tasks:
            return True
        name = header.decode(errors="replace")
        return any(fnmatchcase(name, pattern) for pattern in self._plan.tasks)

    def _weigh(self, record: Record, envelope: Envelope) -> Skip | None:
        """Tells the condition, where there is one."""
        if self._meets is None:
            return None
        try:
            arguments = self._decode(record.value)
        except SchemaError as error:
            self._note(envelope, record, error)
            return Skip.UNDECODABLE
        met = self._meets(arguments)
        if isinstance(met, Exception):
            self._note(envelope, record, met)
            return Skip.UNTOLD
        return None if met else Skip.CONDITION

    def _note(self, envelope: Envelope, record: Record, error: Exception) -> None:
        self.untold = self.untold or f"task {envelope.task} at {record.source}: {error}"

    def _is_copy(self, record: Record, task_id: str) -> bool:
        # All copies of a task stand in its home partition; in two of them an id is of two tasks.
        met = self._met.setdefault((record.topic, record.partition), set())
        # A number takes half the room of its text, and there may be millions.
        known: int | str = int(task_id.replace("-", ""), 16) if is_uuid7(task_id) else task_id
        if known in met:
            return True
        met.add(known)
        return False

    def _sample(self, record: Record, envelope: Envelope) -> Sample:
        try:
            arguments = self._decode(record.value)
        except SchemaError:
            arguments = None
        return Sample(envelope.task, envelope.id, record.source, arguments)


def _unwanted(plan: Plan, rows: Iterable[Row]) -> Skip | None:
    """Why a task with these rows is left out; None where it had ended as the plan wants."""
    row = current(row for row in rows if row.finished is not None and row.finished <= plan.settled)
    if row is None:
        return Skip.NO_OUTCOME
    wanted = Search(states=frozenset(plan.states), error=plan.error, text=plan.text)
    return None if wanted.matches(row) else Skip.OUTCOME


def _condition(text: str) -> Callable[[Mapping[str, Any]], bool | Exception] | None:
    """Tells a condition, or why it can't be told; None where there is no condition."""
    if not text:
        return None
    try:
        # Here, because its library is an extra, which a replay without a condition can do without.
        from taskstream.admin.where import Where, WhereFailed  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("a condition over arguments", "cli") from error
    where = Where(text)

    def meets(arguments: Mapping[str, Any]) -> bool | Exception:
        try:
            return where.matches(arguments)
        except WhereFailed as error:
            return error

    return meets
