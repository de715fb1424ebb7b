"""Which delay topic a task waits in.

A task waits in the largest tier whose span fits its remaining time, and moves down when that
span is over; so within one topic the records come due roughly in the order they were written,
and a wait of a year costs some fifty hops at most.
The tier of span 0 holds what is due within seconds, in the mover's heap alone.
"""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

TIERS = (0.0, 5.0, 30.0, 2 * MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY)
"""Spans in seconds, shortest first."""

LONGEST_DELAY = 366 * DAY
"""The furthest due time that `publish` accepts, in seconds from now."""


def tier_for(remaining: float) -> float:
    """The span of the tier for a task that is due in `remaining` seconds (may be negative)."""
    for span in reversed(TIERS):
        if span <= remaining:
            return span
    return TIERS[0]


def leaves_tier_at(span: float, entered: float, due: float) -> float:
    """When a record leaves the tier: at its due time, or when what is left no longer needs it.

    Args:
        span: the tier's span in seconds.
        entered: when the record was written to the tier, seconds since 1970.
        due: its due time, seconds since 1970.

    Returns:
        Seconds since 1970, never after `due`.
    """
    return min(due, entered + span) if span else due


def span_name(span: float) -> str:
    """The span in a topic's name: 0, 5s, 2m, 1h, 30d."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if span >= unit and span % unit == 0:
            return f"{span / unit:g}{name}"
    return f"{span:g}s" if span else "0"
