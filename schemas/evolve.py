"""Reading what another version of a schema wrote (Avro's schema resolution, for physical values).

The Avro library resolves too, but without regard to logical types: it reads whole seconds as
microseconds, and hands a default over as the JSON it stands in. So values are read by the schema
that wrote them, and what comes out is brought into the reader's shape here.

One walk over both schemas gives both answers: the problems in plain words, for a check before
anything is written, and the conversion. A value is refused only if it meets one of the problems:
an enum that lost a member goes on reading all the others.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from taskstream.schemas.forms import Convert, Mismatch, convert_items, convert_values
from taskstream.schemas.schema import Avro, Schema


@dataclass(frozen=True, slots=True)
class Resolution:
    """How values of one schema are read by another.

    Args:
        convert: from the writer's physical value to the reader's; None where they are the same.
            Raises Mismatch on a value that the reader has no place for.
        problems: what such values are, in plain words; empty if the reader can read everything.
    """

    convert: Convert | None
    problems: tuple[str, ...]


def compatible(reader: Schema, writer: Schema) -> list[str]:
    """Why `reader` can't read everything that `writer` wrote; empty if it can."""
    return list(resolve(reader, writer).problems)


def resolve(reader: Schema, writer: Schema) -> Resolution:
    """How what `writer` wrote is read by `reader`.

    The names of the two records themselves may differ: a task may have had another name, and a
    foreign topic has its own.
    """
    walk = _Walk(reader, writer)
    outer, inner = reader.parsed, writer.parsed
    if _kind(outer) == _kind(inner) == "record":
        convert = walk.record(outer, inner, "")
    else:
        convert = walk.match(outer, inner, "")
    return Resolution(convert, tuple(dict.fromkeys(walk.problems)))


@dataclass(slots=True)
class _Walk:
    reader: Schema
    writer: Schema
    problems: list[str] = field(default_factory=list)
    # Pairs of named types under way or done, so that a type that holds itself comes to an end.
    named: dict[tuple[str, str], list[Convert | None]] = field(default_factory=dict)

    def match(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        """The conversion between two types; notes the problems on the way."""
        reader = self.reader.named.get(reader, reader) if isinstance(reader, str) else reader
        writer = self.writer.named.get(writer, writer) if isinstance(writer, str) else writer
        if isinstance(writer, list):
            return self._from_union(reader, writer, path)
        if isinstance(reader, list):
            return self._to_union(reader, writer, path)
        kind = _kind(reader)
        if kind in _SHAPES and kind == _kind(writer):
            return _SHAPES[kind](self, reader, writer, path)
        return self._number_or_text(reader, writer, path)

    def record(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        """The conversion between two records, whatever their names."""
        pair = (reader["name"], writer["name"])
        if pair in self.named:
            known = self.named[pair]
            return lambda raw: known[0](raw) if known[0] is not None else raw
        slot: list[Convert | None] = [None]
        self.named[pair] = slot
        slot[0] = self._fields(reader, writer, path)
        return slot[0]

    def _fields(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        written = {each["name"]: each["type"] for each in writer["fields"]}
        taken: list[tuple[str, str, Convert | None]] = []
        added: list[tuple[str, Any]] = []
        for each in reader["fields"]:
            name = each["name"]
            inside = f"{path}.{name}" if path else name
            old = next((n for n in (name, *each.get("aliases", ())) if n in written), None)
            if old is not None:
                taken.append((name, old, self.match(each["type"], written[old], inside)))
            elif "default" in each:
                added.append((name, raw_default(self.reader, each["type"], each["default"])))
            else:
                self.problems.append(f"{inside} is new and has no default")
                taken.append((name, name, _refusal("is missing, and has no default")))
        same = all(name == old and convert is None for name, old, convert in taken)
        if same and not added and len(taken) == len(written):
            return None

        def convert_record(raw: dict[str, Any]) -> dict[str, Any]:
            record = {name: copy.deepcopy(value) for name, value in added}
            name = ""
            try:
                for name, old, convert in taken:
                    value = raw.get(old)
                    record[name] = value if convert is None else convert(value)
            except Mismatch as mismatch:
                raise mismatch.under(f".{name}") from None
            return record

        return convert_record

    def _named_record(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        return self._renamed(reader, writer, path) or self.record(reader, writer, path)

    def _enum(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        renamed = self._renamed(reader, writer, path)
        if renamed:
            return renamed
        gone = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if not gone:
            return None
        if "default" in reader:
            fallback = reader["default"]
            return lambda raw: fallback if raw in gone else raw
        self.problems.append(f"{path} has lost {', '.join(gone)}, which may be written already")

        def convert(raw: str) -> str:
            if raw in gone:
                raise Mismatch(f"is {raw!r}, which {_words(reader)} has no more")
            return raw

        return convert

    def _fixed(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        if reader["size"] != writer["size"]:
            return self._problem(reader, writer, path)
        return self._renamed(reader, writer, path) or self._number_or_text(reader, writer, path)

    def _array(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        convert = self.match(reader["items"], writer["items"], f"{path}[]")
        return convert and partial(convert_items, convert)

    def _map(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        convert = self.match(reader["values"], writer["values"], f"{path}[]")
        return convert and partial(convert_values, convert)

    def _from_union(self, reader: Avro, writer: list[Avro], path: str) -> Convert | None:
        converts = [self.match(reader, branch, path) for branch in writer]
        if not any(converts):
            return None
        branches = [
            (self.writer.named.get(branch, branch) if isinstance(branch, str) else branch, convert)
            for branch, convert in zip(writer, converts, strict=True)
        ]

        def convert_branch(raw: Any) -> Any:
            for branch, convert in branches:
                if fits(raw, branch):
                    return raw if convert is None else convert(raw)
            raise Mismatch(f"is {type(raw).__name__}, which no branch of its union is")

        return convert_branch

    def _to_union(self, reader: list[Avro], writer: Avro, path: str) -> Convert | None:
        for branch in reader:
            trial = _Walk(self.reader, self.writer, named=dict(self.named))
            convert = trial.match(branch, writer, path)
            if not trial.problems:
                self.named.update(trial.named)
                return convert
        some = [branch for branch in reader if branch != "null"]
        if len(some) == 1 and writer != "null":
            return self.match(some[0], writer, path)
        return self._problem(reader, writer, path)

    def _number_or_text(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        pair = (_kind(writer), _kind(reader))
        if pair[0] != pair[1] and pair not in _PROMOTIONS:
            return self._problem(reader, writer, path)
        old, new = _logical(writer), _logical(reader)
        if old == new == "decimal":
            return self._rescaled(reader, writer, path)
        if old == new:
            return _PROMOTIONS.get(pair)
        factor = _FINER.get((old, new))
        if factor is None:
            return self._problem(reader, writer, path)
        return lambda raw: raw * factor

    def _rescaled(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        more = reader.get("scale", 0) - writer.get("scale", 0)
        if more < 0:
            self.problems.append(
                f"{path} had {writer.get('scale', 0)} digits after the point and has "
                f"{reader.get('scale', 0)} now"
            )
            return _refusal("would lose digits after the point")
        if not more:
            return None

        def convert(raw: bytes) -> bytes:
            units: int = int.from_bytes(raw, "big", signed=True) * 10**more
            return units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)

        return convert

    def _renamed(self, reader: Avro, writer: Avro, path: str) -> Convert | None:
        old = writer["name"].rpartition(".")[2]
        known = [reader["name"], *reader.get("aliases", ())]
        if old in (name.rpartition(".")[2] for name in known):
            return None
        return self._problem(reader, writer, path)

    def _problem(self, reader: Avro, writer: Avro, path: str) -> Convert:
        self.problems.append(f"{path} was {_words(writer)} and is {_words(reader)} now")
        return _refusal(f"was written as {_words(writer)}, which can't be read as {_words(reader)}")


_SHAPES: dict[str, Callable[[_Walk, Avro, Avro, str], Convert | None]] = {
    "record": _Walk._named_record,  # noqa: SLF001 - a table of its own methods
    "enum": _Walk._enum,  # noqa: SLF001
    "fixed": _Walk._fixed,  # noqa: SLF001
    "array": _Walk._array,  # noqa: SLF001
    "map": _Walk._map,  # noqa: SLF001
}


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Mismatch(f"is no UTF-8 text: {error.reason}") from error


# (writer, reader): what Avro lets grow into something wider.
_PROMOTIONS: dict[tuple[str, str], Convert | None] = {
    ("int", "long"): None,
    ("int", "float"): float,
    ("int", "double"): float,
    ("long", "float"): float,
    ("long", "double"): float,
    ("float", "double"): None,
    ("string", "bytes"): str.encode,
    ("bytes", "string"): _decode,
}

# (writer, reader): finer ticks of the same clock, and how many make one of the coarser.
_FINER = {
    ("timestamp-millis", "timestamp-micros"): 1000,
    ("local-timestamp-millis", "local-timestamp-micros"): 1000,
    ("time-millis", "time-micros"): 1000,
}

# A UUID is its text, and an unknown logical type is none, as Avro has it.
_LOGICAL = {name for pair in _FINER for name in pair} | {"decimal", "date", "duration"}

_PYTHON: dict[str, Any] = {
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "bytes": bytes,
    "fixed": bytes,
    "string": str,
    "enum": str,
    "array": list,
    "map": dict,
    "record": dict,
}


def fits(raw: Any, avro: Avro) -> bool:
    """Whether a physical value may be of that type: which branch of a union it came from."""
    kind = _kind(avro)
    if type(raw) is not _PYTHON[kind]:
        return False
    if kind == "record":
        return bool(set(raw) == {each["name"] for each in avro["fields"]})
    return kind != "enum" or bool(raw in avro["symbols"])


def raw_default(schema: Schema, avro: Avro, default: Any) -> Any:
    """A default as a schema has it in JSON, as a physical value."""
    avro = schema.named.get(avro, avro) if isinstance(avro, str) else avro
    if isinstance(avro, list):
        return raw_default(schema, _first_fit(avro, default), default)
    kind = _kind(avro)
    if kind in ("bytes", "fixed"):
        return default.encode("latin-1")
    if kind in ("float", "double"):
        return float(default)
    if kind == "array":
        return [raw_default(schema, avro["items"], each) for each in default]
    if kind == "map":
        return {key: raw_default(schema, avro["values"], each) for key, each in default.items()}
    if kind == "record":
        return {
            each["name"]: raw_default(
                schema, each["type"], default.get(each["name"], each.get("default"))
            )
            for each in avro["fields"]
        }
    return default


def _first_fit(branches: Sequence[Avro], default: Any) -> Avro:
    """The branch of a default: the first, by Avro's rule; null is told apart from what isn't."""
    return next(branch for branch in branches if (branch == "null") == (default is None))


def _kind(avro: Avro) -> str:
    kind = avro["type"] if isinstance(avro, dict) else "union" if isinstance(avro, list) else avro
    return "record" if kind == "error" else str(kind)


def _logical(avro: Avro) -> str:
    name = avro.get("logicalType", "") if isinstance(avro, dict) else ""
    return name if name in _LOGICAL else ""


def _words(avro: Avro) -> str:
    if isinstance(avro, list):
        return " or ".join(_words(branch) for branch in avro)
    if isinstance(avro, dict):
        return _logical(avro) or avro.get("name", "").rpartition(".")[2] or _kind(avro)
    return str(avro).rpartition(".")[2]


def _refusal(text: str) -> Convert:
    def refuse(_raw: Any) -> Any:
        raise Mismatch(text)

    return refuse
