"""What people type into forms, made into values. Pure."""

from collections.abc import Mapping

from taskstream.core.errors import ConfigError
from taskstream.core.moments import instant, moment


def read_rate(text: str) -> float | None:
    """How many tasks a second; None where nobody says. Raises ConfigError."""
    if not text.strip():
        return None
    rate = _above_zero(text, 1e6)
    if rate is None:
        raise ConfigError(f"rate {text!r} is none: write how many tasks a second")
    return rate


def read_seconds(text: str) -> float:
    """A length of time above 0, in seconds. Raises ConfigError."""
    seconds = _above_zero(text, 1e9)
    if seconds is None:
        raise ConfigError(f"{text!r} is no number of seconds above 0")
    return seconds


def settled(fields: Mapping[str, str], now: float) -> dict[str, str]:
    """Fields with their times, `since` and `until`, as they are meant now: what comes later is not meant.

    Raises:
        ConfigError: one of them is no time.
    """
    times = {
        name: moment(instant(fields[name], now)) for name in ("since", "until") if fields[name]
    }
    return {**fields, "until": moment(now), **times}


def _above_zero(text: str, most: float) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < most else None
