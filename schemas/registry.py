"""A Schema Registry that speaks Confluent's API (Confluent, Karapace, Apicurio's compatible one).

Subject = record name, so a task has one history of versions, whatever topics carry it. What was
read once is kept: ids never change their schema.
"""

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from taskstream.core.errors import (
    ConfigError,
    MissingExtra,
    SchemaConflict,
    SchemaError,
    UnknownSchema,
)
from taskstream.core.secrets import HIDDEN
from taskstream.schemas.framing import Reference, RegistryId
from taskstream.schemas.schema import Schema
from taskstream.schemas.store import refuse_conflict

if TYPE_CHECKING:
    import httpx

_TIMEOUT = 10.0
_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND, _INCOMPATIBLE = 404, 409


class RegistrySchemas:
    """A `SchemaStore` in a registry.

    Args:
        url: where the API starts; a name and password in it are sent as basic authentication.
        transport: takes the requests instead of the network.

    Raises:
        MissingExtra: the HTTP client is not installed.
        ConfigError: it is no URL.
    """

    def __init__(self, url: str, transport: "httpx.BaseTransport | None" = None) -> None:
        try:
            import httpx  # noqa: PLC0415 - of an extra
        except ImportError as error:
            raise MissingExtra("a Schema Registry", "registry") from error
        _check_url(url)
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport)
        self._failure = httpx.HTTPError
        self._lock = threading.Lock()
        self._by_id: dict[int, Schema] = {}
        self._prefixes: dict[str, bytes] = {}

    def put(self, schema: Schema) -> bytes:
        """Registers a schema under its record's name, unless it is there.

        Returns what stands before a body that it wrote.
        """
        with self._lock:
            prefix = self._prefixes.get(schema.text)
            if prefix is None:
                prefix = self._prefixes[schema.text] = self._register(schema)
            return prefix

    def put_all(self, schemas: Sequence[Schema]) -> list[bytes]:
        """`put` for many, one after the other: the registry takes them one by one."""
        return [self.put(schema) for schema in schemas]

    def get(self, reference: Reference) -> Schema:
        """The schema that a value names."""
        if not isinstance(reference, RegistryId):
            raise UnknownSchema(
                f"{reference} is that of a schema topic, and this app uses a Schema Registry"
            )
        # Without the lock: this is asked for every record, and nearly always known.
        schema = self._by_id.get(reference.value)
        if schema is None:
            found = self._ask("GET", f"/schemas/ids/{reference.value}")
            if found is None:
                raise UnknownSchema(f"the Schema Registry has no schema with {reference}")
            schema = self._by_id[reference.value] = self._schema_in(found)
        return schema

    def latest(self, name: str) -> Schema | None:
        """The last version of that record name."""
        found = self._ask("GET", f"/subjects/{quote(name, safe='')}/versions/latest")
        return None if found is None else self._schema_in(found)

    def versions(self, name: str) -> list[Schema]:
        """All versions of that record name, the oldest first; asked for one by one."""
        path = f"/subjects/{quote(name, safe='')}/versions"
        numbers = self._ask("GET", path) or []
        if not isinstance(numbers, list):
            raise SchemaError(f"the Schema Registry answered {numbers!r}, which are no versions")
        found = (self._ask("GET", f"{path}/{number}") for number in numbers)
        # One that was deleted meanwhile is no version any more.
        return [self._schema_in(answer) for answer in found if answer is not None]

    def names(self) -> list[str]:
        """All subjects, in order of the alphabet."""
        return sorted(self._ask("GET", "/subjects") or [])

    def refresh(self) -> None:
        """Nothing is kept that could grow old."""

    def close(self) -> None:
        """Closes the connections; safe to call again."""
        self._client.close()

    def _register(self, schema: Schema) -> bytes:
        stored = self.latest(schema.name)
        if stored is not None:
            refuse_conflict(schema, stored)
        path = f"/subjects/{quote(schema.name, safe='')}/versions"
        answer = self._ask("POST", path, {"schema": schema.text})
        try:
            return RegistryId(int(answer["id"])).prefix
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SchemaError(f"the Schema Registry answered {answer!r}, without an id") from error

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        """The JSON answer; None where there is no such thing."""
        body = None if content is None else json.dumps(content)
        try:
            response = self._client.request(
                method, path, content=body, headers={"Content-Type": _TYPE, "Accept": _TYPE}
            )
        except self._failure as error:
            raise SchemaError(
                f"the Schema Registry at {self._address} can't be reached: {error}"
            ) from error
        if response.status_code == _NOT_FOUND:
            return None
        if response.status_code == _INCOMPATIBLE:
            raise SchemaConflict(
                f"the Schema Registry at {self._address} refused {method} {path}: {response.text}; "
                "a new parameter needs a default, and a type can only be widened"
            )
        try:
            response.raise_for_status()
            return response.json()
        except (self._failure, ValueError) as error:
            raise SchemaError(
                f"the Schema Registry at {self._address} answered {response.status_code} to "
                f"{method} {path}: {response.text[:500]}"
            ) from error

    @property
    def _address(self) -> str:
        url = self._client.base_url
        return f"{url.host}:{url.port}" if url.port else url.host

    def _schema_in(self, answer: Any) -> Schema:
        try:
            text = answer["schema"]
        except (KeyError, TypeError) as error:
            raise SchemaError(
                f"the Schema Registry answered {answer!r}, without a schema"
            ) from error
        return Schema.parse(text)


def _check_url(url: str) -> None:
    # The client finds out at its first request only.
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable:
        # What is no address may have its password anywhere before its host.
        told = f"{HIDDEN}@{url.rpartition('@')[2]}" if "@" in url else url
        raise ConfigError(
            f"schema_registry_url={told!r} is no address: write http://host:port/path"
        )
