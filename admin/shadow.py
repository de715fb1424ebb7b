"""Shadows: what old traffic comes to with other functions, beside what it came to.

A replay with `shadow=NAME` brings tasks to the shadow's topics under their own ids, workers of the shadow
run them, and `compare` holds the outcomes in the shadow's store against those in the app's own.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from taskstream.admin.payloads import Payloads
from taskstream.admin.stores import store_of
from taskstream.admin.walk import walk
from taskstream.broker.failures import UnknownTopic
from taskstream.broker.topics import Topics
from taskstream.core.envelope import read
from taskstream.core.errors import ConfigError, SchemaError, Undecodable
from taskstream.core.replay import Stretch
from taskstream.core.shadow import shadow_app, shadow_settings
from taskstream.core.states import State
from taskstream.results.row import Row, current

if TYPE_CHECKING:
    from taskstream.app.app import App

READ_AT_ONCE = 1000
"""How many tasks are looked up in one go."""

LOOK_EVERY = 0.5
"""Seconds between two looks for outcomes that are waited for."""

NO_STORE = "no outcomes can be compared"

SAMPLES = 10
"""How many differences are kept to be shown."""


class Match(StrEnum):
    """How a task's outcome in a shadow compares with its own."""

    SAME = "same"
    DIFFERENT = "different"
    MISSING = "missing"
    """It has not ended in the shadow."""
    ALONE = "alone"
    """It has ended in the shadow, and its own outcome is not there (any more)."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ended.

    Args:
        state: a final state.
        value: its result, as JSON has it; None where it has none.
        error_type: class name of its error; None where it has none.
        error: its text.
    """

    state: State
    value: Any = None
    error_type: str | None = None
    error: str | None = None

    def equals(self, other: "Ending") -> bool:
        """Whether both came to the same. The text of an error doesn't count: it may hold an id or a time."""
        return (self.state, self.value, self.error_type) == (
            other.state,
            other.value,
            other.error_type,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A task that ended otherwise in the shadow.

    Args:
        task: its name.
        id: its id.
        own: how it ended.
        shadow: how it ended in the shadow.
    """

    task: str
    id: str
    own: Ending
    shadow: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcomes of a shadow beside those of its app.

    Args:
        shadow: its name.
        tasks: by task, how many compare in which way.
        differences: some of those that differ.
    """

    shadow: str
    tasks: Mapping[str, Mapping[Match, int]]
    differences: tuple[Difference, ...]

    def total(self, match: Match) -> int:
        """How many of all tasks compare so."""
        return sum(counts.get(match, 0) for counts in self.tasks.values())

    def as_json(self) -> dict[str, Any]:
        """It as `replay compare --json` shows it."""
        return {
            "shadow": self.shadow,
            "tasks": {
                task: {str(match): counts.get(match, 0) for match in Match}
                for task, counts in self.tasks.items()
            },
            **{str(match): self.total(match) for match in Match},
            "differences": [asdict(one) for one in self.differences],
        }


def beside(app: "App", shadow: str) -> "App":
    """An app that has the names and the stores of a shadow, and no tasks; close it after use.

    For a process that reads the app's own topics and writes, or looks, into the shadow's.

    Raises:
        ConfigError: there can be no shadow of that name.
    """
    settings = asdict(shadow_settings(app.settings, shadow))
    return type(app)(shadow_app(app.name, shadow), **settings)


def compare(app: "App", shadow: str, *, wait: float = 0.0) -> Comparison:
    """Compares the outcomes of all tasks that stand in a shadow's topics with their own.

    Args:
        app: the app.
        shadow: the shadow's name.
        wait: seconds to wait for outcomes that are missing yet, at most.

    Raises:
        ConfigError: no such shadow was made, or results are not kept.
        BrokerError: Kafka refused or can't be reached.
        StoreError: a result store did not answer.
        SchemaError: a schema store can't be asked.
    """
    app.load_tasks()
    there = beside(app, shadow)
    try:
        tasks = _tasks(app, there, shadow)
        give_up_at = time.monotonic() + wait
        _await_endings(there, list(tasks), give_up_at)
        tally = _Tally(shadow)
        ours, theirs = Payloads(app), Payloads(there)
        for ids in _some(list(tasks)):
            own, apart = (
                store_of(app, NO_STORE).read_many(ids),
                store_of(there, NO_STORE).read_many(ids),
            )
            for task_id in ids:
                tally.add(
                    tasks[task_id],
                    task_id,
                    _ending(current(own[task_id]), ours),
                    _ending(current(apart[task_id]), theirs),
                )
        return tally.comparison
    finally:
        there.close()


def match(own: Ending | None, shadow: Ending | None) -> Match:
    """How two outcomes compare; None is one that is not there. Pure."""
    if shadow is None:
        return Match.MISSING
    if own is None:
        return Match.ALONE
    return Match.SAME if own.equals(shadow) else Match.DIFFERENT


class _Tally:
    def __init__(self, shadow: str) -> None:
        self._shadow = shadow
        self._counts: dict[str, Counter[Match]] = {}
        self._differences: list[Difference] = []

    def add(self, task: str, task_id: str, own: Ending | None, shadow: Ending | None) -> None:
        found = match(own, shadow)
        self._counts.setdefault(task, Counter())[found] += 1
        if found is Match.DIFFERENT and len(self._differences) < SAMPLES:
            assert own is not None
            assert shadow is not None
            self._differences.append(Difference(task, task_id, own, shadow))

    @property
    def comparison(self) -> Comparison:
        return Comparison(
            shadow=self._shadow,
            tasks=dict(sorted(self._counts.items())),
            differences=tuple(self._differences),
        )


def _tasks(app: "App", there: "App", shadow: str) -> dict[str, str]:
    """The names of all tasks that replays have brought to the shadow, by id."""
    stretches = []
    with Topics(app.settings, client_id="taskstream-shadow") as broker:
        for queue, priorities in app.queues.items():
            for priority in priorities:
                topic = there.names.tasks(queue, priority)
                try:
                    ranges = broker.ranges(topic)
                except UnknownTopic as error:
                    raise ConfigError(
                        f"topic {topic} does not exist: was `taskstream init APP --shadow {shadow}` run?"
                    ) from error
                stretches += [Stretch(*place, low, high) for place, (low, high) in ranges.items()]
    found: dict[str, str] = {}
    for chunk in walk(app.settings, stretches, client_id="taskstream-shadow"):
        for record in chunk.records:
            with suppress(Undecodable):  # nothing that a replay brought
                envelope = read(record.headers)
                # What a shadow's functions publish stands here as well, and has no outcome elsewhere.
                if envelope.id and envelope.replay_of == envelope.id:
                    found.setdefault(envelope.id, envelope.task)
    return found


def _await_endings(there: "App", ids: Sequence[str], give_up_at: float) -> None:
    """Waits until all have ended in the shadow, or time is up."""
    store = store_of(there, NO_STORE)
    left = list(ids)
    while left and (patience := give_up_at - time.monotonic()) > 0:
        left = [
            task_id
            for some in _some(left)
            for task_id, rows in store.read_many(some).items()
            if (row := current(rows)) is None or not row.state.final
        ]
        threading.Event().wait(min(LOOK_EVERY, patience) if left else 0)


def _ending(row: Row | None, payloads: Payloads) -> Ending | None:
    if row is None or not row.state.final:
        return None
    return Ending(row.state, _value(row, payloads), row.error_type, row.error)


def _value(row: Row, payloads: Payloads) -> Any:
    if row.value is None:
        return None
    try:
        return payloads.decode(row.value)["value"]
    except SchemaError:
        return row.value.hex()  # bytes can be compared, too


def _some(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), READ_AT_ONCE):
        yield ids[first : first + READ_AT_ONCE]
