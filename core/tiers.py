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

SHORTEST_HOP = 0.5
"""Seconds that must be left for one more hop to be worth it: what is due sooner stays where it is.

A hop through Kafka takes some milliseconds, and more under load; a record that hops with less to go comes
home late.
"""

SHORTEST_STAY = 30.0
"""Seconds that a record stays at least which would only come back to the same tier; half its span if less.

Where the broker's clock lags behind the mover's by more than a span, every record of that tier looks as if
it had stayed long enough, and would hop round and round as fast as Kafka goes.
"""


def tier_for(remaining: float) -> float:
    """The span of the tier for a task that is due in `remaining` seconds (may be negative)."""
    for span in reversed(TIERS):
        if span <= remaining:
            return span
    return TIERS[0]


def leaves_tier_at(span: float, entered: float, due: float, read: float) -> float:
    """When a record leaves the tier: at its due time, or when what is left no longer needs it.

    Args:
        span: the tier's span in seconds.
        entered: when the record was written to the tier, seconds since 1970 by the broker's clock.
        due: its due time, seconds since 1970.
        read: when the mover read it, seconds since 1970 by its own clock.

    Returns:
        Seconds since 1970, never after `due`.
    """
    if not span:
        return due
    leaves = entered + span
    if due - read >= span:
        leaves = max(leaves, read + min(span / 2, SHORTEST_STAY))
    return min(leaves, due)


def span_name(span: float) -> str:
    """The span in a topic's name: 0, 5s, 2m, 1h, 30d."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if span >= unit and span % unit == 0:
            return f"{span / unit:g}{name}"
    return f"{span:g}s" if span else "0"
