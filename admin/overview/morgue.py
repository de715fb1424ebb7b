"""The open dead letters, followed from their topic and kept in memory, so that no page reads it again."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from taskstream.admin.letters import Ledger, Letter, letter_of
from taskstream.admin.selection import Facts, Selection
from taskstream.broker.records import Record
from taskstream.core.errors import Undecodable
from taskstream.schemas.closing import decode_closing
from taskstream.schemas.records import Records

MOST = 200_000
"""How many letters are kept; where there are more, a page says so, and the command line tells all."""


class Morgue:
    """Which letters are open. One thread tells; any thread may look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records = Records()
        self._ledger = Ledger()
        self._heard = 0
        self._kept = 0
        self._listed: tuple[int, tuple[Letter, ...]] = (-1, ())
        self._counted: tuple[int, Counter[tuple[str, str]]] = (-1, Counter())
        self.caught_up = False
        self.full = False

    def hear(self, records: Sequence[Record], caught_up: bool) -> None:
        """Takes records of the topic, in the order of each partition."""
        with self._lock:
            for record in records:
                self._take(record)
            self._heard += len(records)
            self.caught_up = caught_up

    def forget(self, firsts: Mapping[int, int]) -> None:
        """Leaves out letters that Kafka has deleted: nobody can redrive them any more.

        Args:
            firsts: by partition, the first offset that is still there.
        """
        with self._lock:
            if gone := self._ledger.forget(firsts):
                self._kept = max(0, self._kept - gone)
                self._heard += 1  # what was listed and counted before is not so any more

    def letters(self) -> tuple[Letter, ...]:
        """The open letters, the newest first."""
        with self._lock:
            if self._listed[0] != self._heard:
                self._listed = (self._heard, self._ledger.letters())
            return self._listed[1]

    def by_topic(self) -> Counter[str]:
        """How many open letters came from each topic."""
        counted: Counter[str] = Counter()
        for (topic, _), number in self.by_kind().items():
            counted[topic] += number
        return counted

    def by_kind(self) -> Counter[tuple[str, str]]:
        """How many open letters came from each topic, by reason."""
        heard, counted = self._counted
        if heard != self._heard:
            heard = self._heard  # before the letters: what comes meanwhile is counted the next time
            counted = Counter((letter.topic, letter.reason) for letter in self.letters())
            self._counted = (heard, counted)
        return counted

    def of(self, task_id: str) -> Letter | None:
        """The open letter of a task; None where it has none."""
        return next((letter for letter in self.letters() if letter.id == task_id), None)

    def _take(self, record: Record) -> None:
        letter, _ = letter_of(record)
        if letter is not None:
            self.full = self.full or self._kept >= MOST
            if not self.full:
                self._ledger.enter(letter)
                self._kept += 1  # a copy of one that is open counts, too: it is a bound, no count
            return
        try:
            self._ledger.close(record.partition, decode_closing(self._records, record.value))
            self._kept = max(0, self._kept - 1)
        except Undecodable:
            return  # of another version, or nobody knows whose


def chosen(letters: Sequence[Letter], selection: Selection) -> list[Letter]:
    """Those that a selection without a condition means; by the part of an error that a list shows."""
    return [
        letter
        for letter in letters
        if selection.matches(
            Facts(letter.id, letter.task, letter.at, letter.reason, letter.message)
        )
    ]


def groups(letters: Sequence[Letter]) -> list[tuple[tuple[str, str], int]]:
    """How many letters each reason and task has, the most first."""
    counted = Counter((letter.reason, letter.task) for letter in letters)
    return sorted(counted.items(), key=lambda one: (-one[1], one[0]))
