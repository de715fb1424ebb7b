"""One Avro schema, ready to read and write with. The only file that knows the Avro library.

Values pass here in their physical form: a timestamp is a number, a decimal its bytes. What they
mean is told by `forms`, because the library takes much that we refuse (text for a UUID, a naive
time for a timestamp, a boolean for a number). It is loaded when first needed: defining tasks goes
without it, and it would double the import time of an app that never publishes.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from io import BytesIO
from typing import Any

from taskstream.core.errors import SchemaError, Undecodable

Avro = Any
"""A schema or a part of one, as JSON has it: text, a list (a union) or a dict."""

PRIMITIVES = frozenset(
    {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
)  # fmt: skip
NAMED = frozenset({"record", "enum", "fixed", "error"})

# What tells how written bytes are to be read. Docs, defaults and aliases are not among it.
_MEANING = frozenset(
    {"type", "name", "fields", "symbols", "items", "values", "size", "logicalType", "scale", "precision"}
)  # fmt: skip
_PHYSICAL = _MEANING - {"logicalType", "scale", "precision"}


class Schema:
    """One Avro schema.

    Attributes:
        full: the schema as JSON has it, as it was given.
        text: its JSON text in one fixed spelling; equal texts are equal schemas.
        name: the record's name without its namespace; empty where it is no named type.
    """

    def __init__(self, full: Avro) -> None:
        self.full = full
        self.text = json.dumps(full, sort_keys=True, separators=(",", ":"))
        name = full.get("name", "") if isinstance(full, Mapping) else ""
        self.name = str(name).rpartition(".")[2]

    @classmethod
    def parse(cls, text: str | bytes) -> "Schema":
        """The schema in a JSON text.

        Raises:
            SchemaError: it is no Avro schema.
        """
        try:
            full = json.loads(text)
        except ValueError as error:
            raise SchemaError(f"not an Avro schema: {error}") from error
        schema = cls(full)
        _ = schema.parsed
        return schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<Schema {self.name or self.text}>"

    @cached_property
    def parsed(self) -> Avro:
        """The schema with full names, as the library has it.

        Raises:
            SchemaError: it is no Avro schema.
        """
        from fastavro.schema import parse_schema  # noqa: PLC0415

        try:
            return parse_schema(self.full)
        # Which errors the library has for what JSON may hold instead of a schema is not documented.
        except Exception as error:
            raise SchemaError(f"not an Avro schema: {error} (in {self.text[:200]})") from error

    @cached_property
    def named(self) -> Mapping[str, Avro]:
        """Every named type in it, by full name."""
        found: dict[str, Avro] = {}
        _collect(self.parsed, found)
        return found

    @cached_property
    def fingerprint(self) -> bytes:
        """CRC-64-AVRO of the canonical form, 8 bytes, little-endian as single-object encoding has it."""
        from fastavro.schema import fingerprint, to_parsing_canonical_form  # noqa: PLC0415

        # The library gives the bytes in that order, as hex digits.
        return bytes.fromhex(fingerprint(to_parsing_canonical_form(self.parsed), "CRC-64-AVRO"))

    @cached_property
    def meaning(self) -> str:
        """What decides how bytes written by it are read, as text.

        The canonical form behind the fingerprint leaves logical types out: two schemas may share a
        fingerprint and still tell 12.00 from 0.12. Those differ here; a default, which only
        readers use, makes no difference.
        """
        return json.dumps(_only(_MEANING, self.parsed), sort_keys=True)

    @cached_property
    def write(self) -> Callable[[Any], bytes]:
        """From a physical value to its Avro body; raises whatever the library raises."""
        from fastavro import schemaless_writer  # noqa: PLC0415

        physical = self._physical

        def write(value: Any) -> bytes:
            stream = BytesIO()
            schemaless_writer(stream, physical, value)
            return stream.getvalue()

        return write

    @cached_property
    def read(self) -> Callable[[bytes], Any]:
        """From an Avro body that was written by this very schema to its physical value.

        Raises:
            Undecodable: from the function: the body is not what the schema says.
        """
        from fastavro import schemaless_reader  # noqa: PLC0415

        physical, name = self._physical, self.name

        def read(body: bytes) -> Any:
            stream = BytesIO(body)
            try:
                value = schemaless_reader(stream, physical, None)
            # Bytes from anywhere: what the library raises on them is not documented.
            except Exception as error:
                raise Undecodable(
                    f"the bytes are no {name}: {type(error).__name__}: {error}"
                ) from error
            if stream.tell() != len(body):
                raise Undecodable(
                    f"the bytes are no {name}: {len(body) - stream.tell()} are left over"
                )
            return value

        return read

    @cached_property
    def _physical(self) -> Avro:
        from fastavro.schema import parse_schema  # noqa: PLC0415

        return parse_schema(_only(_PHYSICAL, self.parsed))


def _only(keys: frozenset[str], avro: Avro) -> Avro:
    """A parsed schema with nothing but these keys."""
    if isinstance(avro, list):
        return [_only(keys, branch) for branch in avro]
    if not isinstance(avro, dict):
        return avro
    kept = {key: _only_in(keys, key, value) for key, value in avro.items() if key in keys}
    return kept["type"] if len(kept) == 1 and kept["type"] in PRIMITIVES else kept


def _only_in(keys: frozenset[str], key: str, value: Avro) -> Avro:
    if key == "fields":
        return [{"name": field["name"], "type": _only(keys, field["type"])} for field in value]
    return _only(keys, value) if key in ("items", "values") else value


def _collect(avro: Avro, found: dict[str, Avro]) -> None:
    if isinstance(avro, list):
        for branch in avro:
            _collect(branch, found)
    elif isinstance(avro, dict):
        if avro["type"] in NAMED:
            found[avro["name"]] = avro
        for field in avro.get("fields", ()):
            _collect(field["type"], found)
        for inner in (avro.get("items"), avro.get("values")):
            if inner is not None:
                _collect(inner, found)
