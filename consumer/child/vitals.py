"""A child's pulse, and its end when the parent has none.

The parent's beats say that it runs and that its partitions are still its own. Without one for as long as
the last allowed, the parent may be frozen and its tasks be run by their next owner: so they are told to
end, nothing more is recorded, and the process goes.
"""

import os
import threading
import time

import psutil

from taskstream.consumer.child.link import Link
from taskstream.consumer.child.service import Service
from taskstream.consumer.pipe import BLAMELESS, Pulse, pack_pulse
from taskstream.consumer.watch import Pace, Progress
from taskstream.core.clock import Clock
from taskstream.observability import logs, table
from taskstream.observability.metrics import Metrics

LOOK_EVERY = 0.5
"""Seconds between two looks at the beats."""

BLOCKED_FOR = 5.0
"""Seconds without a turn of the event loop after which the task that blocks it is named."""

LAST_WORDS = 1.0
"""Seconds that tasks get to clean up behind them when the process is about to go."""

_LOOP = "the event loop"

_log = logs.logger(__name__)


class Vitals:
    """Answers beats, and misses them.

    Args:
        link: the parent.
        service: what is asked how it is, and ended.
        metrics: what the process has counted, which its pulse tells.
        clock: the time.
    """

    def __init__(self, link: Link, service: Service, metrics: Metrics, clock: Clock) -> None:
        self._link = link
        self._metrics = metrics
        self._cpu = metrics.counter(table.CHILD_CPU)
        self._cpu_told = 0.0
        self._service = service
        self._clock = clock
        self._process = psutil.Process()
        self._until: float | None = None
        self._asked = threading.Event()
        self._progress = Progress()
        self._loop_turns = 0
        self._blocked = False
        self._telling = threading.Lock()

    def start(self) -> None:
        """Begins to answer and to look."""
        # Apart: an answer waits while a frozen parent does not read, which is what the look is for.
        for name, work in (("pulse", self._answer), ("vitals", self._look)):
            threading.Thread(target=work, name=f"taskstream-{name}", daemon=True).start()

    def hear(self, limit: float) -> None:
        """Notes a beat; never blocks.

        Args:
            limit: seconds in which the next one must come.
        """
        self._until = self._clock.monotonic() + limit
        self._asked.set()

    def _look(self) -> None:
        missed = 0
        while missed < 2:
            time.sleep(LOOK_EVERY)
            self._look_at_loop()
            late = self._until is not None and self._clock.monotonic() > self._until
            # Twice, because after this process itself was halted the beat may wait to be read.
            missed = missed + 1 if late else 0
        _log.error(
            "no sign of life from the worker's parent: what runs here ends, unrecorded",
            pid=os.getpid(),
            advice="if the host was not frozen on purpose, see whether it has too little memory "
            "or CPU",
        )
        self._service.abandon()
        time.sleep(LAST_WORDS)
        os._exit(BLAMELESS)

    def _look_at_loop(self) -> None:
        """Tells, once, of a task that holds up all others on the event loop."""
        self._loop_turns = self._service.loop_turns()
        pace = Pace(self._loop_turns, BLOCKED_FOR)
        still = self._progress.look({_LOOP: pace}, self._clock.monotonic())
        if still and not self._blocked:
            self._service.tell_what_blocks(still[_LOOP])
        self._blocked = bool(still)

    def _answer(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            try:
                self.tell()
            except OSError:
                os._exit(1)  # the parent has gone

    def tell(self) -> None:
        """Says how the process is, and what it has counted since the last time; at its end, too.

        Raises:
            OSError: the parent has gone.
        """
        with self._telling:
            used = time.process_time()
            self._cpu.inc(used - self._cpu_told)
            self._cpu_told = used
            pulse = Pulse(
                self._process.memory_info().rss,
                self._service.rows_pending,
                self._service.store_healthy,
                self._loop_turns,
                self._metrics.take(),
            )
            self._link.send(pack_pulse(pulse))
