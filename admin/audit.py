"""The audit log: what people did to an app, when, and why."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from taskstream.broker.tail import read
from taskstream.core.audit import Action
from taskstream.core.errors import Undecodable
from taskstream.schemas.audit import ACTION, decode_action
from taskstream.schemas.records import Records

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
    who: str = "",
) -> Action:
    """Notes what was done; back when it is durable.

    Written after what it tells of was asked for, so that the log claims nothing that did not happen.

    Args:
        app: the app.
        verb: what was done, one word.
        target: to what, as `core.audit.Action` tells.
        reason: why.
        count: how many tasks it concerned.
        details: what else was said, as text.
        who: who did it; whoever runs this process, unless given.

    Raises:
        BrokerError: Kafka did not take it, or `init` was never run.
    """
    orders = app.orders()
    action = orders.action(verb, target, reason=reason, count=count, details=details, who=who)
    orders.record(action)
    return action


def actions(app: "App", *, over: Callable[[], bool] = lambda: False) -> list[Action]:
    """All actions that the events topic still has, the oldest first.

    Args:
        app: the app.
        over: asked some times a second whether to end early, with what was found.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
    """
    ours = Records()
    found = []
    for record in read(app.settings, app.names.events, over=over, client_id="taskstream-audit"):
        # Attempts are most of the topic, and dear to decode: they are told by their first bytes.
        if record.value is None or not record.value.startswith(ours.prefix(ACTION)):
            continue
        with suppress(Undecodable):
            found.append(decode_action(ours, record.value))
    return sorted(found, key=lambda action: action.at)
