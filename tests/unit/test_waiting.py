"""What of a partition is not finished, by offsets alone."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.waiting import Concern, Waiting, left_of
from taskstream.broker.offsets import Progress
from taskstream.broker.records import Record


@given(
    st.sets(st.integers(0, 40)),
    st.integers(0, 30),
    st.integers(0, 40),
    st.integers(0, 45),
    st.integers(0, 30),
)
def test_what_is_left_is_what_no_commit_calls_finished(
    unfinished: set[int], position: int, end: int, bound: int, low: int
) -> None:
    """Below a bound and beyond it, against the offsets one by one; retention takes the oldest."""
    end = max(end, position)
    listed = tuple(sorted(offset for offset in unfinished if offset < position))
    watermark = listed[0] if listed else position
    start = min(max(watermark, low), end)
    left = left_of(Progress(watermark, position, listed), start, end)
    naive = [offset for offset in range(start, end) if offset >= position or offset in listed]
    assert [offset for offset in range(end) if left.has(offset)] == naive
    assert left.count_below(end) == len(naive)
    assert left.count_below(bound) == sum(offset < bound for offset in naive)
    beyond = left.beyond(bound)
    assert [offset for offset in range(end) if beyond.has(offset)] == [
        offset for offset in naive if offset >= bound
    ]
    if naive:
        assert left.start <= naive[0]


def test_a_commit_that_is_not_ours_says_where_it_stands() -> None:
    """Another tool's, or none: all from there on is left."""
    assert left_of(None, 7, 10).count_below(10) == 3


def test_who_is_meant_is_told_by_name_and_by_when_it_entered() -> None:
    """A retry's own time of coming home is no matter."""
    fresh = Record("shop.tasks.low", 0, 1, None, b"", (("ts-task", b"charge"),), 50.0)
    retry = fresh._replace(
        headers=(*fresh.headers, ("ts-attempt", b"2"), ("ts-entered", b"10.000000"))
    )
    until = Concern((), frozenset({"charge"}), 20.0)
    assert (until.is_about(fresh), until.is_about(retry)) == (False, True)
    assert Concern((), None).is_about(fresh)
    assert not Concern((), frozenset({"refund"})).is_about(fresh)


def test_counts_add_up() -> None:
    """All kinds together are what a purge would touch."""
    both = Waiting(1, 2, 3) + Waiting(10, 20, 30)
    assert (both, both.total) == (Waiting(11, 22, 33), 66)
