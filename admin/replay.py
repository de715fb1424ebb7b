"""Replays: tasks that stand in a topic are published again.

`settle` makes a plan of what somebody wants, `dry_run` says what it would publish, `replay` publishes
it, `resume` goes on after an interruption. How far a replay is are the offsets of a consumer group
without members, and its plan stands beside them; so any machine can go on, as long as the brokers keep
the offsets of a group at rest (`offsets.retention.minutes`, a week by default).
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskstream.admin import audit
from taskstream.admin.choosing import Chooser
from taskstream.admin.republish import Heard, Republisher, Tell, chooser_of, destinations
from taskstream.admin.walk import walk
from taskstream.broker.failures import UnknownTopic
from taskstream.broker.topics import Topics
from taskstream.core.clock import SYSTEM_CLOCK, Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import ConfigError
from taskstream.core.moments import instant
from taskstream.core.names import check_part
from taskstream.core.replay import (
    Ids,
    Moment,
    Notice,
    Plan,
    ReplayReport,
    ReplayRequest,
    Stretch,
    advanced,
    lane_of,
)
from taskstream.core.states import State

if TYPE_CHECKING:
    from taskstream.app.app import App

VERB = "replay"
"""By which the audit log knows replays; their target is `replay:NAME`."""

BEGUN, RESUMED, INTERRUPTED, DONE = "begun", "resumed", "interrupted", "done"
"""What the audit log says of a replay, as `state`."""


@dataclass(frozen=True, slots=True)
class KnownReplay:
    """A replay that the brokers know of.

    Args:
        notice: what was asked for, by whom and why.
        read: offsets that are behind it.
    """

    notice: Notice
    read: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left of it."""
        return self.read >= self.notice.plan.total

    def as_json(self) -> dict[str, Any]:
        """It as `replay list --json` shows it."""
        plan = self.notice.plan
        return {
            "name": plan.name,
            "at": self.notice.at,
            "who": self.notice.who,
            "reason": self.notice.reason,
            "read": self.read,
            "total": plan.total,
            "finished": self.finished,
            "shadow": plan.shadow,
        }


def run(
    app: "App",
    request: ReplayRequest,
    *,
    dry: bool = False,
    reason: str = "",
    tell: Tell | None = None,
) -> ReplayReport:
    """Settles a plan and carries it out, or says what it would publish; what `app.replay` does."""
    plan = settle(app, request)
    return dry_run(app, plan, tell=tell) if dry else replay(app, plan, reason=reason, tell=tell)


def settle(app: "App", request: ReplayRequest, *, clock: Clock = SYSTEM_CLOCK) -> Plan:
    """The plan of what somebody wants; from here on it is settled which records are read.

    Args:
        app: the app; the modules of its `include` are imported.
        request: what is wanted.
        clock: the time.

    Raises:
        ConfigError: it can't be meant: a topic, queue or partition that is not there, a time that is
            none, a condition that is no expression.
        BrokerError: Kafka refused or can't be reached.
        MissingExtra: conditions need the extra `cli`.
    """
    app.load_tasks()
    settings = app.settings
    settings.require_broker()
    now = clock.now()
    since, until = _seconds(request.since, now), _seconds(request.until, now)
    if since is not None and until is not None and since >= until:
        raise ConfigError(f"from {request.since} to {request.until}: nothing lies in between")
    with Topics(settings, client_id="taskstream-replay") as broker:
        stretches = [
            one
            for topic in _sources(app, request)
            for one in _stretches(broker, topic, request, since, until, embedded=settings.embedded)
        ]
        plan = Plan(
            name=check_part("replay", request.name or _name(now)),
            stretches=tuple(stretches),
            since=since,
            until=until,
            tasks=tuple(request.tasks),
            key=request.key,
            settled=now,
            where=request.where,
            states=tuple(map(State, request.states)),
            error=request.error,
            text=request.text,
            ids=Ids.SAME if request.shadow else Ids(request.ids),
            to_topic=request.to_topic,
            to_queue=request.to_queue,
            to_priority=request.to_priority,
            shadow=request.shadow,
            rate=request.rate,
        )
        _check(app, plan, broker)
    return plan


def dry_run(app: "App", plan: Plan, *, tell: Tell | None = None) -> ReplayReport:
    """What a replay of this plan publishes, with some of it shown; changes nothing.

    Raises:
        BrokerError: Kafka refused or can't be reached; OffsetLost where retention was faster.
        StoreError: certain outcomes are wanted, and the result store did not answer.
    """
    started = time.monotonic()
    chooser = chooser_of(app, plan)
    heard = Heard(plan, tell)
    positions: dict[Place, int] = {}
    for chunk in walk(app.settings, plan.stretches, client_id="taskstream-replay"):
        chooser.choose(chunk.records)
        positions |= chunk.positions
        heard.tell(positions, chooser.count)
    heard.tell(positions, chooser.count, now=True)
    return _report(plan, chooser, dry=True, started=started)


def replay(
    app: "App",
    plan: Plan,
    *,
    reason: str = "",
    who: str = "",
    tell: Tell | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ReplayReport:
    """Publishes what a plan selects; back when Kafka has acknowledged all of it.

    A KeyboardInterrupt passes through once what was published is acknowledged and committed: `resume`
    goes on from there. After a kill it goes on from the last commit.

    Args:
        app: the app.
        plan: as `settle` gave it.
        reason: why, for the audit log.
        who: who asks, for the same; whoever runs this process, unless given.
        tell: hears how far it is.
        clock: the time.

    Raises:
        ConfigError: there was a replay of that name, or the plan is too long to be kept.
        BrokerError: Kafka refused; what was committed stands.
        StoreError: tasks keep their ids or certain outcomes are wanted, and the result store did not
            answer.
    """
    if not plan.stretches:
        return _report(plan, chooser_of(app, plan), dry=False, started=time.monotonic())
    asker = app.orders().action(VERB, plan.name, who=who).who
    notice = Notice(plan=plan, at=clock.now(), who=asker, reason=reason)
    positions = {one.place: one.first for one in plan.stretches}
    group = app.names.replay_group(plan.name)
    with Topics(app.settings, client_id="taskstream-replay") as broker:
        if _committed(plan, group, broker):
            raise ConfigError(
                f"there was a replay named {plan.name}: resume that one (`--resume {plan.name}`), or "
                "choose another name"
            )
        broker.commit(group, positions, notice.notes())
    _note(app, plan, BEGUN, reason=reason, who=who)
    return _carry_out(app, notice, positions, tell=tell, who=who, clock=clock)


def resume(
    app: "App",
    name: str,
    *,
    rate: float | None = None,
    reason: str = "",
    who: str = "",
    tell: Tell | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ReplayReport:
    """Goes on with a replay that was interrupted, here or elsewhere; otherwise as `replay`.

    Args:
        app: the app.
        name: the replay's.
        rate: another rate; None for that of the plan.
        reason: why, for the audit log.
        who: who asks, for the same; whoever runs this process, unless given.
        tell: hears how far it is.
        clock: the time.

    Raises:
        ConfigError: none of that name is known (any more), or it is done.
        OffsetLost: retention has deleted records that it had still to read.
    """
    app.load_tasks()
    known, commits = _find(app, name)
    if known.finished:
        raise ConfigError(f"replay {name} is done: nothing is left of it")
    notice = known.notice
    if rate is not None:
        notice = replace(notice, plan=replace(notice.plan, rate=rate))
    positions = {
        one.place: commits.get(one.place, (one.first, ""))[0] for one in notice.plan.stretches
    }
    _note(app, notice.plan, RESUMED, reason=reason, who=who)
    return _carry_out(app, notice, positions, tell=tell, who=who, clock=clock)


def replays(app: "App") -> list[KnownReplay]:
    """All replays that the brokers have not forgotten yet, the oldest first.

    Raises:
        BrokerError: Kafka refused or can't be reached, or is the embedded one, which lists no groups.
    """
    found = []
    with Topics(app.settings, client_id="taskstream-replay") as broker:
        for group in broker.groups(app.names.replay_group("")):
            with suppress(ConfigError):  # half forgotten, or of another version
                found.append(_known(broker.noted(group)))
    return sorted(found, key=lambda one: one.notice.at)


def find(app: "App", name: str) -> KnownReplay:
    """One replay, by its name.

    Raises:
        ConfigError: none of that name is known (any more).
        BrokerError: Kafka refused or can't be reached.
    """
    return _find(app, name)[0]


def _find(app: "App", name: str) -> tuple[KnownReplay, Mapping[Place, tuple[int, str]]]:
    group = app.names.replay_group(check_part("replay", name))
    with Topics(app.settings, client_id="taskstream-replay") as broker:
        commits = broker.noted(group)
    if not commits:
        raise ConfigError(f"no replay named {name} is known: `taskstream replay list` shows all")
    return _known(commits), commits


# --- what is read, and whether it can be meant


def _sources(app: "App", request: ReplayRequest) -> list[str]:
    """The topics that are read."""
    ours = [
        (queue, priority) for queue, priorities in app.queues.items() for priority in priorities
    ]
    if request.topics:
        for topic in request.topics:
            if topic.startswith(f"{app.name}.") and lane_of(app.name, topic) is None:
                raise ConfigError(
                    f"topic {topic} holds no tasks to be replayed"
                    + (": see `taskstream dead redrive`" if topic == app.names.dead else "")
                )
        topics = list(dict.fromkeys(request.topics))
    else:
        topics = [
            app.names.tasks(queue, priority)
            for queue, priority in ours
            if request.queue in (None, queue) and request.priority in (None, priority)
        ]
    if not topics:
        raise ConfigError(
            f"no queue {request.queue or '*'} with priority {request.priority or '*'}; there are "
            + ", ".join(f"{queue}.{priority}" for queue, priority in ours)
        )
    if request.offsets and len(topics) > 1:
        raise ConfigError(
            "offsets are those of one topic: name it, or its queue and priority; here are "
            + ", ".join(topics)
        )
    return topics


def _stretches(
    broker: Topics,
    topic: str,
    request: ReplayRequest,
    since: float | None,
    until: float | None,
    *,
    embedded: bool,
) -> Iterable[Stretch]:
    """The part of each partition that is read; empty ones are left out."""
    ranges = broker.ranges(topic)
    by_time = not embedded  # that broker can't look a time up: all is read, and judged by its time
    starts = broker.offsets_at(topic, since) if by_time and since is not None else {}
    ends = broker.offsets_at(topic, until) if by_time and until is not None else {}
    wanted = {*request.partitions, *request.offsets}
    for number in wanted:
        if Place(topic, number) not in ranges:
            raise ConfigError(f"topic {topic} has {len(ranges)} partitions, and none is {number}")
    for place, (low, high) in ranges.items():
        if wanted and place.partition not in wanted:
            continue
        told_first, told_end = request.offsets.get(place.partition, (low, None))
        first = max(told_first, starts.get(place, low))
        end = min(high if told_end is None else told_end, ends.get(place, high))
        if first < end:
            yield Stretch(topic, place.partition, first, end)


def _check(app: "App", plan: Plan, broker: Topics) -> None:
    """Refuses what would fail half way."""
    chooser_of(app, plan)
    if plan.keeps_ids and not app.settings.keeps_results:
        raise ConfigError(
            "tasks that keep their ids become further runs, which are numbered in the result store, and "
            "none is configured: set cassandra_hosts, or replay them with new ids"
        )
    for told, known, kind in (
        (plan.to_queue, list(app.queues), "queue"),
        (
            plan.to_priority,
            sorted({name for one in app.queues.values() for name in one}),
            "priority",
        ),
    ):
        if told is not None and told not in known:
            raise ConfigError(f"no {kind} {told!r} to replay into; there are {', '.join(known)}")
    if plan.shadow and not any(task.shadow is not None for task in app.tasks.values()):
        raise ConfigError(
            f"shadow {plan.shadow}: no task of app {app.name} has a function for it: define one with "
            "@app.task(shadow=function)"
        )
    bound = {task.topic for task in app.tasks.values()} - {None}
    for topic in destinations(app, plan).values():
        if topic in bound or (topic.startswith(f"{app.name}.") and not lane_of(app.name, topic)):
            raise ConfigError(f"topic {topic} is not for tasks to be published to")
        try:
            broker.partitions(topic)
        except UnknownTopic as error:
            told = (
                f"taskstream init APP --shadow {plan.shadow}" if plan.shadow else "taskstream init"
            )
            raise ConfigError(f"topic {topic} does not exist: run `{told}` first") from error


def _seconds(told: Moment | None, now: float) -> float | None:
    """A moment in seconds since 1970. Raises ConfigError."""
    if told is None:
        return None
    if isinstance(told, datetime):
        if told.tzinfo is None:
            raise ConfigError(f"time {told.isoformat()}: a datetime needs a time zone")
        return told.timestamp()
    if not isinstance(told, str):
        return float(told)
    with suppress(ValueError):
        return float(told)
    return now if told.strip() == "now" else instant(told.strip().removesuffix("ago"), now)


def _name(now: float) -> str:
    moment = datetime.fromtimestamp(now, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


# --- publishing


def _carry_out(
    app: "App",
    notice: Notice,
    positions: Mapping[Place, int],
    *,
    tell: Tell | None,
    who: str = "",
    clock: Clock,
) -> ReplayReport:
    started, plan = time.monotonic(), notice.plan
    with ExitStack() as stack:
        heard = Heard(plan, tell)
        work = Republisher(app, notice, positions, stack, heard=heard, clock=clock)
        try:
            work.run()
        except KeyboardInterrupt:
            heard.mute()
            work.save()
            _note(app, plan, INTERRUPTED, count=work.count, who=who)
            raise
    report = _report(plan, work.chooser, dry=False, started=started)
    _note(app, plan, DONE, count=report.count, report=report, who=who)
    return report


def _report(plan: Plan, chooser: Chooser, *, dry: bool, started: float) -> ReplayReport:
    return ReplayReport(
        plan=plan,
        dry=dry,
        tasks=dict(chooser.tasks.most_common()),
        skipped=dict(chooser.skipped.most_common()),
        untold=chooser.untold,
        samples=tuple(chooser.samples),
        seconds=time.monotonic() - started,
    )


# --- what is kept of replays


def _note(
    app: "App",
    plan: Plan,
    state: str,
    *,
    reason: str = "",
    count: int | None = None,
    report: ReplayReport | None = None,
    who: str = "",
) -> None:
    details = {"state": state, "plan": plan.to_text()}
    if report is not None:
        details["tasks"] = ", ".join(f"{task} {number}" for task, number in report.tasks.items())
        details["skipped"] = ", ".join(f"{why} {number}" for why, number in report.skipped.items())
    target = f"{VERB}:{plan.name}"
    audit.record(app, VERB, target, reason=reason, count=count, details=details, who=who)


def _known(commits: Mapping[Place, tuple[int, str]]) -> KnownReplay:
    """The replay that has left these commits. Pure; raises ConfigError where some are missing."""
    notice = Notice.from_notes(note for _, note in commits.values())
    positions = {place: offset for place, (offset, _) in commits.items()}
    return KnownReplay(notice, advanced(notice.plan, positions))


def _committed(plan: Plan, group: str, broker: Topics) -> bool:
    """Whether a replay of that name has left an offset in one of these topics."""
    topics = dict.fromkeys(one.topic for one in plan.stretches)
    return any(
        offset is not None for topic in topics for offset in broker.committed(group, topic).values()
    )
