"""Numbers and times as people read them. Pure; the pages use these as filters."""

import json
import math
from datetime import UTC, datetime
from typing import Any

from taskstream.core import moments


def moment(seconds: float | None) -> str:
    """A time to the millisecond, in UTC; a dash where there is none."""
    if seconds is None or not 0 <= seconds < 1e11:
        return "-"
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def iso(seconds: float | None) -> str:
    """A time as `<time datetime>` wants it."""
    if seconds is None or not 0 <= seconds < 1e11:
        return ""
    return moments.moment(seconds)


def duration(seconds: float | None) -> str:
    """A length of time in two parts at most: "12 ms", "3.4 s", "2 min 5 s", "3 h 1 min", "2 d 4 h"."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds >= 0.001 or not seconds else "<1 ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, lower, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):  # fmt: skip
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def count(number: float | None) -> str:
    """A number with its thousands apart."""
    return "-" if number is None else f"{number:,.0f}"


def rate(number: float) -> str:
    """How many a second."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def pretty(value: Any) -> str:
    """A decoded value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
