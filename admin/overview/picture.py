"""One picture of what an app does now, as `taskstream top` shows it. Pure: values in, values out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from taskstream.admin.overview import views
from taskstream.admin.overview.live import LaneCounts, Look
from taskstream.admin.overview.rings import percentile
from taskstream.admin.overview.views import TaskLine
from taskstream.admin.queues import Lane
from taskstream.admin.workers import RunningTask, Worker
from taskstream.core.errors import ConfigError
from taskstream.core.states import State
from taskstream.results.row import Row

if TYPE_CHECKING:
    from taskstream.admin.overview.live import Live
    from taskstream.core.clock import Clock

SHORTEST, LONGEST = 5.0, 300.0
"""Seconds that rates and percentiles may be about."""

TREND_OVER = 30.0
"""Seconds over which it is told how fast a backlog grows."""

HISTORY_BINS = 60
"""How many values the line of rates has at most."""

HISTORY_BIN = 2.0
"""Seconds that each of them stands for."""

SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took, in seconds, rounded up by a fifth at most; None where nothing did.

    Args:
        p50: what half of them took at most.
        p95: what 95 of 100 took at most.
        p99: what 99 of 100 took at most.
    """

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, buckets: Counter[int]) -> "Durations":
        """Those in the buckets of a ring."""
        return cls(*(percentile(buckets, share) for share in SHARES))


@dataclass(frozen=True, slots=True)
class Flow:
    """What became of attempts, a second.

    Args:
        finished: attempts that ended in any way.
        retried: those that will be tried again.
        died: those that were the last of their task.
        failing: share of all that was retried or died, from 0 to 1; None where nothing ended.
        waited: from publish to first start.
        ran: from start to end.
    """

    finished: float
    retried: float
    died: float
    failing: float | None
    waited: Durations
    ran: Durations

    @classmethod
    def of(cls, counts: LaneCounts, seconds: float) -> "Flow":
        """What was counted in the last seconds."""
        states, total = counts.states, counts.states.total()
        failed = states[State.RETRYING] + states[State.DEAD]
        return cls(
            finished=total / seconds,
            retried=states[State.RETRYING] / seconds,
            died=states[State.DEAD] / seconds,
            failing=failed / total if total else None,
            waited=Durations.of(counts.wait),
            ran=Durations.of(counts.run),
        )


@dataclass(frozen=True, slots=True)
class LaneLine:
    """One priority of a queue.

    Args:
        queue: the queue.
        priority: the priority.
        flow: what became of its attempts.
        lag: records that are not finished; None while that is not known.
        oldest_s: seconds since the oldest of them was written; None where nothing waits.
        grows: records by which the lag grows a second, below 0 where it shrinks; None while nobody knows.
        dead: its open dead letters.
        paused: whether an order holds new tasks back.
        halted: whether a worker gives out none of its tasks because too many died.
    """

    queue: str
    priority: str
    flow: Flow
    lag: int | None
    oldest_s: float | None
    grows: float | None
    dead: int
    paused: bool
    halted: bool

    @property
    def empty_in(self) -> float | None:
        """Seconds until nothing waits any more, if it goes on like this; None where it does not shrink."""
        if not self.lag or self.grows is None or self.grows >= 0:
            return None
        return self.lag / -self.grows


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed.

    Args:
        at: when.
        state: dead or retrying.
        task: the task's name.
        id: its id.
        queue: its queue.
        priority: its priority.
        attempt: which try it was.
        error: the error's type.
        message: its text.
    """

    at: float
    state: str
    task: str
    id: str
    queue: str
    priority: str
    attempt: int
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What an app does now.

    Args:
        app: the app's name.
        at: when, seconds since 1970.
        seconds: what rates and percentiles are about: so many last seconds.
        queue: which queue it is about; empty for all of them.
        complete: whether all is known that stood in Kafka at the start.
        total: all lanes together.
        history: attempts that ended a second, the oldest value first.
        lanes: the priorities of queues, sorted.
        workers: those that are alive, the oldest first.
        alarms: what somebody should look at.
        tasks: what became of the attempts of the last quarter of an hour by task, as far as they were read,
            what fails most first; none where a queue was chosen.
        failures: the attempts that failed last, those that died first, then those that are tried again; the
            newest first.
        looked_at: when lanes and workers were asked for; 0 before the first time.
    """

    app: str
    at: float
    seconds: float
    queue: str
    complete: bool
    total: Flow
    history: tuple[float, ...]
    lanes: tuple[LaneLine, ...]
    workers: tuple[Worker, ...]
    alarms: tuple[str, ...]
    tasks: tuple[TaskLine, ...]
    failures: tuple[Failure, ...]
    looked_at: float

    @property
    def lag(self) -> int | None:
        """What waits in all lanes together; None while that is not known."""
        known = [lane.lag for lane in self.lanes if lane.lag is not None]
        return sum(known) if known else None

    def lane_of(self, task: RunningTask) -> str:
        """Where a running task came from, as `queue.priority`."""
        return task.source.rsplit("/", 2)[0].removeprefix(f"{self.app}.")

    def as_json(self) -> dict[str, Any]:
        """The picture as `top --json` shows it."""
        shown = asdict(self)
        for lane, line in zip(self.lanes, shown["lanes"], strict=True):
            line.update(line.pop("flow"), empty_in=lane.empty_in)
        return {**shown, "lag": self.lag}


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody wants to see.

    Args:
        queue: only this queue; empty for all.
        sort: one of `SORTS`.
        reverse: the other way round.
        seconds: what rates and percentiles are about.
    """

    queue: str = ""
    sort: str = "queue"
    reverse: bool = False
    seconds: float = 60.0

    def checked(self, queues: Iterable[str]) -> "Choice":
        """The same, if it can be meant.

        Args:
            queues: those of the app.

        Raises:
            ConfigError: there is no such queue or order, or the seconds are too few or too many.
        """
        if self.queue and self.queue not in (known := sorted(queues)):
            raise ConfigError(f"no queue {self.queue!r}: the app has {', '.join(known)}")
        if self.sort not in SORTS:
            raise ConfigError(f"--sort {self.sort!r} is none: use {', '.join(SORTS)}")
        if not SHORTEST <= self.seconds <= LONGEST:
            raise ConfigError(f"--last {self.seconds:g}: use {SHORTEST:g} to {LONGEST:g} seconds")
        return self


SORTS: Mapping[str, Callable[[LaneLine], float]] = {
    "queue": lambda _line: 0.0,
    "rate": lambda line: -line.flow.finished,
    "errors": lambda line: -(line.flow.failing or 0.0),
    "waited": lambda line: -(line.flow.waited.p95 or 0.0),
    "ran": lambda line: -(line.flow.ran.p95 or 0.0),
    "lag": lambda line: -(line.lag or 0),
    "oldest": lambda line: -(line.oldest_s or 0.0),
    "dead": lambda line: -line.dead,
}
"""Orders of lanes: the app's own, or what is worst first."""


def take(app: str, live: "Live", choice: Choice, clock: "Clock") -> Picture:
    """The picture of this moment.

    Args:
        app: the app's name.
        live: what is known.
        choice: what of it is wanted.
        clock: the time.
    """
    pulse, now = live.pulse, clock.now()
    last_minute, _, _ = pulse.lately(views.LATELY)
    return made(
        app,
        choice,
        look=live.look,
        lanes=pulse.lanes(choice.seconds),
        states=pulse.states()[-int(live.history) :],
        lag=live.lag,
        dead=live.morgue.by_topic(),
        alarms=[*live.notes, *views.alarms(live.look, last_minute, live.troubles, now)],
        tasks=views.task_lines(pulse.tasks()),
        failures=[*pulse.failures(State.DEAD), *pulse.failures(State.RETRYING)],
        complete=live.complete,
        now=now,
    )


def made(
    app: str,
    choice: Choice,
    *,
    look: Look,
    lanes: Mapping[tuple[str, str], LaneCounts],
    states: Sequence[tuple[float, Counter[State]]],
    lag: Sequence[tuple[float, Mapping[str, int]]],
    dead: Mapping[str, int],
    alarms: Sequence[str],
    tasks: Sequence[TaskLine],
    failures: Sequence[Row],
    complete: bool,
    now: float,
) -> Picture:
    """A picture from its parts.

    Args:
        app: the app's name.
        choice: what is wanted.
        look: lanes and workers.
        lanes: what became of each lane's attempts.
        states: how attempts ended by the second, as far as that was read, the oldest first.
        lag: what waited in each topic at each look, the oldest first.
        dead: how many open dead letters came from each topic.
        alarms: what somebody should look at.
        tasks: what became of attempts by task.
        failures: attempts that failed, in any order.
        complete: whether all is known that stood in Kafka at the start.
        now: the time.
    """
    known = {(lane.queue, lane.priority): lane for lane in look.lanes}
    halted = {lane for worker in look.workers for lane in worker.halted}
    names = [name for name in {**known, **lanes} if not choice.queue or name[0] == choice.queue]
    lines = []
    for name in names:
        flow = Flow.of(lanes.get(name, _NOTHING), choice.seconds)
        lines.append(_line(name, known.get(name), flow, lag, dead, halted=".".join(name) in halted))
    lines.sort(key=SORTS[choice.sort])
    return Picture(
        app=app,
        at=now,
        seconds=choice.seconds,
        queue=choice.queue,
        complete=complete,
        total=Flow.of(_together(lanes.get(name, _NOTHING) for name in names), choice.seconds),
        history=() if choice.queue else _history(states),
        lanes=tuple(reversed(lines) if choice.reverse else lines),
        workers=tuple(_serving(look.workers, choice.queue)),
        alarms=tuple(alarms),
        tasks=() if choice.queue else tuple(tasks),
        failures=tuple(_failures(failures, choice.queue)),
        looked_at=look.at,
    )


_NOTHING = LaneCounts(Counter(), Counter(), Counter())


def _line(
    name: tuple[str, str],
    lane: Lane | None,
    flow: Flow,
    lag: Sequence[tuple[float, Mapping[str, int]]],
    dead: Mapping[str, int],
    *,
    halted: bool,
) -> LaneLine:
    queue, priority = name
    if lane is None:
        return LaneLine(queue, priority, flow, None, None, None, 0, paused=False, halted=halted)
    return LaneLine(
        queue=queue,
        priority=priority,
        flow=flow,
        lag=lane.lag,
        oldest_s=lane.oldest_s,
        grows=growth([(at, seen[lane.topic]) for at, seen in lag if lane.topic in seen]),
        dead=dead.get(lane.topic, 0),
        paused=lane.paused,
        halted=halted,
    )


def growth(seen: Sequence[tuple[float, int]]) -> float | None:
    """How much a number grows a second, from its last value and that of half a minute before.

    Args:
        seen: times and values, the oldest first.
    """
    if len(seen) < 2:
        return None
    last_at, last = seen[-1]
    first_at, first = next(one for one in seen if last_at - one[0] <= TREND_OVER)
    if first_at >= last_at:
        first_at, first = seen[-2]  # whoever looks less often than that compares two looks
    return (last - first) / (last_at - first_at) if last_at > first_at else None


def _together(lanes: Iterable[LaneCounts]) -> LaneCounts:
    states: Counter[State] = Counter()
    wait: Counter[int] = Counter()
    run: Counter[int] = Counter()
    for counts in lanes:
        states.update(counts.states)
        wait.update(counts.wait)
        run.update(counts.run)
    return LaneCounts(states, wait, run)


def _history(states: Sequence[tuple[float, Counter[State]]]) -> tuple[float, ...]:
    # Whole bins alone, cut from the newest end: each stands for the same length of time.
    width = int(HISTORY_BIN)
    newest = states[-HISTORY_BINS * width :]
    newest = newest[len(newest) % width :]
    return tuple(
        sum(counts.total() for _, counts in newest[begin : begin + width]) / width
        for begin in range(0, len(newest), width)
    )


def _serving(workers: Iterable[Worker], queue: str) -> Iterable[Worker]:
    return (worker for worker in workers if not queue or queue in worker.queues)


def _failures(rows: Iterable[Row], queue: str) -> list[Failure]:
    found = [
        Failure(
            at=row.finished or row.written_us / 1e6,
            state=row.state.value,
            task=row.task,
            id=row.task_id,
            queue=row.queue,
            priority=row.priority,
            attempt=row.attempt,
            error=row.error_type or "",
            message=row.error or "",
        )
        for row in rows
        if not queue or row.queue == queue
    ]
    return sorted(found, key=lambda failure: (failure.state != State.DEAD, -failure.at))
