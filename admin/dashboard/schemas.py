"""The pages of the schemas: the newest of each record, and its versions with what each one changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.schemas.changes import changes, type_in_words
from taskstream.schemas.evolve import compatible
from taskstream.schemas.schema import Schema

if TYPE_CHECKING:
    from taskstream.schemas.store import SchemaStore


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record's schema.

    Args:
        name: its name.
        type: its type in words.
        default: its default as JSON has it; None where it must be given.
        doc: what it is for.
    """

    name: str
    type: str
    default: str | None
    doc: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a schema.

    Args:
        number: 1 for the oldest that is stored.
        fingerprint: hex digits.
        fields: its fields.
        pretty: the schema as indented JSON.
        changed: what it changed, in words; empty for the oldest, or where nothing did that anybody notices.
        trouble: why what it wrote can't all be read by the newest one; empty where it can.
        here: whether the code of this process has it.
    """

    number: int
    fingerprint: str
    fields: tuple[Field, ...]
    pretty: str
    changed: tuple[str, ...]
    trouble: tuple[str, ...]
    here: bool


@dataclass(frozen=True, slots=True)
class SchemaView:
    """The schema of one record.

    Args:
        name: the record's name: a task's, or that of a task's result.
        versions: those that are stored, the newest first.
        here: how the code of this process stands to the newest: "same", "differs", or "" where it has no
            such task.
    """

    name: str
    versions: tuple[Version, ...]
    here: str

    @property
    def newest(self) -> Version:
        """The version that was stored last."""
        return self.versions[0]


def schema_view(stored: Sequence[Schema], ours: Schema | None) -> SchemaView:
    """One schema with its history, beside that of the code that runs here.

    Args:
        stored: its versions, the oldest first; at least one.
        ours: what the code of this process has; None where it has none.
    """
    newest = stored[-1]
    before = (None, *stored)
    versions = [
        _version(number, schema, earlier, newest, ours)
        for number, (earlier, schema) in enumerate(zip(before, stored, strict=False), 1)
    ]
    return SchemaView(
        name=newest.name,
        versions=tuple(reversed(versions)),
        here="" if ours is None else "same" if ours.meaning == newest.meaning else "differs",
    )


def _version(
    number: int, schema: Schema, before: Schema | None, newest: Schema, ours: Schema | None
) -> Version:
    record = schema.full if isinstance(schema.full, dict) else {}
    return Version(
        number=number,
        fingerprint=schema.fingerprint.hex(),
        fields=tuple(_field(field) for field in record.get("fields", ())),
        pretty=json.dumps(schema.full, indent=2, ensure_ascii=False),
        changed=() if before is None else tuple(changes(before, schema)),
        trouble=tuple(compatible(newest, schema)),
        here=ours is not None and ours.meaning == schema.meaning,
    )


def _field(field: Mapping[str, Any]) -> Field:
    default = json.dumps(field["default"], ensure_ascii=False) if "default" in field else None
    return Field(field["name"], type_in_words(field["type"]), default, str(field.get("doc", "")))


class Schemas:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def index(self, request: Request) -> Response:
        """All stored schemas."""

        def look() -> str:
            store = self._shell.app.schema_store()
            store.refresh()
            views = (self._view(store, name) for name in store.names())
            found = [view for view in views if view is not None]
            return render("parts/schemas.html", schemas=found, **self._shell.visitor(request))

        return self._shell.streamed(request, "schemas.html", "Schemas", look)

    async def one(self, request: Request) -> Response:
        """One stored schema, with its versions."""
        name = request.path_params["name"]
        view = await aside(lambda: self._view(self._shell.app.schema_store(), name))
        title, status = (f"Schema {name}", 200) if view is not None else ("No such schema", 404)
        return self._shell.page(
            request, "schema.html", title, status=status, schema=view, wanted=name
        )

    def _view(self, store: "SchemaStore", name: str) -> SchemaView | None:
        stored = store.versions(name)
        task = self._shell.app.find(name)
        if not stored:
            return None
        return schema_view(stored, None if task is None else task.schema.arguments)
