"""Which records a replay publishes: a retry, a copy and what can't be told are left out, and counted.

Broken on purpose once, and seen to fail: the look for copies left out, or taken over all partitions; `attempt` not
looked at; outcomes taken that are later than the plan.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.choosing import SAMPLES, Chooser, Chosen
from taskstream.broker.records import Record
from taskstream.core.envelope import Envelope, Header, Place, write
from taskstream.core.errors import ConfigError, MissingExtra, Undecodable
from taskstream.core.ids import new_id
from taskstream.core.replay import Plan, Skip, Stretch
from taskstream.core.states import State
from taskstream.results.row import Row

TOPIC = "shop.tasks.normal"


def plan(**fields: Any) -> Plan:
    """A plan that asks for what the fields say."""
    return Plan(name="monday", stretches=(Stretch(TOPIC, 0, 0, 10**9),), **fields)


def record(
    offset: int = 0,
    *,
    cents: int = 0,
    at: float = 100.0,
    key: bytes | None = None,
    headers: tuple[Header, ...] | None = None,
    **fields: Any,
) -> Record:
    """A record of a task; its value is the number that `decode` gives back."""
    told = {"task": "charge", "id": new_id(), **fields}
    ours = tuple(write(Envelope(**told))) if headers is None else headers
    key = told["id"].encode() if key is None else key
    return Record(TOPIC, 0, offset, key, str(cents).encode(), ours, at)


def decode(value: bytes | None) -> Mapping[str, Any]:
    """The arguments in a value of `record`."""
    if value == b"-1":
        raise Undecodable("minus one is no amount")
    return {"cents": int(value or b"0")}


def chooser(*rows: Row, **fields: Any) -> Chooser:
    """A chooser for a plan of these fields, and a store with these rows."""

    def stored(ids: Sequence[str]) -> dict[str, list[Row]]:
        return {one: [row for row in rows if row.task_id == one] for one in ids}

    return Chooser(plan(**fields), decode, shadowed=lambda task: task == "charge", rows=stored)


def only(judge: Chooser, one: Record) -> Chosen | None:
    """What becomes of a record that comes by itself."""
    (chosen,) = judge.choose([one])
    return chosen


def row(state: State, run: int = 0, attempt: int = 1, **fields: Any) -> Row:
    """A row of task "a" that was finished at second 50."""
    return Row("a", run, attempt, state, "charge", 0, **{"finished": 50.0, **fields})


DIED = row(State.DEAD, error_type="CardDeclined", error="no money on o-7")


@pytest.mark.parametrize(
    ("asked", "one", "skip"),
    [
        ({}, record(), None),
        ({"since": 100.0, "until": 100.5}, record(at=100.0), None),
        ({"since": 100.5}, record(at=100.0), Skip.TIME),
        ({"until": 100.0}, record(at=100.0), Skip.TIME),
        ({"tasks": ("charge",)}, record(), None),
        ({"tasks": ("refund", "ch*")}, record(), None),
        ({"tasks": ("refund",)}, record(), Skip.TASK),
        ({"key": "c-1"}, record(key=b"c-1"), None),
        ({"key": "c-1"}, record(key=b"c-2"), Skip.KEY),
        ({"where": "cents > 100"}, record(cents=101), None),
        ({"where": "cents > 100"}, record(cents=100), Skip.CONDITION),
        ({"where": "pence > 100"}, record(cents=100), Skip.UNTOLD),
        ({"where": "cents > 100"}, record(cents=-1), Skip.UNDECODABLE),
        ({}, record(cents=-1), None),
        ({}, record(attempt=2), Skip.LATER_ATTEMPT),
        ({}, record(home=Place(TOPIC, 0), lookup=True, due=50.0), None),
        ({}, record(run=1, lookup=True), None),
        ({"shadow": "nightly"}, record(), None),
        ({"shadow": "nightly"}, record(task="refund"), Skip.NO_SHADOW),
        ({}, record(headers=()), Skip.UNREADABLE),
        ({"tasks": ("charge",)}, record(headers=()), Skip.UNREADABLE),
        ({}, record(headers=(("ts-task", b"charge"), ("ts-run", b"many"))), Skip.UNREADABLE),
    ],
)
def test_each_record_is_chosen_or_left_out_for_a_reason(
    asked: dict[str, Any], one: Record, skip: Skip | None
) -> None:
    """What is not chosen is counted under the reason; nothing is dropped in silence."""
    judge = chooser(**asked)
    chosen = only(judge, one)
    assert (chosen is None) == (skip is not None)
    assert judge.skipped == ({} if skip is None else {skip: 1})
    assert judge.tasks == ({} if chosen is None else {"charge": 1})


@pytest.mark.parametrize(
    ("asked", "rows", "skip"),
    [
        ({"states": (State.DEAD, State.EXPIRED)}, [DIED], None),
        ({"states": (State.SUCCEEDED,)}, [DIED], Skip.OUTCOME),
        ({"error": "Card*"}, [DIED], None),
        ({"error": "Timeout"}, [DIED], Skip.OUTCOME),
        ({"text": "No Money"}, [DIED], None),
        ({"text": "carddecl"}, [DIED], None),
        ({"text": "no answer"}, [DIED], Skip.OUTCOME),
        ({"error": "*"}, [row(State.SUCCEEDED)], None),
        ({"text": "no"}, [row(State.SUCCEEDED)], Skip.OUTCOME),
        ({"states": (State.DEAD,)}, [], Skip.NO_OUTCOME),
        ({"states": (State.DEAD,)}, [DIED, row(State.SUCCEEDED, run=1)], Skip.OUTCOME),
        ({"states": (State.DEAD,)}, [DIED, row(State.SUCCEEDED, run=1, finished=60.5)], None),
        ({"states": (State.DEAD,)}, [DIED, row(State.WAITING, run=1, attempt=0, finished=None)], None),
        ({"states": (State.DEAD,)}, [row(State.DEAD, finished=60.5)], Skip.NO_OUTCOME),
    ],
)  # fmt: skip
def test_a_task_is_chosen_by_how_it_had_ended(
    asked: dict[str, Any], rows: list[Row], skip: Skip | None
) -> None:
    """By its last row that was finished when the replay was settled, at second 60: the replay's own don't count."""
    judge = chooser(*rows, settled=60.0, **asked)
    chosen = only(judge, record(id="a"))
    assert (chosen is None) == (skip is not None)
    assert judge.skipped == ({} if skip is None else {skip: 1})


def test_the_store_is_asked_once_for_all_and_not_in_vain() -> None:
    """Only for tasks that everything else speaks for; never where no outcome is wanted."""
    asked: list[list[str]] = []

    def stored(ids: Sequence[str]) -> dict[str, list[Row]]:
        asked.append(list(ids))
        return {}

    wanted = plan(states=(State.DEAD,), key="c-1")
    Chooser(wanted, decode, rows=stored).choose(
        [record(id=one, key=key) for one, key in (("a", b"c-1"), ("b", b"c-2"), ("c", b"c-1"))]
    )
    Chooser(plan(), decode, rows=stored).choose([record(id="a")])
    Chooser(wanted, decode, rows=stored).choose([record(id="b", key=b"c-2")])
    assert asked == [["a", "c"]]


def test_a_foreign_record_has_the_id_that_a_worker_derives() -> None:
    """Topic, partition and offset name it, where its headers don't."""
    one = record(7, headers=(("ts-task", b"charge"),), key=b"")
    chosen = only(chooser(), one)
    assert chosen is not None
    assert chosen.envelope.id == one.identity[0] != ""


def test_a_task_counts_once_by_its_first_record() -> None:
    """A copy that a crash of the mover has left, and a redrive, are the same task again."""
    for task_id in (new_id(), "inv-9"):
        judge = chooser()
        assert only(judge, record(0, id=task_id)) is not None
        assert only(judge, record(1, id=task_id, lookup=True)) is None
        assert only(judge, record(2, id=task_id, run=1, lookup=True)) is None
        assert judge.skipped == {Skip.COPY: 2}


def test_a_copy_counts_where_the_first_record_was_not_asked_for() -> None:
    """A redrive with corrected arguments meets a condition that the first record did not."""
    judge = chooser(where="cents > 100")
    task_id = new_id()
    assert only(judge, record(0, id=task_id, cents=1)) is None
    assert only(judge, record(1, id=task_id, cents=101, run=1)) is not None


@given(
    st.lists(
        st.builds(
            record,
            cents=st.integers(-1, 3),
            at=st.floats(90, 110),
            id=st.integers(0, 9).map(str),
            attempt=st.integers(1, 2),
            task=st.sampled_from(["charge", "refund"]),
        )
    )
)
def test_two_passes_over_the_same_records_choose_the_same(records: list[Record]) -> None:
    """The dry run's count is what is then published, and every record is accounted for."""
    asked: dict[str, Any] = {"tasks": ("charge",), "where": "cents > 1", "since": 95.0}
    first, second = chooser(**asked), chooser(**asked)
    assert first.choose(records) == [only(second, one) for one in records]
    assert first.count + first.skipped.total() == len(records)
    ids = [one.id for one in first.samples]
    assert len(ids) == len(set(ids))


def test_some_are_kept_to_be_shown_with_their_arguments() -> None:
    """The first ones; where arguments can't be decoded, the task is shown without."""
    judge = chooser()
    for number in range(SAMPLES + 5):
        only(judge, record(number, cents=number - 1))
    assert len(judge.samples) == SAMPLES
    assert judge.samples[0].arguments is None
    assert judge.samples[3].arguments == {"cents": 2}
    assert judge.samples[3].source == f"{TOPIC}/0/3"


def test_why_a_condition_could_not_be_told_is_kept_once() -> None:
    """The first case names the task and the record."""
    judge = chooser(where="pence > 1")
    only(judge, record(3))
    only(judge, record(4))
    assert "charge" in judge.untold
    assert f"{TOPIC}/0/3" in judge.untold
    assert "pence" in judge.untold


def test_a_condition_that_is_none_is_refused_at_once() -> None:
    """Before a record is read."""
    with pytest.raises(ConfigError, match="where"):
        chooser(where="cents >")


def test_a_condition_needs_an_extra_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service with the base install alone can replay without one."""
    monkeypatch.setitem(sys.modules, "taskstream.admin.where", None)
    chooser(tasks=("charge",))
    with pytest.raises(MissingExtra, match=r"taskstream\[cli\]"):
        chooser(where="cents > 1")


@given(st.permutations(range(12)))
def test_how_partitions_come_mixed_makes_no_difference(order: list[int]) -> None:
    """A fetch brings now more of one, now of another: what is chosen of each is the same."""
    read = Counter[int]()
    judge = chooser()
    chosen = []
    for step in order:
        number = step % 3
        one = record(read[number], id=f"inv-{read[number] % 2}")._replace(partition=number)
        read[number] += 1
        chosen.append(only(judge, one))
    assert {(one.record.partition, one.record.offset) for one in chosen if one is not None} == {
        (number, offset) for number in range(3) for offset in range(2)
    }
