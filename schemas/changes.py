"""What one version of a schema changed, in words. Pure.

Told for people who ask since when a field is there. Whether the old bytes can still be read is another
question, which `schemas.evolve` answers.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from taskstream.schemas.schema import Avro, Schema


def changes(before: Schema, after: Schema) -> list[str]:
    """What is different in `after`, field by field, in the order of its fields.

    Empty where nothing is that a reader or a writer would notice. A type that is used in several places is
    told of once, by its name.
    """
    told = [*_record("", before.full, after.full)]
    mine, yours = before.named, after.named
    for name in yours:
        if name in mine and name != _full_name(after):
            told += _named(name.rpartition(".")[2], mine[name], yours[name])
    return told


def type_in_words(avro: Avro) -> str:
    """A type as a person would say it: "array of string", "string or null", "decimal(38, 2)"."""
    if isinstance(avro, list):
        return " or ".join(type_in_words(branch) for branch in avro)
    if not isinstance(avro, dict):
        return str(avro).rpartition(".")[2]
    kind, logical = avro["type"], avro.get("logicalType")
    if logical == "decimal":
        return f"decimal({avro.get('precision')}, {avro.get('scale', 0)})"
    if logical is not None:
        return str(logical)
    if kind == "array":
        return f"array of {type_in_words(avro['items'])}"
    if kind == "map":
        return f"map of {type_in_words(avro['values'])}"
    if kind == "enum":
        return f"one of {', '.join(map(str, avro['symbols']))}"
    if kind == "record":
        return f"record {str(avro['name']).rpartition('.')[2]}"
    return type_in_words(kind)


def _full_name(schema: Schema) -> str:
    parsed = schema.parsed
    return str(parsed.get("name", "")) if isinstance(parsed, Mapping) else ""


def _named(name: str, before: Avro, after: Avro) -> Iterator[str]:
    """What is different in a type within the record."""
    if before["type"] == after["type"] == "enum":
        for symbol in after["symbols"]:
            if symbol not in before["symbols"]:
                yield f"{name} may be {symbol}, too"
        for symbol in before["symbols"]:
            if symbol not in after["symbols"]:
                yield f"{name} is never {symbol} any more"
    elif before["type"] == after["type"] == "record":
        yield from _record(f"{name}.", before, after)


def _record(path: str, before: Avro, after: Avro) -> Iterator[str]:
    old, new = _fields(before), _fields(after)
    gone = dict(old)
    for name, field in new.items():
        was = (
            name if name in old else next((a for a in field.get("aliases", ()) if a in gone), None)
        )
        if was is None:
            yield f"{path}{name} was added: {type_in_words(field['type'])}, {_given(field)}"
            continue
        gone.pop(was, None)
        if was != name:
            yield f"{path}{was} is called {name} now"
        yield from _field(f"{path}{name}", old[was], field)
    for name, field in gone.items():
        yield f"{path}{name} was removed (it was {type_in_words(field['type'])})"
    if not path and [*old] != [*new] and set(old) == set(new):
        yield "the fields stand in another order"


def _field(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = (type_in_words(_by_name(one["type"])) for one in (before, after))
    if old != new:
        yield f"{name} was {old} and is {new} now"
    if _given(before) != _given(after):
        yield f"{name} was {_given(before)} and is {_given(after)} now"
    if before.get("doc", "") != after.get("doc", ""):
        yield f"{name} is described in other words"


def _by_name(avro: Avro) -> Avro:
    """The same with enums by their names alone: what befalls their members is told of once, elsewhere."""
    if isinstance(avro, list):
        return [_by_name(branch) for branch in avro]
    if not isinstance(avro, dict):
        return avro
    if avro["type"] == "enum":
        return avro["name"]
    inside = {key: _by_name(avro[key]) for key in ("items", "values") if key in avro}
    return {**avro, **inside}


def _given(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return "required"
    return f"default {json.dumps(field['default'], ensure_ascii=False)}"


def _fields(record: Avro) -> dict[str, Mapping[str, Any]]:
    listed = record.get("fields", ()) if isinstance(record, Mapping) else ()
    return {str(field["name"]): field for field in listed}
