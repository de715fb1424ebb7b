"""How a value says which schema wrote it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.errors import Undecodable
from taskstream.schemas.framing import Fingerprint, Frame, RegistryId, parse
from taskstream.schemas.schema import Schema


@given(st.binary(min_size=8, max_size=8), st.binary())
def test_a_fingerprint_frame_comes_apart_as_it_was_put_together(value: bytes, body: bytes) -> None:
    """Single-object encoding: C3 01, eight bytes, body."""
    reference = Fingerprint(value)
    assert reference.prefix == b"\xc3\x01" + value
    assert parse(reference.prefix + body) == Frame(reference, body)


@given(st.integers(0, 2**32 - 1), st.binary())
def test_a_registry_frame_comes_apart_as_it_was_put_together(number: int, body: bytes) -> None:
    """Confluent wire format: 00, four bytes big-endian, body."""
    reference = RegistryId(number)
    assert reference.prefix == b"\x00" + struct.pack(">I", number)
    assert parse(reference.prefix + body) == Frame(reference, body)


@given(st.none() | st.binary())
def test_any_other_bytes_are_refused_and_never_crash(value: bytes | None) -> None:
    """Whatever a foreign producer writes ends as a frame or as Undecodable."""
    try:
        frame = parse(value)
    except Undecodable:
        return
    assert frame.reference.prefix + frame.body == value


@pytest.mark.parametrize(
    "value", [None, b"", b"\xc3\x01short", b"\x00\x00", b"{}", b"\xc3\x02" * 9]
)
def test_a_broken_frame_is_told_as_such(value: bytes | None) -> None:
    """The message shows what stands there, or that nothing does."""
    with pytest.raises(Undecodable, match=r"the value (is empty|starts with)"):
        parse(value)


@pytest.mark.parametrize(
    ("schema", "fingerprint"),
    [
        # The known answers of Avro's own test data (share/test/data/schema-tests.txt).
        ("null", "63dd24e7cc258f8a"),
        ("boolean", "9f42fc78a4d4f764"),
        ("int", "7275d51a3f395c8f"),
        ("string", "8f014872634503c7"),
    ],
)
def test_fingerprints_are_those_of_avro(schema: str, fingerprint: str) -> None:
    """CRC-64-AVRO of the canonical form; the frame has it little-endian."""
    assert Schema(schema).fingerprint[::-1].hex() == fingerprint


def test_the_fingerprint_of_a_record_leaves_out_what_does_not_change_the_bytes() -> None:
    """Docs and defaults make no difference: two texts, one fingerprint, one meaning."""
    plain = Schema({"type": "record", "name": "a", "fields": [{"name": "n", "type": "long"}]})
    told = Schema(
        {
            "type": "record",
            "name": "a",
            "doc": "told",
            "fields": [{"name": "n", "type": {"type": "long"}, "default": 1}],
        }
    )
    assert plain.text != told.text
    assert plain.fingerprint == told.fingerprint
    assert plain.meaning == told.meaning


def test_a_logical_type_changes_the_meaning_but_not_the_fingerprint() -> None:
    """The trap of silent wrong money: decimal scales 2 and 4 share a fingerprint."""
    two, four = (
        Schema(
            {
                "type": "record",
                "name": "a",
                "fields": [
                    {
                        "name": "n",
                        "type": {
                            "type": "bytes",
                            "logicalType": "decimal",
                            "precision": 38,
                            "scale": scale,
                        },
                    }
                ],
            }
        )
        for scale in (2, 4)
    )
    assert two.fingerprint == four.fingerprint
    assert two.meaning != four.meaning
