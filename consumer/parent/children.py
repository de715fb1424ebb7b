"""The child processes: started, fed, listened to, and replaced when they end.

A child is a fresh interpreter (never a fork: forked Kafka clients and driver sessions hang) that
holds one end of a socket. The parent never blocks on a child: what a child does not read stays in
the parent's buffer for it, bounded by what the child may hold. A child that dies closes its socket,
and the parent knows exactly which tasks it held.
"""

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from taskstream.consumer import begun
from taskstream.consumer.begun import Begun
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.options import ParentOptions
from taskstream.consumer.pipe import BLAMELESS, Frame, Frames, Pulse, pack_stop
from taskstream.consumer.suspicion import Suspicion
from taskstream.core.clock import Clock
from taskstream.observability import logs

_log = logs.logger(__name__)

READ_BYTES = 256 * 1024

DEPTH_SECONDS = 0.02
"""How far ahead a child is fed beside the time that its rows take: what frames and wake-ups take."""

DEPTH_TASKS = 500
"""The most that a child is fed ahead."""


@dataclass(slots=True)
class Depth:
    """How many tasks a child is given beyond what it can run at once: pure, from what it finished.

    A child that finishes 5,000 tasks a second must be fed ahead, or it starves while rows are on
    their way; one that finishes two a second must not, or short tasks queue behind long ones. What is
    ahead is twice what it finishes in the time a row takes, so that a rate held down by too little
    grows until something else holds it.
    """

    concurrency: int
    _since: float = 0.0
    _count: int = 0
    _rate: float = 0.0
    _write_seconds: float = 0.0

    def finished(self, count: int, write_seconds: float, now: float) -> None:
        """Notes that `count` tasks were finished by `now`, in monotonic seconds."""
        self._count += count
        self._write_seconds = 0.8 * self._write_seconds + 0.2 * min(1.0, write_seconds)
        span = now - self._since
        if span >= 0.05:
            # Weighted to the new: a queue that turns from short tasks to long ones must show soon.
            self._rate = 0.3 * self._rate + 0.7 * self._count / span
            self._since, self._count = now, 0

    @property
    def limit(self) -> int:
        """How many tasks the child may hold."""
        ahead = 2 * self._rate * (self._write_seconds + DEPTH_SECONDS)
        return self.concurrency + min(DEPTH_TASKS, int(ahead))


@dataclass(slots=True, eq=False)
class Child:
    """One child process, as the parent sees it.

    Args:
        number: unique while the parent lives.
        process: the interpreter.
        link: our end of the socket, non-blocking.
        solo: whether it runs one task at a time, in its main thread.
        depth: how much it may hold.
        begun: which of the tasks it holds it has begun.
        used: when it was started or had a task last, in monotonic seconds.
        reserved: how many of its slots only urgent tasks may take.
        held: the tasks it holds, by number; changed by `hold` and `let_go` alone.
        urgent: the numbers of those that are urgent.
        ready: it has said hello.
        retiring: it gets no more tasks.
        spent: it has asked to be replaced.
        killed: whether we ended it: no fault of what it held.
        finished: how many tasks it has finished.
        suspects: the numbers of suspects that it was given; some may be gone.
        pulse: how it said it was, the last time it was asked; None before.
        pulses: how often it has said so.
    """

    number: int
    process: subprocess.Popen[bytes]
    link: socket.socket
    solo: bool
    depth: Depth
    begun: Begun
    used: float
    reserved: int
    held: dict[int, Entry] = field(default_factory=dict)
    urgent: set[int] = field(default_factory=set)
    ready: bool = False
    retiring: bool = False
    spent: bool = False
    killed: bool = False
    finished: int = 0
    suspects: set[int] = field(default_factory=set)
    pulse: Pulse | None = None
    pulses: int = 0
    frames: Frames = field(default_factory=Frames)
    outgoing: deque[memoryview] = field(default_factory=deque)

    @property
    def room(self) -> int:
        """How many more tasks it may be given."""
        if not self.ready or self.retiring:
            return 0
        return (1 if self.solo else self._limit) - len(self.held)

    @property
    def _limit(self) -> int:
        """How many tasks it may hold: no suspect ahead of its turn.

        A strike is written when a suspect comes to a child. Fed ahead, hundreds would have got theirs
        before they began, and a second kill -9 would have sent them all into quarantine.
        """
        if self.suspects:
            self.suspects &= self.held.keys()
        return self.depth.concurrency if self.suspects else self.depth.limit

    def hold(self, entry: Entry, *, urgent: bool) -> None:
        """Adds a task to what it holds."""
        self.held[entry.number] = entry
        if urgent:
            self.urgent.add(entry.number)
        if entry.suspicion is not Suspicion.NONE:
            self.suspects.add(entry.number)

    def let_go(self, numbers: Collection[int]) -> list[Entry]:
        """Takes these from what it holds; those that it holds no more are passed over."""
        self.urgent.difference_update(numbers)
        return [self.held.pop(number) for number in numbers if number in self.held]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Death:
    """A child's end.

    Args:
        status: its exit status; negative for a signal.
        held: what it held and had not reported, and what its end says of each.
    """

    status: int
    held: list[tuple[Entry, Suspicion]]

    @classmethod
    def of(cls, child: Child, status: int) -> "Death":
        """Blames those that the child had begun; all of them where it had begun none.

        An end that is in our own rules, or our order, says nothing of any.
        """
        entries = child.held
        if status == BLAMELESS or child.killed:
            return cls(status, [(entry, Suspicion.NONE) for entry in entries.values()])
        begun = child.begun.numbers & entries.keys()
        worst = Suspicion.CAUGHT if child.solo and begun else Suspicion.SUSPECT
        suspects = begun or entries.keys()
        return cls(
            status,
            [
                (entry, worst if number in suspects else Suspicion.NONE)
                for number, entry in entries.items()
            ],
        )


class Children:
    """All children of a worker. Not thread-safe: it belongs to the loop.

    Args:
        options: with which arguments they are started, and how many tasks each runs at once.
        clock: for the pace of restarts.

    Attributes:
        selector: where their sockets are watched; a child's socket carries the child as its data.
    """

    def __init__(self, options: ParentOptions, clock: Clock) -> None:
        self.selector = selectors.DefaultSelector()
        self._command = list(options.child_command)
        self._concurrency = options.concurrency
        self._reserved = options.reserved
        self._clock = clock
        self._alive: dict[int, Child] = {}
        self._next = 1
        self._not_before = 0.0
        self._early_deaths = 0

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._alive.values()))

    def __contains__(self, number: object) -> bool:
        return number in self._alive

    def __len__(self) -> int:
        return len(self._alive)

    def held(self) -> Iterator[Entry]:
        """Every task that one of them holds."""
        return (entry for child in self for entry in child.held.values())

    def start(self, *, solo: bool = False) -> Child:
        """Starts one more child; it can be given tasks once it is ready."""
        ours, theirs = socket.socketpair()
        cells = begun.create(self._concurrency + DEPTH_TASKS)
        command = [
            sys.executable, "-m", "taskstream.consumer.child",
            "--link", str(theirs.fileno()), "--begun", str(cells), "--concurrency", str(1 if solo else self._concurrency),
            "--reserved", str(0 if solo else self._reserved),
            *(["--solo"] if solo else []), *(["--quiet"] if self._next > 1 else []), *self._command,
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno(), cells],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        ours.setblocking(False)
        now = self._clock.monotonic()
        child = Child(
            self._next,
            process,
            ours,
            solo,
            Depth(1 if solo else self._concurrency, now),
            Begun(cells),
            now,
            0 if solo else self._reserved,
        )
        os.close(cells)
        self._next += 1
        self._alive[child.number] = child
        self.selector.register(ours, selectors.EVENT_READ, child)
        _log.debug("a child is started", pid=child.pid, solo=solo)
        return child

    def serving(self, *, solo: bool) -> list[Child]:
        """Those of one kind that take tasks, or are about to."""
        return [
            child for child in self._alive.values() if child.solo == solo and not child.retiring
        ]

    @property
    def may_start(self) -> bool:
        """Whether one may be started now: those that died at start-up are followed by a rest."""
        return self._clock.monotonic() >= self._not_before

    def receive(self, child: Child) -> list[Frame] | None:
        """What a child has said; None once it is gone."""
        try:
            data = child.link.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        return list(child.frames.feed(data)) if data else None

    def send(self, child: Child, frame: bytes) -> None:
        """Says something to a child, as soon as it reads."""
        child.outgoing.append(memoryview(frame))
        self.flush(child)

    def flush(self, child: Child) -> None:
        """Writes what the child's socket takes now; the rest when it is writable."""
        try:
            while child.outgoing:
                sent = child.link.send(child.outgoing[0])
                if sent < len(child.outgoing[0]):
                    child.outgoing[0] = child.outgoing[0][sent:]
                else:
                    child.outgoing.popleft()
        except BlockingIOError:
            pass
        except OSError:
            child.outgoing.clear()  # it has gone: `receive` will say so
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.outgoing else 0)
        if self.selector.get_key(child.link).events != events:
            self.selector.modify(child.link, events, child)

    def retire(self, child: Child) -> None:
        """Gives it no more, and asks it to end when it has nothing left."""
        child.retiring = True
        self.send(child, pack_stop())

    def end(self, child: Child) -> None:
        """Ends one child at once, by no fault of what it holds; `bury` it when it has gone."""
        child.killed = True
        child.process.kill()

    def bury(self, child: Child) -> Death:
        """Forgets a child that has gone."""
        self.selector.unregister(child.link)
        child.link.close()
        del self._alive[child.number]
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(1.0)
        if child.process.returncode is None:
            child.process.kill()  # it closed its socket and stayed: nothing it does can count now
            child.process.wait()
        self._note_death(child)
        _log.debug(
            "a child has ended", pid=child.pid, status=child.process.returncode,
            held=len(child.held), finished=child.finished,
        )  # fmt: skip
        death = Death.of(child, child.process.returncode)
        child.begun.close()
        return death

    def kill(self) -> None:
        """Ends all of them at once."""
        for child in self:
            child.process.kill()
        for child in self:
            self.bury(child)

    def _note_death(self, child: Child) -> None:
        # One that dies before it was ready would be started and die in a tight circle.
        self._early_deaths = 0 if child.ready else self._early_deaths + 1
        if self._early_deaths:
            pause = min(30.0, 0.5 * 2 ** min(self._early_deaths, 6))
            self._not_before = self._clock.monotonic() + pause
