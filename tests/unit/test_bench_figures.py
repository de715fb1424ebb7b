"""The bench's arithmetic: medians, percentiles, ratios, and what counts as a change."""

import pytest
from benchmarks.figures import (
    BY_NAME,
    MEASURES,
    Figure,
    changes,
    figure,
    figures,
    percentile,
    percentiles_ms,
    ratio,
)
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.lists(st.floats(0, 1e9), min_size=1)


def test_a_figure_is_the_median_with_its_extremes() -> None:
    """The spread is half their distance, as a share of the median."""
    found = figure([90.0, 100.0, 130.0])
    assert found == Figure(100.0, 90.0, 130.0, 3)
    assert found.spread == pytest.approx(0.2)
    assert figure([0.0, 0.0]).spread == 0.0


def test_no_values_are_no_figure() -> None:
    """A measure that nobody took must not look like 0."""
    with pytest.raises(ValueError, match="no values"):
        figure([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_figures_take_each_measure_from_the_repeats_that_have_it() -> None:
    """A repeat that lacks one does not take it from the others."""
    found = figures([{"a": 1.0, "b": 5.0}, {"a": 3.0}])
    assert found == {"a": Figure(2.0, 1.0, 3.0, 2), "b": Figure(5.0, 5.0, 5.0, 1)}


def test_percentiles_are_values_that_were_measured() -> None:
    """p99 of a hundred is the second highest, of fewer the highest."""
    hundred = [float(n) for n in range(1, 101)]
    assert percentile(hundred, 0.5) == 50
    assert percentile(hundred, 0.99) == 99
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([7.0], 0.5) == 7.0


@given(NUMBERS, st.floats(0, 1))
def test_a_percentile_has_its_share_at_or_below_it(values: list[float], share: float) -> None:
    """Whatever the values are."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_latencies_are_told_in_milliseconds() -> None:
    """Nothing is told of latencies that were not taken."""
    assert percentiles_ms("body", [0.001, 0.002]) == {"body_p50_ms": 1.0, "body_p99_ms": 2.0}
    assert percentiles_ms("result", []) == {}


def test_a_ratio_needs_both_numbers() -> None:
    """Nothing and zero have none."""
    assert ratio(6.0, 3.0) == 2.0
    assert ratio(None, 3.0) is None
    assert ratio(6.0, None) is None
    assert ratio(6.0, 0.0) is None


def test_a_change_is_more_than_noise_where_the_ranges_do_not_touch() -> None:
    """And better in the measure's own direction."""
    before = {"x": {"drain_per_s": Figure(100, 90, 110, 3), "body_p50_ms": Figure(2, 1.9, 2.1, 3)}}
    now = {"x": {"drain_per_s": Figure(120, 111, 130, 3), "body_p50_ms": Figure(2.1, 2.0, 2.2, 3)}}
    faster, same = changes(now, before)
    assert faster.beyond_spread
    assert faster.better
    assert faster.ratio == pytest.approx(1.2)
    assert not same.beyond_spread
    assert not same.better


def test_changes_are_of_what_both_runs_have() -> None:
    """A contender or a measure of one run alone is passed over."""
    one = Figure(1, 1, 1, 1)
    assert changes({"x": {"a": one}, "y": {"a": one}}, {"x": {"b": one}, "z": {"a": one}}) == []


def test_measures_have_names_of_their_own() -> None:
    """No two share one, or a document would mix them up."""
    assert len(BY_NAME) == len(MEASURES)
