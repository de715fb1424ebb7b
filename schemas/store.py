"""What a schema store can do: the protocol of the schema topic, the registry and the embedded file.

`tests/contract/test_schema_store.py` is what an implementation must pass. Three outcomes of a
look-up must be told apart, because a worker does something else for each: found; not there (a
rolling deploy may bring it: UnknownSchema); could not be asked (it waits: any other SchemaError,
or BrokerError).
"""

from collections.abc import Sequence
from typing import Protocol

from taskstream.core.errors import SchemaConflict
from taskstream.schemas.framing import Reference
from taskstream.schemas.schema import Schema


class SchemaStore(Protocol):
    """Where schemas are kept. Methods block and may be called from any thread."""

    def put(self, schema: Schema) -> bytes:
        """Stores a schema, unless it is there.

        Returns:
            What stands before a body that it wrote.

        Raises:
            SchemaConflict: a stored schema has this fingerprint and another meaning, or the
                store doesn't take this version beside the earlier ones.
            SchemaError: the store refused, or can't be asked.
            BrokerError: the schema topic can't be read or written.
        """
        ...

    def put_all(self, schemas: Sequence[Schema]) -> list[bytes]:
        """`put` for many at once; where one is refused, others may be stored already."""
        ...

    def get(self, reference: Reference) -> Schema:
        """The schema that a value names; asks again before it gives up on one it doesn't know.

        Raises:
            UnknownSchema: it is not stored.
            SchemaError: the store can't be asked.
            BrokerError: the schema topic can't be read.
        """
        ...

    def latest(self, name: str) -> Schema | None:
        """The schema of that record name that was stored last; None where there is none.

        What others stored lately may be missing until `refresh`, but no name is.
        """
        ...

    def versions(self, name: str) -> list[Schema]:
        """All schemas of that record name that are stored, the oldest first; empty where there is none.

        The last of them is `latest`. Texts of one fingerprint that differ in what only readers use count
        once, as they were stored last.
        """
        ...

    def names(self) -> list[str]:
        """The names of all stored records, in order of the alphabet."""
        ...

    def refresh(self) -> None:
        """Reads what others have stored since."""
        ...

    def close(self) -> None:
        """Releases connections; safe to call again."""
        ...


def refuse_conflict(schema: Schema, stored: Schema) -> None:
    """Raises SchemaConflict where bytes of the one would pass for bytes of the other, and differ."""
    if schema.fingerprint == stored.fingerprint and schema.meaning != stored.meaning:
        raise SchemaConflict(
            f"schema {schema.name}: the stored schema with the same fingerprint "
            f"({schema.fingerprint.hex()}) means something else: fingerprints leave logical types "
            "out, so a reader could not tell the two apart (a decimal's scale, say). Rename the "
            f"parameter whose type changed. Stored: {stored.text} New: {schema.text}"
        )


def find_latest(store: SchemaStore, name: str) -> Schema | None:
    """`SchemaStore.latest`, having read what others have stored since where there seems to be none."""
    schema = store.latest(name)
    if schema is None:
        store.refresh()
        schema = store.latest(name)
    return schema
