"""Actions as records of the events topic."""

from taskstream.core.audit import Action
from taskstream.core.errors import Undecodable
from taskstream.schemas.records import Records

ACTION = "action"
"""The name of an action's record."""


def encode_action(records: Records, action: Action) -> bytes:
    """The value of an action's record."""
    fields = {
        "at": round(action.at * 1e6),
        "verb": action.verb,
        "target": action.target,
        "who": action.who,
        "reason": action.reason,
        "count": action.count,
        "details": dict(action.details),
    }
    return records.encode(ACTION, fields)


def decode_action(records: Records, value: bytes | None) -> Action:
    """The action in a record's value.

    Raises:
        Undecodable: it is none, or one of a version that is not known here.
    """
    name, fields = records.decode(value)
    if name != ACTION:
        raise Undecodable(f"a {name} record is no action")
    return Action(**{**fields, "at": fields["at"] / 1e6})
