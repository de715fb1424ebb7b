"""Which replies a child has for those who wait: few records, each bounded."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.consumer.child.answers import RECORD_BYTES, replies
from taskstream.consumer.child.attempt import Attempt
from taskstream.consumer.pipe import Given
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.envelope import Envelope, Place
from taskstream.core.states import State
from taskstream.results.row import Row
from taskstream.schemas.records import Records

RECORDS = Records()
HERE, THERE = Place("shop.replies", 0), Place("shop.replies", 1)


def recorded(
    number: int, place: Place | None, state: State = State.SUCCEEDED, value: bytes = b"x"
) -> tuple[Attempt, Row]:
    """An attempt whose row is stored."""
    task_id = f"task {number}"
    record = Record("shop.tasks.high", 0, number, None, b"", (), 0.0)
    task = Given(number, record, 0, 0, "group", lookup=False, suspicion=Suspicion.NONE)
    envelope = Envelope("charge", task_id, reply_to=place)
    row = Row(task_id, 0, 1, state, "charge", 1_000_000, value=value, finished=2.5)
    return Attempt(task, envelope), row


def test_each_place_gets_one_record() -> None:
    """Tasks that nobody waits for, or that go on, are not told of."""
    told = replies(
        [
            recorded(1, HERE),
            recorded(2, None),
            recorded(3, THERE),
            recorded(4, HERE, State.RETRYING),
            recorded(5, HERE, State.DEAD),
        ],
        RECORDS,
    )
    assert [(reply.place, list(RECORDS.replies_in(reply.value))) for reply in told] == [
        (HERE, ["task 1", "task 5"]),
        (THERE, ["task 3"]),
    ]


@given(st.lists(st.integers(0, RECORD_BYTES + 10), max_size=8))
def test_a_record_is_bounded_and_none_is_left_out(sizes: list[int]) -> None:
    """Only a reply that alone weighs more than a record should makes one that does."""
    told = replies(
        [recorded(number, HERE, value=b"x" * size) for number, size in enumerate(sizes)], RECORDS
    )
    found = [list(RECORDS.replies_in(reply.value)) for reply in told]
    assert [one for part in found for one in part] == [f"task {n}" for n in range(len(sizes))]
    for reply, part in zip(told, found, strict=True):
        assert len(reply.value) <= RECORD_BYTES or len(part) == 1
