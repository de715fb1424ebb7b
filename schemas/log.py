"""A schema store over an ordered log of schema texts: the schema topic, or the embedded file.

Invariant: for one fingerprint the first meaning wins, for all who read the same log, so nobody
reads 12.00 where 0.12 was written. A later text of the same meaning (another default) takes over.
"""

import threading
from collections.abc import Sequence
from typing import Protocol

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import UnknownSchema
from taskstream.schemas.framing import Fingerprint, Reference
from taskstream.schemas.schema import Schema
from taskstream.schemas.store import refuse_conflict

_MISS_HOLDS = 1.0  # seconds that a schema which was just looked for stays unknown


class SchemaLog(Protocol):
    """Where the texts stand. Raises SchemaError or BrokerError where it can't be used."""

    def read(self) -> list[Schema]:
        """All schemas up to the end as it stands now, oldest first."""
        ...

    def append(self, schemas: Sequence[Schema]) -> None:
        """Adds some; back when all are safe."""
        ...

    def close(self) -> None:
        """Releases connections; safe to call again."""
        ...


class Catalogue:
    """What has been read of a log."""

    def __init__(self) -> None:
        self._by_fingerprint: dict[bytes, Schema] = {}
        # By fingerprint, the one that was stored last at the end.
        self._by_name: dict[str, dict[bytes, Schema]] = {}

    def add(self, schema: Schema) -> None:
        """The next schema of the log; passed over if its fingerprint already means something else."""
        first = self._by_fingerprint.get(schema.fingerprint, schema)
        if first.meaning == schema.meaning:
            self._by_fingerprint[schema.fingerprint] = schema
            versions = self._by_name.setdefault(schema.name, {})
            versions.pop(schema.fingerprint, None)
            versions[schema.fingerprint] = schema

    def find(self, fingerprint: bytes) -> Schema | None:
        """The schema of that fingerprint."""
        return self._by_fingerprint.get(fingerprint)

    def latest(self, name: str) -> Schema | None:
        """The last schema of that name."""
        versions = self.versions(name)
        return versions[-1] if versions else None

    def versions(self, name: str) -> list[Schema]:
        """All schemas of that name, the last one at the end."""
        return list(self._by_name.get(name, {}).values())

    def names(self) -> list[str]:
        """All names, in order of the alphabet."""
        return sorted(self._by_name)


class LoggedSchemas:
    """A `SchemaStore` over a log.

    Args:
        log: where the texts stand.
        clock: keeps a flood of values with an unknown schema from reading the log for each.
    """

    def __init__(self, log: SchemaLog, clock: Clock = SYSTEM_CLOCK) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.RLock()
        self._catalogue: Catalogue | None = None
        self._missed: dict[bytes, float] = {}

    def put(self, schema: Schema) -> bytes:
        """Stores a schema, unless it is there; returns what stands before its bodies."""
        return self.put_all([schema])[0]

    def put_all(self, schemas: Sequence[Schema]) -> list[bytes]:
        """`put` for many, with one write and one look for all of them."""
        with self._lock:
            missing = []
            for schema in schemas:
                stored = self._known().find(schema.fingerprint)
                if stored is None or stored.text != schema.text:
                    if stored is not None:
                        refuse_conflict(schema, stored)
                    missing.append(schema)
            if missing:
                self._log.append(missing)
                self.refresh()
            for schema in missing:
                self._check_first(schema)
            return [Fingerprint(schema.fingerprint).prefix for schema in schemas]

    def _check_first(self, schema: Schema) -> None:
        first = self._known().find(schema.fingerprint)
        if first is not None and first.meaning != schema.meaning:
            # Somebody stored another meaning between our look and our write. A compacted topic
            # keeps the last text of a key, which must not be ours: nothing is written by it.
            self._log.append([first])
            refuse_conflict(schema, first)

    def get(self, reference: Reference) -> Schema:
        """The schema that a value names."""
        if not isinstance(reference, Fingerprint):
            raise UnknownSchema(
                f"{reference} is that of a Schema Registry, and none is configured: set "
                "schema_registry_url"
            )
        # Without the lock: this is asked for every record, and nearly always known.
        catalogue = self._catalogue
        schema = None if catalogue is None else catalogue.find(reference.value)
        return schema or self._looked_up(reference)

    def latest(self, name: str) -> Schema | None:
        """The last schema of that name; the log is read again before it is called unknown."""
        with self._lock:
            schema = self._known().latest(name)
            if schema is None:
                self.refresh()
                schema = self._known().latest(name)
            return schema

    def versions(self, name: str) -> list[Schema]:
        """All schemas of that name, the oldest first."""
        return self._known().versions(name)

    def names(self) -> list[str]:
        """The names of all stored records, in order of the alphabet."""
        return self._known().names()

    def refresh(self) -> None:
        """Reads the log to its end."""
        with self._lock:
            catalogue = Catalogue()
            for schema in self._log.read():
                catalogue.add(schema)
            self._catalogue = catalogue
            self._missed.clear()

    def close(self) -> None:
        """Releases connections; safe to call again."""
        self._log.close()

    def _known(self) -> Catalogue:
        with self._lock:
            if self._catalogue is None:
                self.refresh()
            assert self._catalogue is not None
            return self._catalogue

    def _looked_up(self, reference: Fingerprint) -> Schema:
        with self._lock:
            now = self._clock.monotonic()
            if now >= self._missed.get(reference.value, now):
                self.refresh()
            schema = self._known().find(reference.value)
            if schema is not None:
                return schema
            self._missed[reference.value] = now + _MISS_HOLDS
        raise UnknownSchema(f"no stored schema has {reference}: was it published by another app?")
