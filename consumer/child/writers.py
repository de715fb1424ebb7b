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
        self._known: dict[tuple[str, Reference], Schema | None] = {}

    def decode(self, task: Task[..., Any], value: bytes | None) -> dict[str, Any]:
        """The arguments in a record's value.

        Raises:
            Undecodable: the bytes are not what their schema says.
            UnknownSchema: the store has no schema for them, having just been read to its end.
            BrokerError, SchemaError: the store can't be read.
        """
        frame = parse(value)
        key = (task.name, frame.reference)
        if key not in self._known:
            own = frame.reference == Fingerprint(task.schema.arguments.fingerprint)
            self._known[key] = None if own else self._store.get(frame.reference)
        return task.arguments.decode(frame.body, self._known[key])
