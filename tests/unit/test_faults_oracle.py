"""The oracle finds each kind of broken promise in a made-up history, and nothing in a clean one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.support.faults.journal import Asked, End, Journal, Start, Stored
from tests.support.faults.oracle import (
    CUT_OFF,
    DIED,
    FENCED,
    Expected,
    Facts,
    Strike,
    judge,
)
from tests.support.faults.workload import Planned

from taskstream import State
from taskstream.results.row import Row

FENCE = 1_000_000
"""The partition was assigned at second 1."""


def start(**other: object) -> Start:
    """Task `a` starts at second 10 in process 1 of worker 9."""
    first = Start("a", 0, 1, "quick", pid=1, parent=9, fence=FENCE, key=None, at=10.0)
    return replace(first, **other)  # type: ignore[arg-type]


def stored(**other: object) -> Stored:
    """Its success is stored at second 11."""
    row = Stored("a", 0, 1, 1, "succeeded", written_us=9_000_001, started=10.0, due=None, at=11.0)
    return replace(row, **other)  # type: ignore[arg-type]


def row(**other: object) -> Row:
    """What the store has of it."""
    found = Row(
        task_id="a",
        run=0,
        attempt=1,
        state=State.SUCCEEDED,
        task="quick",
        written_us=9_000_001,
        started=10.0,
        value=b"frame\x02",
    )
    return found._replace(**other)  # type: ignore[arg-type]


def expected(task: str = "quick", number: int = 0, **other: object) -> Expected:
    """It was published as number 0 and must return what is encoded as 2."""
    value = b"" if task == "fatal" else b"\x02"
    return replace(Expected(Planned(number, task, {}), value), **other)  # type: ignore[arg-type]


def history(
    starts: Sequence[Start] = (),
    rows: Sequence[Row] = (),
    writes: Sequence[Stored] = (),
    **other: object,
) -> Facts:
    """One task's history; the clean one unless told otherwise."""
    facts = Facts(
        expected={"a": expected()},
        rows={"a": rows or [row()]},
        journal=Journal(starts=list(starts or [start()]), stored=list(writes or [stored()])),
    )
    return replace(facts, **other)  # type: ignore[arg-type]


def test_a_clean_history_has_no_findings() -> None:
    """One start, one row, one end."""
    verdict = judge(history())
    assert not verdict.findings
    assert (verdict.acknowledged, verdict.twice, verdict.recovery) == (1, {}, None)


BAD = {
    "lost": history(rows=[row(state=State.RETRYING)]),
    "wrong end": history(rows=[row(state=State.EXPIRED)]),
    "two ends": history(rows=[row(), row(attempt=2)]),
    "run again": history(starts=[start(), start(pid=2, at=12.0)]),
    "run again unexplained": history(
        starts=[start(), start(pid=2, at=10.5)], writes=[stored(at=13.0)], seen={1: 12.0}
    ),
    "fired early": history(expected={"a": expected(due=10.1)}),
    "undone": history(
        writes=[stored(), stored(pid=2, written_us=9_500_001, started=10.7, at=11.2)]
    ),
    "no dead letter": history(
        expected={"a": expected("fatal")}, rows=[row(state=State.DEAD, value=None)]
    ),
    "false dead letter": history(letters={("a", 0, 1): 1}),
    "left over": history(left_over=3),
    "bad exit": history(exits=[0, 1]),
}


@pytest.mark.parametrize("what", BAD)
def test_each_broken_promise_is_found(what: str) -> None:
    """Exactly what is wrong in the history is named."""
    assert set(judge(BAD[what]).broken) == {what}


def test_a_wrong_result_is_a_wrong_end() -> None:
    """A task that succeeded with somebody else's result is found."""
    assert judge(history(rows=[row(value=b"frame\x04")])).broken == {"wrong end": 1}


def test_a_run_again_is_explained_by_the_death_of_its_process() -> None:
    """Unrecorded when its process was last seen: that is what may run twice."""
    again = history(
        starts=[start(), start(pid=2, at=15.0)],
        writes=[stored(pid=2, started=15.0, at=16.0)],
        rows=[row(started=15.0)],
        seen={1: 12.0, 2: 16.0},
        strikes=[Strike("child killed", 12.0, 12.0, frozenset([1]))],
    )
    verdict = judge(again)
    assert not verdict.findings
    assert verdict.twice == {DIED: 1}
    assert verdict.recovery == 4.0


def test_what_a_look_up_could_not_see_yet_is_no_offence() -> None:
    """A row that is stored after the next owner has looked can't keep it from running."""
    late = history(
        starts=[start(), start(pid=2, fence=9_000_000, at=12.0)],
        writes=[stored(at=11.5), stored(pid=2, written_us=11_000_000, started=12.0, at=13.0)],
        rows=[row(started=12.0)],
        seen={1: 20.0, 2: 20.0},
    )
    late.journal.asked.append(Asked("a", 2, 11.4))
    assert judge(late).twice == {FENCED: 1}
    assert not judge(late).findings
    late.journal.asked[0] = Asked("a", 2, 11.6)
    assert judge(late).broken == {"run again": 1}


def test_a_fenced_owners_runs_are_counted_apart() -> None:
    """A worker that wakes up after its partition went away starts what it held: that is told, no more."""
    fenced = history(
        starts=[start(pid=2, fence=9_000_000), start(at=12.0)],
        writes=[stored(pid=2)],
        seen={1: 20.0, 2: 20.0},
    )
    assert judge(fenced).twice == {FENCED: 1}
    assert not judge(fenced).findings


def _keyed(first: Start, second: Start, ends: Sequence[End] = ()) -> Facts:
    writes = [stored(id=one.id, started=one.at, at=one.at + 0.1) for one in (first, second)]
    journal = Journal(starts=[first, second], stored=writes, ends=list(ends))
    return Facts(
        expected={"a": expected("ordered", 0), "b": expected("ordered", 1)},
        rows={"a": [row(started=None)], "b": [row(started=None)]},
        journal=journal,
        partitions=1,
    )


def test_the_order_of_a_key_is_that_of_its_publishes() -> None:
    """First starts of one key's tasks must come in the order of their numbers."""
    first = start(task="ordered", key="k")
    second = replace(first, id="b", at=11.0)
    assert not judge(_keyed(first, second)).findings
    assert judge(_keyed(replace(first, at=12.0), second)).broken == {"key order": 1}


def test_an_order_that_only_a_fenced_owner_broke_does_not_count() -> None:
    """The first start by the partition's owner is what is compared."""
    second = start(id="b", task="ordered", key="k", fence=9_500_000, at=9.7)
    first = start(task="ordered", key="k", fence=9_900_000, at=10.0)
    woken = replace(second, fence=FENCE, at=9.6, pid=3)
    facts = _keyed(first, replace(second, fence=9_900_000, at=11.0))
    facts.journal.starts.append(replace(woken, at=9.95))
    assert "key order" not in judge(facts).broken


def test_two_tasks_of_one_key_at_once_are_found() -> None:
    """The second one starts before the first one has ended."""
    first = start(task="ordered", key="k")
    second = replace(first, id="b", at=10.5)
    assert judge(_keyed(first, second, [End("a", 0, 1, 1, 10.6)])).broken == {"key overlap": 1}
    assert not judge(_keyed(first, second, [End("a", 0, 1, 1, 10.4)])).findings


def test_a_retry_is_early_before_the_due_time_of_its_row() -> None:
    """The second attempt may not start before the first one's row says."""
    retrying = stored(state="retrying", due=20.0)
    facts = history(
        starts=[start(), start(attempt=2, at=19.0)],
        writes=[retrying, stored(attempt=2, started=19.0, at=19.1)],
        rows=[row(state=State.RETRYING), row(attempt=2, started=19.0)],
    )
    assert judge(facts).broken == {"fired early": 1}


def test_a_task_that_the_faults_hit_three_times_may_be_convicted() -> None:
    """Nobody can tell it from one that kills its process; hit less often, its death is a wrong end."""
    lost = row(state=State.DEAD, value=None, error_type="WorkerLost")
    starts = [start(pid=pid, at=10.0 + pid) for pid in (1, 2, 3)]
    strikes = [
        Strike("child killed", 10.5 + pid, 10.5 + pid, frozenset([pid])) for pid in (1, 2, 3)
    ]
    writes = [stored(pid=4, state="dead", started=None, at=20.0)]
    facts = history(starts, [lost], writes, letters={("a", 0, 1): 1}, strikes=strikes)
    assert not judge(facts).findings
    assert judge(facts).convicted == 1
    assert judge(replace(facts, strikes=strikes[:2])).broken == {"wrong end": 1}


def test_recovery_from_a_fault_within_an_outage_counts_from_the_outages_end() -> None:
    """A worker that dies while the store is away leaves nothing that could be recorded before."""
    facts = history(
        starts=[start(), start(pid=2, at=31.0)],
        writes=[stored(pid=2, started=31.0, at=32.0)],
        rows=[row(started=31.0)],
        seen={1: 12.0, 2: 33.0},
        strikes=[
            Strike("worker killed", 12.0, 12.0, frozenset([1])),
            Strike("Cassandra killed", 9.0, 30.0),
        ],
    )
    assert judge(facts).recovery == 2.0


def test_what_ran_when_kafka_went_away_for_long_may_run_again() -> None:
    """Its owner ends it, unrecorded, before the group may give it away; after a short outage it does not."""
    facts = history(
        starts=[start(), start(at=31.0)],
        writes=[stored(started=31.0, at=32.0)],
        rows=[row(started=31.0)],
        seen={1: 33.0},
        strikes=[Strike("Kafka restarted", 11.0, 20.0)],
        cut_off=5.0,
    )
    assert judge(facts).twice == {CUT_OFF: 1}
    assert judge(replace(facts, cut_off=10.0)).broken == {"run again unexplained": 1}
    other = [Strike("Cassandra restarted", 11.0, 20.0)]
    assert judge(replace(facts, strikes=other)).broken == {"run again unexplained": 1}


def test_an_outage_is_over_when_tasks_of_each_name_start_again() -> None:
    """Only those count that had waited for it; the slowest name says how long it took."""
    tasks = {"a": "quick", "b": "quick", "c": "naps", "d": "naps"}
    times = {"a": 31.0, "b": 38.0, "c": 34.0, "d": 44.0}
    facts = history(
        starts=[start(id=id_, task=tasks[id_], at=at) for id_, at in times.items()],
        expected={
            id_: expected(task, published=40.0 if id_ == "d" else 20.0)
            for id_, task in tasks.items()
        },
        strikes=[Strike("Kafka frozen", 9.0, 30.0)],
    )
    assert judge(facts).recovery == 4.0
