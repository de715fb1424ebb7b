"""Reading what another version of a task wrote."""

from collections.abc import Callable
from dataclasses import make_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.errors import Undecodable
from taskstream.schemas.codec import ArgumentsCodec, ResultCodec
from taskstream.schemas.derive import derive
from taskstream.schemas.evolve import compatible
from taskstream.schemas.scale import Scale
from taskstream.schemas.schema import Schema


def function_of(hint: Any, *default: Any) -> Callable[..., None]:
    """A version of a task with one parameter `x`."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    function.__defaults__ = default
    return function


def read_by(new: Callable[..., Any], old: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """What the new version of a task reads where the old one was published with these arguments."""
    writer = derive(old, task="t")
    return ArgumentsCodec(derive(new, task="t")).decode(
        ArgumentsCodec(writer).encode(args, {}), writer.arguments
    )


def problems_of(new: Any, old: Any) -> list[str]:
    """Why the new version can't read everything of the old one."""
    return compatible(derive(new, task="t").arguments, derive(old, task="t").arguments)


def foreign(*fields: dict[str, Any], name: str = "com.acme.Event") -> Schema:
    """A schema that another program wrote."""
    return Schema({"type": "record", "name": name, "fields": list(fields)})


class Color(Enum):
    """As it is now."""

    RED = 1
    BLUE = 2


OldColor = Enum("Color", ["RED", "GREEN"])  # type: ignore[misc] # the same name, an older class
Money = Annotated[Decimal, Scale(4)]
Line = make_dataclass("Line", [("sku", str), ("count", int, 1), ("price", Money, Decimal("0.5"))])
OldLine = make_dataclass("Line", [("sku", str), ("gone", bytes)])


def v1(a: int, b: str) -> None: ...
def v2(b: str, a: int, c: list[str] = ["new"], d: Money = Decimal("1.5")) -> None: ...  # noqa: B006


def test_a_new_parameter_with_a_default_reads_old_tasks() -> None:
    """Fields are found by name, defaults are real objects, and new ones for each task."""
    for _ in range(2):
        found = read_by(v2, v1, 1, "b")
        assert found == {"a": 1, "b": "b", "c": ["new"], "d": Decimal("1.5")}
        found["c"].append("changed by the task")
    assert problems_of(v2, v1) == []


def test_a_removed_parameter_is_passed_over() -> None:
    """What the new version doesn't take is dropped."""
    assert read_by(v1, v2, "b", 1) == {"a": 1, "b": "b"}
    assert problems_of(v1, v2) == []


def test_a_new_parameter_without_a_default_is_a_problem() -> None:
    """No old task can be read: the message names the field."""

    def v3(a: int, b: str, must: int) -> None: ...

    assert problems_of(v3, v1) == ["must is new and has no default"]
    with pytest.raises(Undecodable, match="task t: argument must is missing, and has no default"):
        read_by(v3, v1, 1, "b")


@pytest.mark.parametrize(
    ("new", "old", "value", "found"),
    [
        (float, int, 3, 3.0),
        (int | None, int, 3, 3),
        (float | None, int, 3, 3.0),
        (list[float], list[int], [3], [3.0]),
        (dict[str, float | None], dict[str, int], {"a": 3}, {"a": 3.0}),
        (bytes, str, "a", b"a"),
        (str, bytes, b"a", "a"),
        (str, Literal["a"], "a", "a"),
        (str, UUID, UUID(int=1), str(UUID(int=1))),
        (UUID, str, str(UUID(int=1)), UUID(int=1)),
        (Color, OldColor, OldColor["RED"], Color.RED),
        (tuple[int, ...], list[int], [3], (3,)),
        (Money, Annotated[Decimal, Scale(2)], Decimal("1.25"), Decimal("1.25")),
        (Line, OldLine, OldLine("s", b""), Line("s")),
        (list[Line | None], list[OldLine], [OldLine("s", b"")], [Line("s")]),  # type: ignore[valid-type]
        (int, int | None, 3, 3),
        (str, str | None, "a", "a"),
    ],
)
def test_a_type_can_grow(new: Any, old: Any, value: Any, found: Any) -> None:
    """What Avro calls promotion, at any depth; the value has the new type."""
    x = read_by(function_of(new), function_of(old), value)["x"]
    assert x == found
    assert type(x) is type(found)


@pytest.mark.parametrize(
    ("new", "old", "value", "problem", "refusal"),
    [
        (int, str, "1", "x was string and is long now", "was written as string"),
        (int, float, 1.0, "x was double and is long now", "was written as double"),
        (datetime, int, 1, "x was long and is timestamp-micros now", "was written as long"),
        (int, datetime, datetime.now(UTC), "x was timestamp-micros and is long now", "was written as timestamp"),
        (int, int | None, None, "x was null and is long now", "was written as null"),
        (Color, OldColor, OldColor["GREEN"], "x has lost GREEN, which may be written already", "is 'GREEN', which Color has no more"),
        (Annotated[Decimal, Scale(2)], Money, Decimal("1.25"), "x had 4 digits after the point and has 2 now", "would lose digits"),
        (list[int], list[str], ["a"], r"x\[\] was string and is long now", r"\[0\] was written as string"),
        (Line, make_dataclass("Row", [("sku", str)]), None, "x was Row and is Line now", None),
        (int | None, str, "a", "x was string and is long now", "was written as string"),
        (dict[str, int], list[int], [], "x was array and is map now", "was written as array"),
    ],
)  # fmt: skip
def test_a_change_of_meaning_is_a_problem(
    new: Any, old: Any, value: Any, problem: str, refusal: str | None
) -> None:
    """It is told by the check, and by the values that meet it."""
    [found] = problems_of(function_of(new), function_of(old))
    assert found == problem.replace("\\", "")
    if refusal is not None:
        with pytest.raises(Undecodable, match=f"task t: argument x ?{refusal}"):
            read_by(function_of(new), function_of(old), value)


def test_only_values_that_meet_a_problem_are_refused() -> None:
    """An enum that lost a member, a type inside a list that happens to be empty: the rest is read."""
    assert read_by(function_of(Color), function_of(OldColor), OldColor["RED"]) == {"x": Color.RED}
    assert read_by(function_of(list[int]), function_of(list[str]), []) == {"x": []}


def test_results_evolve_like_arguments() -> None:
    """A result of last week is read by the return hint of today."""

    def old() -> OldLine: ...  # type: ignore[valid-type]
    def new() -> Line | None: ...  # type: ignore[valid-type]

    writer = derive(old, task="before")
    body = ResultCodec(writer).encode(OldLine("s", b""))
    assert ResultCodec(derive(new, task="after")).decode(body, writer.result) == Line("s")


def test_foreign_events_are_tasks() -> None:
    """Another name and namespace, an int, milliseconds, a union of two records: as Java has them."""

    def on_order(id: str, at: datetime, lines: int, tag: str = "none") -> None: ...  # noqa: A002

    writer = foreign(
        {"name": "id", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "lines", "type": "int"},
        {
            "name": "who",
            "type": [
                {"type": "record", "name": "Person", "fields": [{"name": "n", "type": "string"}]},
                {"type": "record", "name": "Firm", "fields": [{"name": "vat", "type": "string"}]},
            ],
        },
    )
    reader = derive(on_order, task="on_order")
    body = writer.write({"id": "o", "at": 1500, "lines": 2, "who": {"vat": "1"}})
    assert ArgumentsCodec(reader).decode(body, writer) == {
        "id": "o",
        "at": datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        "lines": 2,
        "tag": "none",
    }
    assert compatible(reader.arguments, writer) == ["id was null and is string now"]


def test_a_type_that_holds_itself_comes_to_an_end() -> None:
    """Foreign schemas may; the fields that nobody asks for don't matter, the others are read."""
    node = {
        "type": "record",
        "name": "Node",
        "fields": [{"name": "n", "type": "int"}, {"name": "next", "type": ["null", "Node"]}],
    }
    wider = {**node, "fields": [{"name": "n", "type": "double"}, node["fields"][1]]}
    reader, writer = foreign({"name": "x", "type": wider}), foreign({"name": "x", "type": node})
    assert compatible(reader, writer) == []
    assert compatible(writer, reader) == ["x.n was double and is int now"]


TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**40), 2**40)),
    (float, st.floats(allow_nan=False)),
    (str, st.text("abc")),
    (bytes, st.binary()),
    (bool, st.booleans()),
    (datetime, st.datetimes(timezones=st.just(UTC))),
    (Annotated[Decimal, Scale(2)], st.decimals(-1000, 1000, places=2)),
    (Money, st.decimals(-1000, 1000, places=4)),
    (Color, st.sampled_from(Color)),
    (OldColor, st.sampled_from(OldColor)),
    (Line, st.builds(Line, st.text("abc"))),
    (OldLine, st.builds(OldLine, st.text("abc"), st.binary())),
]


@st.composite
def versions(draw: st.DrawFn) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type and its values, plain or in a container."""
    hint, values = draw(st.sampled_from(TYPES))
    kind = draw(st.sampled_from(["plain", "list", "dict", "optional"]))
    if kind == "list":
        return list[hint], st.lists(values, max_size=2)  # type: ignore[valid-type]
    if kind == "dict":
        return dict[str, hint], st.dictionaries(st.text("ab"), values, max_size=2)  # type: ignore[valid-type]
    return (hint | None, st.none() | values) if kind == "optional" else (hint, values)


@given(st.data())
def test_what_the_check_lets_pass_can_be_read(data: st.DataObject) -> None:
    """No problems means that every value is read; a problem means Undecodable at the worst."""
    old, values = data.draw(versions())
    new, _ = data.draw(versions())
    problems = problems_of(function_of(new), function_of(old))
    value = data.draw(values)
    try:
        read_by(function_of(new), function_of(old), value)
    except Undecodable as error:
        # Bytes that are no text are the one thing that no schema tells.
        assert problems or "UTF-8" in str(error)  # noqa: PT017
