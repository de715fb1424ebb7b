"""What a Python value of each type looks like in Avro, and the way there and back.

A form is three things that belong together: the Avro type, the check that turns a value into what
is written (`dump`), and the way from what was read to a value (`load`). Forms nest as types do, so
a task's codec is nothing but the forms of its parameters. They are built once, when a task is
defined; what runs for each value is a chain of small closures without a look at any schema.

Invariant: a dump lets nothing through that its load would not give back equal.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

from taskstream.schemas.scale import PRECISION
from taskstream.schemas.schema import Avro

Convert = Callable[[Any], Any]


class Mismatch(Exception):
    """A value doesn't fit its form. Stays inside this package: the codecs make errors of ours of it.

    Args:
        text: what must be and what was found, to be read after the path: "must be int, not str".
        path: where in the value, from the argument's own: "", ".street", "[3].street".
    """

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.path = path

    def under(self, step: str) -> "Mismatch":
        """The same, seen from one level further out."""
        return Mismatch(self.text, step + self.path)


@dataclass(frozen=True, slots=True)
class Form:
    """How values of one type are written and read.

    Args:
        words: the type in an error message ("int").
        avro: its Avro type.
        dump: from a value to what Avro writes; raises Mismatch.
        load: from what Avro read to a value; raises Mismatch. None where they are the same.
    """

    words: str
    avro: Avro
    dump: Convert
    load: Convert | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    Args:
        name: its name, in Python and in Avro.
        form: its form.
        default: what Avro writes where no value is given, in a tuple of one; empty where one must be.
        optional: whether the value may be absent altogether; written as null.
    """

    name: str
    form: Form
    default: tuple[Any, ...] = ()
    optional: bool = False

    @property
    def avro(self) -> dict[str, Avro]:
        """The field as its record's schema lists it."""
        field: dict[str, Avro] = {"name": self.name, "type": self.form.avro}
        if self.default:
            field["default"] = default_json(self.default[0])
        return field


def unfit(words: str, value: object) -> Mismatch:
    """The mismatch of a value of another type. Tells the type only: the value may be a secret."""
    kind = "None" if value is None else type(value).__name__
    return Mismatch(f"must be {words}, not {kind}")


def null() -> Form:
    """None and nothing else."""

    def dump(value: Any) -> None:
        if value is not None:
            raise unfit("None", value)

    return Form("None", "null", dump)


def boolean() -> Form:
    """True or False."""

    def dump(value: Any) -> bool:
        if value is True or value is False:
            return value
        raise unfit("bool", value)

    return Form("bool", "boolean", dump)


def integer(avro: str = "long", bits: int = 64) -> Form:
    """A whole number. A boolean is none, though Python says so."""
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def dump(value: Any) -> int:
        if type(value) is int:
            if least <= value <= most:
                return value
            raise Mismatch(f"is beyond {bits} bits: use str, or Annotated[Decimal, Scale(0)]")
        if isinstance(value, int) and not isinstance(value, bool):
            return dump(int(value))
        raise unfit("int", value)

    return Form("int", avro, dump)


def double(avro: str = "double") -> Form:
    """A floating-point number; takes a whole number that fits, as type checkers do."""

    def dump(value: Any) -> float:
        if type(value) is float:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise unfit("float", value)
        try:
            number = float(value)
        except OverflowError:
            raise Mismatch("is too large for a float") from None
        if isinstance(value, int) and int(number) != value:
            raise Mismatch("can't be a float without loss of digits")
        return number

    return Form("float", avro, dump)


def text() -> Form:
    """Text that has a UTF-8 form."""

    def dump(value: Any) -> str:
        # ASCII is known by a flag, and most text is.
        if type(value) is str and value.isascii():
            return value
        if not isinstance(value, str):
            raise unfit("str", value)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Mismatch(f"has no UTF-8 form: {error.reason}") from error
        return str.__str__(value)

    return Form("str", "string", dump)


def octets() -> Form:
    """Bytes."""

    def dump(value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        raise unfit("bytes", value)

    return Form("bytes", "bytes", dump)


def choice(options: Sequence[str]) -> Form:
    """One of a few texts; written as text."""
    known = frozenset(options)
    words = "one of " + ", ".join(repr(option) for option in options)

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise unfit(words, value)
        if value not in known:
            raise Mismatch(f"must be {words}, not {value[:40]!r}")
        return str.__str__(value)

    return Form(words, "string", check, check)


def members(kind: type[Enum]) -> Form:
    """A member of an enum; written by its name."""
    words = kind.__name__

    def dump(value: Any) -> str:
        if isinstance(value, kind):
            return value.name
        raise unfit(words, value)

    def load(name: str) -> Enum:
        try:
            return kind[name]
        except KeyError:
            raise Mismatch(f"is {name!r}, which is no member of {words}") from None

    symbols = [member.name for member in kind]
    return Form(words, {"type": "enum", "name": words, "symbols": symbols}, dump, load)


def uuid() -> Form:
    """A UUID; written as its text."""

    def dump(value: Any) -> str:
        if isinstance(value, UUID):
            return str(value)
        raise unfit("UUID", value)

    return Form("UUID", {"type": "string", "logicalType": "uuid"}, dump, load_uuid)


def load_uuid(raw: str) -> UUID:
    """A UUID from its text."""
    try:
        return UUID(raw)
    except ValueError as error:
        raise Mismatch(f"is no UUID: {error}") from error


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_FIRST_INSTANT = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_INSTANT = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def moment() -> Form:
    """A time with its offset; comes back in UTC."""
    return Form(
        "datetime",
        {"type": "long", "logicalType": "timestamp-micros"},
        dump_moment,
        load_moment,
    )


def dump_moment(value: Any) -> int:
    """Microseconds since 1970 in UTC."""
    if not isinstance(value, datetime):
        raise unfit("datetime", value)
    if value.utcoffset() is None:
        raise Mismatch(
            "has no time zone: give one, as in datetime.now(UTC) or value.replace(tzinfo=UTC)"
        )
    past = value - _EPOCH
    instant = (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds
    if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
        raise Mismatch("is outside the years 1 to 9999 in UTC")
    return instant


def load_moment(raw: int) -> datetime:
    """A time in UTC, from microseconds since 1970."""
    try:
        return _EPOCH + timedelta(microseconds=raw)
    except OverflowError as error:
        raise Mismatch(f"is {raw} microseconds from 1970, outside the years 1 to 9999") from error


def day() -> Form:
    """A calendar day."""
    return Form("date", {"type": "int", "logicalType": "date"}, dump_day, load_day)


def dump_day(value: Any) -> int:
    """Days since 1970-01-01. A datetime is refused: its time of day would be lost."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.toordinal() - _EPOCH_DAY
    raise unfit("date", value)


def load_day(raw: int) -> date:
    """A day, from days since 1970-01-01."""
    try:
        return date.fromordinal(raw + _EPOCH_DAY)
    except (ValueError, OverflowError) as error:
        raise Mismatch(f"is {raw} days from 1970, outside the years 1 to 9999") from error


def decimal(scale: int, precision: int = PRECISION) -> Form:
    """An exact number with `scale` digits after the point and `precision` in all."""
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    unit = Decimal(1).scaleb(-scale)

    def dump(value: Any) -> bytes:
        if not isinstance(value, Decimal):
            raise unfit("Decimal", value)
        if not value.is_finite():
            raise Mismatch(f"is {value}, which has no decimal form")
        try:
            rounded = value.quantize(unit, context=exact)
        except Inexact:
            raise Mismatch(
                f"has more than {scale} digits after the point: round it first"
            ) from None
        except InvalidOperation:
            raise Mismatch(f"has more than {precision} digits") from None
        units = int(rounded.scaleb(scale, context=exact))
        return units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)

    def load(raw: bytes) -> Decimal:
        units = int.from_bytes(raw, "big", signed=True)
        try:
            return Decimal(units).scaleb(-scale, context=exact)
        except (Inexact, InvalidOperation) as error:
            raise Mismatch(f"has more than {precision} digits") from error

    avro = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    return Form("Decimal", avro, dump, load)


def array(item: Form, kind: type[list[Any]] | type[tuple[Any, ...]] = list) -> Form:
    """Any number of values of one form, as a list or a tuple."""
    words = f"{kind.__name__} of {item.words}"
    dump_item, load_item = item.dump, item.load

    def dump(value: Any) -> list[Any]:
        if not isinstance(value, kind):
            raise unfit(words, value)
        return convert_items(dump_item, value)

    def load(raw: list[Any]) -> Any:
        return kind(raw if load_item is None else convert_items(load_item, raw))

    same = kind is list and load_item is None
    return Form(words, {"type": "array", "items": item.avro}, dump, None if same else load)


def convert_items(convert: Convert, items: Iterable[Any]) -> list[Any]:
    """Each item converted; a mismatch says which."""
    converted: list[Any] = []
    try:
        for each in items:
            converted.append(convert(each))  # noqa: PERF401 - its length tells where it stopped
    except Mismatch as mismatch:
        raise mismatch.under(f"[{len(converted)}]") from mismatch.__cause__
    return converted


def mapping(value_form: Form) -> Form:
    """Values of one form by text keys."""
    words = f"dict of str to {value_form.words}"
    dump_key, dump_value, load_value = text().dump, value_form.dump, value_form.load

    def dump(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise unfit(words, value)
        for key in value:
            try:
                dump_key(key)
            except Mismatch as mismatch:
                raise Mismatch(f"has a key that {mismatch.text}") from None
        return convert_values(dump_value, value)

    def load(raw: dict[str, Any]) -> dict[str, Any]:
        assert load_value is not None
        return convert_values(load_value, raw)

    avro = {"type": "map", "values": value_form.avro}
    return Form(words, avro, dump, None if load_value is None else load)


def convert_values(convert: Convert, values: Mapping[str, Any]) -> dict[str, Any]:
    """Each value converted; a mismatch says whose."""
    key = ""
    converted = {}
    try:
        for key, each in values.items():
            converted[key] = convert(each)
    except Mismatch as mismatch:
        raise mismatch.under(f"[{key!r}]") from mismatch.__cause__
    return converted


def optional(inner: Form) -> Form:
    """A value of that form, or None."""
    inner_dump, inner_load = inner.dump, inner.load

    def dump(value: Any) -> Any:
        return None if value is None else inner_dump(value)

    def load(raw: Any) -> Any:
        assert inner_load is not None
        return None if raw is None else inner_load(raw)

    return Form(
        f"{inner.words} or None", ["null", inner.avro], dump, None if inner_load is None else load
    )


def record_avro(name: str, fields: Sequence[Field]) -> dict[str, Avro]:
    """The schema of a record."""
    return {"type": "record", "name": name, "fields": [field.avro for field in fields]}


def instance(kind: type, fields: Sequence[Field]) -> Form:
    """An instance of a dataclass; its fields are a record's, and it is built anew from them."""
    words = kind.__name__
    dumps = [(field.name, field.form.dump) for field in fields]
    loads = loads_of(fields)

    def dump(value: Any) -> dict[str, Any]:
        # A subclass would come back as its base, without what it adds.
        if type(value) is not kind:
            raise unfit(words, value)
        raw = {}
        name = ""
        try:
            for name, dump_field in dumps:
                raw[name] = dump_field(getattr(value, name))
        except Mismatch as mismatch:
            raise mismatch.under(f".{name}") from None
        return raw

    def load(raw: dict[str, Any]) -> Any:
        load_fields(loads, raw)
        try:
            return kind(**raw)
        except Exception as error:  # the user's __post_init__ may refuse in any way
            raise Mismatch(f"can't be a {words}: {type(error).__name__}: {error}") from error

    return Form(words, record_avro(words, fields), dump, load)


def keyed(kind: type, fields: Sequence[Field]) -> Form:
    """A dict with fixed keys (a TypedDict); optional ones may be absent."""
    words = kind.__name__
    known = {field.name: field for field in fields}
    loads = loads_of(fields)
    optionals = [field.name for field in fields if field.optional]

    def dump(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise unfit(words, value)
        for key in value.keys() - known.keys():
            raise Mismatch(f"has no key {key!r} in {words}; it knows {', '.join(known)}")
        raw: dict[str, Any] = {}
        for name, field in known.items():
            if name not in value:
                if not field.optional:
                    raise Mismatch("is missing", f".{name}")
                raw[name] = None
                continue
            try:
                raw[name] = field.form.dump(value[name])
            except Mismatch as mismatch:
                raise mismatch.under(f".{name}") from None
        return raw

    def load(raw: dict[str, Any]) -> dict[str, Any]:
        load_fields(loads, raw)
        for name in optionals:
            if raw[name] is None:
                del raw[name]
        return raw

    return Form(words, record_avro(words, fields), dump, load)


def loads_of(fields: Sequence[Field]) -> list[tuple[str, Convert]]:
    """The fields whose values change when read, and how."""
    return [(field.name, field.form.load) for field in fields if field.form.load is not None]


def load_fields(loads: Sequence[tuple[str, Convert]], raw: dict[str, Any]) -> None:
    """Loads the fields of a record in place."""
    name = ""
    try:
        for name, load in loads:
            raw[name] = load(raw[name])
    except Mismatch as mismatch:
        raise mismatch.under(f".{name}") from mismatch.__cause__


def default_json(raw: Any) -> Any:
    """A dumped value as a schema has it for a default: bytes as text, a code point for a byte."""
    if isinstance(raw, bytes):
        return raw.decode("latin-1")
    if isinstance(raw, Mapping):
        return {key: default_json(each) for key, each in raw.items()}
    if isinstance(raw, list):
        return [default_json(each) for each in raw]
    return raw
