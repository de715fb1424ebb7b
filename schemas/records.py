"""Our own records: what taskstream itself writes to its topics, by the `.avsc` files beside this.

Their schemas are part of the code, known to every reader, so no store is asked and no user code
runs: a worker's parent may use them. The framing is Avro's single-object encoding, so that any
other program can read them with those files.
"""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from taskstream.core.errors import Undecodable
from taskstream.schemas.by_column import is_by_column, writer
from taskstream.schemas.framing import Fingerprint, parse
from taskstream.schemas.schema import Schema


class Records:
    """Encodes and decodes our own records. Times are whole microseconds since 1970 in UTC."""

    def __init__(self) -> None:
        files = resources.files(__package__).iterdir()
        schemas = [
            Schema(json.loads(file.read_text("utf-8")))
            for file in files
            if file.name.endswith(".avsc")
        ]
        self._by_name = {schema.name: schema for schema in schemas}
        self._by_fingerprint = {schema.fingerprint: schema for schema in schemas}
        self._prefixes = {schema.name: Fingerprint(schema.fingerprint).prefix for schema in schemas}
        self._by_column = {
            schema.name: writer(schema) for schema in schemas if is_by_column(schema)
        }

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """The schemas by record name."""
        return self._by_name

    def prefix(self, name: str) -> bytes:
        """What every value of that record begins with."""
        return self._prefixes[name]

    def encode(self, name: str, fields: Mapping[str, Any]) -> bytes:
        """The framed value of a record of ours, with all its fields."""
        write = self._by_column.get(name) or self._by_name[name].write
        return self._prefixes[name] + write(fields)

    def decode(self, value: bytes | None) -> tuple[str, dict[str, Any]]:
        """The name of the record in a value, and its fields.

        Raises:
            Undecodable: it is none of our records, or one of a version that is not known here.
        """
        frame = parse(value)
        reference = frame.reference
        if isinstance(reference, Fingerprint):
            schema = self._by_fingerprint.get(reference.value)
            if schema is not None:
                return schema.name, schema.read(frame.body)
        raise Undecodable(
            f"none of taskstream's own records has {reference}: is it of another version?"
        )

    def replies_in(self, value: bytes) -> dict[str, dict[str, Any]]:
        """The replies in the value of a record of `{app}.replies`, by task id.

        Raises:
            Undecodable: there are none.
        """
        name, fields = self.decode(value)
        if name != "replies":
            raise Undecodable(f"a record of replies is expected, not {name}")
        replies = zip(*fields.values(), strict=False)
        return {
            task_id: dict(zip(fields, reply, strict=True))
            for task_id, reply in zip(fields["task_id"], replies, strict=False)
        }
