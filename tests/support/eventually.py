"""Waiting in tests: the only place that may sleep, and never without a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout: float = 10.0, every: float = 0.05) -> T:
    """Calls `check` until it holds.

    It holds when it raises no AssertionError and returns something truthy, or None, which is what
    a function of plain asserts returns. So a look-up that may give None needs `is not None`.

    Args:
        check: what must come true; any other exception ends the wait at once.
        timeout: seconds until the wait is given up; at least one call is made.
        every: seconds between two calls.

    Returns:
        What the last call returned.

    Raises:
        AssertionError: it didn't come true; says what the last call raised or returned.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            result = check()
            if result is None or result:
                return result
            last, cause = f"it returns {result!r}", None
        except AssertionError as error:
            last, cause = str(error) or "an assertion without a message", error
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout:g} s: {last}") from cause
        time.sleep(every)
