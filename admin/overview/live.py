"""What goes on now, kept in memory, so that no page waits for Kafka.

Threads of this process read; pages look at what they have found. One follows the events topic and counts
attempts by the second, one follows the dead letters. One reads the actions of all times once. One asks for
lanes and workers, and rests for longer than that took. What can't be read now is said on the pages and tried again.

Memory is bounded: counts by rings, lists and names by the constants below.
"""

import threading
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from taskstream.admin import audit, queues, workers
from taskstream.admin.events import events
from taskstream.admin.overview.morgue import Morgue
from taskstream.admin.overview.rings import Ring, bucket_of
from taskstream.admin.queues import Lane
from taskstream.admin.workers import Worker
from taskstream.broker.follow import Follower
from taskstream.broker.topics import Topics
from taskstream.core.audit import Action
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.errors import TaskstreamError
from taskstream.core.states import State
from taskstream.observability import logs
from taskstream.results.row import Row

if TYPE_CHECKING:
    from taskstream.app.app import App

WINDOW = 900
"""Seconds that are kept by the second."""

TASK_NAMES = 200
"""How many tasks are counted by name; the others are counted as one."""

LANES = 100
"""How many priorities of queues are counted apart; the others only together."""

LANE_WINDOW = 300
"""Seconds that are kept of each of them."""

OTHERS = "(others)"
FAILURES = 100
"""How many failed attempts of each kind are kept for the overview."""

ERRORS = 200
"""How many kinds of errors are counted, each of one task; the others are counted as one."""

ACTIONS = 5_000
"""How many actions are kept for the audit log, the newest."""

LOOK_EVERY = 3.0
"""Seconds between two looks at lanes and workers, at least."""

LOOKS = int(WINDOW / LOOK_EVERY)
"""How many looks are kept for the chart of what waits."""

FORGET_EVERY = 60.0
"""Seconds between two questions which dead letters Kafka has deleted since."""

REST = 4.0
"""How many times as long as a look took the next one waits: a slow Kafka is not asked all the time."""

AGAIN_AFTER = 3.0
"""Seconds before an events topic that can't be read is tried again."""

_log = logs.logger(__name__)

LOOK = "it is tried again; `taskstream doctor APP` says what is wrong"


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """What became of one task's attempts in the last quarter of an hour.

    Args:
        states: attempts by how they ended.
        run: how many attempts ran for how long, by bucket.
    """

    states: Counter[State]
    run: Counter[int]


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """What became of the attempts of one priority of a queue.

    Args:
        states: attempts by how they ended.
        wait: how many tasks waited for how long from publish to first start, by bucket.
        run: how many attempts ran for how long, by bucket.
    """

    states: Counter[State]
    wait: Counter[int]
    run: Counter[int]


@dataclass(slots=True)
class _PerLane:
    states: Ring[State] = field(default_factory=lambda: Ring(LANE_WINDOW))
    wait: Ring[int] = field(default_factory=lambda: Ring(LANE_WINDOW))
    run: Ring[int] = field(default_factory=lambda: Ring(LANE_WINDOW))


@dataclass(slots=True)
class _PerTask:
    states: Ring[State] = field(default_factory=lambda: Ring(15, 60.0))
    run: Ring[int] = field(default_factory=lambda: Ring(15, 60.0))


@dataclass(frozen=True, slots=True)
class Look:
    """What lanes and workers were at some moment.

    Args:
        at: when they were asked for, seconds since 1970; 0 before the first time.
        lanes: every priority of every queue.
        workers: those that are alive.
    """

    at: float = 0.0
    lanes: tuple[Lane, ...] = ()
    workers: tuple[Worker, ...] = ()


class Pulse:
    """Counts what the events topic tells. For one writing thread; any thread may look.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._states: Ring[State] = Ring(WINDOW)
        self._wait: Ring[int] = Ring(WINDOW)
        self._run: Ring[int] = Ring(WINDOW)
        self._tasks: dict[str, _PerTask] = {}
        self._lanes: dict[tuple[str, str], _PerLane] = {}
        # Apart, because a storm of retries would push the few that died out.
        self._failures: dict[State, list[Row]] = {State.DEAD: [], State.RETRYING: []}
        self._errors: dict[tuple[str, str], Ring[State]] = {}
        self._forgot_at = 0.0
        self._actions: deque[Action] = deque(maxlen=ACTIONS)
        self._told: set[tuple[float, str, str, str]] = set()

    def hear(self, event: Row | Action) -> None:
        """Counts an event."""
        with self._lock:
            if isinstance(event, Action):
                self._note(event)
            else:
                self._count(event)

    def forget_counts(self) -> None:
        """Begins to count anew: what was counted will be told once more."""
        with self._lock:
            self._states, self._wait, self._run = Ring(WINDOW), Ring(WINDOW), Ring(WINDOW)
            self._tasks.clear()
            self._lanes.clear()
            for failed in self._failures.values():
                failed.clear()
            self._errors.clear()

    def states(self) -> list[tuple[float, Counter[State]]]:
        """How attempts ended, by the second; the oldest second first."""
        with self._lock:
            return [(at, counts.copy()) for at, counts in self._states.series(self._clock.now())]

    def durations(
        self,
    ) -> tuple[list[tuple[float, Counter[int]]], list[tuple[float, Counter[int]]]]:
        """How long tasks waited, and ran, in buckets by the second."""
        now = self._clock.now()
        with self._lock:
            wait = [(at, counts.copy()) for at, counts in self._wait.series(now)]
            run = [(at, counts.copy()) for at, counts in self._run.series(now)]
        return wait, run

    def lately(self, seconds: float) -> tuple[Counter[State], Counter[int], Counter[int]]:
        """Ends, waits and runs of the last seconds."""
        now = self._clock.now()
        with self._lock:
            return (
                self._states.total(now, seconds),
                self._wait.total(now, seconds),
                self._run.total(now, seconds),
            )

    def tasks(self) -> Mapping[str, TaskCounts]:
        """By task's name what became of its attempts; names without any are left out."""
        now = self._clock.now()
        with self._lock:
            found = {
                name: TaskCounts(counts.states.total(now), counts.run.total(now))
                for name, counts in self._tasks.items()
            }
        return {name: counts for name, counts in found.items() if counts.states}

    def lanes(self, seconds: float) -> Mapping[tuple[str, str], LaneCounts]:
        """By queue and priority what became of the attempts of the last seconds, `LANE_WINDOW` at most."""
        now = self._clock.now()
        with self._lock:
            return {
                name: LaneCounts(
                    counts.states.total(now, seconds),
                    counts.wait.total(now, seconds),
                    counts.run.total(now, seconds),
                )
                for name, counts in self._lanes.items()
            }

    def failures(self, state: State) -> list[Row]:
        """The attempts that ended last in `dead` or `retrying`, the newest first, without tracebacks."""
        with self._lock:
            return list(reversed(self._failures[state]))

    def errors(self) -> Mapping[tuple[str, str], Counter[State]]:
        """How attempts ended by task and the error's type, in the last quarter of an hour."""
        now = self._clock.now()
        with self._lock:
            found = {kind: ring.total(now) for kind, ring in self._errors.items()}
        return {kind: counts for kind, counts in found.items() if counts}

    def actions(self) -> list[Action]:
        """What people did, the newest first."""
        with self._lock:
            found = list(self._actions)
        return sorted(found, key=lambda action: action.at, reverse=True)

    def _note(self, action: Action) -> None:
        # The history and what is followed overlap.
        identity = (action.at, action.verb, action.target, action.who)
        if identity in self._told:
            return
        if len(self._actions) == ACTIONS:
            oldest = self._actions[0]
            self._told.discard((oldest.at, oldest.verb, oldest.target, oldest.who))
        self._actions.append(action)
        self._told.add(identity)

    def _errors_of(self, row: Row) -> Ring[State]:
        kind = (row.task, row.error_type or "")
        if kind not in self._errors and len(self._errors) >= ERRORS:
            self._forget_errors()
            if len(self._errors) >= ERRORS:
                kind = (OTHERS, OTHERS)
        return self._errors.setdefault(kind, Ring(15, 60.0))

    def _forget_errors(self) -> None:
        """Makes room for new kinds; once a minute at most, for it looks at all of them."""
        now = self._clock.now()
        if now - self._forgot_at >= 60.0:
            self._forgot_at = now
            self._errors = {kind: ring for kind, ring in self._errors.items() if ring.total(now)}

    def _count(self, row: Row) -> None:
        if row.attempt == 0:
            return  # the word of a redrive, no attempt
        now = self._clock.now()
        at = _judged_at(row)
        mine, lane = self._task(row.task), self._lane(row)
        for states in (self._states, mine.states, lane.states):
            states.add(at, row.state, now)
        if row.started is not None:
            if row.published is not None and row.attempt == 1 and row.run == 0:
                bucket = bucket_of(row.started - row.published)
                for waits in (self._wait, lane.wait):
                    waits.add(row.started, bucket, now)
            if row.finished is not None:
                bucket = bucket_of(row.finished - row.started)
                for runs in (self._run, mine.run, lane.run):
                    runs.add(at, bucket, now)
        if row.state in self._failures and row.error_type:
            self._errors_of(row).add(at, row.state, now)
            failed = self._failures[row.state]
            # By their time: partitions are read one after the other, so what comes last may be old.
            insort(failed, row._replace(value=None, traceback=None), key=_judged_at)
            del failed[:-FAILURES]

    def _task(self, name: str) -> _PerTask:
        if name not in self._tasks and len(self._tasks) >= TASK_NAMES:
            name = OTHERS
        return self._tasks.setdefault(name, _PerTask())

    def _lane(self, row: Row) -> _PerLane:
        name = (row.queue, row.priority)
        if name not in self._lanes:
            if len(self._lanes) >= LANES:
                return _PerLane()  # counted nowhere
            self._lanes[name] = _PerLane()
        return self._lanes[name]


def _judged_at(row: Row) -> float:
    return row.finished or row.written_us / 1e6


class Live:
    """The threads that read, and what they have found. Any thread may look.

    Args:
        app: the app.
        history: how many seconds back it begins to count.
        with_actions: whether what people did is read, too.
        clock: the time.
    """

    def __init__(
        self,
        app: "App",
        *,
        history: float = WINDOW,
        with_actions: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._app = app
        self.history = history
        self._with_actions = with_actions
        self._clock = clock
        self.pulse = Pulse(clock)
        self.morgue = Morgue()
        self._letters: Follower | None = None
        self._look = Look()
        self._begun = 0.0
        self._lag: deque[tuple[float, dict[str, int]]] = deque(maxlen=LOOKS)
        self._troubles: dict[str, str] = {}
        self._heard_all = False
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to read, once; safe to call at every request."""
        if self._threads or self._closing.is_set():
            return
        with self._starting:
            if self._threads:
                return
            self._begun = self._clock.now()
            works = {"events": self._follow, "looks": self._look_again}
            if self._with_actions:
                works["audit"] = self._read_actions
            self._threads = [
                threading.Thread(target=work, name=f"taskstream-live-{name}", daemon=True)
                for name, work in works.items()
            ]
            for thread in self._threads:
                thread.start()
            self._letters = Follower(
                self._app.settings,
                self._app.names.dead,
                self.morgue.hear,
                client_id="taskstream-live-dead",
            )
            self._letters.start()

    def close(self, timeout: float = 5.0) -> None:
        """Ends the reading; safe to call again."""
        self._closing.set()
        for thread in self._threads:
            thread.join(timeout)
        if self._letters is not None:
            self._letters.close(timeout)

    @property
    def closed(self) -> bool:
        """Whether it has been told to end."""
        return self._closing.is_set()

    @property
    def complete(self) -> bool:
        """Whether all is known that stood in Kafka at the start; before that, figures are too small."""
        return self._heard_all and self.morgue.caught_up and bool(self._look.at)

    @property
    def look(self) -> Look:
        """Lanes and workers, as they were seen last."""
        return self._look

    @property
    def look_age(self) -> float:
        """Seconds since that was seen; since the start, where nothing was seen yet."""
        since = self._look.at or self._begun
        return max(0.0, self._clock.now() - since) if since else 0.0

    @property
    def lag(self) -> list[tuple[float, dict[str, int]]]:
        """How many tasks waited in each topic at each look, the oldest first."""
        return list(self._lag)

    @property
    def notes(self) -> list[str]:
        """What can never be shown of this app."""
        if self._app.settings.events:
            return []
        return ["Workers tell no events (events=False): rates, times and failures are not known."]

    @property
    def troubles(self) -> list[str]:
        """What can't be read now."""
        return sorted(self._troubles.values())

    def see(self, lanes: list[Lane], alive: list[Worker]) -> None:
        """Takes what a look has found."""
        now = self._clock.now()
        self._look = Look(now, tuple(lanes), tuple(alive))
        self._lag.append((now, {lane.topic: lane.lag for lane in lanes}))

    def _follow(self) -> None:
        def follow() -> None:
            since = self._clock.now() - self.history
            for event in events(
                self._app, start=since, follow=True, over=self._over, reached_end=self._hear_all
            ):
                self.pulse.hear(event)

        while not self._closing.is_set():
            # What was told already is told again: only after trouble, and within the window.
            self.pulse.forget_counts()
            self._try("events", follow)
            self._closing.wait(AGAIN_AFTER)

    def _over(self) -> bool:
        self._troubles.pop("events", None)  # who asks this is reading
        return self._closing.is_set()

    def _hear_all(self) -> None:
        self._heard_all = True

    def _read_actions(self) -> None:
        def read() -> None:
            for action in audit.actions(self._app, over=self._closing.is_set):
                self.pulse.hear(action)

        while not self._closing.is_set() and not self._try("actions", read):
            self._closing.wait(AGAIN_AFTER)

    def _look_again(self) -> None:
        forgot_at = -FORGET_EVERY

        def ask() -> None:
            nonlocal forgot_at
            if self._clock.monotonic() - forgot_at >= FORGET_EVERY:
                self._forget_letters()
                forgot_at = self._clock.monotonic()
            dead = self.morgue.by_topic()
            lanes = queues.lanes(self._app, count_dead=False, clock=self._clock)
            told = [replace(lane, dead=dead[lane.topic]) for lane in lanes]
            self.see(told, workers.workers(self._app, clock=self._clock))

        while not self._closing.is_set():
            begun = self._clock.monotonic()
            self._try("lanes", ask)
            took = self._clock.monotonic() - begun
            self._closing.wait(max(LOOK_EVERY, REST * took))

    def _forget_letters(self) -> None:
        topic = self._app.names.dead
        with Topics(self._app.settings, client_id="taskstream-live") as topics:
            ranges = topics.ranges(topic)
        self.morgue.forget({place.partition: first for place, (first, _) in ranges.items()})

    def _try(self, name: str, work: Callable[[], None]) -> bool:
        """Whether it went well; a trouble is kept for the pages, and logged when it is a new one."""
        try:
            work()
        except TaskstreamError as error:
            if self._troubles.get(name) != str(error):
                _log.warning(
                    "not all that is shown can be read", what=name, error=str(error), advice=LOOK
                )
            self._troubles[name] = str(error)
            return False
        self._troubles.pop(name, None)
        return True
