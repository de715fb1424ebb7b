"""The Cassandra tables as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.tiers import DAY, HOUR, MINUTE
from taskstream.results.columns import COLUMNS
from taskstream.results.tables import WINDOWS, drift, tables, window

SECONDS = {"MINUTES": MINUTE, "HOURS": HOUR, "DAYS": DAY}


@given(st.floats(min_value=1, max_value=3000 * DAY))
def test_no_more_than_fifty_windows(result_ttl: float) -> None:
    """However long results are kept, each node has at most fifty files of them."""
    size, unit = window(result_ttl)
    assert result_ttl / (size * SECONDS[unit]) <= WINDOWS + 1e-9


@pytest.mark.parametrize(
    ("result_ttl", "expected"),
    [
        (60, (1, "MINUTES")),
        (HOUR, (2, "MINUTES")),
        (7 * DAY, (4, "HOURS")),
        (365 * DAY, (8, "DAYS")),
    ],
)
def test_windows_are_as_small_as_that_allows(result_ttl: float, expected: tuple[int, str]) -> None:
    """Small windows drop expired results early."""
    assert window(result_ttl) == expected


def test_results_have_the_columns_that_are_written() -> None:
    """The table and the code that writes it agree."""
    results = tables("shop", DAY)[0]
    assert results.name == "results"
    assert set(results.columns) == set(COLUMNS)
    assert "EXISTS shop.results (" in results.statement


def test_indexes_outlive_the_rows_they_lead_to() -> None:
    """A mark that a writer takes for made is still there when its last row expires."""
    results, minutes, own_ids = tables("shop", DAY)
    assert results.ttl == DAY
    assert minutes.ttl == own_ids.ttl == DAY + HOUR


def test_drift_says_what_differs() -> None:
    """A missing column, another type and another time to live are all named."""
    results = tables("shop", DAY)[0]
    there = {name: kind for name, kind in results.columns.items() if name != "source"} | {
        "run": "text"
    }
    assert drift(results, results.columns, results.ttl) == []
    assert drift(results, there, 60) == [
        "results.run is text, not int",
        "results has no column source text (ALTER TABLE results ADD source text)",
        "results keeps rows for 60 s, result_ttl asks for 86400 s",
    ]
