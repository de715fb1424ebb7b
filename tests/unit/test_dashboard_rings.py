"""The counters behind the dashboard's charts, by property.

Broken on purpose once, and seen to fail: `Ring.add` without its bounds (a wrong clock wipes the others out)
and without the look at a newer moment in its place, `total` over all slots whatever their moment, a
percentile that is rounded down.
"""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.overview.rings import LEAST, Ring, bucket_of, longest_in, percentile

durations = st.floats(0.0, 1e6)
START = 1_764_000_000.0


@given(st.lists(st.tuples(st.floats(-40.0, 40.0), st.sampled_from("ab")), max_size=60))
def test_a_ring_counts_what_its_window_holds_and_nothing_else(
    told: list[tuple[float, str]],
) -> None:
    """Whatever comes in, in whatever order, as time goes on: the sums are those of a plain count."""
    ring: Ring[str] = Ring(10)
    now = START
    heard: list[tuple[int, str]] = []
    for step, (away, what) in enumerate(told):
        now = START + step * 0.7
        at = now + away
        ring.add(at, what, now)
        if int(now) - 10 < int(at) <= int(now) + 1:
            heard.append((int(at), what))
    newest = int(now)
    kept = [(moment, what) for moment, what in heard if newest - 10 < moment <= newest + 1]
    # The one that is ahead takes the place of the oldest, which is about to go.
    ahead = {moment for moment, _ in kept if moment == newest + 1}
    kept = [one for one in kept if not (ahead and one[0] == newest - 9)]
    assert ring.total(now) == Counter(what for _, what in kept)
    series = dict(ring.series(now))
    assert list(series) == [float(moment) for moment in range(newest - 9, newest)]
    for moment, counts in series.items():
        assert counts == Counter(what for one, what in kept if one == moment)


def test_a_total_may_be_of_the_last_seconds_alone() -> None:
    """What is older than asked for is in the window, and not in the sum."""
    ring: Ring[str] = Ring(10)
    for second in range(10):
        ring.add(START + second, "a", START + 9)
    assert ring.total(START + 9, 3)["a"] == 3
    assert ring.total(START + 9)["a"] == 10
    assert ring.total(START + 100) == Counter()


@given(durations)
def test_a_bucket_holds_its_durations(seconds: float) -> None:
    """Never less than what went in, and never a fifth more, but for what is too short to tell."""
    longest = longest_in(bucket_of(seconds))
    assert longest >= seconds * (1 - 1e-9)
    assert longest <= max(LEAST, seconds * 1.2)


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_that_of_the_values_to_a_fifth(values: list[float], share: float) -> None:
    """The same one as of the sorted values, rounded up to its bucket."""
    exact = sorted(values)[max(1, math.ceil(share * len(values) - 1e-9)) - 1]
    found = percentile(Counter(map(bucket_of, values)), share)
    assert found == longest_in(bucket_of(exact))


def test_of_nothing_there_is_no_percentile() -> None:
    """No number is made up for a second in which nothing ran."""
    assert percentile(Counter(), 0.5) is None


@pytest.mark.parametrize("width", [1.0, 60.0])
def test_a_ring_forgets(width: float) -> None:
    """After a whole window of silence nothing is left, also where slots were not written anew."""
    ring: Ring[str] = Ring(15, width)
    ring.add(START, "a", START)
    assert ring.total(START + 14 * width)["a"] == 1
    assert ring.total(START + 16 * width)["a"] == 0


def test_a_clock_that_is_ahead_keeps_its_place() -> None:
    """The second to come has the oldest one's place: what is told late of that wipes nothing out."""
    ring: Ring[str] = Ring(10)
    ring.add(START + 1, "ahead", START)
    ring.add(START - 9, "late", START)
    assert ring.total(START) == Counter({"ahead": 1})
