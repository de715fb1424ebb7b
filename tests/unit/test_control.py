"""Orders that hold, and the compact set of those that may be many."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.core.control import (
    CANCEL,
    EVERYBODY,
    SCALE,
    Control,
    Digests,
    Order,
    cancel_key,
    lifetime,
    run_of,
)
from taskstream.core.ids import new_id
from taskstream.core.tiers import DAY
from taskstream.schemas.control import decode_order, encode_order, hear
from taskstream.schemas.records import Records

RECORDS = Records()
LIFETIME = 40 * DAY
NOW = 1_700_000_000.0


def order(verb: str, target: str, number: float | None = None) -> Order:
    return Order(verb=verb, target=target, number=number, at=NOW, who="me@here", reason="a test")


def cancel(task_id: str, run: int = 0) -> Order:
    return order(CANCEL, run_of(task_id, run))


def record(key: bytes, value: bytes | None, at: float = NOW) -> Record:
    return Record("shop.control", 0, 0, key, value, (), at)


digests = st.binary(min_size=16, max_size=16)
# Few bits make neighbours on a shelf that look alike, also across their borders.
alike = st.lists(st.sampled_from([b"\x00", b"\x01"]), min_size=14, max_size=14).map(
    lambda bits: b"\x00\x00" + b"".join(bits)
)


@given(st.lists(st.tuples(st.booleans(), digests | alike), max_size=60))
def test_digests_are_a_set(steps: list[tuple[bool, bytes]]) -> None:
    """Adding, taking out and looking do what they do to a `set`."""
    ours, model = Digests(), set[bytes]()
    for adds, digest in steps:
        if adds:
            ours.add(digest)
            model.add(digest)
        else:
            ours.discard(digest)
            model.discard(digest)
        assert len(ours) == len(model)
        assert all((one in ours) == (one in model) for _, one in steps)


def test_a_cancel_is_of_one_run_and_ends_with_its_tombstone() -> None:
    """A redrive is another matter; an order given twice is taken back once."""
    control = Control(LIFETIME)
    assert not control.is_cancelled("inv-9", 0)
    control.give(cancel("inv-9", 1), NOW)
    control.give(cancel("inv-9", 1), NOW + 30 * DAY)
    assert [control.is_cancelled("inv-9", run) for run in (0, 1, 2)] == [False, True, False]
    assert control.cancels == 1
    control.take_back(cancel_key("inv-9", 1))
    assert not control.cancels_any


def test_an_id_with_a_slash_is_no_other_run() -> None:
    """Callers choose their ids freely."""
    control = Control(LIFETIME)
    control.give(cancel("a/1", 2), NOW)
    assert not control.is_cancelled("a", 1)
    assert control.is_cancelled("a/1", 2)


def test_many_cancels_end_and_leave_nothing() -> None:
    """Each is taken back at its task's final state, in whatever order; then nothing is held."""
    control = Control(LIFETIME)
    ids = [new_id() for _ in range(20_000)]
    for task_id in ids:
        control.give(cancel(task_id), NOW)
    assert control.cancels == len(ids)
    for task_id in reversed(ids):
        control.take_back(cancel_key(task_id, 0))
    assert not control.cancels_any


def test_what_nobody_takes_back_falls_out_by_age() -> None:
    """A cancel of a task that nobody ever sees is forgotten after a lifetime, not before."""
    control = Control(LIFETIME)
    control.give(cancel("never-published"), NOW)
    control.give(order(SCALE, EVERYBODY, 3), NOW)
    control.expire(NOW + LIFETIME - 1)
    assert control.is_cancelled("never-published", 0)
    control.expire(NOW + LIFETIME * 1.1)
    assert not control.cancels_any
    assert control.scale_of("w-1") is None


def test_the_last_order_to_a_worker_or_to_all_counts() -> None:
    """Also where the one to all comes after the one to the worker."""
    control = Control(LIFETIME)
    assert control.scale_of("w-1") is None
    control.give(order(SCALE, EVERYBODY, 3), NOW)
    control.give(order(SCALE, "w-1", 8), NOW)
    assert (control.scale_of("w-1"), control.scale_of("w-2")) == (8, 3)
    control.give(order(SCALE, EVERYBODY, 4), NOW)
    assert (control.scale_of("w-1"), control.scale_of("w-2")) == (4, 4)
    control.take_back(order(SCALE, EVERYBODY).key)
    assert (control.scale_of("w-1"), control.scale_of("w-2")) == (8, None)


def test_an_order_that_stands_is_said_again_by_whom_it_concerns() -> None:
    """Half a lifetime before it would fall out of the topic; by others, never."""
    control = Control(LIFETIME)
    control.give(order(SCALE, "w-1", 8), NOW)
    control.give(order("pause", EVERYBODY), NOW + DAY)
    later = NOW + LIFETIME / 2 + DAY / 2
    assert control.fading("w-1", NOW) == []
    assert control.fading("w-1", later) == [order(SCALE, "w-1", 8)]
    assert control.fading("w-2", later) == []
    assert control.fading("w-2", later + DAY) == [order("pause", EVERYBODY)]


def test_a_lifetime_covers_the_largest_tier_and_two_outages() -> None:
    """No record of a task can be left whose cancel has gone."""
    assert lifetime(7 * DAY) == 30 * DAY + 2 * 7 * DAY


def test_an_order_comes_back_as_it_was() -> None:
    """With who and why; microseconds are kept."""
    one = order(SCALE, "w-1", 4)
    assert decode_order(RECORDS, encode_order(RECORDS, one)) == one
    assert cancel("a").key == cancel_key("a", 0)


def test_hearing_the_topic_tells_the_cancels_that_hold() -> None:
    """What was taken back in the same batch is over; foreign bytes stop nobody."""
    control = Control(LIFETIME)
    first, second = cancel("a"), cancel("b", 2)
    batch = [
        record(first.key, encode_order(RECORDS, first)),
        record(second.key, encode_order(RECORDS, second)),
        record(b"pause/x", encode_order(RECORDS, order("pause", "x"))),
        record(b"?", b"nonsense"),
        record(first.key, None),
    ]
    assert hear(control, RECORDS, batch) == {run_of("b", 2)}
    assert control.cancels == 1
