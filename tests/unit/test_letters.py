"""Which dead letters are open, by what stands in their topic.

Broken on purpose once, and seen to fail: a ledger whose closings hold for ever, one that does not join copies
in different partitions, and one that takes the first of two attempts.
"""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.letters import Ledger, Letter, counts, letter_of
from taskstream.broker.records import Record
from taskstream.core.closing import PURGED, REDRIVEN, Closing
from taskstream.core.envelope import Death, Envelope, bury, write


def letter(task_id: str = "a", run: int = 0, *, partition: int = 0, offset: int = 0) -> Letter:
    return Letter(
        id=task_id, run=run, attempt=3, task="charge", reason="Fatal", message="no",
        origin="shop.tasks.high/2/17", at=float(offset), partition=partition, offset=offset,
        copies=(partition,),
    )  # fmt: skip


def closing(task_id: str = "a", run: int = 0, how: str = REDRIVEN) -> Closing:
    return Closing(id=task_id, run=run, how=how, as_run=1, at=9.0, who="me")


def test_a_copy_is_the_same_letter() -> None:
    """A crash can leave two of one identity, in one partition or, without a key, in two."""
    ledger = Ledger()
    ledger.enter(letter(offset=1))
    ledger.enter(letter(offset=2))
    ledger.enter(letter(partition=3, offset=7))
    (one,) = ledger.letters()
    assert one.copies == (0, 3)


def test_a_later_attempt_is_the_letter_of_its_run() -> None:
    """Whichever was written first."""
    ledger = Ledger()
    ledger.enter(replace(letter(offset=1), attempt=4))
    ledger.enter(letter(offset=2))
    assert [one.attempt for one in ledger.letters()] == [4]
    ledger.enter(replace(letter(offset=3), attempt=5))
    assert [one.attempt for one in ledger.letters()] == [5]
    ledger.enter(replace(letter(partition=1), attempt=6))
    assert [one.attempt for one in ledger.letters()] == [6]


def test_a_closing_ends_its_run_and_no_other() -> None:
    """A redriven task that dies again has a letter of its own."""
    ledger = Ledger()
    ledger.enter(letter())
    ledger.close(0, closing())
    assert ledger.letters() == ()
    ledger.enter(letter(run=1))
    assert [one.run for one in ledger.letters()] == [1]
    ledger.close(0, closing(run=1, how=PURGED))
    ledger.close(0, closing("nobody"))
    assert ledger.letters() == ()


def test_an_id_that_is_used_again_dies_again() -> None:
    """A closing speaks of what stands before it."""
    ledger = Ledger(keeps_closed=True)
    ledger.enter(letter(offset=1))
    ledger.close(0, closing())
    assert [one.closed for one in ledger.letters()] == [closing()]
    ledger.enter(letter(offset=5))
    (one,) = ledger.letters()
    assert (one.offset, one.closed) == (5, None)


def test_a_letter_is_open_while_one_copy_is() -> None:
    """So that it is asked for again, until the last copy is closed."""
    ledger = Ledger(keeps_closed=True)
    ledger.enter(letter())
    ledger.enter(letter(partition=1))
    ledger.close(0, closing())
    (one,) = ledger.letters()
    assert (one.partition, one.closed, one.copies) == (1, None, (1,))
    ledger.close(1, closing())
    (one,) = ledger.letters()
    assert one.closed == closing()


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 1)),
        max_size=30,
    )
)
def test_a_run_is_open_if_a_partition_ends_with_its_letter(
    events: list[tuple[bool, int, str, int]],
) -> None:
    """For any order of letters and closings in three partitions."""
    ledger, keeping = Ledger(), Ledger(keeps_closed=True)
    last: dict[tuple[int, str, int], bool] = {}
    for offset, (dies, partition, task_id, run) in enumerate(events):
        for one in (ledger, keeping):
            if dies:
                one.enter(letter(task_id, run, partition=partition, offset=offset))
            else:
                one.close(partition, closing(task_id, run))
        if dies or (partition, task_id, run) in last:
            last[partition, task_id, run] = dies
    still_open = {(task_id, run) for (_, task_id, run), dies in last.items() if dies}
    seen = {(task_id, run) for _, task_id, run in last}
    assert {(one.id, one.run) for one in ledger.letters()} == still_open
    assert {(one.id, one.run) for one in keeping.letters()} == seen
    assert {(one.id, one.run) for one in keeping.letters() if not one.closed} == still_open


def test_the_newest_comes_first() -> None:
    """As people want to see them."""
    ledger = Ledger()
    for number in (2, 3, 1):
        ledger.enter(letter(f"t{number}", offset=number))
    assert [one.id for one in ledger.letters()] == ["t3", "t2", "t1"]


def test_letters_are_counted_by_what_people_ask_for() -> None:
    """The most first, then by name."""
    found = [letter("a"), letter("b"), replace(letter("c"), reason="Timeout", task="refund")]
    assert counts(found, "reason") == {"Fatal": 2, "Timeout": 1}
    assert counts(found, "task") == {"charge": 2, "refund": 1}
    assert counts(found, "topic") == {"shop.tasks.high": 3}
    assert list(counts([*found[1:], found[2]], "reason")) == ["Timeout", "Fatal"]


def test_a_letter_is_read_from_its_record_whatever_its_headers_hold() -> None:
    """Long texts are cut, what can't be read is left out, and a record that is no letter is none."""
    death = Death("Fatal", "x" * 8000, "shop.tasks.high/2/17", 5.0)
    headers = bury(write(Envelope("charge", id="o-17", run=1, attempt=4)), death, ())
    record = Record("shop.dead", 3, 42, b"k", b"v", tuple(headers), 6.0)
    read, message = letter_of(record)
    assert read is not None
    assert (read.id, read.run, read.attempt, read.task) == ("o-17", 1, 4, "charge")
    assert (read.topic, read.at, read.partition, read.offset) == ("shop.tasks.high", 5.0, 3, 42)
    assert (len(read.message), len(message)) == (500, 8000)
    broken = bury([("ts-run", b"many"), ("ts-attempt", b"-")], death, ())
    unnamed, _ = letter_of(record._replace(headers=tuple(broken)))
    assert unnamed is not None
    assert (unnamed.run, unnamed.attempt, unnamed.task) == (0, 1, "")
    assert unnamed.id  # derived from where it stands
    assert letter_of(record._replace(headers=())) == (None, "")
