"""From a signature to an Avro schema, and what is refused when a task is defined."""

import re
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    Union,
)
from uuid import UUID, uuid4

import pytest

from taskstream.core.errors import DefinitionError
from taskstream.schemas.derive import derive
from taskstream.schemas.scale import Scale
from taskstream.schemas.schema import Schema


class Color(Enum):
    """Two members and an alias."""

    RED = 1
    BLUE = 2
    CRIMSON = 1  # noqa: PIE796 - an alias


class Size(StrEnum):
    """Text."""

    S = "small"


class Level(IntEnum):
    """Numbers."""

    LOW = 1


class Rights(Flag):
    """Combinations have no name."""

    READ = 1


@dataclass
class Line:
    """One line of an order."""

    sku: str
    count: int = 1
    marks: list[str] = field(default_factory=list)
    note: str = field(init=False, default="")


@dataclass
class Node:
    """Holds itself."""

    next: Optional["Node"] = None


@dataclass
class Fresh:
    """Another default each time."""

    id: UUID = field(default_factory=uuid4)


@dataclass
class Secret:
    """Not built from its fields alone."""

    name: str
    salt: InitVar[int]


@dataclass
class Empty:
    """Nothing to write."""


class Options(TypedDict, total=False):
    """Keys that may be absent, but one."""

    n: Required[int]
    why: str


class Address(TypedDict):
    """A key that may be absent."""

    street: str
    floor: NotRequired[int]


class Twice(TypedDict):
    """Absent or None: can't be told apart."""

    n: NotRequired[int | None]


def other_line() -> type:
    """Another type called Line."""

    @dataclass
    class Line:
        n: int

    return Line


OrderId = NewType("OrderId", str)

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}
MOMENT = {"type": "long", "logicalType": "timestamp-micros"}
LINE = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "sku", "type": "string"},
        {"name": "count", "type": "long", "default": 1},
        {"name": "marks", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}


def function_of(hint: Any, *default: Any) -> Callable[..., None]:
    """A function with one parameter `x`."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    function.__defaults__ = default
    return function


@pytest.mark.parametrize(
    ("hint", "avro"),
    [
        (bool, "boolean"),
        (int, "long"),
        (float, "double"),
        (str, "string"),
        (bytes, "bytes"),
        (UUID, {"type": "string", "logicalType": "uuid"}),
        (date, {"type": "int", "logicalType": "date"}),
        (datetime, MOMENT),
        (Annotated[Decimal, Scale(2)], DECIMAL),
        (Annotated[int, "a note of somebody else's"], "long"),
        (OrderId, "string"),
        (int | None, ["null", "long"]),
        (Optional[str], ["null", "string"]),  # noqa: UP045 - the old spelling
        (list[int], {"type": "array", "items": "long"}),
        (tuple[int, ...], {"type": "array", "items": "long"}),
        (dict[str, float], {"type": "map", "values": "double"}),
        (list[dict[str, int | None]], {"type": "array", "items": {"type": "map", "values": ["null", "long"]}}),
        (Literal["a", "b"], "string"),
        (Color, {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}),
        (Size, {"type": "enum", "name": "Size", "symbols": ["S"]}),
        (Level, {"type": "enum", "name": "Level", "symbols": ["LOW"]}),
        (Line, LINE),
        (
            Address,
            {
                "type": "record",
                "name": "Address",
                "fields": [
                    {"name": "street", "type": "string"},
                    {"name": "floor", "type": ["null", "long"], "default": None},
                ],
            },
        ),
        (
            Options,
            {
                "type": "record",
                "name": "Options",
                "fields": [
                    {"name": "n", "type": "long"},
                    {"name": "why", "type": ["null", "string"], "default": None},
                ],
            },
        ),
    ],
)  # fmt: skip
def test_every_type_of_the_table_has_its_avro_type(hint: Any, avro: Any) -> None:
    """The table of DESIGN.md, line by line, for parameters and for results."""

    def give() -> None: ...

    give.__annotations__["return"] = hint
    assert derive(function_of(hint), task="t").arguments.full == {
        "type": "record",
        "name": "t",
        "fields": [{"name": "x", "type": avro}],
    }
    assert derive(give, task="t").result.full == {
        "type": "record",
        "name": "t_result",
        "fields": [{"name": "value", "type": avro}],
    }


@pytest.mark.parametrize(
    ("hint", "default", "field"),
    [
        (int, 5, {"type": "long", "default": 5}),
        (int | None, None, {"type": ["null", "long"], "default": None}),
        (int | None, 5, {"type": ["long", "null"], "default": 5}),
        (bytes, b"\x00\xff", {"type": "bytes", "default": "\x00\xff"}),
        (Color, Color.CRIMSON, {"type": {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}, "default": "RED"}),
        (Annotated[Decimal, Scale(2)], Decimal("1.5"), {"type": DECIMAL, "default": "\x00\x96"}),
        (datetime, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), {"type": MOMENT, "default": 1_000_000}),
        (tuple[str, ...], ("a",), {"type": {"type": "array", "items": "string"}, "default": ["a"]}),
        (Line, Line("s"), {"type": LINE, "default": {"sku": "s", "count": 1, "marks": []}}),
    ],
)  # fmt: skip
def test_defaults_are_in_the_schema(hint: Any, default: Any, field: dict[str, Any]) -> None:
    """In Avro's JSON form; the branch of the default comes first in its union."""
    schema = derive(function_of(hint, default), task="t").arguments
    assert schema.full["fields"] == [{"name": "x", **field}]
    assert Schema.parse(schema.text).full == schema.full


def test_a_type_is_defined_once_and_named_after_that() -> None:
    """Avro wants each named type to be defined once."""

    def ship(first: Line, rest: list[Line], last: Line | None) -> Line: ...  # type: ignore[empty-body]

    schema = derive(ship, task="ship")
    types = [each["type"] for each in schema.arguments.full["fields"]]
    assert types == [LINE, {"type": "array", "items": "Line"}, ["null", "Line"]]
    assert schema.result.full["fields"][0]["type"] == LINE


def test_names_order_and_positions_follow_the_signature() -> None:
    """Keyword-only parameters are fields like the others, but not positional ones."""

    async def charge(order_id: str, cents: int = 1, *, note: str | None = None) -> None: ...

    schema = derive(charge, task="charge")
    assert [each.name for each in schema.parameters] == ["order_id", "cents", "note"]
    assert schema.positional == ("order_id", "cents")
    assert schema.arguments.name == "charge"
    assert schema.result.name == "charge_result"


def test_a_task_without_parameters_or_return_hint_has_empty_schemas() -> None:
    """No hint means that None is all that it returns."""

    def ping(): ...  # type: ignore[no-untyped-def] # noqa: ANN202

    schema = derive(ping, task="ping")
    assert schema.arguments.full["fields"] == []
    assert schema.result.full["fields"] == [{"name": "value", "type": "null"}]


def test_a_factory_that_gives_another_value_each_time_is_no_default() -> None:
    """Else every process would store another schema."""
    fields = derive(function_of(Fresh), task="t").arguments.full["fields"][0]["type"]["fields"]
    assert fields == [{"name": "id", "type": {"type": "string", "logicalType": "uuid"}}]


def test_a_wrapped_function_is_seen_through() -> None:
    """functools.wraps keeps the signature."""
    from functools import wraps

    def inner(n: int) -> None: ...

    @wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any: ...

    assert derive(outer, task="t").arguments == derive(inner, task="t").arguments


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        (Any, "is Any, which has no Avro form: use bool, int"),
        (object, "is object, which has no Avro form"),
        (None, "is None, which has no Avro form"),
        (Decimal, "is a bare Decimal: say how many digits: Annotated[Decimal, Scale(2)]"),
        (Annotated[int, Scale(2)], "has a Scale on int"),
        (int | str, "is a union (int | str): only X | None"),
        (Union[int, str, None], "is a union (int | str | None): only X | None"),  # noqa: UP007
        (list, "is list, which has no Avro form"),
        (tuple[int, str], "is tuple[int, str], which has no Avro form"),
        (set[int], "is set[int], which has no Avro form"),
        (dict[int, str], "has keys of type int: only str keys"),
        (list[object], "[] is object, which has no Avro form"),
        (dict[str, Decimal], "[] is a bare Decimal"),
        (Literal["a", 1], "is a Literal with 1: only texts"),
        (Rights, "is a flag (Rights)"),
        (Node, ".next is a Node inside a Node"),
        (Secret, "is a Secret, which is not built from its fields alone"),
        (Empty, "is Empty, which has no fields"),
        (Twice, ".n may be absent and may be None"),
        (complex, "is complex, which has no Avro form"),
        (Callable[[], None], "which has no Avro form"),
    ],
)  # fmt: skip
def test_what_has_no_avro_form_is_refused_by_name(hint: Any, problem: str) -> None:
    """At definition, with the task, the parameter and what to do; results alike."""

    def give() -> None: ...

    with pytest.raises(
        DefinitionError, match=re.escape("task t: parameter x") + ".*" + re.escape(problem)
    ):
        derive(function_of(hint), task="t")
    if hint is not None:
        give.__annotations__["return"] = hint
        with pytest.raises(DefinitionError, match="task t: the result.*" + re.escape(problem)):
            derive(give, task="t")


def star(*xs: int) -> None: ...
def stars(**xs: int) -> None: ...
def bare(x) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001
def by_place(x: int, /) -> None: ...
def wrong_default(x: int = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013
def stub_default(x: int = ...) -> None: ...
def endless(x: float = float("inf")) -> None: ...
def unknown(x: "Missing") -> None: ...  # type: ignore[name-defined] # noqa: F821
def größe(größe: int) -> None: ...  # noqa: PLC2401


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (star, r"parameter xs \(\*xs\) takes what no schema can tell"),
        (stars, r"parameter xs \(\*\*xs\) takes what no schema can tell"),
        (bare, "parameter x has no type hint"),
        (by_place, "parameter x is positional-only"),
        (
            wrong_default,
            "parameter x has a default that has no Avro form: it must be int, not None",
        ),
        (
            stub_default,
            "parameter x has a default that has no Avro form: it must be int, not ellipsis",
        ),
        (endless, "parameter x has a default that has no Avro form"),
        (unknown, "a type hint can't be read.*Missing"),
        (größe, "parameter größe has a name that is no Avro name"),
    ],
)
def test_signatures_that_no_schema_can_tell_are_refused(
    function: Callable[..., Any], problem: str
) -> None:
    """By the name of the task and of the parameter."""
    with pytest.raises(DefinitionError, match=f"task t: {problem}"):
        derive(function, task="t")


def test_two_types_of_one_name_are_refused() -> None:
    """They would be one type in Avro."""
    another = other_line()

    def ship(a: Line, b: Any) -> None: ...

    ship.__annotations__["b"] = another
    with pytest.raises(DefinitionError, match="parameter b is a Line, and so is another type"):
        derive(ship, task="ship")
    with pytest.raises(
        DefinitionError, match="parameter x is a Line, a name that Avro, or the task"
    ):
        derive(function_of(Line), task="Line")


@pytest.mark.parametrize("name", ["", "a-b", "a.b", "1st", "größe", "string"])
def test_a_task_name_that_is_no_avro_name_is_refused(name: str) -> None:
    """The record of its arguments has the task's name."""
    with pytest.raises(DefinitionError, match="task name"):
        derive(function_of(int), task=name)


def test_scales_are_bounded() -> None:
    """38 digits are all there are."""
    with pytest.raises(DefinitionError, match="0 to 38"):
        Scale(39)
