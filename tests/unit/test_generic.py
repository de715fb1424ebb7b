"""Encoding and decoding by a schema alone: what a publish by name and the command line do."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from tests.unit.test_codec import Money, Spot

from taskstream.core.errors import BadArguments, SchemaError, Undecodable
from taskstream.schemas.codec import ArgumentsCodec
from taskstream.schemas.derive import derive
from taskstream.schemas.generic import GenericCodec
from taskstream.schemas.scale import Scale
from taskstream.schemas.schema import Schema


class Color(Enum):
    """Written by name."""

    RED = 1


def everything(
    *,
    yes: bool,
    n: int,
    f: float,
    s: str,
    raw: bytes,
    u: UUID,
    d: date,
    at: datetime,
    amount: Annotated[Decimal, Scale(2)],
    color: Color,
    word: Literal["a", "b"],
    spot: Spot,
    money: list[Money],
    more: dict[str, int | None],
    note: str | None = "none",
) -> None:
    """A task with every type of the table."""


SCHEMA = derive(everything, task="everything")

JSON = {
    "yes": True,
    "n": 5,
    "f": 1.5,
    "s": "ä",
    "raw": "AP8=",
    "u": "00000000-0000-0000-0000-000000000001",
    "d": "2026-01-31",
    "at": "2026-01-31T12:00:00+00:00",
    "amount": "12.50",
    "color": "RED",
    "word": "a",
    "spot": {"x": 1, "label": None},
    "money": [{"amount": "1.00", "currency": "EUR"}],
    "more": {"a": 1, "b": None},
    "note": "none",
}

OBJECTS = {
    "yes": True,
    "n": 5,
    "f": 1.5,
    "s": "ä",
    "raw": b"\x00\xff",
    "u": UUID(int=1),
    "d": date(2026, 1, 31),
    "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "amount": Decimal("12.50"),
    "color": Color.RED,
    "word": "a",
    "spot": Spot(x=1),
    "money": [Money(Decimal(1))],
    "more": {"a": 1, "b": None},
}


def generic_of(avro: Any) -> GenericCodec:
    """The codec of a record `t` with one field `x`."""
    return GenericCodec(
        Schema({"type": "record", "name": "t", "fields": [{"name": "x", "type": avro}]})
    )


def test_json_and_objects_are_the_same_bytes() -> None:
    """A task published by name is the one that the typed call publishes, defaults filled in."""
    generic = GenericCodec(Schema.parse(SCHEMA.arguments.text))
    body = ArgumentsCodec(SCHEMA).encode((), OBJECTS)
    given = {name: value for name, value in JSON.items() if name != "note"}
    assert generic.encode(given) == body
    plain = {**OBJECTS, "color": "RED", "money": [{"amount": Decimal(1)}], "spot": {"x": 1}}
    assert generic.encode(plain) == body


def test_what_is_shown_is_json_and_can_be_published_again() -> None:
    """Nothing is lost on the way to a screen and back."""
    generic = GenericCodec(SCHEMA.arguments)
    body = ArgumentsCodec(SCHEMA).encode((), OBJECTS)
    shown = generic.decode(body)
    assert json.loads(json.dumps(shown, allow_nan=False)) == JSON
    assert generic.encode(shown) == body


@pytest.mark.parametrize(
    ("avro", "value", "shown"),
    [
        ("float", 1.5, 1.5),
        ("double", "nan", "nan"),
        ("double", "-inf", "-inf"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.500000+00:00"),
        ({"type": "fixed", "name": "F", "size": 2}, "AP8=", "AP8="),
        ({"type": "fixed", "name": "M", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}, "-1.5", "-1.50"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, 3, "3.00"),
        (["null", "long", "string"], "a", "a"),
        (["null", "long", "string"], 1, 1),
        (["null", "long", {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}], {"n": 1}, {"n": 1}),
        ({"type": "array", "items": "int"}, (1, 2), [1, 2]),
        ({"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}, {"n": {"n": None}}, {"n": {"n": None}}),
        ({"type": "string", "logicalType": "of-somebody-else"}, "a", "a"),
    ],
)  # fmt: skip
def test_foreign_types_go_in_and_out(avro: Any, value: Any, shown: Any) -> None:
    """Types that no task of ours has, but a foreign topic may."""
    codec = generic_of(avro)
    assert codec.decode(codec.encode({"x": value})) == {"x": shown}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"n": "5"}, "argument n must be int, not str"),
        ({"n": True}, "argument n must be int, not bool"),
        ({"raw": "?"}, "argument raw is no bytes; write it as in base64"),
        ({"u": "x"}, "argument u is no UUID; write it as in"),
        ({"d": "31.1.2026"}, 'argument d is no date; write it as in "2026-01-31"'),
        ({"at": "2026-01-31T12:00:00"}, "argument at has no time zone"),
        ({"at": "soon"}, "argument at is no datetime; write it as in"),
        ({"at": 5}, "argument at must be datetime, not int"),
        ({"amount": 12.5}, 'argument amount must be text, as in "12.50"'),
        ({"amount": "12.505"}, "argument amount has more than 2 digits"),
        ({"amount": "lots"}, "argument amount is no Decimal; write it as in"),
        ({"color": "GREEN"}, "argument color must be one of 'RED', not 'GREEN'"),
        ({"spot": {}}, r"argument spot\.x is missing"),
        ({"spot": {"x": 1, "y": 1}}, "argument spot has no field 'y'"),
        ({"spot": 1}, r"argument spot must be an object \(Spot\), not int"),
        ({"money": [{"amount": 1}, {"amount": "x"}]}, r"argument money\[1\]\.amount is no Decimal"),
        ({"more": {"a": "b"}}, r"argument more\['a'\] must be int, not str"),
        ({"nn": 1}, "unknown argument nn: did you mean n?"),
    ],
)
def test_wrong_values_are_refused_with_their_place(values: dict[str, Any], problem: str) -> None:
    """As strictly as by a typed task, in the words of somebody who writes JSON."""
    with pytest.raises(BadArguments, match=f"^task everything: {problem}"):
        GenericCodec(SCHEMA.arguments).encode({**JSON, **values})


def test_missing_arguments_are_named() -> None:
    """All at once; those with a default are not among them."""
    with pytest.raises(BadArguments, match=r"missing argument: n, yes$"):
        GenericCodec(SCHEMA.arguments).encode(
            {name: value for name, value in JSON.items() if name not in ("n", "yes", "note")}
        )


def test_bytes_of_another_version_are_shown_by_this_one() -> None:
    """The writer's schema can be given; broken bytes are told as such."""

    def before(n: int) -> None: ...
    def after(n: float, note: str = "new") -> None: ...

    old, new = derive(before, task="t"), derive(after, task="t")
    body = ArgumentsCodec(old).encode((5,), {})
    assert GenericCodec(new.arguments).decode(body, old.arguments) == {"n": 5.0, "note": "new"}
    with pytest.raises(Undecodable):
        GenericCodec(new.arguments).decode(b"")


@pytest.mark.parametrize(
    "text", ["{", '"string"', '{"type": "record"}', "[]", "5", '{"type": {"type": "string"}}']
)
def test_what_is_no_record_is_refused(text: str) -> None:
    """Whatever stands in a schema store."""
    with pytest.raises(SchemaError):
        GenericCodec(Schema.parse(text))
