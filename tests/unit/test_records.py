"""Our own records, by the `.avsc` files beside the code."""

import json
from pathlib import Path

import pytest

from taskstream.core.errors import Undecodable
from taskstream.schemas import records
from taskstream.schemas.records import Records
from taskstream.schemas.schema import Schema

HEARTBEAT = {
    "worker": "w1",
    "host": "h",
    "pid": 1,
    "version": "0.1.0",
    "queues": ["tasks"],
    "started": 1,
    "at": 2,
    "children": 2,
    "halted": [],
    "paused": ["queue:tasks"],
    "running": [
        {
            "task_id": "a",
            "run": 0,
            "attempt": 1,
            "topic": "t",
            "partition": 0,
            "offset": 9,
            "since": 1,
            "task": "charge",
            "child": 8,
        }
    ],
}
REPLY = {
    "task_id": "a",
    "run": 0,
    "attempt": 1,
    "state": "succeeded",
    "value": b"\xc3\x01",
    "error_type": "",
    "error": "",
    "traceback": "",
    "finished": 3,
}
OTHER = {**REPLY, "task_id": "b", "error": "no"}
REPLIES = {name: [REPLY[name], OTHER[name]] for name in REPLY}
ORDER = {
    "verb": "scale",
    "target": "*",
    "number": 4.0,
    "at": 5,
    "who": "me@here",
    "reason": "more work",
    "since": None,
}


@pytest.mark.parametrize(
    ("name", "fields"), [("heartbeat", HEARTBEAT), ("replies", REPLIES), ("control", ORDER)]
)
def test_a_record_comes_back_with_its_name(name: str, fields: dict[str, object]) -> None:
    """Readers tell records apart by their fingerprint alone."""
    ours = Records()
    value = ours.encode(name, fields)
    assert value[:2] == b"\xc3\x01"
    assert ours.decode(value) == (name, fields)


def test_what_has_a_default_may_be_left_out() -> None:
    """An order that is about no number need not say so."""
    order = {**ORDER, "number": None}
    short = {name: value for name, value in order.items() if value is not None}
    assert Records().decode(Records().encode("control", short)) == ("control", order)


def test_replies_are_found_by_their_task() -> None:
    """Another record in their topic is none of them."""
    ours = Records()
    assert ours.replies_in(ours.encode("replies", REPLIES)) == {
        "a": REPLY,
        "b": OTHER,
    }
    with pytest.raises(Undecodable, match="not control"):
        ours.replies_in(ours.encode("control", ORDER))


@pytest.mark.parametrize(
    "value", [None, b"", b"\xc3\x01unknown!body", b"\x00\x00\x00\x00\x01", b"{}"]
)
def test_anything_else_is_undecodable(value: bytes | None) -> None:
    """Foreign bytes in our topics must not stop who reads them."""
    with pytest.raises(Undecodable):
        Records().decode(value)


def test_a_broken_body_is_undecodable() -> None:
    """Also under a fingerprint of ours."""
    value = Records().encode("replies", REPLIES)
    with pytest.raises(Undecodable, match="the bytes are no replies"):
        Records().decode(value[:-3])


def test_every_file_is_a_schema_named_like_it() -> None:
    """The files are what other programs read our topics with."""
    files = list(Path(records.__file__).parent.glob("*.avsc"))
    assert {file.stem for file in files} == set(Records().schemas)
    for file in files:
        assert Schema.parse(file.read_text("utf-8")).name == file.stem
        assert json.loads(file.read_text("utf-8"))["doc"]
