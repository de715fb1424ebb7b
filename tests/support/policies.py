"""Retry policies of all kinds, for property tests."""

from hypothesis import strategies as st

from taskstream import Retry
from taskstream.core.retry import MOST_ATTEMPTS
from taskstream.core.tiers import LONGEST_DELAY

_waits = st.floats(0.0, LONGEST_DELAY)
_names = st.lists(st.sampled_from(["OSError", "KeyError", "Überlauf"]), max_size=3)

policies = st.builds(
    Retry,
    attempts=st.integers(1, MOST_ATTEMPTS),
    first=st.floats(0.0, 1e9),
    factor=st.floats(0.0, 1e9),
    longest=_waits,
    jitter=st.booleans(),
    delays=st.lists(_waits, max_size=5),
    on=_names,
    never=_names,
    within=st.none() | st.floats(0.001, 1e9),
)
