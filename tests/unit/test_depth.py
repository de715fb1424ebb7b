"""How far ahead a child is fed, from what it finishes."""

from taskstream.consumer.parent.children import DEPTH_TASKS, Depth


def after(depth: Depth, *, per_second: float, write_seconds: float, seconds: float = 2.0) -> Depth:
    """The depth after so many seconds at a steady rate."""
    for turn in range(1, int(seconds / 0.1) + 1):
        depth.finished(int(per_second * 0.1), write_seconds, turn * 0.1)
    return depth


def test_a_slow_child_is_not_fed_ahead() -> None:
    """Two tasks a second leave no short task behind a long one."""
    depth = Depth(concurrency=50)
    for turn in range(1, 20):
        depth.finished(1, 0.05, turn * 0.5)
    assert depth.limit == 50


def test_a_fast_child_is_fed_for_the_time_its_rows_take() -> None:
    """The slower the store, the more must be under way for the same rate, up to a bound."""
    near = after(Depth(50), per_second=2000, write_seconds=0.005).limit
    far = after(Depth(50), per_second=2000, write_seconds=0.1).limit
    assert 50 < near < far <= 50 + DEPTH_TASKS


def test_what_is_held_is_more_than_what_the_store_holds_back() -> None:
    """A rate that is limited by the depth alone grows: the limit exceeds rate times write time."""
    for write_seconds in (0.01, 0.05, 0.1):
        depth = after(Depth(50), per_second=1000, write_seconds=write_seconds)
        assert depth.limit > 1000 * write_seconds
