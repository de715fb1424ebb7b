"""What a worker must do by itself happens before its group gives it up."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.parent.fence import Fence
from taskstream.consumer.parent.heartbeat import EVERY


@given(session=st.floats(1.0, 3600.0))
def test_a_worker_stops_before_others_may_start(session: float) -> None:
    """First nothing new starts, then what runs ends; its children and what it holds likewise in time."""
    fence = Fence(session, EVERY)
    assert 0 < fence.commit_again < fence.stop_after < fence.cancel_after < session
    assert fence.beat_limit < session <= fence.silence
    assert fence.stop_holding_after < fence.silence
    assert fence.silence > EVERY


@given(session=st.floats(1.0, 3600.0))
def test_a_slow_handover_cancels_nothing(session: float) -> None:
    """While an intake waits for the answer to a revocation, it commits nothing: that is allowed for."""
    fence = Fence(session, EVERY)
    assert fence.grace + fence.tell_within < fence.cancel_after
