"""One run's scene: a fresh app on the real servers, its publisher, its crew, and what strikes them."""

import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer

from taskstream import App, Handle, PublishError
from taskstream.admin.provision import init
from taskstream.broker.sender import Sender
from taskstream.broker.tail import Tail, read_to_end
from taskstream.broker.topics import Topics
from taskstream.consumer.parent import heartbeat
from taskstream.consumer.parent.fence import Fence
from taskstream.core import envelope
from taskstream.core.envelope import Envelope
from taskstream.core.errors import StoreError
from taskstream.core.ids import new_id, time_of
from taskstream.infra.catalogue import Server
from taskstream.infra.faults import ServerHandle
from taskstream.results.row import Row, current
from tests.support.cql import drop_keyspace
from tests.support.eventually import eventually
from tests.support.faults import jobs, journal
from tests.support.faults.crew import Crew, Member
from tests.support.faults.injection import MUTATION
from tests.support.faults.oracle import Expected, Facts, Identity, Strike
from tests.support.faults.workload import Planned
from tests.support.servers import Servers

PARTITIONS = 6
SESSION_TIMEOUT: Mapping[str, float] = {"consumer": 10.0, "classic": 6.0}
"""Seconds after which the broker gives a silent worker's partitions away, by group protocol."""

HOLES = 3
"""How many aborted transactions a run's topics hold."""


@dataclass(slots=True)
class Scene:
    """What a fault finds, and may break.

    Args:
        app: the app, as its publisher has it.
        crew: the workers.
        servers: Kafka and Cassandra.
        chance: all that is left to chance, by the run's seed.
        long: whether faults take as long as they should, or just long enough.
        session: seconds after which a silent worker's partitions go to others.
        directory: where journal and logs lie.
        strikes: what has struck so far.
    """

    app: App
    crew: Crew
    servers: Servers
    chance: random.Random
    long: bool
    session: float
    directory: Path
    strikes: list[Strike] = field(default_factory=list)

    def warm_up(self) -> None:
        """Waits until some worker has done a task: a fault must strike a system that works."""
        task = self.app.find("quick")
        assert task is not None
        task.publish(0).result(timeout=60)

    def pause(self, seconds: float) -> None:
        """Lets time go by: the pace of faults is told in seconds."""
        time.sleep(seconds)

    def struck(self, what: str, *pids: int, over: float | None = None) -> None:
        """Notes a fault of this instant."""
        now = time.time()
        self.strikes.append(Strike(what, now, over or now, frozenset(pids) or None))

    @contextmanager
    def outage(self, what: str) -> Iterator[None]:
        """Notes a fault that lasts as long as the block."""
        began = time.time()
        yield
        self.strikes.append(Strike(what, began, time.time()))

    def busy(self) -> Member:
        """The worker that has started the most tasks in the last second: one that is worth a fault.

        A worker that has just come, or has just been fenced, may own nothing yet.
        """

        def look() -> Member:
            since = time.time() - 1.0
            starts = journal.read(self.directory / "journal").starts
            busiest = Counter(one.parent for one in starts if one.at > since).most_common(1)
            members = [one for one in self.crew.alive if busiest and one.pid == busiest[0][0]]
            assert members, "no worker has started a task in the last second"
            return members[0]

        return eventually(look, timeout=60, every=0.2)

    def server(self, server: Server) -> ServerHandle:
        """That server, to be broken; `mend` brings it back."""
        return self.servers.handle(server)

    def mend(self) -> None:
        """Everything that was broken is there again, and at least one worker."""
        for server in (Server.KAFKA, Server.CASSANDRA):
            handle = self.server(server)
            if handle.pid is None:
                handle.restart()
            else:
                handle.cont()
        self.crew.keep(1)

    def holes(self) -> None:
        """Leaves offsets in every partition that no reader is ever given: an aborted transaction."""
        settings = self.app.settings
        producer = Producer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "transactional.id": f"{self.app.name}-{uuid.uuid4().hex}",
                "transaction.timeout.ms": 5000,
            }
        )
        with suppress(KafkaException):
            producer.init_transactions(10.0)
            producer.begin_transaction()
            for partition in range(PARTITIONS):
                producer.produce(self.app.names.tasks("tasks", "normal"), b"", partition=partition)
            producer.flush(5.0)
            producer.abort_transaction(5.0)

    # What the oracle asks for

    def facts(self, expected: Mapping[str, Expected], exits: Sequence[int], left: int) -> Facts:
        """Everything there is to know of the run."""
        fence = Fence(self.session, heartbeat.EVERY)
        return Facts(
            expected=expected,
            rows=self.rows(list(expected)),
            journal=journal.read(self.directory / "journal"),
            seen=self.crew.watched.seen,
            strikes=self.strikes,
            letters=self._letters(),
            partitions=PARTITIONS,
            left_over=left,
            exits=exits,
            cut_off=fence.cancel_after - fence.commit_again,
        )

    def rows(self, ids: list[str]) -> dict[str, list[Row]]:
        """What the store has of these tasks."""
        store = self.app.result_store()
        assert store is not None

        def read() -> dict[str, list[Row]]:
            try:
                return store.read_many(ids) if ids else {}
            except StoreError as error:
                raise AssertionError(str(error)) from error

        return eventually(lambda: (read(),), timeout=60, every=0.5)[0]

    def wait_until_final(self, ids: Sequence[str], patience: float) -> int:
        """Waits until all of them have ended, or none has for so long; how many have not."""
        left = list(ids)
        until = time.monotonic() + patience
        while left and time.monotonic() < until:
            rows = self.rows(left)
            still = [task_id for task_id in left if not _is_final(rows[task_id])]
            if len(still) < len(left):
                left, until = still, time.monotonic() + patience
            time.sleep(0.3 if left else 0)
        return len(left)

    def wait_until_committed(self, timeout: float) -> int:
        """Waits until no record is above the committed offsets; how many still are after `timeout`.

        Two looks in a row: between those at a delay topic and at a task topic a record may change over.
        What a crash leaves behind, to be done a second time, has been done by then.
        """
        until = time.monotonic() + timeout
        clean = 0
        while clean < 2:
            left = self._left_over()
            clean = 0 if left else clean + 1
            if left and time.monotonic() > until:
                return left
            time.sleep(0.3)
        return 0

    def _left_over(self) -> int:
        """Records above the committed offsets; offsets that hold none don't count."""
        names, settings = self.app.names, self.app.settings
        read = dict.fromkeys(names.delays, names.scheduler_group)
        read |= {
            names.tasks(queue, priority): names.group(queue, priority)
            for queue, priorities in self.app.queues.items()
            for priority in priorities
        }
        left = 0
        with Topics(settings) as topics:
            for topic, group in read.items():
                behind = topics.behind(group, topic).items()
                starts = {place.partition: start for place, (start, end) in behind if start < end}
                left += _count(settings, topic, starts) if starts else 0
        return left

    def _letters(self) -> Counter[Identity]:
        letters: Counter[Identity] = Counter()
        for record in read_to_end(self.app.settings, self.app.names.dead):
            read = envelope.read(record.headers)
            letters[read.id, read.run, read.attempt] += 1
        return letters


class Publisher(threading.Thread):
    """Publishes in a thread of its own, at a steady pace, until it has enough and is told to end.

    Args:
        scene: where.
        tasks: what, in this order; the first tenth of `count` goes out at once.
        count: how many at least.
        seconds: how long that many take.
        broken: how many undecodable records are strewn in.
    """

    def __init__(
        self, scene: Scene, tasks: Iterator[Planned], *, count: int, seconds: float, broken: int
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self._scene = scene
        self._tasks = tasks
        self._count = count
        self._seconds = seconds
        self._broken_at = set(scene.chance.sample(range(count), broken))
        self._enough = threading.Event()
        self._handles: list[tuple[Planned, Handle[Any]]] = []
        self._raw: dict[str, Expected] = {}
        self._failure: BaseException | None = None
        self.refused: Counter[str] = Counter()

    def run(self) -> None:
        """The thread."""
        try:
            self._publish()
        except BaseException as error:  # noqa: BLE001 - raised again by `end`
            self._failure = error

    def end(self) -> None:
        """Ends once there are enough.

        Raises:
            BaseException: what ended it before.
        """
        self._enough.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def expected(self) -> dict[str, Expected]:
        """What Kafka has acknowledged; call it once the thread has ended."""
        self._scene.app.flush()
        acknowledged = dict(self._raw)
        for planned, handle in self._handles:
            try:
                handle.acknowledged(0.1)
            except PublishError as error:
                self._refuse(error)
                continue
            task = self._scene.app.find(planned.task)
            assert task is not None
            value = b"" if planned.state.name == "DEAD" else task.result.encode(planned.result)
            acknowledged[handle.id] = Expected(planned, value, handle.due, time_of(handle.id))
        return acknowledged

    def _publish(self) -> None:
        began, at_once = time.monotonic(), self._count // 10
        holes_at = {at_once * place for place in range(1, HOLES + 1)}
        for planned in self._tasks:
            if planned.number >= self._count and self._enough.is_set():
                return
            if planned.number >= at_once:
                due = began + self._seconds * (planned.number - at_once) / self._count
                time.sleep(max(0.0, due - time.monotonic()))
            if planned.number in holes_at:
                self._scene.holes()
            if planned.number in self._broken_at:
                self._publish_broken(planned.number)
            self._publish_one(planned)

    def _publish_one(self, planned: Planned) -> None:
        task = self._scene.app.find(planned.task)
        assert task is not None
        target = task.options(delay=planned.delay) if planned.delay else task
        try:
            self._handles.append((planned, target.publish_nowait(**planned.arguments)))
        except PublishError as error:
            self._refuse(error)

    def _refuse(self, error: PublishError) -> None:
        self.refused[str(error).rpartition(": ")[2]] += 1

    def _publish_broken(self, number: int) -> None:
        """A record of another producer, whose value is no Avro at all."""
        app, task_id = self._scene.app, new_id()
        sender = Sender(app.settings, client_id="another-producer")

        def done(ack: object, _error: object) -> None:
            if ack is not None:
                self._raw[task_id] = Expected(Planned(number, "undecodable", {}))

        sender.send(
            app.names.tasks("tasks", "normal"),
            b"no avro at all",
            key=task_id.encode(),
            headers=envelope.write(Envelope("quick", id=task_id)),
            on_done=done,
        )
        sender.close(10.0)


@contextmanager
def stage(
    servers: Servers,
    directory: Path,
    *,
    seed: int,
    long: bool,
    protocol: str = "consumer",
    mutation: str = "",
    publisher: Mapping[str, Any] | None = None,
) -> Iterator[Scene]:
    """A scene without workers; all of it goes away with the block.

    Args:
        servers: the running servers.
        directory: for journal, logs and faults.
        seed: of all that is left to chance.
        long: whether faults take as long as they should.
        protocol: of the consumer groups, `consumer` or `classic`.
        mutation: what is broken in the workers; empty for nothing.
        publisher: settings of the publisher's app alone.
    """
    name = f"f{uuid.uuid4().hex[:10]}"
    kafka = {"group.protocol": protocol}
    if protocol == "classic":
        kafka["session.timeout.ms"] = str(int(SESSION_TIMEOUT[protocol] * 1000))
    hosts = servers.require(Server.CASSANDRA)
    settings: dict[str, Any] = {
        "bootstrap_servers": servers.require(Server.KAFKA),
        "cassandra_hosts": hosts,
        "keyspace": name,
        "otlp_endpoint": "",
        "partitions": PARTITIONS,
    }
    environment = {
        jobs.APP: name,
        jobs.KAFKA: json.dumps(kafka),
        journal.JOURNAL: str(directory / "journal"),
        MUTATION: mutation,
        **{f"TASKSTREAM_{key.upper()}": str(value) for key, value in settings.items()},
    }
    # The outages of a loaded machine must not outlast the publisher's patience.
    app = jobs.build(name, **{"publish_timeout": 120.0, **settings, **(publisher or {})})
    init(app)
    app.connect()
    try:
        with Crew("tests.support.faults.jobs:app", directory, environment) as crew:
            scene = Scene(
                app=app,
                crew=crew,
                servers=servers,
                chance=random.Random(seed),
                long=long,
                session=SESSION_TIMEOUT[protocol],
                directory=directory,
            )
            try:
                yield scene
            finally:
                scene.mend()
    finally:
        with Topics(app.settings) as topics:
            topics.delete(topics.names(f"{name}."))
        app.close()
        drop_keyspace(hosts, name)


def _is_final(rows: Sequence[Row]) -> bool:
    last = current(rows)
    return last is not None and last.state.final


def _count(settings: Any, topic: str, starts: Mapping[int, int]) -> int:
    count, until = 0, time.monotonic() + 10.0
    with Tail(settings, topic, starts, partitions=list(starts)) as tail:
        while not tail.reached_end and time.monotonic() < until:
            count += len(tail.take(1000, 0.2))
    return count
