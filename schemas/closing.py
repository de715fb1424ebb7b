"""Closings as records of the topic of dead letters."""

from taskstream.core.closing import Closing
from taskstream.core.errors import Undecodable
from taskstream.schemas.records import Records


def encode_closing(records: Records, closing: Closing) -> bytes:
    """The value of a closing's record."""
    fields = {**closing.as_json(), "at": round(closing.at * 1e6)}
    return records.encode("closing", fields)


def decode_closing(records: Records, value: bytes | None) -> Closing:
    """The closing in a record's value.

    Raises:
        Undecodable: it is none, or one of a version that is not known here.
    """
    name, fields = records.decode(value)
    if name != "closing":
        raise Undecodable(f"a {name} record is no closing")
    return Closing(**{**fields, "at": fields["at"] / 1e6})
