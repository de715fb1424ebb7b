"""Between Python values and Avro bodies, for one task.

What goes in is checked strictly and named when it is refused; what comes out is real objects
again. A body is read by the schema that wrote it, and evolution happens after that.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from taskstream.core.errors import BadArguments, SchemaError, Undecodable
from taskstream.schemas.derive import TaskSchema
from taskstream.schemas.evolve import Resolution, resolve
from taskstream.schemas.forms import Mismatch, load_fields, loads_of
from taskstream.schemas.schema import Schema


class ResultError(SchemaError):
    """What a task returned has no Avro form by its return hint: names the task and where."""


class Reader:
    """Reads bodies into the shape of one schema, whichever version wrote them.

    Args:
        schema: the schema of what comes out.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._resolutions: dict[str, Resolution] = {}

    def read(self, body: bytes, writer: Schema | None) -> Any:
        """The physical value in a body.

        Args:
            body: the Avro body, without its frame.
            writer: the schema that wrote it; None where it is this one.

        Raises:
            Undecodable: the bytes are not what the writer's schema says.
            Mismatch: the value has no place in this schema.
        """
        if writer is None or writer.text == self._schema.text:
            return self._schema.read(body)
        resolution = self._resolutions.get(writer.text)
        if resolution is None:
            resolution = self._resolutions[writer.text] = resolve(self._schema, writer)
        raw = writer.read(body)
        return raw if resolution.convert is None else resolution.convert(raw)


class ArgumentsCodec:
    """Encodes and decodes the arguments of one task."""

    def __init__(self, schema: TaskSchema) -> None:
        self._task = schema.task
        self._positional = schema.positional
        self._dumps = {field.name: field.form.dump for field in schema.parameters}
        self._defaults = {
            field.name: field.default[0] for field in schema.parameters if field.default
        }
        self._loads = loads_of(schema.parameters)
        self._write = schema.arguments.write
        self._reader = Reader(schema.arguments)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The Avro body of a call's arguments; defaults are filled in.

        Raises:
            BadArguments: one is missing, unknown or of the wrong type; names the task and the field.
        """
        values: Mapping[str, Any] = kwargs
        if args:
            # Not strict: too many are found by the count, and this is the hot path of every publish.
            values = {**dict(zip(self._positional, args)), **kwargs}  # noqa: B905
            if len(values) != len(args) + len(kwargs):
                raise self._miscounted(args, kwargs)
        record = self._defaults.copy()
        dumps = self._dumps
        name = ""
        try:
            for name, value in values.items():
                record[name] = dumps[name](value)
        except Mismatch as mismatch:
            raise BadArguments(
                f"task {self._task}: argument {name}{mismatch.path} {mismatch.text}"
            ) from mismatch.__cause__
        except KeyError:
            if name in dumps:
                raise
            raise unknown_argument(self._task, name, dumps) from None
        if len(record) != len(dumps):
            raise missing_arguments(self._task, dumps.keys() - record.keys())
        return self._write(record)

    def decode(self, body: bytes, writer: Schema | None = None) -> dict[str, Any]:
        """The arguments in an Avro body, by name, as real objects.

        Args:
            body: the Avro body, without its frame.
            writer: the schema that wrote it; None where it is the task's own.

        Raises:
            Undecodable: the bytes are not what the writer's schema says, or the values are not
                what the task takes; names the task and the field.
        """
        try:
            record: dict[str, Any] = self._reader.read(body, writer)
            load_fields(self._loads, record)
        except Mismatch as mismatch:
            path = mismatch.path.removeprefix(".")
            raise Undecodable(
                f"task {self._task}: argument {path} {mismatch.text}"
            ) from mismatch.__cause__
        except Undecodable as error:
            raise Undecodable(f"task {self._task}: {error}") from error.__cause__
        return record

    def _miscounted(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BadArguments:
        twice = [name for name in self._positional[: len(args)] if name in kwargs]
        if twice:
            return BadArguments(
                f"task {self._task}: argument {twice[0]} is given by position and by name"
            )
        return BadArguments(
            f"task {self._task}: takes {len(self._positional)} arguments by position, not {len(args)}"
        )


class ResultCodec:
    """Encodes and decodes the results of one task."""

    def __init__(self, schema: TaskSchema) -> None:
        self._task = schema.task
        self._dump = schema.outcome.dump
        self._load = schema.outcome.load
        self._write = schema.result.write
        self._reader = Reader(schema.result)

    def encode(self, value: Any) -> bytes:
        """The Avro body of what the task returned.

        Raises:
            ResultError: it is not what the return hint says.
        """
        try:
            return self._write({"value": self._dump(value)})
        except Mismatch as mismatch:
            raise ResultError(
                f"task {self._task}: the result{mismatch.path} {mismatch.text}"
            ) from mismatch.__cause__

    def decode(self, body: bytes, writer: Schema | None = None) -> Any:
        """The result in an Avro body, as a real object; `writer` as in `ArgumentsCodec.decode`.

        Raises:
            Undecodable: the bytes are not what the writer's schema says, or the value is not what
                the return hint says.
        """
        try:
            value = self._reader.read(body, writer)["value"]
            return value if self._load is None else self._load(value)
        except Mismatch as mismatch:
            path = mismatch.path.removeprefix(".value")
            raise Undecodable(
                f"task {self._task}: the result{path} {mismatch.text}"
            ) from mismatch.__cause__
        except Undecodable as error:
            raise Undecodable(f"task {self._task}: {error}") from error.__cause__


def unknown_argument(task: str, name: str, known: Collection[str]) -> BadArguments:
    """The error of an argument that the task doesn't take; guesses which one was meant."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known) or 'none'}"
    return BadArguments(f"task {task}: unknown argument {name}: {hint}")


def missing_arguments(task: str, names: Collection[str]) -> BadArguments:
    """The error of arguments that have no default and were not given."""
    return BadArguments(f"task {task}: missing argument: {', '.join(sorted(names))}")
