"""Whether a worker makes progress: a watchdog over counters that must grow, busy or idle.

The parent's loop turns at least once a second, an intake polls ten times, a child sends its pulse:
also when there is nothing to do. So a counter that stands still means a thread that is stuck, not a
quiet night. Then the stacks of all threads go to standard error, once, and /live says what is stuck,
for whoever can start the worker again.
"""

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.observability import logs

DUMP = signal.SIGUSR1
"""The signal at which a worker's processes write their stacks to standard error, and go on."""

LOOK_EVERY = 1.0
"""Seconds between two looks at the counters."""

_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How far something has come, and how long it may take to its next step.

    Args:
        count: grows, or changes, with each step.
        patience: seconds that it may stand still.
    """

    count: int
    patience: float


@dataclass(slots=True)
class Progress:
    """What stands still: pure, from counters and the time. Not thread-safe."""

    _moved: dict[str, tuple[int, float]] = field(default_factory=dict)
    _looked_at: float | None = None

    def look(self, paces: Mapping[str, Pace], now: float) -> dict[str, float]:
        """What has stood still for longer than its patience, and for how many seconds.

        Time in which nobody looked counts for a single look: a host that was frozen, or a laptop
        that was asleep, has stopped the watched and the watchdog alike.

        Args:
            paces: everything that is watched now; what is missing is forgotten.
            now: monotonic seconds.
        """
        asleep = 0.0 if self._looked_at is None else max(0.0, now - self._looked_at - LOOK_EVERY)
        self._looked_at = now
        self._moved = {
            name: (pace.count, now)
            if (seen := self._moved.get(name)) is None or seen[0] != pace.count
            else (pace.count, seen[1] + asleep)
            for name, pace in paces.items()
        }
        still = {name: now - moved for name, (_, moved) in self._moved.items()}
        return {name: for_ for name, for_ in still.items() if for_ > paces[name].patience}


class Watchdog:
    """Looks at the counters from a thread of its own, until it is closed.

    Args:
        read: what is watched now, by a name that people understand.
        dump: called with the names of what has just got stuck: shows their stacks.
        clock: the time.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Pace]],
        *,
        dump: Callable[[Sequence[str]], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._read = read
        self._dump = dump
        self._clock = clock
        self._progress = Progress()
        self._stuck: dict[str, float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskstream-watchdog", daemon=True)

    @property
    def problems(self) -> list[str]:
        """What is stuck, a sentence each; from any thread."""
        return [f"{name} has made no step for {s:.0f} s" for name, s in self._stuck.items()]

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def close(self) -> None:
        """Looks no more."""
        self._closed.set()

    def look(self) -> None:
        """Looks once, and says what has changed since the last time."""
        before = self._stuck
        self._stuck = self._progress.look(self._read(), self._clock.monotonic())
        fresh = [name for name in self._stuck if name not in before]
        for name in fresh:
            _log.error(
                "something is stuck; /live fails until it moves, and its stacks follow",
                what=name,
                seconds=round(self._stuck[name]),
                advice="let whatever watches /live start the worker again, and report the "
                "stacks if they are not in your code",
            )
        if fresh:
            self._dump(fresh)
        for name in before.keys() - self._stuck.keys():
            _log.info("it moves again", what=name)

    def _run(self) -> None:
        while not self._closed.wait(LOOK_EVERY):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - a watchdog that dies would call everything well
                _log.exception("the watchdog could not look", advice=logs.REPORT_IT)


def dump_stacks() -> None:
    """Writes the stacks of all threads of this process to its log."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = [
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - its only name
    ]
    _log.stacks(
        "the stacks of this process",
        "\n".join(found),
        pid=os.getpid(),
        advice="look for the thread that stands still",
    )


def dump_on_signal() -> None:
    """Lets `DUMP` write them to standard error, as plain text, whatever the interpreter is busy with."""
    faulthandler.register(DUMP, file=sys.__stderr__ or sys.stderr, all_threads=True)
