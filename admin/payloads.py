"""What stands in the value of a task's record, by the schema that wrote it; no user code is needed.

Values are what JSON can hold, as `schemas.generic` tells.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskstream.core.errors import UnknownTask
from taskstream.schemas.framing import Reference, parse
from taskstream.schemas.generic import GenericCodec
from taskstream.schemas.store import find_latest

if TYPE_CHECKING:
    from taskstream.app.app import App


class Payloads:
    """Decodes and encodes the arguments of an app's tasks; keeps one codec for each schema.

    Args:
        app: the app; its schema store is asked for each schema that is met first.
    """

    def __init__(self, app: "App") -> None:
        self._app = app
        self._readers: dict[Reference, GenericCodec] = {}
        self._writers: dict[str, tuple[bytes, GenericCodec]] = {}

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """The arguments in a record's value.

        Raises:
            Undecodable: the value is no framed Avro record, or not what its schema says.
            UnknownSchema: nobody has stored the schema that wrote it.
            BrokerError: the schema store can't be read.
        """
        frame = parse(value)
        codec = self._readers.get(frame.reference)
        if codec is None:
            codec = GenericCodec(self._app.schema_store().get(frame.reference))
            self._readers[frame.reference] = codec
        return codec.decode(frame.body)

    def encode(self, task: str, arguments: Mapping[str, Any]) -> bytes:
        """The value of a record for `task`, written by its newest schema.

        Raises:
            UnknownTask: no schema of that name is known here or stored.
            BadArguments: one is missing, unknown or of the wrong type; names the task and the field.
            BrokerError: the schema store can't be read or written.
        """
        if task not in self._writers:
            self._writers[task] = self._writer(task)
        prefix, codec = self._writers[task]
        return prefix + codec.encode(arguments)

    def _writer(self, task: str) -> tuple[bytes, GenericCodec]:
        known = self._app.find(task)
        store = self._app.schema_store()
        schema = find_latest(store, task) if known is None else known.schema.arguments
        if schema is None:
            raise UnknownTask(
                f"no task {task!r} is known here, and no schema of that name is stored"
            )
        return store.put(schema), GenericCodec(schema)
