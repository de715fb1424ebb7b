"""Conditions over decoded arguments."""

from typing import Any

import pytest

from taskstream.admin.where import Where, WhereFailed
from taskstream.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "arguments", "holds"),
    [
        ("cents > 100", {"cents": 101}, True),
        ("cents > 100", {"cents": 100}, False),
        ("city == 'Berlin' and cents in (1, 2)", {"city": "Berlin", "cents": 2}, True),
        ("city.startswith('B') or cents < 0", {"city": "Bonn", "cents": 2}, True),
        ("address['zip'] == '10115'", {"address": {"zip": "10115"}}, True),
        ("args['len'] == 3 and len('abc') == 3", {"len": 3}, True),
        ("receipt is None", {"receipt": None}, True),
    ],
)
def test_a_condition_is_a_python_expression_over_the_arguments(
    text: str, arguments: dict[str, Any], holds: bool
) -> None:
    assert Where(text).matches(arguments) is holds


@pytest.mark.parametrize("text", ["cents >", "import os", "", "x = 1", "a; b"])
def test_what_is_no_expression_is_refused_at_once_and_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="where"):
        Where(text)


@pytest.mark.parametrize(
    "text",
    [
        "pence > 1",
        "cents > 'a'",
        "cents / 0",
        "open('/etc/passwd')",
        "().__class__.__bases__",
        "cents ** 10 ** 10",
        "'a' * 10 ** 9",
        "city[9]",
    ],
)
def test_what_can_not_be_told_for_some_arguments_says_so_and_does_nothing_else(text: str) -> None:
    with pytest.raises(WhereFailed):
        Where(text).matches({"cents": 3, "city": "Bonn"})


def test_a_name_that_is_no_argument_is_met_with_those_that_are() -> None:
    """A slip of the pen is told by the names that could have been meant."""
    with pytest.raises(WhereFailed, match="no argument 'cent'; there are: order_id, cents"):
        Where("cent > 1").matches({"order_id": "o-1", "cents": 3})


def test_a_broken_condition_shows_where_and_what_one_looks_like() -> None:
    """No line numbers of a file that nobody has."""
    with pytest.raises(
        ConfigError, match='write a condition over arguments, like "cents > 100"'
    ) as told:
        Where("cents >")
    assert "unknown" not in str(told.value)
