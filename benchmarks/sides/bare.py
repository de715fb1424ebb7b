"""The bare loop: what a team would write by hand, and how little the servers themselves can do it in.

It consumes, decodes, writes and commits the same records that taskstream publishes and rows of the
same columns, with the clients alone: no order, no retries, no look-ups, no crash safety. It gets
nothing from taskstream but its topic, its table and its records, so that it stays as it is while
taskstream changes.
"""

import io
import os
import socket
import struct
import threading
import time
import zlib
from collections import defaultdict
from typing import Any

import fastavro
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from ours import NAME, app, noop
from ours import Side as Publishing
from serving import PATIENCE

from taskstream.broker.topics import Topics, TopicSpec

SHARDS = 8
COLUMNS = (
    "bucket", "shard", "task_id", "run", "attempt", "state", "task", "queue", "priority", "key",
    "worker", "published", "started", "finished", "due", "counts", "value", "error_type", "error",
    "traceback", "trace_id", "source", "strikes",
)  # fmt: skip
TOPIC = app.names.tasks("tasks", "normal")
_SCHEMA = fastavro.parse_schema(
    {"type": "record", "name": "noop", "fields": [{"name": "n", "type": "long"}]}
)
_FRAME = 10
"""Bytes before the Avro body: the mark of a single object and the schema's fingerprint."""


class Side:
    """Raw produce, drains with and without results, and the floor of the latency."""

    def __init__(self) -> None:
        self._publishing = Publishing()
        self._session = _cassandra()
        marks = ", ".join("?" * len(COLUMNS))
        self._insert = self._session.prepare(
            f"INSERT INTO {NAME}.results ({', '.join(COLUMNS)}) VALUES ({marks})"
        )
        self._select = self._session.prepare(
            f"SELECT value FROM {NAME}.results WHERE bucket = ? AND shard = ? AND task_id = ?"
        )
        self._groups = 0
        with Topics(app.settings) as topics:
            topics.create([TopicSpec(f"{NAME}.raw", topics.partitions(TOPIC), -1, {})])

    def publish(self, n: int, size: int = 0) -> None:
        """Taskstream's records, for the drains."""
        self._publishing.publish(n, size)

    def produce(self, n: int, size: int) -> dict[str, float]:
        """So many records of so many bytes, all acknowledged; seconds and CPU on an open connection."""
        producer = Producer(
            {
                "bootstrap.servers": app.settings.bootstrap_servers,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        # Different ones, so that compression does not make one of them all; their copies are far apart.
        values = [os.urandom(size) for _ in range(1000)]
        refused: list[Any] = []

        def reported(error: Any, _message: Message) -> None:
            # Without a report nobody knows whether a record was taken or given up.
            if error is not None:
                refused.append(error)

        produce, topic = producer.produce, f"{NAME}.raw"
        produce(topic, values[0])
        producer.flush(PATIENCE)
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(n):
            produce(topic, values[number % 1000], on_delivery=reported)
            if number % 1000 == 0:
                producer.poll(0)
        if producer.flush(PATIENCE) or refused:
            raise TimeoutError(f"not all acknowledged; the first error: {refused[:1]}")
        return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}

    def record_bytes(self) -> int:
        """How large one of taskstream's records is: key, value and headers."""
        noop.publish(123_456)
        consumer = self._consumer(f"{NAME}.size")
        found = consumer.consume(1, PATIENCE)[0]
        consumer.close()
        headers = found.headers() or []
        return (
            len(found.key() or b"")
            + len(found.value())
            + sum(len(name) + len(value or b"") for name, value in headers)
        )

    def drain(self, n: int, results: bool) -> dict[str, float]:
        """Drains n records by a group of its own; seconds and CPU from the first record on."""
        self._groups += 1
        consumer = self._consumer(f"{NAME}.bare{self._groups}")
        done, started, cpu = 0, 0.0, 0.0
        positions: dict[int, int] = {}
        while done < n:
            records = consumer.consume(min(500, n - done), 0.2)
            if not started and records:
                started, cpu = time.perf_counter(), time.process_time()
            groups: dict[tuple[int, int], list[list[bytes]]] = defaultdict(list)
            for record in records:
                if record.error() is not None:
                    raise RuntimeError(f"Kafka: {record.error()}")
                positions[record.partition()] = record.offset() + 1
                task_id, value = _decoded(record)
                if results:
                    partition = _partition(task_id)
                    groups[partition].append(_row(partition, task_id, value))
            if results:
                self._write(groups)
            if records:
                consumer.commit(offsets=_offsets(positions), asynchronous=True)
            done += len(records)
        consumer.commit(offsets=_offsets(positions), asynchronous=False)
        answer = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        consumer.close()
        return answer

    def floor(self, rate: float, seconds: float) -> dict[str, list[float]]:
        """Publishes one record at a time; seconds until it is consumed, its row written, and read back."""
        consumer = self._consumer(f"{NAME}.floor", latest=True)
        producer = Producer(
            {
                "bootstrap.servers": app.settings.bootstrap_servers,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
            }
        )
        producer.produce(f"{NAME}.raw", b"opens the connection")
        producer.flush(PATIENCE)
        count = round(rate * seconds)

        def send() -> None:
            started = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
                producer.produce(TOPIC, struct.pack("<d", time.time()), str(number))
                producer.poll(0)
            producer.flush(PATIENCE)

        found: dict[str, list[float]] = {"consumed": [], "written": [], "read": []}
        sender = threading.Thread(target=send)
        sender.start()
        while len(found["read"]) < count:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error() is not None:
                raise RuntimeError(f"Kafka: {record.error()}")
            (published,) = struct.unpack("<d", record.value())
            found["consumed"].append(time.time() - published)
            task_id = f"{time.time_ns() // 1_000_000:012x}{len(found['read']):08x}"
            partition = _partition(task_id)
            self._write({partition: [_row(partition, task_id, b"1")]})
            found["written"].append(time.time() - published)
            self._session.execute(self._select, (*partition, task_id))
            found["read"].append(time.time() - published)
        sender.join()
        consumer.close()
        return found

    def reset(self) -> None:
        """Each drain has a group of its own."""

    def close(self) -> None:
        """Removes topics and keyspace."""
        self._session.cluster.shutdown()
        self._publishing.close()

    def _consumer(self, group: str, *, latest: bool = False) -> Consumer:
        """A member that has its partitions already."""
        consumer = Consumer(
            {
                "bootstrap.servers": app.settings.bootstrap_servers,
                "group.id": group,
                "group.protocol": "consumer",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 10,
            }
        )
        with Topics(app.settings) as topics:
            partitions = topics.partitions(TOPIC)
            if latest:
                ends = topics.end_offsets(TOPIC)
                consumer.commit(
                    offsets=[
                        TopicPartition(place.topic, place.partition, end)
                        for place, end in ends.items()
                    ],
                    asynchronous=False,
                )
        consumer.subscribe([TOPIC])
        give_up_at = time.monotonic() + PATIENCE
        while len(consumer.assignment()) < partitions:
            record = consumer.poll(0.05)
            if record is not None:
                # It came with the assignment: back to where it was.
                consumer.seek(TopicPartition(record.topic(), record.partition(), record.offset()))
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"group {group} was given no partitions")
        return consumer

    def _write(self, groups: dict[tuple[int, int], list[list[bytes]]]) -> None:
        from cassandra.query import BatchStatement, BatchType, BoundStatement

        under_way = []
        for rows in groups.values():
            batch = BatchStatement(BatchType.UNLOGGED)
            for row in rows:
                bound = BoundStatement(self._insert)
                bound.values = row
                batch.add(bound)
            under_way.append(self._session.execute_async(batch))
        for request in under_way:
            request.result()


def _cassandra() -> Any:
    from cassandra import ConsistencyLevel
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile

    host, _, port = app.settings.cassandra_hosts.split(",")[0].partition(":")
    profile = ExecutionProfile(consistency_level=ConsistencyLevel.LOCAL_QUORUM)
    return Cluster(
        [host],
        port=int(port or 9042),
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    ).connect()


def _offsets(positions: dict[int, int]) -> list[TopicPartition]:
    return [TopicPartition(TOPIC, partition, offset) for partition, offset in positions.items()]


def _decoded(record: Message) -> tuple[str, bytes]:
    task_id = next(value for name, value in record.headers() if name == "ts-id").decode()
    arguments = fastavro.schemaless_reader(io.BytesIO(record.value()[_FRAME:]), _SCHEMA, None)
    return task_id, str(arguments["n"]).encode()


def _partition(task_id: str) -> tuple[int, int]:
    """The minute of a UUIDv7, and one of its shards."""
    milliseconds = int(task_id.replace("-", "")[:12], 16)
    return milliseconds // 60_000, zlib.crc32(task_id.encode()) % SHARDS


def _row(partition: tuple[int, int], task_id: str, value: bytes) -> list[bytes]:
    now = struct.pack(">q", time.time_ns() // 1_000_000)
    return [
        struct.pack(">i", partition[0]), struct.pack(">h", partition[1]), task_id.encode(),
        b"\0\0\x03\xe8", b"\0\0\0\1", b"succeeded", b"noop", b"tasks", b"normal", b"", b"bare-loop",
        now, now, now, b"", b"\1", value, b"", b"", b"", b"", TOPIC.encode(), b"\0\0\0\0",
    ]  # fmt: skip
