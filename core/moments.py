"""Times as people type and read them: in UTC, unless they name a zone."""

import re
from datetime import UTC, datetime

from taskstream.core.errors import ConfigError

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def instant(text: str, now: float) -> float:
    """A moment as people type it, in seconds since 1970.

    Args:
        text: ISO 8601, in UTC unless it names a zone ("2026-01-31T12:00"), or so long ago ("90s", "15m",
            "2h", "3d").
        now: seconds since 1970.

    Raises:
        ConfigError: it is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now - float(ago[1]) * _SECONDS[ago[2]]
    try:
        told = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no time: write 2026-01-31T12:00 (UTC unless it names a zone), or 90s, 15m, 2h, 3d "
            "for so long ago"
        ) from error
    return (told.replace(tzinfo=UTC) if told.tzinfo is None else told).timestamp()


def span(text: str) -> float:
    """A length of time as people type it, in seconds.

    Args:
        text: "90s", "15m", "2h", "3d", or seconds alone ("600").

    Raises:
        ConfigError: it is none of these.
    """
    found = _AGO.fullmatch(text.strip()) or _AGO.fullmatch(f"{text.strip()}s")
    if found is None:
        raise ConfigError(f"{text!r} is no length of time: write 90s, 15m, 2h, 3d, or seconds")
    return float(found[1]) * _SECONDS[found[2]]


def moment(seconds: float) -> str:
    """A time as `instant` reads it, to the millisecond, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
