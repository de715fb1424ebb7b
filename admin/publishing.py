"""Publishing from text: one JSON object of arguments for each task.

What JSON has no form for (times, UUIDs, decimals, bytes) is written as text, as
`schemas.generic` tells.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from queue import Queue
from typing import TYPE_CHECKING, Any

from taskstream.core.errors import BadArguments

if TYPE_CHECKING:
    from taskstream.app.app import App
    from taskstream.app.handle import Handle

UNDER_WAY = 10_000
"""How many tasks may wait for their acknowledgement."""


def publish_lines(
    app: "App", task: str, lines: Iterable[str], options: Mapping[str, Any]
) -> Iterator[str]:
    """Publishes one task for each line, and gives their ids in order, each once it is acknowledged.

    A slow source of lines is no hindrance: each line is sent when it comes.

    Args:
        app: the app.
        task: the task's name.
        lines: JSON objects; empty lines are passed over.
        options: as for `Task.options`.

    Raises:
        BadArguments: a line can't be published; names it. What came before it was published.
        PublishError: Kafka did not take a task.
    """
    under_way: Queue[Handle[Any] | BaseException | None] = Queue(UNDER_WAY)

    def send() -> None:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    under_way.put(publish_line(app, task, line, options, f"line {number}: "))
        except BaseException as error:  # noqa: BLE001 - raised where the caller is
            under_way.put(error)
        else:
            under_way.put(None)

    # A daemon: it may be waiting for a line that never comes when the caller is interrupted.
    threading.Thread(target=send, name="taskstream-publish", daemon=True).start()
    while (sent := under_way.get()) is not None:
        if isinstance(sent, BaseException):
            raise sent
        sent.acknowledged()
        yield sent.id


def publish_line(
    app: "App", task: str, line: str, options: Mapping[str, Any], where: str = ""
) -> "Handle[Any]":
    """Publishes one task; back as soon as it is on its way.

    Args:
        app: the app.
        task: the task's name.
        line: a JSON object of arguments.
        options: as for `Task.options`.
        where: what an error starts with.

    Raises:
        BadArguments: the line can't be published.
        PublishError: Kafka can't be reached.
    """
    try:
        return app.publish_nowait(task, _typed(app, task, json_object(task, line)), **options)
    except BadArguments as error:
        raise BadArguments(f"{where}{error}") from error


def json_object(task: str, line: str) -> dict[str, Any]:
    """A task's arguments from a JSON object. Raises BadArguments."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise BadArguments(f"task {task}: the arguments are not JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadArguments(f"task {task}: the arguments must be a JSON object, not {line.strip()}")
    return values


def _typed(app: "App", name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values from JSON as the task's own types, where its code is here; else as they are."""
    task = app.find(name)
    if task is None:
        return values
    from taskstream.schemas.generic import GenericCodec  # noqa: PLC0415 - loads the Avro library

    schema = task.schema.arguments
    return task.arguments.decode(GenericCodec(schema).encode(values), schema)
