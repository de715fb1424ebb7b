"""What the pages show, made of what `admin` and the store tell. Pure: values in, values out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from taskstream.admin.overview.live import OTHERS, Look, TaskCounts
from taskstream.admin.overview.rings import percentile
from taskstream.admin.queues import Lane
from taskstream.admin.workers import RunningTask, Worker
from taskstream.core.audit import Action
from taskstream.core.states import JUDGED, State
from taskstream.results.row import Row, current

LATELY = 60.0
"""Seconds that "now" means for a rate."""

BIN = 5
"""Seconds that one point of a chart stands for."""

OLD = 300.0
"""Seconds after which a waiting task is an alarm."""

FAILING = 0.5
"""Share of attempts that die, in the last minute, from which on it is an alarm."""

FEW = 10
"""Fewer deaths than that in a minute are none."""

STALE = 30.0
"""Seconds after which what was seen of lanes and workers is old."""

SHOWN_FAILURES = 15
SHOWN_RETRIES = 5
SHOWN_ERRORS = 12
ENDED = (State.SUCCEEDED, State.RETRYING, State.DEAD, State.CANCELLED, State.EXPIRED)

TONES: Mapping[State, str] = {
    State.SUCCEEDED: "good",
    State.RETRYING: "warn",
    State.DEAD: "bad",
    State.RUNNING: "info",
    State.WAITING: "info",
    State.DELAYED: "info",
}


def tone(state: State) -> str:
    """Which colour a state has, beside its name."""
    return TONES.get(state, "plain")


@dataclass(frozen=True, slots=True)
class Card:
    """One figure of the overview.

    Args:
        name: what it is.
        value: it; a number, or seconds.
        kind: "count", "rate" or "duration".
        hint: what it says exactly.
        tone: its colour.
        page: which page tells more; empty for none.
    """

    name: str
    value: float | None
    kind: str
    hint: str
    tone: str = "plain"
    page: str = ""


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task of the overview's table: its attempts in the last quarter of an hour.

    Args:
        name: the task's name.
        attempts: how many.
        failed: how many of them died or are tried again.
        dead: how many of them died.
        median: seconds that half of them ran for at most.
        longest: seconds that 95 of 100 ran for at most.
    """

    name: str
    attempts: int
    failed: int
    dead: int
    median: float | None
    longest: float | None

    @property
    def others(self) -> bool:
        """Whether it stands for many tasks, which no filter names."""
        return self.name == OTHERS


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One kind of error in one task, in the last quarter of an hour.

    Args:
        error: the error's type.
        task: the task's name.
        dead: how many attempts died of it.
        again: how many are tried again.
    """

    error: str
    task: str
    dead: int
    again: int

    @property
    def others(self) -> bool:
        """Whether it stands for many kinds, which no filter names."""
        return self.task == self.error == OTHERS


def error_lines(errors: Mapping[tuple[str, str], Counter[State]]) -> list[ErrorLine]:
    """What goes wrong, what is most deadly first.

    Args:
        errors: by task and the error's type, how attempts ended.
    """
    lines = [
        ErrorLine(error, task, counts[State.DEAD], counts[State.RETRYING])
        for (task, error), counts in errors.items()
    ]
    return sorted(lines, key=lambda line: (-line.dead, -line.again, line.error, line.task))


def cards(
    look: Look, lately: tuple[Counter[State], Counter[int], Counter[int]], now: float
) -> list[Card]:
    """The figures at the top of the overview.

    Args:
        look: lanes and workers.
        lately: how attempts ended, waited and ran in the last minute.
        now: the time.
    """
    states, wait, run = lately
    lag = sum(lane.lag for lane in look.lanes)
    dead = sum(lane.dead for lane in look.lanes)
    fresh = 0 < now - look.at < STALE
    return [
        Card("finished a second", states.total() / LATELY, "rate", "attempts, over the last minute", page="tasks"),
        Card("died", states[State.DEAD], "count", "in the last minute", "bad" if states[State.DEAD] else "plain", page="tasks?state=dead"),
        Card("tried again", states[State.RETRYING], "count", "in the last minute", "warn" if states[State.RETRYING] else "plain", page="tasks?state=retrying"),
        Card("waited", percentile(wait, 0.95), "duration", "95 of 100 from publish to start, last minute"),
        Card("ran", percentile(run, 0.95), "duration", "95 of 100, last minute"),
        Card("waiting", lag if fresh else None, "count", "tasks in all queues", page="queues"),
        Card("workers", len(look.workers) if fresh else None, "count", "alive", "bad" if fresh and not look.workers else "plain", page="workers"),
        Card("dead letters", dead if fresh else None, "count", "kept by Kafka", page="dead"),
    ]  # fmt: skip


def alarms(look: Look, states: Counter[State], troubles: Sequence[str], now: float) -> list[str]:
    """What somebody should look at, in words.

    Args:
        look: lanes and workers.
        states: how attempts ended in the last minute.
        troubles: what can't be read.
        now: the time.
    """
    found = list(troubles)
    if look.at and now - look.at > STALE:
        found.append(f"Queues and workers were last seen {now - look.at:.0f} s ago.")
    waiting = [lane for lane in look.lanes if lane.lag]
    if look.at and waiting and not look.workers:
        found.append("Tasks wait, and no worker is alive.")
    found += [
        f"{lane.queue} {lane.priority}: the oldest of {lane.lag:,} tasks has waited for {lane.oldest_s:.0f} s."
        for lane in waiting
        if lane.waits_longer_than(OLD)
    ]
    found += [f"{lane.queue} {lane.priority} is paused." for lane in look.lanes if lane.paused]
    found += [
        f"{worker.worker} halts {lane.replace('.', ' ')}: too many of its tasks died."
        for worker in look.workers
        for lane in worker.halted
    ]
    total = states.total()
    if states[State.DEAD] >= FEW and states[State.DEAD] >= FAILING * total:
        found.append(f"{states[State.DEAD]:,} of {total:,} attempts died in the last minute.")
    return found


def task_lines(tasks: Mapping[str, TaskCounts]) -> list[TaskLine]:
    """The overview's table, what fails most first."""
    lines = [
        TaskLine(
            name=name,
            attempts=counts.states.total(),
            failed=counts.states[State.DEAD] + counts.states[State.RETRYING],
            dead=counts.states[State.DEAD],
            median=percentile(counts.run, 0.5),
            longest=percentile(counts.run, 0.95),
        )
        for name, counts in tasks.items()
    ]
    return sorted(lines, key=lambda line: (-line.dead, -line.failed, -line.attempts, line.name))


def series(
    states: Iterable[tuple[float, Counter[State]]],
    wait: Iterable[tuple[float, Counter[int]]],
    run: Iterable[tuple[float, Counter[int]]],
    lag: Sequence[tuple[float, dict[str, int]]],
    lanes: Sequence[Lane],
) -> dict[str, Any]:
    """What the charts draw, as JSON has it: by chart the times, and each line's name and values.

    Points of rates and durations stand for `BIN` seconds each, those of queues for a look.
    """
    ends = _binned(states)
    times = [at for at, _ in ends]
    names = [state for state in ENDED if any(counts[state] for _, counts in ends)] or [
        State.SUCCEEDED
    ]
    topics = {lane.topic: f"{lane.queue} {lane.priority}" for lane in lanes}
    return {
        "rates": {
            "times": times,
            "lines": [
                {
                    "name": state.value,
                    "tone": tone(state),
                    "values": [counts[state] / BIN for _, counts in ends],
                }
                for state in names
            ],
        },
        "wait": _durations(_binned(wait)),
        "run": _durations(_binned(run)),
        "lag": {
            "times": [at for at, _ in lag],
            "lines": [
                {"name": name, "tone": "", "values": [known.get(topic) for _, known in lag]}
                for topic, name in topics.items()
            ],
        },
    }


def _binned(seconds: Iterable[tuple[float, Counter[Any]]]) -> list[tuple[float, Counter[Any]]]:
    found = []
    for number, some in groupby(seconds, key=lambda one: int(one[0]) // BIN):
        together: Counter[Any] = Counter()
        for _, counts in some:
            together.update(counts)
        found.append((float(number * BIN), together))
    # The first and the last one may be cut: a rate over half of its seconds would be a wrong one.
    return found[1:-1]


def _durations(binned: Sequence[tuple[float, Counter[int]]]) -> dict[str, Any]:
    return {
        "times": [at for at, _ in binned],
        "lines": [
            {
                "name": name,
                "tone": tone,
                "values": [percentile(counts, share) for _, counts in binned],
            }
            for name, share, tone in (("median", 0.5, "good"), ("95 of 100", 0.95, "warn"))
        ],
    }


# --- one task


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one run.

    Args:
        row: what is stored of it.
        took: seconds it ran for.
        waited: seconds between the end of the attempt before, or the publish, and its start.
    """

    row: Row
    took: float | None
    waited: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the first publish, or a redrive or replay.

    Args:
        number: 0 for the first publish.
        asked: the row in which a redrive was written down; None for a first publish.
        attempts: the attempts, the first one first.
    """

    number: int
    asked: Row | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a timeline.

    Args:
        at: when, seconds since 1970.
        what: what happened.
        more: about it.
        tone: its colour.
        after: seconds since the line before.
    """

    at: float
    what: str
    more: str = ""
    tone: str = "plain"
    after: float | None = None


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task.

    Args:
        id: its id.
        row: its current row; None while it has none.
        state: where it is.
        published: when it was first published.
        waited: seconds from the publish to its first start.
        took: seconds from the publish to its final state.
        runs: its runs, the last one first.
        timeline: what happened, the first one first.
        holder: the worker that says it runs it now; empty for none.
        trace_id: of its newest trace; empty for none.
        sources: where its records stood, `topic/partition/offset`, the newest first.
    """

    id: str
    row: Row | None
    state: State
    published: float | None
    waited: float | None
    took: float | None
    runs: tuple[Run, ...]
    timeline: tuple[Event, ...]
    holder: str
    trace_id: str
    sources: tuple[str, ...]

    @property
    def tone(self) -> str:
        """Its state's colour."""
        return tone(self.state)

    @property
    def may_be_cancelled(self) -> bool:
        """Whether there is an end that it has not reached."""
        return not self.state.final


def task_view(
    task_id: str, rows: Sequence[Row], workers: Iterable[Worker], actions: Iterable[Action]
) -> TaskView:
    """One task from its rows, the workers that are alive and what people did.

    Args:
        task_id: its id.
        rows: all its rows, lowest (run, attempt) first.
        workers: those that are alive.
        actions: of the audit log; those on other targets are passed over.
    """
    row = current(rows)
    holder, running = _holder(task_id, row, workers)
    published = next((one.published for one in rows if one.published is not None), None)
    first = next((one.started for one in rows if one.started is not None), None)
    state = State.RUNNING if running is not None else State.UNKNOWN if row is None else row.state
    final = row is not None and row.state.final
    return TaskView(
        id=task_id,
        row=row,
        state=state,
        published=published,
        waited=_between(published, first),
        took=_between(published, row.finished) if row is not None and final else None,
        runs=tuple(reversed(_runs(rows))),
        timeline=_timeline(
            rows, [one for one in actions if one.target in (task_id, f"dead:{task_id}")], running
        ),
        holder=holder,
        trace_id=next((one.trace_id for one in reversed(rows) if one.trace_id), ""),
        sources=_sources(rows, running),
    )


def _holder(
    task_id: str, row: Row | None, workers: Iterable[Worker]
) -> tuple[str, RunningTask | None]:
    seen = (-1, 0) if row is None else (row.run, row.attempt - (row.state not in JUDGED))
    for worker in workers:
        for task in worker.running:
            if task.id == task_id and (task.run, task.attempt) > seen:
                return worker.worker, task
    return "", None


def _sources(rows: Sequence[Row], running: RunningTask | None) -> tuple[str, ...]:
    newest = [] if running is None else [running.source]
    newest += [row.source for row in reversed(rows) if row.source]
    return tuple(dict.fromkeys(newest))


def _runs(rows: Sequence[Row]) -> list[Run]:
    runs = []
    for number, some in groupby(rows, key=lambda row: row.run):
        of_run = list(some)
        asked = next((row for row in of_run if row.attempt == 0), None)
        attempts = []
        before = asked.finished or asked.written_us / 1e6 if asked is not None else None
        for row in of_run:
            if row.attempt == 0:
                continue
            since = row.published if before is None and number == 0 else before
            attempts.append(
                Attempt(row, _between(row.started, row.finished), _between(since, row.started))
            )
            before = row.finished
        runs.append(Run(number, asked, tuple(attempts)))
    return runs


def _timeline(
    rows: Sequence[Row], actions: Sequence[Action], running: RunningTask | None
) -> tuple[Event, ...]:
    events = []
    published = next((row.published for row in rows if row.published is not None), None)
    if published is not None:
        row = rows[0]
        where = " ".join(part for part in (row.queue, row.priority) if part)
        events.append(Event(published, "published", f"to {where}" if where else ""))
    for row in rows:
        events += _told_by(row)
    for action in actions:
        why = f" because: {action.reason}" if action.reason else ""
        events.append(Event(action.at, action.verb, f"by {action.who}{why}", "info"))
    if running is not None:
        events.append(
            Event(running.since, "running", f"attempt {running.attempt}, given out", "info")
        )
    events.sort(key=lambda event: event.at)
    before: float | None = None
    timed = []
    for event in events:
        timed.append(
            Event(event.at, event.what, event.more, event.tone, _between(before, event.at))
        )
        before = event.at
    return tuple(timed)


def _told_by(row: Row) -> list[Event]:
    name = f"attempt {row.attempt}" + (f" of run {row.run}" if row.run else "")
    if row.attempt == 0:
        at = row.finished or row.written_us / 1e6
        return [Event(at, "asked to run again", f"run {row.run}", "info")]
    events = []
    if row.started is not None:
        events.append(Event(row.started, "started", f"{name} on {row.worker}", "plain"))
    if row.finished is not None:
        error = f": {row.error_type}" if row.error_type else ""
        events.append(Event(row.finished, row.state.value, f"{name}{error}", tone(row.state)))
    if row.state is State.RETRYING and row.due is not None:
        events.append(Event(row.due, "due again", f"attempt {row.attempt + 1}", "plain"))
    return events


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else max(0.0, last - first)


def chosen(actions: Iterable[Action], who: str, verb: str, target: str) -> list[Action]:
    """Those actions whose who and target hold these texts, and whose verb is this one; empty is any."""
    return [
        action
        for action in actions
        if who.casefold() in action.who.casefold()
        and target.casefold() in action.target.casefold()
        and (not verb or action.verb == verb)
    ]
