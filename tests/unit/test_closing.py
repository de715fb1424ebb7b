"""What closes a dead letter, on its way through the topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.closing import PURGED, REDRIVEN, Closing
from taskstream.core.errors import Undecodable
from taskstream.schemas.closing import decode_closing, encode_closing
from taskstream.schemas.records import Records

RECORDS = Records()

closings = st.builds(
    Closing,
    id=st.text(min_size=1),
    run=st.integers(0, 99),
    how=st.sampled_from([REDRIVEN, PURGED]),
    as_run=st.none() | st.integers(1, 100),
    at=st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000),
    who=st.text(),
    reason=st.text(),
)


@given(closings)
def test_a_closing_is_read_as_it_was_written(closing: Closing) -> None:
    """To the microsecond, by the schema beside the code."""
    assert decode_closing(RECORDS, encode_closing(RECORDS, closing)) == closing


@pytest.mark.parametrize("value", [None, b"", b"no avro"])
def test_what_is_no_closing_is_undecodable(value: bytes | None) -> None:
    """A dead letter's own value, say, or a record of another version."""
    with pytest.raises(Undecodable):
        decode_closing(RECORDS, value)


def test_another_record_of_ours_is_no_closing() -> None:
    """It says what it is."""
    order = {"verb": "scale", "target": "*", "number": 1.0, "at": 5, "who": "me", "reason": ""}
    with pytest.raises(Undecodable, match="a control record is no closing"):
        decode_closing(RECORDS, RECORDS.encode("control", order))
