"""Which schema wrote a value: the task's own nearly always, else one from the schema store."""

from typing import Any

from taskstream.app.task import Task
from taskstream.schemas.framing import Fingerprint, Reference, parse
from taskstream.schemas.schema import Schema
from taskstream.schemas.store import SchemaStore


class Writers:
    """Decodes arguments by the schema that wrote them. For one thread."""

    def __init__(self, store: SchemaStore) -> None:
        self._store = store
        self._own: dict[str, bytes] = {}
        self._known: dict[Reference, Schema] = {}

    def decode(self, task: Task[..., Any], value: bytes | None) -> dict[str, Any]:
        """The arguments in a record's value.

        Raises:
            Undecodable: the bytes are not what their schema says.
            UnknownSchema: the store has no schema for them, having just been read to its end.
            BrokerError, SchemaError: the store can't be read.
        """
        own = self._own.get(task.name)
        if own is None:
            own = self._own[task.name] = Fingerprint(task.schema.arguments.fingerprint).prefix
        if value is not None and value.startswith(own):
            return task.arguments.decode(value[len(own) :])
        frame = parse(value)
        if frame.reference not in self._known:
            self._known[frame.reference] = self._store.get(frame.reference)
        return task.arguments.decode(frame.body, self._known[frame.reference])
