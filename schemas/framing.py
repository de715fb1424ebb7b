"""How a value says which schema wrote it, told apart by the first byte. Pure.

C3 01  fingerprint (8 bytes)  body     Avro single-object encoding; schemas in the schema topic
00     id (4 bytes)           body     Confluent wire format; schemas in a Schema Registry
"""

from typing import NamedTuple

from taskstream.core.errors import Undecodable

_FINGERPRINT_MARK = b"\xc3\x01"
_ID_MARK = b"\x00"


class Fingerprint(NamedTuple):
    """The writer's schema by its CRC-64-AVRO fingerprint: 8 bytes, little-endian."""

    value: bytes

    @property
    def prefix(self) -> bytes:
        """What stands before the body."""
        return _FINGERPRINT_MARK + self.value

    def __str__(self) -> str:
        return f"fingerprint {self.value.hex()}"


class RegistryId(NamedTuple):
    """The writer's schema by its number in a Schema Registry."""

    value: int

    @property
    def prefix(self) -> bytes:
        """What stands before the body."""
        return _ID_MARK + self.value.to_bytes(4, "big")

    def __str__(self) -> str:
        return f"registry id {self.value}"


Reference = Fingerprint | RegistryId
"""How a value names the schema that wrote it."""


class Frame(NamedTuple):
    """A value taken apart.

    Args:
        reference: which schema wrote the body.
        body: the Avro body.
    """

    reference: Reference
    body: bytes


def parse(value: bytes | None) -> Frame:
    """Takes a value apart.

    Raises:
        Undecodable: it is missing, too short, or framed in neither way.
    """
    if not value:
        raise Undecodable("the value is empty: not even an Avro frame")
    if value[:2] == _FINGERPRINT_MARK and len(value) >= 10:
        return Frame(Fingerprint(value[2:10]), value[10:])
    if value[:1] == _ID_MARK and len(value) >= 5:
        return Frame(RegistryId(int.from_bytes(value[1:5], "big")), value[5:])
    raise Undecodable(
        f"the value starts with {value[:10].hex(' ')}: neither Avro single-object encoding (c3 01 and "
        "8 bytes) nor the Confluent wire format (00 and 4 bytes)"
    )
