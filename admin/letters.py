"""The dead letters of an app, read from their topic, and which of them are still open.

A crash can leave a second copy of a letter, and redrives and purges leave closings behind (`core.closing`).
So the topic is read from its beginning to its end, and each run of a task counts once.

Invariant: a closing ends the letters of its run that stand before it in its partition, and no others. So an id
that is used again, long after its first task was redriven, is seen to die again.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from taskstream.admin.selection import Facts, Selection, Sieve
from taskstream.broker.records import Record
from taskstream.broker.tail import read
from taskstream.broker.topics import Topics
from taskstream.core.closing import Closing
from taskstream.core.envelope import death_of, identity_of, peek
from taskstream.core.errors import Undecodable

if TYPE_CHECKING:
    from taskstream.admin.resend import Resender
    from taskstream.app.app import App
    from taskstream.schemas.records import Records

CLIENT = "taskstream-dead"

SHOWN_CHARACTERS = 500
"""Where an error's text is cut in a list; one letter alone is shown whole."""

By = Literal["task", "topic", "reason"]
"""What letters are counted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter, without what it holds. Times are seconds since 1970.

    Args:
        id: the task's id.
        run: the run that died.
        attempt: the last attempt of it.
        task: the task's name; empty where the record doesn't say.
        reason: the error's type, or ours.
        message: the error's text, cut to `SHOWN_CHARACTERS`.
        origin: topic, partition and offset of the record that failed last, `topic/partition/offset`.
        at: when it died.
        partition: where the letter stands in the topic of dead letters.
        offset: the same.
        copies: the partitions that hold a copy of it, its own among them.
        closed: what closed it; None while it is open.
    """

    id: str
    run: int
    attempt: int
    task: str
    reason: str
    message: str
    origin: str
    at: float
    partition: int
    offset: int
    copies: tuple[int, ...]
    closed: Closing | None = None

    @property
    def topic(self) -> str:
        """The topic of the record that failed last."""
        return self.origin.rsplit("/", 2)[0]

    def as_json(self) -> dict[str, Any]:
        """The letter as `dead list --json` shows it."""
        shown = asdict(self)
        del shown["copies"]
        return shown


@dataclass(frozen=True, slots=True)
class Found:
    """The letters of a selection.

    Args:
        letters: the newest first.
        untold: of how many it could not be told whether they belong to it.
        why: what was wrong with the first of those.
    """

    letters: tuple[Letter, ...]
    untold: int = 0
    why: str = ""


class Ledger:
    """Which letters are open, by all that has been read so far. Pure.

    Args:
        keeps_closed: whether letters are told of after they were closed.
    """

    def __init__(self, *, keeps_closed: bool = False) -> None:
        self._keeps_closed = keeps_closed
        self._letters: dict[tuple[int, str, int], Letter] = {}

    def enter(self, letter: Letter) -> None:
        """Notes a letter; a copy of one that is open is the same one."""
        place = (letter.partition, letter.id, letter.run)
        known = self._letters.get(place)
        if known is None or known.closed is not None or letter.attempt > known.attempt:
            self._letters[place] = letter

    def close(self, partition: int, closing: Closing) -> None:
        """Notes that the letter of a run, so far as it was read in this partition, is closed."""
        place = (partition, closing.id, closing.run)
        known = self._letters.pop(place, None)
        if known is not None and self._keeps_closed:
            self._letters[place] = replace(known, closed=known.closed or closing)

    def forget(self, firsts: Mapping[int, int]) -> int:
        """Leaves out letters that Kafka has deleted; returns how many.

        Args:
            firsts: by partition, the first offset that is still there.
        """
        gone = [
            place
            for place, letter in self._letters.items()
            if letter.offset < firsts.get(letter.partition, 0)
        ]
        for place in gone:
            del self._letters[place]
        return len(gone)

    def letters(self) -> tuple[Letter, ...]:
        """One for each run of a task, the newest first."""
        found: dict[tuple[str, int], Letter] = {}
        for letter in self._letters.values():
            known = found.get((letter.id, letter.run))
            found[letter.id, letter.run] = letter if known is None else _joined(known, letter)
        return tuple(
            sorted(found.values(), key=lambda one: (one.at, one.id, one.run), reverse=True)
        )


def letters(app: "App", selection: Selection | None = None, *, closed: bool = False) -> Found:
    """The dead letters of an app; reads their topic once, and keeps nothing of what they hold.

    Args:
        app: the app.
        selection: which ones; all by default.
        closed: whether to tell of those as well that were redriven or purged.

    Raises:
        ConfigError: the selection's condition is no expression.
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    # Here, because they load the Avro library.
    from taskstream.schemas.closing import decode_closing  # noqa: PLC0415
    from taskstream.schemas.records import Records  # noqa: PLC0415

    wanted = Selection() if selection is None else selection
    sieve = Sieve(wanted, _decoder(app, wanted))
    ours = Records()
    ledger = Ledger(keeps_closed=closed)
    for record in read(app.settings, app.names.dead, client_id=CLIENT):
        letter, message = letter_of(record)
        if letter is None:
            try:
                ledger.close(record.partition, decode_closing(ours, record.value))
            except Undecodable:
                continue  # of another version, or nobody knows whose
        elif sieve.passes(
            Facts(letter.id, letter.task, letter.at, letter.reason, message), record.value
        ):
            ledger.enter(letter)
    return Found(ledger.letters(), sieve.untold, sieve.why)


def counts(found: Iterable[Letter], by: By) -> dict[str, int]:
    """How many letters each task, topic or reason has, the most first."""
    counted = Counter(getattr(letter, by) for letter in found)
    return dict(sorted(counted.items(), key=lambda one: (-one[1], one[0])))


def records_of(
    app: "App", wanted: Iterable[Letter]
) -> Generator[tuple[Letter, Record], None, None]:
    """Letters with their records, in the order of the topic, however slowly they are taken.

    Letters that retention has deleted meanwhile are passed over.

    Raises:
        BrokerError: Kafka refused or can't be reached.
    """
    missing = {(letter.partition, letter.offset): letter for letter in wanted}
    if not missing:
        return
    first: dict[int, int] = {}
    for partition, offset in missing:
        first[partition] = min(offset, first.get(partition, offset))
    with Topics(app.settings, client_id=CLIENT) as topics:
        ranges = topics.ranges(app.names.dead)
    kept = {place.partition: low for place, (low, _) in ranges.items()}
    starts = {partition: max(offset, kept[partition]) for partition, offset in first.items()}
    dead = app.names.dead
    for record in read(app.settings, dead, starts, partitions=list(starts), client_id=CLIENT):
        letter = missing.pop((record.partition, record.offset), None)
        if letter is not None:
            yield letter, record
        if not missing:
            return


def letter_of(record: Record) -> tuple[Letter | None, str]:
    """The letter in a record of the topic, with the whole text of its error; None where it is none."""
    death = death_of(record.headers)
    if death is None:
        return None, ""
    task_id, run = record.identity
    attempt = identity_of(record.headers)[2]
    letter = Letter(
        id=task_id,
        run=run,
        attempt=int(attempt) if attempt.isdigit() else 1,
        task=peek(record.headers).task,
        reason=death.reason,
        message=death.message[:SHOWN_CHARACTERS],
        origin=death.origin,
        at=death.at,
        partition=record.partition,
        offset=record.offset,
        copies=(record.partition,),
    )
    return letter, death.message


def send_closing(
    app: "App",
    closings: "Resender[Letter]",
    letter: Letter,
    *,
    records: "Records",
    key: bytes | None,
    closing: Closing,
) -> None:
    """Sends what closes a letter, behind each copy of it.

    Args:
        app: the app.
        closings: sends it; its ticket is the letter.
        letter: what it closes.
        records: encodes it.
        key: of the letter's record.
        closing: how it was closed.

    Raises:
        BrokerError: Kafka refused this one, or one before.
    """
    from taskstream.schemas.closing import encode_closing  # noqa: PLC0415 - loads the Avro library

    value = encode_closing(records, closing)
    for partition in letter.copies:
        closings.send(app.names.dead, partition, key=key, value=value, headers=[], ticket=letter)


def _joined(one: Letter, other: Letter) -> Letter:
    """Two copies in different partitions are one letter, open if one of them is."""
    if (one.closed is None) != (other.closed is None):
        return one if one.closed is None else other
    last = max(one, other, key=lambda letter: letter.attempt)
    return replace(last, copies=tuple(sorted({*one.copies, *other.copies})))


def _decoder(app: "App", selection: Selection) -> Callable[[bytes | None], Mapping[str, Any]]:
    if selection.where is None:
        return _nothing
    from taskstream.admin.payloads import Payloads  # noqa: PLC0415 - loads the Avro library

    return Payloads(app).decode


def _nothing(_value: bytes | None) -> Mapping[str, Any]:
    """What nobody asks for."""
    return {}
