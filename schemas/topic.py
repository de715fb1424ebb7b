"""The schema topic: schema texts in Kafka itself, so that no further server is needed.

Compacted, keyed by the fingerprint's hex digits, the value is the schema's JSON text: any client
in any language can read it and decode a task.
"""

from collections.abc import Sequence

from taskstream.broker.sender import Ack, Sender
from taskstream.broker.tail import read_to_end
from taskstream.core.errors import BrokerError, SchemaError
from taskstream.core.settings import Settings
from taskstream.schemas.schema import Schema

_CLIENT = "taskstream-schemas"


class TopicLog:
    """A `SchemaLog` in a topic.

    Args:
        settings: where Kafka is; `publish_timeout` bounds a read and a write.
        topic: the schema topic.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic

    def read(self) -> list[Schema]:
        """All schemas in the topic, oldest first.

        Raises:
            BrokerError: it can't be read.
        """
        records = read_to_end(
            self._settings, self._topic, timeout=self._settings.publish_timeout, client_id=_CLIENT
        )
        records.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
        schemas = []
        for record in records:
            # Whatever else somebody wrote there must not stop those who know what they look for.
            try:
                schemas.append(Schema.parse(record.value or b""))
            except SchemaError:
                continue
        return schemas

    def append(self, schemas: Sequence[Schema]) -> None:
        """Adds some; back when Kafka has acknowledged them all.

        Raises:
            BrokerError: Kafka refused, or did not acknowledge in time.
        """
        failures: list[BrokerError] = []

        def on_done(_ack: Ack | None, error: BrokerError | None) -> None:
            if error is not None:
                failures.append(error)

        # A client of its own each time: a process stores a few schemas and then no more.
        sender = Sender(self._settings, client_id=_CLIENT)
        try:
            for schema in schemas:
                key = schema.fingerprint.hex().encode()
                sender.send(self._topic, schema.text.encode(), key=key, headers=(), on_done=on_done)
        finally:
            # What has no report by then is reported as failed.
            sender.close(self._settings.publish_timeout)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Nothing is held open."""
