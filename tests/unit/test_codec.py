"""Between Python values and Avro bodies: what comes back, what is refused, and by which words."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from functools import partial
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.errors import BadArguments, Undecodable
from taskstream.schemas.codec import ArgumentsCodec, ResultCodec, ResultError
from taskstream.schemas.derive import derive
from taskstream.schemas.scale import Scale


class Color(Enum):
    """Written by name."""

    RED = 1
    BLUE = "two"


class Word(StrEnum):
    """Text that is an enum."""

    GO = "go"


class Spot(TypedDict):
    """A key that may be absent."""

    x: int
    label: NotRequired[str]


@dataclass(frozen=True)
class Money:
    """An amount."""

    amount: Annotated[Decimal, Scale(2)]
    currency: str = "EUR"

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("money can't be negative")


@dataclass(frozen=True)
class Discount(Money):
    """More than money."""

    why: str = ""


def codec_of(hint: Any) -> ArgumentsCodec:
    """The codec of a task `t` with one parameter `x`."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    return ArgumentsCodec(derive(function, task="t"))


def result_codec_of(hint: Any) -> ResultCodec:
    """The codec of the results of a task `t`."""

    def function() -> None: ...

    function.__annotations__["return"] = hint
    return ResultCodec(derive(function, task="t"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
OFFSETS = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(timezone)
MOMENTS = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC) | OFFSETS  # noqa: DTZ001
)  # fmt: skip

LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, st.integers(-(2**63), 2**63 - 1)),
    (float, st.floats(allow_nan=False)),
    (str, TEXT),
    (bytes, st.binary(max_size=8)),
    (UUID, st.uuids()),
    (date, st.dates()),
    (datetime, MOMENTS),
    (Annotated[Decimal, Scale(3)], st.decimals(-(10**34), 10**34, places=3)),
    (Color, st.sampled_from(Color)),
    (Literal["a", "b c"], st.sampled_from(["a", "b c"])),
    (
        Spot,
        st.fixed_dictionaries({"x": st.integers(0, 9)}, optional={"label": TEXT}),
    ),
    (Money, st.builds(Money, st.decimals(0, 10**9, places=2), TEXT)),
]

_NUMBERS = itertools.count()


@st.composite
def types(draw: st.DrawFn, depth: int = 3) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type hint of the table, nested, and a strategy for its values."""
    kind = draw(st.sampled_from(["leaf", "list", "tuple", "dict", "optional", "dataclass"]))
    if depth == 0 or kind == "leaf":
        leaf: tuple[Any, st.SearchStrategy[Any]] = draw(st.sampled_from(LEAVES))
        return leaf
    if kind == "dataclass":
        fields = draw(st.lists(types(depth - 1), min_size=1, max_size=3))
        names = [f"f{index}" for index in range(len(fields))]
        hints = zip(names, (hint for hint, _ in fields), strict=True)
        made = make_dataclass(f"Made{next(_NUMBERS)}", list(hints))
        return made, st.builds(made, *(values for _, values in fields))
    hint, values = draw(types(depth - 1))
    if kind == "list":
        return list[hint], st.lists(values, max_size=3)  # type: ignore[valid-type]
    if kind == "tuple":
        return tuple[hint, ...], st.lists(values, max_size=3).map(tuple)  # type: ignore[valid-type]
    if kind == "dict":
        return dict[str, hint], st.dictionaries(TEXT, values, max_size=3)  # type: ignore[valid-type]
    return hint | None, st.none() | values


@given(st.data())
def test_every_value_of_every_type_comes_back_equal(data: st.DataObject) -> None:
    """Arguments and results, for the whole type table, nested at will."""
    hint, values = data.draw(types())
    arguments, result = codec_of(hint), result_codec_of(hint)
    value = data.draw(values)
    back = arguments.decode(arguments.encode((value,), {}))
    assert back == {"x": value}
    assert type(back["x"]) is type(value)
    assert result.decode(result.encode(value)) == value


@given(st.data(), st.binary(max_size=40))
def test_any_bytes_decode_or_are_undecodable(data: st.DataObject, body: bytes) -> None:
    """A poison record never raises anything else."""
    hint, _ = data.draw(types())
    for decode in (codec_of(hint).decode, result_codec_of(hint).decode):
        try:
            decode(body)
        except Undecodable as error:
            assert str(error).startswith("task t: ")  # noqa: PT017 - most bytes are refused


@given(st.data())
def test_a_cut_body_is_undecodable(data: st.DataObject) -> None:
    """Bytes that end early, or go on, are told as such and not half read."""
    hint, values = data.draw(types())
    codec = codec_of(hint)
    body = codec.encode((data.draw(values),), {})
    for broken in (body[:-1], body + b"\x00"):
        with pytest.raises(Undecodable, match="task t: "):
            codec.decode(broken)


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hint", "value", "problem"),
    [
        (bool, 1, "x must be bool, not int"),
        (int, True, "x must be int, not bool"),
        (int, "1", "x must be int, not str"),
        (int, 1.0, "x must be int, not float"),
        (int, 2**63, "x is beyond 64 bits"),
        (int, -(2**63) - 1, "x is beyond 64 bits"),
        (int, None, "x must be int, not None"),
        (float, "1.5", "x must be float, not str"),
        (float, False, "x must be float, not bool"),
        (float, 2**53 + 1, "x can't be a float without loss"),
        (float, 10**400, "x is too large for a float"),
        (str, 1, "x must be str, not int"),
        (str, b"a", "x must be str, not bytes"),
        (str, "\ud800", "x has no UTF-8 form"),
        (bytes, "a", "x must be bytes, not str"),
        (UUID, "0190a5b0-7c1f-7000-8000-000000000000", "x must be UUID, not str"),
        (date, NOON, "x must be date, not datetime"),
        (datetime, date(2026, 1, 31), "x must be datetime, not date"),
        (datetime, datetime(2026, 1, 31), "x has no time zone: give one"),  # noqa: DTZ001
        (
            datetime,
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            "x is outside the years",
        ),
        (
            Annotated[Decimal, Scale(2)],
            Decimal("1.005"),
            "x has more than 2 digits after the point",
        ),
        (Annotated[Decimal, Scale(2)], Decimal(10) ** 36, "x has more than 38 digits"),
        (Annotated[Decimal, Scale(2)], Decimal("1E+999999"), "x has more than 38 digits"),
        (Annotated[Decimal, Scale(2)], Decimal("NaN"), "x is NaN, which has no decimal form"),
        (Annotated[Decimal, Scale(2)], 1.5, "x must be Decimal, not float"),
        (Color, "RED", "x must be Color, not str"),
        (Literal["a", "b"], "c", "x must be one of 'a', 'b', not 'c'"),
        (Literal["a", "b"], 1, "x must be one of 'a', 'b', not int"),
        (list[int], (1,), "x must be list of int, not tuple"),
        (list[int], [1, "2"], r"x\[1\] must be int, not str"),
        (tuple[int, ...], [1], "x must be tuple of int, not list"),
        (dict[str, int], {1: 1}, "x has a key that must be str, not int"),
        (dict[str, int], {"a": "b"}, r"x\['a'\] must be int, not str"),
        (dict[str, int], [], "x must be dict of str to int, not list"),
        (list[str] | None, [None], r"x\[0\] must be str, not None"),
        (Spot, {"label": "here"}, r"x\.x is missing"),
        (Spot, {"x": 1, "y": 2}, "x has no key 'y' in Spot; it knows x, label"),
        (Spot, {"x": 1, "label": None}, r"x\.label must be str, not None"),
        (Spot, [], "x must be Spot, not list"),
        (Money, {"amount": Decimal(1)}, "x must be Money, not dict"),
        (Money, Discount(Decimal(1)), "x must be Money, not Discount"),
        (list[Money], [Money(Decimal("0.001"))], r"x\[0\]\.amount has more than 2 digits"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(hint: Any, value: Any, problem: str) -> None:
    """At publish, naming task and field; as a result alike."""
    with pytest.raises(BadArguments, match=f"^task t: argument {problem}"):
        codec_of(hint).encode((), {"x": value})
    with pytest.raises(ResultError, match=f"^task t: the result{problem.removeprefix('x')}"):
        result_codec_of(hint).encode(value)


@pytest.mark.parametrize(
    ("hint", "value", "back"),
    [
        (float, 3, 3.0),
        (str, Word.GO, "go"),
        (int, 0, 0),
        (Annotated[Decimal, Scale(2)], Decimal("1.5000"), Decimal("1.50")),
        (Annotated[Decimal, Scale(0)], Decimal("1E+37"), Decimal(10) ** 37),
        (datetime, datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1))), NOON),
        (dict[str, int] | None, {"-type": 1}, {"-type": 1}),
        (Money | None, Money(Decimal(1)), Money(Decimal("1.00"))),
    ],
)
def test_values_that_mean_the_same_are_taken(hint: Any, value: Any, back: Any) -> None:
    """A whole number for a float, a text enum for text, trailing zeros, any time zone."""
    codec = codec_of(hint)
    found = codec.decode(codec.encode((value,), {}))["x"]
    assert found == back
    assert type(found) is type(back)


def charge(order_id: str, cents: int = 100, *, note: str | None = None) -> None:
    """A task with every kind of parameter."""


CHARGE = ArgumentsCodec(derive(charge, task="charge"))


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (partial(CHARGE.encode, ("o-17",), {}), ("o-17", 100, None)),
        (partial(CHARGE.encode, ("o-17", 5), {"note": "n"}), ("o-17", 5, "n")),
        (partial(CHARGE.encode, (), {"note": "n", "order_id": "o-17"}), ("o-17", 100, "n")),
    ],
)
def test_arguments_bind_like_a_call(
    call: Callable[[], bytes], arguments: tuple[str, int, str | None]
) -> None:
    """By position or by name, defaults filled in."""
    names = ("order_id", "cents", "note")
    assert CHARGE.decode(call()) == dict(zip(names, arguments, strict=True))


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing argument: order_id"),
        (("o", 1, "n"), {}, "takes 2 arguments by position, not 3"),
        (("o",), {"order_id": "p"}, "argument order_id is given by position and by name"),
        (("o",), {"cent": 1}, "unknown argument cent: did you mean cents?"),
        (("o",), {"zzz": 1}, "unknown argument zzz: it takes order_id, cents, note"),
    ],
)
def test_a_call_that_does_not_bind_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    """With the words of a caller, not of Avro."""
    with pytest.raises(BadArguments) as caught:
        CHARGE.encode(args, kwargs)
    assert str(caught.value) == f"task charge: {problem}"


def test_a_default_that_can_change_is_new_for_each_call() -> None:
    """A task that changes its argument must not change that of the next one."""

    def tag(tags: list[str] = []) -> None: ...  # noqa: B006

    codec = ArgumentsCodec(derive(tag, task="tag"))
    first = codec.decode(codec.encode((), {}))
    first["tags"].append("a")
    assert codec.decode(codec.encode((), {})) == {"tags": []}


def test_a_dataclass_that_refuses_its_values_makes_the_bytes_undecodable() -> None:
    """Its __post_init__ runs again in the worker, and its error is chained."""

    def pay(x: list[Money]) -> None: ...

    def loose(x: Any) -> None: ...

    money = make_dataclass("Money", [("amount", Annotated[Decimal, Scale(2)]), ("currency", str)])
    loose.__annotations__["x"] = list[money]  # type: ignore[valid-type]
    body = ArgumentsCodec(derive(loose, task="pay")).encode(([money(Decimal(-1), "EUR")],), {})
    with pytest.raises(
        Undecodable, match=r"argument x\[0\] can't be a Money: ValueError: money"
    ) as caught:
        ArgumentsCodec(derive(pay, task="pay")).decode(body)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_result_without_a_return_hint_is_none_and_nothing_else() -> None:
    """Nobody could read it by a schema."""

    def silent(): ...  # type: ignore[no-untyped-def] # noqa: ANN202

    codec = ResultCodec(derive(silent, task="silent"))
    assert codec.encode(None) == b""
    assert codec.decode(b"") is None
    with pytest.raises(ResultError, match="task silent: the result must be None, not int"):
        codec.encode(1)


def test_a_wrong_value_is_not_shown() -> None:
    """Error messages end in logs, and arguments may be secrets."""
    with pytest.raises(BadArguments) as caught:
        codec_of(int).encode(("4111 1111 1111 1111",), {})
    assert "4111" not in str(caught.value)
