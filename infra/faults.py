"""Faults on demand, for tests: a server that dies, that hangs, that comes back.

Only for servers that run as plain processes, and only ever against what `up` started.
"""

import signal
from dataclasses import dataclass
from pathlib import Path

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import Server, WayName
from taskstream.infra.lifecycle import START_TIMEOUT, start_again
from taskstream.infra.processes import Processes, send, wait_until_gone, wait_until_halted
from taskstream.infra.progress import nobody
from taskstream.infra.state import Record, read_state


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """A server of one data directory, or one node of it, to be broken and mended.

    Args:
        server: which one.
        data_dir: where `up` keeps its data.
        node: which of its nodes.

    Raises:
        ServerError: by every method, when the server runs as a container or was never started.
    """

    server: Server
    data_dir: Path
    node: int = 1

    def kill(self) -> None:
        """SIGKILL: it is gone at once, with whatever it had not written."""
        record = self._record()
        send(record, signal.SIGKILL)
        # What follows in a test must find it dead.
        wait_until_gone([record])

    def stop(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing, like a host that froze.

        Back when it has halted: on a loaded machine that is later than the signal.
        """
        record = self._record()
        if send(record, signal.SIGSTOP):
            wait_until_halted(record)

    def cont(self) -> None:
        """SIGCONT: it goes on where `stop` halted it."""
        send(self._record(), signal.SIGCONT)

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Stops it in order if it runs, starts it on the same ports and data, waits for its answer."""
        record = self._record()
        Processes().stop([record], record.settings, nobody)
        start_again(record, timeout=timeout)

    @property
    def pid(self) -> int | None:
        """The pid of its process; None when that is gone."""
        record = self._record()
        return record.pid if record.alive() else None

    def _record(self) -> Record:
        state = read_state(self.data_dir)
        record = state.find(self.server, self.node)
        if record is None:
            raise ServerError(
                f"{self.server} was not started in {self.data_dir}: run `taskstream up` there"
            )
        if state.way is WayName.CONTAINERS:
            raise ServerError(f"{self.server} runs as a container: faults are for plain processes")
        return record
