"""Schedules: what an app's code defines brought to Kafka, and what people do with schedules at run time.

All of them stand in the schedules topic, where every scheduler reads them. What several people change in
the same moment is not joined: the last word on a schedule counts.
"""

import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from taskstream.admin import audit
from taskstream.admin.payloads import Payloads
from taskstream.app.timetable import read_when
from taskstream.broker.tail import read_to_end
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.cron import Cron, Every, check, instants
from taskstream.core.envelope import Envelope
from taskstream.core.errors import ConfigError, MissingExtra, TaskstreamError
from taskstream.core.ids import new_id
from taskstream.core.schedule import (
    CatchUp,
    Firings,
    Overlap,
    Schedule,
    added,
    declare,
    firings_key,
    next_instant,
    schedule_key,
    vanished,
    version_of,
)
from taskstream.core.states import State
from taskstream.observability import logs
from taskstream.producer.producer import Publisher
from taskstream.producer.routing import PublishRequest
from taskstream.results.row import current
from taskstream.schemas.framing import parse
from taskstream.schemas.records import Records
from taskstream.schemas.schedules import Book, record_of

if TYPE_CHECKING:
    from taskstream.app.app import App

AGAIN_AFTER = 5.0
"""Seconds before a scheduler that starts tries again to bring its code's schedules to Kafka. Doubled each time."""

LONGEST_PAUSE = 60.0

_log = logs.logger(__name__)


class How(TypedDict, total=False):
    """What a schedule may be told beside its task, its times and its arguments; `prepare` has the defaults.

    Args:
        tz: the time zone of the cron line.
        catch_up: what is made up for after a stop.
        overlap: what happens where the last firing has not ended.
        queue: another queue than the task's.
        priority: another priority.
        key: the ordering key of its tasks; the task's own unless given.
        expires: seconds after its instant from which on a task is too old to run.
    """

    tz: str
    catch_up: CatchUp
    overlap: Overlap
    queue: str | None
    priority: str | None
    key: str | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class ShownSchedule:
    """A schedule and its firings. Times are seconds since 1970.

    Args:
        name: its name.
        task: the name of the task that it publishes.
        cron: its cron line; empty where it is every so many seconds.
        tz: the time zone of that line.
        every: seconds between two firings; None for a cron line.
        arguments: of the task, as JSON has them; None where they can't be read here.
        queue: the queue it publishes to.
        priority: the priority it publishes with.
        key: the ordering key of its tasks.
        expires: seconds after its instant from which on a task is too old to run.
        catch_up: what is made up for after a stop.
        overlap: what happens where the last firing has not ended.
        paused: whether it fires nothing for now.
        origin: `code` or `runtime`.
        next: when it fires next; None for never, or not for now.
        last: the instant that fired last; None where none has.
        last_id: the id of its task; empty where there is none.
        last_state: where that is; None where nobody can tell.
        last_fired: when that was published.
        pending: instants that wait for its end.
        skipped: how many instants were passed over so far.
        skipped_last: the last of them.
        skipped_why: why that was.
    """

    name: str
    task: str
    cron: str
    tz: str
    every: float | None
    arguments: Mapping[str, Any] | None
    queue: str
    priority: str
    key: str | None
    expires: float | None
    catch_up: CatchUp
    overlap: Overlap
    paused: bool
    origin: str
    next: float | None
    last: float | None
    last_id: str
    last_state: State | None
    last_fired: float | None
    pending: tuple[float, ...]
    skipped: int
    skipped_last: float | None
    skipped_why: str

    def as_json(self) -> dict[str, Any]:
        """The schedule as `schedules list --json` shows it."""
        return {**asdict(self), "pending": list(self.pending)}

    @property
    def when(self) -> str:
        """When it fires, for people."""
        return f"{self.cron} {self.tz}" if self.every is None else f"every {self.every:g} s"


@dataclass(frozen=True, slots=True)
class Declared:
    """What became of the schedules that code defines, by name.

    Args:
        added: those that were not there.
        changed: those that were there in another version.
        removed: those that the code does not define any more.
        left: those that stand there in a newer version, or removed, and were left so.
        same: those that were there as they are.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    same: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """It for people; empty where the code defines none and none is gone."""
        count = len(self.added) + len(self.changed) + len(self.left) + len(self.same)
        changes = {"added": self.added, "changed": self.changed, "removed": self.removed}
        told = [f"{what} now: {', '.join(names)}" for what, names in changes.items() if names]
        return "; ".join([str(count), *told]) if count or told else ""


@dataclass(slots=True)
class _Changes:
    """What to write, and the report of it."""

    write: list[Schedule] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, what: str, name: str, schedule: Schedule | None = None) -> None:
        self.told.setdefault(what, []).append(name)
        if schedule is not None:
            self.write.append(schedule)

    @property
    def report(self) -> Declared:
        return Declared(**{what: tuple(names) for what, names in self.told.items()})


def schedules(app: "App", *, clock: Clock = SYSTEM_CLOCK) -> list[ShownSchedule]:
    """All schedules of an app, by name, with their next and last firings.

    Args:
        app: the app.
        clock: the time.

    Raises:
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
        StoreError: the result store did not answer.
    """
    book = _read(app)
    listed = sorted(
        (one for one in book.schedules.values() if not one.removed), key=lambda one: one.name
    )
    return _show(app, book, listed, clock)


def find(app: "App", name: str, *, clock: Clock = SYSTEM_CLOCK) -> tuple[ShownSchedule, Schedule]:
    """One schedule, as `schedules` shows it, and its definition.

    Raises:
        TaskstreamError: there is no such schedule.
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
        StoreError: the result store did not answer.
    """
    book = _read(app)
    found = _of(app, book, name)
    return _show(app, book, [found], clock)[0], found


def _show(app: "App", book: Book, listed: Sequence[Schedule], clock: Clock) -> list[ShownSchedule]:
    states = _states(app, [book.firings[one.name] for one in listed if one.name in book.firings])
    payloads = Payloads(app)
    now = clock.now()
    return [
        _shown(one, book.firings.get(one.name), _arguments(payloads, one), states, now)
        for one in listed
    ]


def add(
    app: "App",
    task: str,
    when: str | Every,
    arguments: Mapping[str, Any],
    *,
    name: str | None = None,
    reason: str = "",
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
    **how: Unpack[How],
) -> Schedule:
    """Adds a schedule at run time; back when it is durable, in force within a second.

    Args:
        app: the app.
        task: the name of the task that it publishes; known here, or by its stored schema.
        when: a cron line, or `every(seconds)`.
        arguments: the task's, as JSON has them.
        name: its name; the task's unless given.
        reason: why, for the audit log.
        who: who asks, for the same; whoever runs this process, unless given.
        clock: the time.
        how: what else it is told, see `How`.

    Raises:
        ConfigError: the line, the zone, the name or a policy can't be, or there is such a schedule.
        UnknownTask: no task of that name is known here or in the schema store.
        BadArguments: the arguments don't fit the task's schema; names the field.
        BrokerError: Kafka did not take it, or `init` was never run.
    """
    named = name or task
    there = _read(app).schedules.get(named)
    if there is not None and not there.removed:
        raise ConfigError(
            f"there is a schedule {named} already, of task {there.task}: remove it first, or give this "
            "one another name"
        )
    schedule = prepare(app, task, when, arguments, name=named, who=who, clock=clock, **how)
    _write(app, [added(there, schedule)])
    _record(app, "schedule", schedule, reason, who)
    return schedule


def change(
    app: "App",
    name: str,
    when: str | Every,
    arguments: Mapping[str, Any],
    *,
    reason: str = "",
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
    **how: Unpack[How],
) -> Schedule:
    """Gives a schedule that was added at run time other times, arguments or policies, as `add` takes them.

    Its task, its name, and whether it is paused stay. With other times it begins anew: what would have come
    before now is no firing of it.

    Raises:
        TaskstreamError: there is no such schedule.
        ConfigError: code defines it, or it can't be so.
        BadArguments: the arguments don't fit the task's schema; names the field.
        BrokerError: Kafka did not take it.
    """
    known = _find(app, name)
    _check_ours(known)
    wanted = prepare(app, known.task, when, arguments, name=name, who=who, clock=clock, **how)
    changed = replace(
        wanted,
        paused=known.paused,
        since=known.since if wanted.when == known.when else wanted.since,
        superseded=known.superseded,
    )
    _write(app, [changed])
    _record(app, "reschedule", changed, reason, who)
    return changed


def prepare(
    app: "App",
    task: str,
    when: str | Every,
    arguments: Mapping[str, Any],
    *,
    name: str | None = None,
    tz: str = "UTC",
    catch_up: CatchUp = "once",
    overlap: Overlap = "allow",
    queue: str | None = None,
    priority: str | None = None,
    key: str | None = None,
    expires: float | None = None,
    who: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> Schedule:
    """Checks a schedule as `add` does, and writes nothing of it but a schema that is not stored yet.

    Raises:
        ConfigError: the line, the zone, the name or a policy can't be.
        UnknownTask: no task of that name is known here or in the schema store.
        BadArguments: the arguments don't fit the task's schema; names the field.
        BrokerError: the schema store can't be read or written.
    """
    times = read_when(when, tz)
    check(times)
    value = Payloads(app).encode(task, arguments)
    place = app.place_of(task, queue, priority)
    known = app.find(task)
    if known is not None:
        known.options(queue=queue, priority=priority, unordered=key is not None)
        if key is None:
            key = known.read_key((), known.arguments.decode(parse(value).body))
    now = clock.now()
    schedule = Schedule(
        name=name or task, task=task, when=times, value=value, queue=place[0], priority=place[1], key=key,
        expires=expires, catch_up=catch_up, overlap=overlap, since=now, at=now, who=who or app.orders().who,
    )  # fmt: skip
    _check_store(app, schedule)
    return schedule


def upcoming(schedule: Schedule, count: int, now: float) -> list[float]:
    """The next instants of a schedule, paused or not, as many at most; seconds since 1970.

    Raises:
        ConfigError: its times can't be read here.
        MissingExtra: the library for cron lines is not installed.
    """
    return list(islice(instants(schedule.when, now), count))


def remove(
    app: "App", name: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> Schedule:
    """Removes a schedule; what it has published goes on.

    One that code defines comes back with the next `taskstream init` of that code.

    Raises:
        TaskstreamError: there is no such schedule.
        BrokerError: Kafka did not take it.
    """
    schedule = _find(app, name)
    if schedule.package or schedule.superseded:  # else older code would bring its own back
        _write(app, [_signed(app, schedule, clock, who, removed=True)])
    else:
        app.orders().schedule([(schedule_key(name), None), (firings_key(name), None)])
    _record(app, "unschedule", schedule, reason, who)
    return schedule


def pause(
    app: "App", name: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> Schedule:
    """Lets a schedule fire nothing until `resume`; what comes due meanwhile is not made up for.

    Holds also where code defines the schedule, over deploys.

    Raises:
        TaskstreamError: there is no such schedule.
        BrokerError: Kafka did not take it.
    """
    paused = _signed(app, _find(app, name), clock, who, paused=True)
    _write(app, [paused])
    _record(app, "pause", paused, reason, who)
    return paused


def resume(
    app: "App", name: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> Schedule:
    """Lets a paused schedule fire again, from now on; harmless where it is not paused.

    Raises:
        TaskstreamError: there is no such schedule.
        BrokerError: Kafka did not take it.
    """
    found = _find(app, name)
    if not found.paused:
        return found
    resumed = _signed(app, found, clock, who, paused=False, since=clock.now())
    _write(app, [resumed])
    _record(app, "resume", resumed, reason, who)
    return resumed


def run(
    app: "App", name: str, *, reason: str = "", who: str = "", clock: Clock = SYSTEM_CLOCK
) -> str:
    """Publishes a schedule's task once, now, beside its firings; returns the task's id.

    Paused or not, and whatever its last firing does: who asks decides.

    Raises:
        TaskstreamError: there is no such schedule.
        PublishError: Kafka did not take the task.
    """
    schedule = _find(app, name)
    now = clock.now()
    envelope = Envelope(
        task=schedule.task,
        id=new_id(),
        priority=schedule.priority,
        published=now,
        expires=None if schedule.expires is None else now + schedule.expires,
    )
    topic = app.names.tasks(schedule.queue, schedule.priority)
    publisher = Publisher(app.settings, app.names, client_id="taskstream-run", clock=clock)
    try:
        publisher.publish(PublishRequest(topic, schedule.value, envelope, schedule.key)).wait()
    finally:
        publisher.close(0.0)
    details, target = {"id": envelope.id}, f"schedule:{name}"
    audit.record(app, "run", target, reason=reason, count=1, details=details, who=who)
    return envelope.id


def declare_all(app: "App", *, decides: bool, clock: Clock = SYSTEM_CLOCK) -> Declared:
    """Brings the schedules that the app's code defines to Kafka.

    Args:
        app: the app, its tasks loaded.
        decides: whether what the code says holds over whatever stands there (`init`); else only what is
            new is brought, as `core.schedule.declare` tells.
        clock: the time.

    Raises:
        ConfigError: a schedule can't be with these settings; names it.
        MissingExtra: the library for cron lines is not installed.
        BrokerError: Kafka refused or can't be reached, or `init` was never run.
        SchemaError: the schema of a task's arguments can't be stored.
    """
    wanted = _wanted(app, clock)
    for schedule in wanted:
        check(schedule.when)
        _check_store(app, schedule)
    changes = _changes(_read(app), wanted, _packages(app), decides=decides)
    _write(app, changes.write)
    for schedule in changes.write:
        if schedule.removed:
            _record(app, "unschedule", schedule, "the code does not define it any more")
        else:
            _record(app, "schedule", schedule, "defined in code")
    return changes.report


def bring(path: str, stopping: threading.Event) -> None:
    """Has the schedules in code brought to Kafka for a scheduler that starts; call it in a thread.

    In a process of its own, which ends when it has done so: the app's modules may be large, slow or broken,
    and none of that must reach a scheduler. Tries again while Kafka does not answer. What it can't do is
    said in the log; what stands in Kafka is fired all the same.

    Args:
        path: the app, `module:attribute`.
        stopping: set when the scheduler ends.
    """
    command = [sys.executable, "-m", "taskstream", "schedules", "bring", path]
    failed, pause = 1, AGAIN_AFTER
    while failed == 1 and not stopping.is_set():
        failed = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
        ).returncode
        if failed == 1:
            stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    if failed not in (0, 1):
        _log.error(
            "the schedules in code could not be read; those that stand in Kafka are fired",
            app=path,
            advice="run `taskstream schedules list APP` where the code is: it shows the error",
        )


def _wanted(app: "App", clock: Clock) -> list[Schedule]:
    """What the code defines, with the frame of its arguments."""
    now = clock.now()
    found = []
    for planned in app.schedules.values():
        prefix = app.schema_store().put(planned.task.arguments_schema)
        framed = replace(
            planned.schedule, value=prefix + planned.schedule.value, since=now, at=now, who=app.orders().who
        )  # fmt: skip
        found.append(replace(framed, version=version_of(framed)))
    return found


def _changes(
    book: Book, wanted: Iterable[Schedule], packages: Collection[str], *, decides: bool
) -> _Changes:
    changes = _Changes()
    names = set()
    for schedule in wanted:
        names.add(schedule.name)
        known = book.schedules.get(schedule.name)
        written = declare(known, schedule, decides=decides)
        if written is not None:
            is_new = known is None or known.removed
            changes.tell("added" if is_new else "changed", schedule.name, written)
        elif known is not None and (known.removed or known.version != schedule.version):
            changes.tell("left", schedule.name)
        else:
            changes.tell("same", schedule.name)
    if decides:
        for gone in vanished(book.schedules.values(), names, packages):
            changes.tell("removed", gone.name, replace(gone, removed=True))
    return changes


def _packages(app: "App") -> set[str]:
    """The packages that the app's code consists of."""
    modules = [*app.include, *(task.function.__module__ for task in app.tasks.values())]
    return {module.partition(".")[0] for module in modules}


def _check_store(app: "App", schedule: Schedule) -> None:
    if schedule.overlap != "allow" and not app.settings.keeps_results:
        raise ConfigError(
            f"schedule {schedule.name}: overlap={schedule.overlap!r} needs a result store, which tells "
            "whether the last firing has ended: set cassandra_hosts (TASKSTREAM_CASSANDRA_HOSTS), or "
            "take overlap='allow'"
        )


def _read(app: "App") -> Book:
    book = Book()
    book.hear(
        Records(), read_to_end(app.settings, app.names.schedules, client_id="taskstream-schedules")
    )
    return book


def _find(app: "App", name: str) -> Schedule:
    return _of(app, _read(app), name)


def _of(app: "App", book: Book, name: str) -> Schedule:
    found = book.schedules.get(name)
    if found is None or found.removed:
        raise TaskstreamError(
            f"app {app.name} has no schedule {name!r}: `taskstream schedules list` shows them all"
        )
    return found


def _check_ours(schedule: Schedule) -> None:
    if schedule.package:
        raise ConfigError(
            f"schedule {schedule.name} is defined in the code of {schedule.package}: change it there; at run "
            "time it can be paused, and another one added beside it"
        )


def _signed(
    app: "App", schedule: Schedule, clock: Clock, who: str = "", **changes: Any
) -> Schedule:
    return replace(schedule, at=clock.now(), who=who or app.orders().who, **changes)


def _write(app: "App", changed: Iterable[Schedule]) -> None:
    ours = Records()
    app.orders().schedule([record_of(ours, schedule) for schedule in changed])


def _record(app: "App", verb: str, schedule: Schedule, reason: str, who: str = "") -> None:
    details = {"task": schedule.task, "when": str(schedule.when)}
    audit.record(app, verb, f"schedule:{schedule.name}", reason=reason, details=details, who=who)


def _states(app: "App", told: Iterable[Firings]) -> dict[str, State]:
    """Where the tasks of last firings are, by id; those that left no row are unknown."""
    ids = [one.last_id for one in told if one.last_id]
    try:
        store = app.result_store() if ids else None
    except MissingExtra:
        store = None
    if store is None:
        return {}
    rows = {task_id: current(found) for task_id, found in store.read_many(ids).items()}
    return {task_id: State.UNKNOWN if row is None else row.state for task_id, row in rows.items()}


def _arguments(payloads: Payloads, schedule: Schedule) -> Mapping[str, Any] | None:
    try:
        return payloads.decode(schedule.value)
    except TaskstreamError:
        return (
            None  # its schema is gone, or the store of schemas is away: the rest is worth showing
        )


def _shown(
    schedule: Schedule,
    firings: Firings | None,
    arguments: Mapping[str, Any] | None,
    states: Mapping[str, State],
    now: float,
) -> ShownSchedule:
    told = firings or Firings(name=schedule.name)
    when = schedule.when
    try:
        following = next_instant(schedule, firings, now)
    except (ConfigError, MissingExtra):
        following = None
    return ShownSchedule(
        name=schedule.name,
        task=schedule.task,
        cron=when.line if isinstance(when, Cron) else "",
        tz=when.tz if isinstance(when, Cron) else "",
        every=when.seconds if isinstance(when, Every) else None,
        arguments=arguments,
        queue=schedule.queue,
        priority=schedule.priority,
        key=schedule.key,
        expires=schedule.expires,
        catch_up=schedule.catch_up,
        overlap=schedule.overlap,
        paused=schedule.paused,
        origin=schedule.origin,
        next=following,
        last=told.last,
        last_id=told.last_id,
        last_state=State(told.ended_as) if told.ended_as else states.get(told.last_id),
        last_fired=told.fired,
        pending=told.pending,
        skipped=told.skipped,
        skipped_last=told.skipped_last,
        skipped_why=told.skipped_why,
    )
