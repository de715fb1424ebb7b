"""The oracle: what was promised against what journal, result store and topics say. Pure.

It believes no process of ours. Which tasks there must be, the publisher's acknowledgements say; what
became of them, the store's rows; what ran, when and on whose behalf, the journal, in which each task
notes its own start. So a run is judged by what happened, not by what a worker thought of it.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from taskstream import State
from taskstream.consumer.suspicion import LOST_FOR_GOOD
from taskstream.producer.routing import partition_for
from taskstream.results.row import Row, current
from tests.support.faults.journal import Asked, Journal, Start, Stored
from tests.support.faults.workload import Planned

Identity = tuple[str, int, int]
"""One attempt: id, run, attempt."""

SAME_INSTANT = 0.0015
"""Seconds: the store keeps times in milliseconds."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An acknowledged task.

    Args:
        planned: what was published.
        value: the encoded result it must have, without its frame; empty where it must die.
        due: not to be started before, seconds since 1970; None for at once.
        published: when, seconds since 1970.
    """

    planned: Planned
    value: bytes = b""
    due: float | None = None
    published: float = 0.0


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that struck.

    Args:
        what: in a few words.
        at: when it began, seconds since 1970.
        over: when recovery could begin: at once after a kill, at the end of an outage.
        pids: the processes that it struck; None for all.
    """

    what: str
    at: float
    over: float
    pids: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the oracle judges by.

    Args:
        expected: acknowledged tasks by id.
        rows: what the store has of each of them.
        journal: what ran.
        seen: by pid, when the process was last seen alive.
        strikes: the faults.
        letters: how often each identity is in the dead-letter topic.
        partitions: of each task topic.
        left_over: records above the committed offsets at the end.
        exits: the workers' exit codes after SIGTERM.
        cut_off: seconds without Kafka after which a worker may end what it runs, unrecorded.
    """

    expected: Mapping[str, Expected]
    rows: Mapping[str, Sequence[Row]]
    journal: Journal
    seen: Mapping[int, float] = field(default_factory=dict)
    strikes: Sequence[Strike] = ()
    letters: Mapping[Identity, int] = field(default_factory=dict)
    partitions: int = 1
    left_over: int = 0
    exits: Sequence[int] = ()
    cut_off: float = math.inf


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not be.

    Args:
        what: one of `BROKEN`.
        told: the facts, for whoever looks into it.
    """

    what: str
    told: str


BROKEN = {
    "lost": "an acknowledged task has no final state",
    "wrong end": "a task ended in a state, or with a result, that it can't have",
    "two ends": "a run of a task has more than one final state",
    "run again": "a task was run although its outcome was stored before it was looked up",
    "run again unexplained": "a task was run again with its first process alive and its partition at home",
    "key order": "tasks of one key started in another order than they were published in",
    "key overlap": "two tasks of one key ran at the same time under one owner",
    "fired early": "a task started before it was due",
    "undone": "an older dispatch's row stands in the place of a newer one's",
    "no dead letter": "a task is dead, and no dead letter tells of it",
    "false dead letter": "a dead letter tells of an attempt that is not its run's last",
    "left over": "a partition's offset was never committed to its end",
    "bad exit": "a worker did not drain and end in order at SIGTERM",
}
"""All that a run can be accused of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one run.

    Args:
        acknowledged: how many tasks Kafka has acknowledged.
        findings: what must not be; empty is good.
        twice: runs of an attempt beyond its first, by reason.
        convicted: tasks that died as `WorkerLost` because the faults hit them three times or more:
            nobody can tell that from a task that kills its process.
        letters_twice: dead letters beyond the first of an identity.
        recovery: seconds until the last task that a fault caught in mid-run was recorded, or until
            tasks of each name that waited for the end of an outage started again; None where
            nothing was caught, and nothing waited.
    """

    acknowledged: int
    findings: Sequence[Finding]
    twice: Mapping[str, int]
    convicted: int
    letters_twice: int
    recovery: float | None

    @property
    def broken(self) -> Counter[str]:
        """How often each promise was broken."""
        return Counter(finding.what for finding in self.findings)


DIED = "its process died while it ran or was unrecorded"
FENCED = "its owner had lost the partition"
CUT_OFF = "its owner had heard nothing of Kafka for too long, and ended it"
"""Why an attempt may be run twice."""


def judge(facts: Facts) -> Verdict:
    """The verdict on one run."""
    witness = _Witness.of(facts)
    findings: list[Finding] = []
    twice: Counter[str] = Counter()
    convicted = _convicted(facts, witness)
    findings += _ends(facts, convicted)
    findings += _repeats(facts, witness, twice)
    findings += _orders(facts, witness)
    findings += _overlaps(facts, witness)
    findings += _early(facts, witness)
    findings += _undone(facts, witness)
    findings += _letters(facts)
    if facts.left_over:
        findings.append(Finding("left over", f"{facts.left_over} records"))
    findings += (Finding("bad exit", f"exit code {code}") for code in facts.exits if code)
    return Verdict(
        acknowledged=len(facts.expected),
        findings=findings,
        twice=twice,
        convicted=len(convicted),
        letters_twice=sum(count - 1 for count in facts.letters.values()),
        recovery=max(
            (*_recovered(facts, witness), *_resumed(facts, witness)),
            default=None,
        ),
    )


@dataclass(slots=True)
class _Witness:
    """The journal, arranged for its questions."""

    starts: dict[Identity, list[Start]]
    stored: dict[tuple[str, int], list[Stored]]
    asked: dict[tuple[str, int], list[Asked]]
    fences: dict[tuple[str, int], list[int]]
    partitions: int

    @classmethod
    def of(cls, facts: Facts) -> "_Witness":
        starts, stored, asked = defaultdict(list), defaultdict(list), defaultdict(list)
        for one in sorted(facts.journal.starts, key=lambda one: one.at):
            if one.id in facts.expected:
                starts[one.id, one.run, one.attempt].append(one)
        for row in facts.journal.stored:
            if row.state == State.RETRYING or State(row.state).final:  # not a mere strike
                stored[row.id, row.run].append(row)
        for look in facts.journal.asked:
            asked[look.id, look.pid].append(look)
        witness = cls(dict(starts), dict(stored), dict(asked), {}, facts.partitions)
        fences: dict[tuple[str, int], set[int]] = defaultdict(set)
        for start in facts.journal.starts:
            fences[witness.place(start)].add(start.fence)
        witness.fences = {place: sorted(all_of) for place, all_of in fences.items()}
        return witness

    def place(self, start: Start) -> tuple[str, int]:
        """The lane and partition that a start came from."""
        lane = {"urgent": "high", "lowly": "low"}.get(start.task, "normal")
        key = start.id if start.key is None else start.key
        return lane, partition_for(key.encode(), self.partitions)

    def is_stale(self, start: Start) -> bool:
        """Whether the partition had a newer owner by then: a start of an owner that was fenced."""
        fences = self.fences[self.place(start)]
        newer = bisect_left(fences, start.fence + 1)
        return newer < len(fences) and fences[newer] / 1e6 <= start.at

    def first_starts(self) -> list[Start]:
        """The first start of each task by an owner of its partition, in the order of time."""
        firsts: dict[str, Start] = {}
        for starts in self.starts.values():
            for start in starts:
                if not self.is_stale(start):
                    known = firsts.get(start.id)
                    if known is None or start.at < known.at:
                        firsts[start.id] = start
        return sorted(firsts.values(), key=lambda start: start.at)


def _convicted(facts: Facts, witness: _Witness) -> set[str]:
    struck = {pid for strike in facts.strikes for pid in strike.pids or ()}
    hit = Counter(
        start.id for starts in witness.starts.values() for start in starts if start.pid in struck
    )
    return {
        task_id
        for task_id, count in hit.items()
        if count >= LOST_FOR_GOOD
        and (last := current(facts.rows.get(task_id, ()))) is not None
        and last.error_type == "WorkerLost"
    }


def _ends(facts: Facts, convicted: Collection[str]) -> Iterable[Finding]:
    for task_id, one in facts.expected.items():
        rows = facts.rows.get(task_id, ())
        last = current(rows)
        if last is None or not last.state.final:
            yield Finding("lost", f"{_named(task_id, one)}: {_told(rows)}")
            continue
        if task_id in convicted:
            continue
        if last.state is not one.planned.state:
            yield Finding(
                "wrong end",
                f"{_named(task_id, one)} should be {one.planned.state}: {_told(rows)}",
            )
        elif one.value and not (last.value or b"").endswith(one.value):
            yield Finding("wrong end", f"{_named(task_id, one)} returned {last.value!r}")
        finals = Counter(row.run for row in rows if row.state.final)
        if any(count > 1 for count in finals.values()):
            yield Finding("two ends", f"{_named(task_id, one)}: {_told(rows)}")


def _repeats(facts: Facts, witness: _Witness, twice: Counter[str]) -> Iterable[Finding]:
    for (task_id, run, attempt), starts in witness.starts.items():
        stored = witness.stored.get((task_id, run), [])
        for number, start in enumerate(starts):
            looks = [
                look.at
                for look in witness.asked.get((task_id, start.pid), ())
                if look.at <= start.at
            ]
            known = max(looks, default=start.at)
            before = [
                row
                for row in stored
                if row.at < known and (row.attempt >= attempt or State(row.state).final)
            ]
            if witness.is_stale(start):
                twice[FENCED] += number > 0
            elif before:
                yield Finding("run again", f"{start}, after {before[0]}")
            elif number:
                earlier = starts[number - 1]
                if _died_before(facts, earlier, start.at):
                    twice[DIED] += 1
                elif earlier.fence != start.fence:
                    twice[FENCED] += 1
                elif _cut_off_between(facts, earlier.at, start.at):
                    twice[CUT_OFF] += 1
                else:
                    yield Finding("run again unexplained", f"{earlier}, then {start}")


def _died_before(facts: Facts, start: Start, at: float) -> bool:
    return max(facts.seen.get(start.pid, 0.0), start.at) < at


def _cut_off_between(facts: Facts, first: float, second: float) -> bool:
    """Whether an outage of Kafka lasted so long between two starts that the owner gave up."""
    return any(
        "Kafka" in strike.what
        and strike.over - strike.at > facts.cut_off
        and first < strike.over
        and second > strike.at + facts.cut_off
        for strike in facts.strikes
    )


def _orders(facts: Facts, witness: _Witness) -> Iterable[Finding]:
    last: dict[tuple[str, int, str], Start] = {}
    for start in witness.first_starts():
        if start.key is None:
            continue
        line = (*witness.place(start), start.key)
        before = last.get(line)
        if before is not None and _number(facts, start) < _number(facts, before):
            yield Finding("key order", f"{start} after {before}")
        else:
            last[line] = start


def _overlaps(facts: Facts, witness: _Witness) -> Iterable[Finding]:
    ends: dict[tuple[str, int, int, int], list[float]] = defaultdict(list)
    for one in facts.journal.ends:
        ends[one.id, one.run, one.attempt, one.pid].append(one.at)
    lines: dict[tuple[str, int, int], list[Start]] = defaultdict(list)
    for starts in witness.starts.values():
        for start in starts:
            if start.key is not None:
                lines[start.key, start.fence, witness.place(start)[1]].append(start)
    for line in lines.values():
        line.sort(key=lambda start: start.at)
        for before, after in pairwise(line):
            own = ends[before.id, before.run, before.attempt, before.pid]
            end = next((at for at in own if at >= before.at), None)
            # Without an end its process has died: then the next one has not begun beside it.
            if end is not None and after.at < end and before.id != after.id:
                yield Finding("key overlap", f"{before} ends at {end}, and {after}")


def _early(facts: Facts, witness: _Witness) -> Iterable[Finding]:
    for (task_id, run, attempt), starts in witness.starts.items():
        due = facts.expected[task_id].due or 0.0
        if attempt > 1:
            dues = [
                row.due
                for row in witness.stored.get((task_id, run), ())
                if row.attempt == attempt - 1 and row.due is not None
            ]
            due = min(dues, default=due)
        for start in starts:
            if start.at < due - SAME_INSTANT:
                yield Finding("fired early", f"{start}, due at {due:.3f}")


def _undone(facts: Facts, witness: _Witness) -> Iterable[Finding]:
    for task_id in facts.expected:
        for row in facts.rows.get(task_id, ()):
            writes = [
                one
                for one in witness.stored.get((task_id, row.run), ())
                if one.attempt == row.attempt
            ]
            newest = max(writes, key=lambda one: one.written_us, default=None)
            # Told by the start, not by the row's own timestamp: that is what may be wrong.
            if newest is not None and _began_before(row.started, newest.started):
                yield Finding("undone", f"{row} stands, and a later dispatch wrote {newest}")


def _began_before(this: float | None, that: float | None) -> bool:
    return this is not None and that is not None and this < that - SAME_INSTANT


def _letters(facts: Facts) -> Iterable[Finding]:
    lasts: dict[str, Row] = {}
    for task_id, one in facts.expected.items():
        last = current(facts.rows.get(task_id, ()))
        if last is None:
            continue
        lasts[task_id] = last
        if last.state is State.DEAD and (task_id, last.run, last.attempt) not in facts.letters:
            yield Finding("no dead letter", f"{_named(task_id, one)}: {_told([last])}")
    for task_id, run, attempt in facts.letters:
        known = lasts.get(task_id)
        if known is not None and (known.run, known.attempt, known.state) != (
            run,
            attempt,
            State.DEAD,
        ):
            yield Finding("false dead letter", f"attempt {attempt} of run {run}: {_told([known])}")


def _recovered(facts: Facts, witness: _Witness) -> Iterator[float]:
    """How long each task that was caught in mid-run took until it was recorded."""
    recorded: dict[Identity, list[Stored]] = defaultdict(list)
    for rows in witness.stored.values():
        for row in rows:
            recorded[row.id, row.run, row.attempt].append(row)
    outages = [strike for strike in facts.strikes if strike.pids is None]
    for strike in facts.strikes:
        # What strikes during an outage can't be got over before its end.
        over = max([one.over for one in outages if one.at <= strike.over], default=0.0)
        over = max(over, strike.over)
        for identity, starts in witness.starts.items():
            caught = [
                start
                for start in starts
                if start.at < strike.at and (strike.pids is None or start.pid in strike.pids)
            ]
            stored = recorded.get(identity, ())
            if not caught or any(row.at <= strike.at for row in stored):
                continue
            after = min((row.at for row in stored if row.at > strike.at), default=None)
            if after is not None:
                yield after - over


def _resumed(facts: Facts, witness: _Witness) -> Iterator[float]:
    """How long each outage's end was ago when tasks of each name that had waited for it started."""
    firsts = witness.first_starts()
    for outage in facts.strikes:
        if outage.pids is not None or outage.over == outage.at:
            continue
        again: dict[str, float] = {}
        for start in firsts:
            task = facts.expected[start.id]
            if task.due is None and task.published < outage.over < start.at:
                again.setdefault(start.task, start.at)
        yield from (at - outage.over for at in again.values())


def _number(facts: Facts, start: Start) -> int:
    return facts.expected[start.id].planned.number


def _named(task_id: str, one: Expected) -> str:
    return f"task {one.planned.task} {one.planned.number} ({task_id})"


def _told(rows: Iterable[Row]) -> str:
    told = [f"{row.run}/{row.attempt} {row.state} {row.error_type or ''}".strip() for row in rows]
    return "; ".join(told) or "no row"
