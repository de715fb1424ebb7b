"""The audit log: what people did to an app, when, and why."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taskstream.admin.events import events
from taskstream.core.audit import Action

if TYPE_CHECKING:
    from taskstream.app.app import App


def record(
    app: "App",
    verb: str,
    target: str,
    *,
    reason: str = "",
    count: int | None = None,
    details: Mapping[str, str] | None = None,
) -> Action:
    """Notes what was done, as whoever runs this process; back when it is durable.

    Written after what it tells of was asked for, so that the log claims nothing that did not happen.

    Args:
        app: the app.
        verb: what was done, one word.
        target: to what, as `core.audit.Action` tells.
        reason: why.
        count: how many tasks it concerned.
        details: what else was said, as text.

    Raises:
        BrokerError: Kafka did not take it, or `init` was never run.
    """
    orders = app.orders()
    action = orders.action(verb, target, reason=reason, count=count, details=details)
    orders.record(action)
    return action


def actions(app: "App") -> list[Action]:
    """All actions that the events topic still has, the oldest first.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    found = [event for event in events(app) if isinstance(event, Action)]
    return sorted(found, key=lambda action: action.at)
