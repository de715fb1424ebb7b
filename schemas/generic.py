"""Encoding and decoding by a schema alone, where no function is at hand.

For a publish by name, the command line and everything that shows a payload. Values are what JSON
can hold: times, dates, UUIDs and decimals as text (ISO 8601 for the first two), bytes as base64.
Checks are as strict as those of a typed task; objects of the types themselves are taken as well.
"""

import base64
import binascii
import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from taskstream.core.errors import BadArguments, SchemaError, Undecodable
from taskstream.schemas import forms
from taskstream.schemas.codec import Reader, missing_arguments, unknown_argument
from taskstream.schemas.evolve import fits, raw_default
from taskstream.schemas.forms import Form, Mismatch, unfit
from taskstream.schemas.schema import Avro, Schema


class GenericCodec:
    """Encodes and decodes the arguments, or the result, of a task by its stored schema.

    Args:
        schema: of a record.

    Raises:
        SchemaError: it is no Avro schema, or not that of a record.
    """

    def __init__(self, schema: Schema) -> None:
        record = schema.parsed
        if not isinstance(record, dict) or record["type"] != "record":
            raise SchemaError(f"{schema!r} is not the schema of a record")
        self._task = schema.name
        self._record = _Builder(schema).record(record)
        self._write = schema.write
        self._reader = Reader(schema)

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """The Avro body of arguments by name; defaults of the schema are filled in.

        Raises:
            BadArguments: one is missing, unknown or of the wrong type; names the task and the field.
        """
        known = self._record.forms
        for name in values:
            if name not in known:
                raise unknown_argument(self._task, str(name), known)
        missing = known.keys() - values.keys() - self._record.defaults.keys()
        if missing:
            raise missing_arguments(self._task, missing)
        try:
            return self._write(self._record.dump(values))
        except Mismatch as mismatch:
            path = mismatch.path.removeprefix(".")
            raise BadArguments(
                f"task {self._task}: argument {path} {mismatch.text}"
            ) from mismatch.__cause__

    def decode(self, body: bytes, writer: Schema | None = None) -> dict[str, Any]:
        """What is in an Avro body, as JSON has it.

        Args:
            body: the Avro body, without its frame.
            writer: the schema that wrote it; None where it is this one.

        Raises:
            Undecodable: the bytes are not what the writer's schema says; names the field.
        """
        try:
            return self._record.load(self._reader.read(body, writer))
        except Mismatch as mismatch:
            path = mismatch.path.removeprefix(".")
            raise Undecodable(f"{self._task}: {path} {mismatch.text}") from mismatch.__cause__


@dataclasses.dataclass(slots=True)
class _Record:
    """A record's fields, filled after it is made, since it may hold itself."""

    name: str
    forms: dict[str, Form] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)

    def dump(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise unfit(f"an object ({self.name})", value)
        for key in value.keys() - self.forms.keys():
            raise Mismatch(f"has no field {key!r}; {self.name} has {', '.join(self.forms)}")
        raw = {}
        for name, form in self.forms.items():
            if name in value:
                raw[name] = _inside(f".{name}", form.dump, value[name])
            elif name in self.defaults:
                raw[name] = self.defaults[name]
            else:
                raise Mismatch("is missing", f".{name}")
        return raw

    def load(self, raw: dict[str, Any]) -> dict[str, Any]:
        return {
            name: raw[name] if form.load is None else _inside(f".{name}", form.load, raw[name])
            for name, form in self.forms.items()
        }


class _Builder:
    """The forms of one schema's types, from JSON and to JSON."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._records: dict[str, _Record] = {}

    def record(self, avro: Avro) -> _Record:
        """A record, made once however often it is referred to."""
        name = avro["name"]
        if name not in self._records:
            self._records[name] = record = _Record(name)
            for field in avro["fields"]:
                record.forms[field["name"]] = self.form(field["type"])
                if "default" in field:
                    default = raw_default(self._schema, field["type"], field["default"])
                    record.defaults[field["name"]] = default
        return self._records[name]

    def form(self, avro: Avro) -> Form:
        """The form of a type."""
        if isinstance(avro, str):
            avro = self._schema.named.get(avro, avro)
        if isinstance(avro, list):
            return self._union(avro)
        if isinstance(avro, str):
            return _PRIMITIVE[avro]()
        kind = avro["type"]
        logical = _LOGICAL.get((kind, avro.get("logicalType")))
        if logical is not None:
            return logical(avro)
        if kind in ("record", "error"):
            record = self.record(avro)
            return Form(f"an object ({record.name})", avro, record.dump, record.load)
        if kind == "array":
            return self._array(avro)
        if kind == "map":
            return _named_mapping(forms.mapping(self.form(avro["values"])))
        if kind == "enum":
            return forms.choice(avro["symbols"])
        return _octets(avro.get("size")) if kind == "fixed" else _PRIMITIVE[kind]()

    def _array(self, avro: Avro) -> Form:
        form = forms.array(self.form(avro["items"]))
        dump = form.dump
        return dataclasses.replace(
            form, dump=lambda value: dump(list(value) if isinstance(value, tuple) else value)
        )

    def _union(self, branches: list[Avro]) -> Form:
        some = [self.form(branch) for branch in branches if branch != "null"]
        if len(some) == 1 and len(branches) == 2:
            return forms.optional(some[0])
        either = [
            (self._schema.named.get(b, b) if isinstance(b, str) else b, self.form(b))
            for b in branches
        ]
        words = " or ".join(form.words for _, form in either)

        def dump(value: Any) -> Any:
            for _, form in either:
                try:
                    return form.dump(value)
                except Mismatch:
                    continue
            raise unfit(words, value)

        def load(raw: Any) -> Any:
            form = next(form for branch, form in either if fits(raw, branch))
            return raw if form.load is None else form.load(raw)

        return Form(words, branches, dump, load)


def _inside(step: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except Mismatch as mismatch:
        raise mismatch.under(step) from mismatch.__cause__


def _named_mapping(form: Form) -> Form:
    """A map that takes any mapping."""
    dump = form.dump
    return dataclasses.replace(
        form, dump=lambda value: dump(dict(value) if isinstance(value, Mapping) else value)
    )


def _textual(
    form: Form, parse: Callable[[str], Any], show: Callable[[Any], str], example: str
) -> Form:
    """A form that takes text as well, and gives text."""
    dump_value, load_value = form.dump, form.load

    def dump(value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = parse(value)
            except (ValueError, ArithmeticError) as error:
                raise Mismatch(f"is no {form.words}; write it as in {example}") from error
        return dump_value(value)

    def load(raw: Any) -> str:
        return show(raw if load_value is None else load_value(raw))

    return Form(f"{form.words} as text", form.avro, dump, load)


def _moment(ticks_per_second: int) -> Form:
    per_tick = 1_000_000 // ticks_per_second

    def dump(value: Any) -> int:
        ticks, rest = divmod(forms.dump_moment(value), per_tick)
        if rest:
            raise Mismatch("is finer than a millisecond")
        return ticks

    def load(raw: int) -> datetime:
        return forms.load_moment(raw * per_tick)

    form = Form("datetime", "long", dump, load)
    return _textual(form, datetime.fromisoformat, datetime.isoformat, '"2026-01-31T12:00:00Z"')


def _day() -> Form:
    return _textual(forms.day(), date.fromisoformat, date.isoformat, '"2026-01-31"')


def _uuid() -> Form:
    return _textual(forms.uuid(), UUID, str, '"0190a5b0-7c1f-7000-8000-000000000000"')


def _decimal(avro: Avro) -> Form:
    scale = avro.get("scale", 0)
    size = avro.get("size")
    exact = forms.decimal(scale, avro["precision"])

    def dump(value: Any) -> bytes:
        if isinstance(value, float):
            raise Mismatch('must be text, as in "12.50": a float has no exact digits')
        whole = isinstance(value, int) and not isinstance(value, bool)
        raw: bytes = exact.dump(Decimal(value) if whole else value)
        return raw if size is None else _widened(raw, size)

    form = dataclasses.replace(exact, dump=dump)
    return _textual(form, Decimal, lambda number: format(number, "f"), '"12.50"')


def _widened(raw: bytes, size: int) -> bytes:
    """The same units in exactly `size` bytes."""
    try:
        return int.from_bytes(raw, "big", signed=True).to_bytes(size, "big", signed=True)
    except OverflowError:
        raise Mismatch(f"does not fit into {size} bytes") from None


def _octets(size: int | None = None) -> Form:
    form = forms.octets()

    def dump(value: Any) -> bytes:
        raw: bytes = form.dump(value)
        if size is not None and len(raw) != size:
            raise Mismatch(f"must be {size} bytes long, not {len(raw)}")
        return raw

    return _textual(dataclasses.replace(form, dump=dump), _unbase64, _base64, 'base64 "aGk="')


def _unbase64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _double(avro: str = "double") -> Form:
    """JSON has no word for infinities and what is no number: those are text."""
    form = forms.double(avro)

    def dump(value: Any) -> float:
        number: float = form.dump(float(value) if value in ("nan", "inf", "-inf") else value)
        return number

    def load(raw: float) -> float | str:
        return raw if math.isfinite(raw) else str(raw)

    return Form(form.words, avro, dump, load)


_PRIMITIVE: dict[str, Callable[[], Form]] = {
    "null": forms.null,
    "boolean": forms.boolean,
    "int": lambda: forms.integer("int", 32),
    "long": forms.integer,
    "float": lambda: _double("float"),
    "double": _double,
    "bytes": _octets,
    "string": forms.text,
}

_LOGICAL: dict[tuple[str, str | None], Callable[[Avro], Form]] = {
    ("long", "timestamp-micros"): lambda _: _moment(1_000_000),
    ("long", "timestamp-millis"): lambda _: _moment(1_000),
    ("int", "date"): lambda _: _day(),
    ("string", "uuid"): lambda _: _uuid(),
    ("bytes", "decimal"): _decimal,
    ("fixed", "decimal"): _decimal,
}
