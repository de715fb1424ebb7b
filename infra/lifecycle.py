"""Up, down and status: the story of the local servers from the first start to the last stop.

`up` starts what is not up, all at once, each in a thread of its own, and waits until each answers
its own protocol. Each server is written to the state file the moment it runs, so that whatever
interrupts `up`, `down` still finds it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import DEFAULT_SERVERS, Server, WayName
from taskstream.infra.containers import Containers, docker_answers
from taskstream.infra.locks import exclusive
from taskstream.infra.probes import ailment
from taskstream.infra.processes import Processes, last_words, memory_of
from taskstream.infra.progress import Listener, Progress, Stage, nobody
from taskstream.infra.settings import ServerSettings
from taskstream.infra.state import LocalState, Record, read_state, state_file, write_state

START_TIMEOUT = 180.0
"""Seconds from a server's start to its first answer; a laptop needs ten, a loaded CI machine more."""

_LOOK_EVERY = 0.1


class Way(Protocol):
    """How servers are started and stopped: as processes or as containers."""

    @property
    def name(self) -> WayName:
        """Which way it is, as the state file calls it."""
        ...

    def start(
        self, server: Server, settings: ServerSettings, listen: Listener, *, node: int = 1
    ) -> Record:
        """Starts that node of it and returns at once."""
        ...

    def stop(self, records: Sequence[Record], settings: ServerSettings, listen: Listener) -> None:
        """Stops those servers and returns when they are gone."""
        ...

    def wipe(self, settings: ServerSettings) -> None:
        """Deletes their data, and nothing else."""
        ...


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known of one server at this moment.

    Args:
        server: its name.
        version: its version.
        address: where clients reach it.
        pid: its process; None when it is gone or out of sight.
        memory: resident memory in bytes; None likewise.
        healthy: whether it answers its own protocol.
        log: its log file, or the command that shows its log.
        ailment: what is wrong, in a few words; empty when healthy.
    """

    server: Server
    version: str
    address: str
    pid: int | None
    memory: int | None
    healthy: bool
    log: str
    ailment: str = ""

    def as_json(self) -> dict[str, Any]:
        """The status as `status --json` shows it."""
        return asdict(self)


def up(
    settings: ServerSettings,
    servers: Sequence[Server] = DEFAULT_SERVERS,
    *,
    timeout: float = START_TIMEOUT,
    listen: Listener = nobody,
    clock: Clock = SYSTEM_CLOCK,
) -> tuple[ServerStatus, ...]:
    """Starts those of the servers that are not up, and waits until all of them answer.

    What is up stays as it is, on the ports that it was started with, whatever the settings say: of
    a server that is up with some of its nodes, the others are started as they were before.

    Args:
        settings: for what must be started.
        servers: which ones.
        timeout: seconds that a started server has until its first answer; fetching doesn't count.
        listen: told how far each server is.
        clock: measures the timeout.

    Returns:
        The status of the servers asked for.

    Raises:
        ServerError: some did not come up: one line for each. The others stay up.
    """
    with _alone(settings.data_dir, servers, listen):
        start = _Start(settings, timeout=timeout, listen=listen, clock=clock)
        errors: list[str] = []

        def bring_up(server: Server) -> None:
            try:
                start.bring_up(server)
            except ServerError as error:
                errors.append(str(error))
                listen(Progress(server, Stage.FAILED, str(error)))

        with ThreadPoolExecutor(max_workers=len(servers) or 1) as threads:
            try:
                for wave in waves(servers, settings):
                    for done in [threads.submit(bring_up, server) for server in wave]:
                        done.result()
            except BaseException:
                # An interrupt from the keyboard: the threads must not wait on for minutes.
                start.interrupted.set()
                raise
        if errors:
            raise ServerError("\n".join(errors))
        return _look_at([record for record in start.state.records if record.server in servers])


def waves(servers: Sequence[Server], settings: ServerSettings) -> list[list[Server]]:
    """Which servers start together; those of a later wave need one of an earlier."""
    later = {Server.JAEGER} if settings.jaeger_storage == "cassandra" else set()
    first, second = (
        [server for server in servers if (server in later) is is_later]
        for is_later in (False, True)
    )
    return [wave for wave in (first, second) if wave]


def down(
    settings: ServerSettings, *, wipe: bool = False, listen: Listener = nobody
) -> tuple[Server, ...]:
    """Stops exactly what `up` started there.

    Args:
        settings: says which data directory.
        wipe: also delete the servers' data.
        listen: told how far each server is.

    Returns:
        The servers that were recorded as started, dead ones included.

    Raises:
        ServerError: the state can't be read, or something would not stop.
    """
    if not settings.data_dir.exists():
        return ()
    with _alone(settings.data_dir, (), listen):
        state = read_state(settings.data_dir)
        way = _WAYS[state.way or WayName.PROCESSES]()
        if state.records:
            way.stop(state.records, settings, listen)
        left = [record for record in state.records if record.alive()]
        write_state(settings.data_dir, LocalState(way=state.way, records=tuple(left)))
        if left:
            names = ", ".join(f"{record.name} (pid {record.pid})" for record in left)
            raise ServerError(
                f"these would not stop: {names}; stop them by hand, then run `taskstream down` again"
            )
        if wipe:
            way.wipe(settings)
            state_file(settings.data_dir).unlink(missing_ok=True)
        return tuple(record.server for record in state.records)


def status(settings: ServerSettings) -> tuple[ServerStatus, ...]:
    """What `up` started there and how it is; servers that were never started are not in it.

    Raises:
        ServerError: the state can't be read.
    """
    return _look_at(read_state(settings.data_dir).records)


def start_again(
    record: Record, *, timeout: float = START_TIMEOUT, listen: Listener = nobody
) -> Record:
    """Starts a server of the state file that died, as it was started before, and waits for its answer.

    Raises:
        ServerError: it did not come up.
    """
    server = record.server
    with _alone(record.settings.data_dir, (server,), listen):
        start = _Start(record.settings, timeout=timeout, listen=listen)
        return start.bring_up_node(server, record.node, record.settings)


class _Start:
    """One run of `up` in one data directory, shared by its threads.

    The state file is written under the lock that orders the threads; other processes are kept
    out by the lock on the directory, which the caller holds.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        timeout: float,
        listen: Listener,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.state = read_state(settings.data_dir)
        self.interrupted = threading.Event()
        self._settings = settings
        self._timeout = timeout
        self._listen = listen
        self._clock = clock
        self._lock = threading.Lock()
        self._way = _way_for(self.state, settings.way)

    def bring_up(self, server: Server) -> None:
        """Starts the server's nodes where they are not up, each once the one before it answers."""
        alive = [one for one in self.state.records if one.server is server and one.alive()]
        settings = alive[0].settings if alive else self._settings
        with self._lock:
            # What the file still says of a larger cluster that died.
            self.state = self.state.without_other_nodes(server, settings.nodes_of(server))
        for node in settings.nodes_of(server):
            self.bring_up_node(server, node, settings)

    def bring_up_node(self, server: Server, node: int, settings: ServerSettings) -> Record:
        """Starts the node where it is not up, and waits until it answers."""
        record = self.state.find(server, node)
        was_up = record is not None and record.alive()
        if record is None or not was_up:
            record = self._way.start(server, settings, self._listen, node=node)
            self._remember(record)
        self._wait_for_answer(record)
        self._listen(
            Progress(server, Stage.WAS_UP if was_up else Stage.ANSWERS, f"at {record.address}")
        )
        return record

    def _remember(self, record: Record) -> None:
        with self._lock:
            self.state = replace(self.state, way=self._way.name).with_record(record)
            write_state(self._settings.data_dir, self.state)

    def _wait_for_answer(self, record: Record) -> None:
        log = record.log
        deadline = self._clock.monotonic() + self._timeout
        while True:
            wrong = ailment(record.server, record.settings, node=record.node)
            # Also where something answers: it could be another that took the port meanwhile.
            if record.pid is not None and not record.alive():
                said = last_words(Path(log))
                raise ServerError(
                    f"{record.name} died while starting: {said or 'it said nothing'}; read {log}"
                )
            if wrong is None:
                return
            if self.interrupted.is_set():
                raise ServerError(
                    f"{record.name} was still starting when `taskstream up` was interrupted"
                )
            if self._clock.monotonic() > deadline:
                raise ServerError(
                    f"{record.name} does not answer on {record.address} after {self._timeout:g} s ({wrong}); "
                    f"read {log}, or start over with `taskstream down` and `taskstream up`"
                )
            self.interrupted.wait(_LOOK_EVERY)


def _alone(
    data_dir: Path, servers: Sequence[Server], listen: Listener
) -> AbstractContextManager[None]:
    """Keeps every other `up` and `down` of that data directory waiting."""

    def told() -> None:
        for server in servers:
            listen(Progress(server, Stage.STARTING, "another taskstream command is at work there"))

    return exclusive(data_dir / "lock", when_held=told)


def _way_for(state: LocalState, asked: str) -> Way:
    """What is up decides: servers of one data directory are never up in both ways."""
    if state.way and any(record.alive() for record in state.records):
        return _WAYS[state.way]()
    if asked == WayName.CONTAINERS and not docker_answers():
        raise ServerError(
            "no Docker daemon with the compose plugin answers: start one, or use --way processes"
        )
    if asked:
        return _WAYS[WayName(asked)]()
    return Containers() if docker_answers() else Processes()


def _look_at(records: Sequence[Record]) -> tuple[ServerStatus, ...]:
    with ThreadPoolExecutor(max_workers=len(records) or 1) as threads:
        return tuple(threads.map(_look, records))


def _look(record: Record) -> ServerStatus:
    alive = record.alive()
    # When ours is gone, whoever answers on that port is somebody else.
    wrong = (
        ailment(record.server, record.settings, node=record.node)
        if alive
        else "its process is gone"
    )
    return ServerStatus(
        server=record.server,
        version=record.version,
        address=record.address,
        pid=record.pid if alive else None,
        memory=memory_of(record),
        healthy=wrong is None,
        log=record.log,
        ailment=wrong or "",
    )


_WAYS: Mapping[WayName, Callable[[], Way]] = MappingProxyType(
    {WayName.CONTAINERS: Containers, WayName.PROCESSES: Processes}
)
