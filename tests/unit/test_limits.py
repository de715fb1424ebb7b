"""What `concurrency=` and `rate=` may say."""

from typing import Any

import pytest

from taskstream.core.errors import ConfigError
from taskstream.core.limits import (
    Concurrency,
    Rate,
    concurrencies,
    rates,
    refuse_unshareable,
    share,
)


def test_plain_values_are_for_the_whole_group() -> None:
    """A number, "so many in a unit", one limit or a list of them."""
    assert concurrencies(None) == ()
    assert concurrencies(3) == (Concurrency(3, "group"),)
    both = [Concurrency(9), Concurrency(3, "worker")]
    assert concurrencies(both) == tuple(both)
    assert concurrencies(both[1]) == (both[1],)
    assert rates(None) == ()
    assert rates(10) == (Rate(10, 1.0, "group"),)
    assert [rates(f"100/{unit}")[0].period for unit in "smhd"] == [1, 60, 3600, 86400]
    assert rates([Rate(1, scope="key")]) == (Rate(1, 1.0, "key"),)


@pytest.mark.parametrize("wrong", [0, -1, True, "3", 1.5, [3], ["3"], Rate(1)])
def test_a_wrong_concurrency_says_what_it_may_be(wrong: Any) -> None:
    """Whatever is no limit is refused by name."""
    with pytest.raises(ConfigError, match=r"concurrency=|Concurrency\(limit="):
        concurrencies(wrong)


@pytest.mark.parametrize("wrong", [0, "fast", "1/w", "1.5/s", 0.5, ["1/s"], Concurrency(1)])
def test_a_wrong_rate_says_what_it_may_be(wrong: Any) -> None:
    """Likewise."""
    with pytest.raises(ConfigError, match=r"rate|Rate\(limit="):
        rates(wrong)


def test_scopes_and_periods_are_checked() -> None:
    """A key's tasks run one at a time as it is; nobody keeps a rate over more than a day."""
    with pytest.raises(ConfigError, match="one at a time"):
        Concurrency(2, "key")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="scope"):
        Rate(2, scope="host")  # type: ignore[arg-type]
    for period in (0.0, -1.0, 86401.0, float("nan")):
        with pytest.raises(ConfigError, match="period"):
            Rate(1, period)


def test_each_partition_has_its_share() -> None:
    """The first ones have what is left over; a limit that leaves one without any is refused."""
    assert [share(20, [partition], 8) for partition in range(8)] == [3, 3, 3, 3, 2, 2, 2, 2]
    assert share(20, [], 8) == 0
    refuse_unshareable("charge", [Concurrency(8), Rate(1, scope="key"), Rate(1, scope="worker")], 8)
    with pytest.raises(ConfigError, match=r"task charge: Rate\(limit=7.* 8 partitions.*Queue"):
        refuse_unshareable("charge", [Rate(7)], 8)
