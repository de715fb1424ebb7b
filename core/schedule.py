"""Schedules, and what becomes of their firings: pure.

A firing is told by its schedule's name and its instant, and its task's id follows from both: two schedulers
that fire the same one publish the same task, which is run once. So whoever takes over need not know whether
what was due a moment ago was published; it publishes it again.

What is due goes through two steps. `admit` says which instants are to fire at all: what came due while
nobody was there is a matter of the catch-up policy. `release` says which of these fire now: where the last
firing has not ended, that is a matter of the overlap policy.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Literal, get_args

from taskstream.core.cron import Every, When, instants
from taskstream.core.errors import ConfigError
from taskstream.core.ids import derived_id

CatchUp = Literal["skip", "once", "all"]
"""What is made up for after a stop: nothing, the latest instant alone, or all of them."""

Overlap = Literal["allow", "skip", "queue"]
"""What happens where the last firing has not ended: the next one fires too, is passed over, or waits."""

MOST = 1000
"""How many firings of one schedule are published at once, or wait, at most; the rest follow."""

SUPERSEDED = 20
"""How many earlier versions of a definition are remembered, to tell older code from newer."""

_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What fires, and when. Times are seconds since 1970.

    Args:
        name: its name, one of a kind in an app.
        task: the name of the task that it publishes.
        when: when it fires.
        value: the task's arguments, framed as in any record of it.
        queue: the queue it publishes to.
        priority: the priority it publishes with.
        key: the ordering key of its tasks.
        expires: seconds after its instant from which on a task is too old to run; None is never.
        catch_up: what is made up for after a stop.
        overlap: what happens where the last firing has not ended.
        paused: whether it fires nothing for now.
        removed: whether it is gone; the record stays, so that older code does not bring it back.
        since: what came before is no firing of it: when it was made, changed its times or was resumed.
        at: when this was written.
        who: who wrote it.
        package: the package of the code that defines it; empty where it was added at run time.
        version: tells one definition in code from another.
        superseded: the versions before it, the latest first.

    Raises:
        ConfigError: a name or a policy can't be.
    """

    name: str
    task: str
    when: When
    value: bytes
    queue: str
    priority: str
    key: str | None = None
    expires: float | None = None
    catch_up: CatchUp = "once"
    overlap: Overlap = "allow"
    paused: bool = False
    removed: bool = False
    since: float = 0.0
    at: float = 0.0
    who: str = ""
    package: str = ""
    version: str = ""
    superseded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ConfigError(
                f"schedule name {self.name!r} is not allowed: use 1 to 128 letters, digits, '_', '-' or "
                "'.', starting with a letter, a digit or '_'"
            )
        for what, policies in (("catch_up", CatchUp), ("overlap", Overlap)):
            if getattr(self, what) not in get_args(policies):
                raise ConfigError(
                    f"schedule {self.name}: {what}={getattr(self, what)!r} must be one of "
                    f"{', '.join(get_args(policies))}"
                )
        if self.expires is not None and not self.expires > 0:
            raise ConfigError(
                f"schedule {self.name}: expires={self.expires} must be above 0 seconds"
            )

    @property
    def origin(self) -> str:
        """Where it was defined: `code` or `runtime`."""
        return "code" if self.package else "runtime"

    @property
    def fires(self) -> bool:
        """Whether it fires at all for now."""
        return not (self.paused or self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firings:
    """What has become of a schedule's firings so far. Times are seconds since 1970.

    Args:
        name: the schedule's name.
        number: grows with each change, so that a late word of an earlier owner is known as such.
        owner: who said this.
        seen: up to which instant all are settled, or wait here.
        pending: instants that are to fire and wait for the end of the last one.
        last: the instant that fired last; None where none has.
        last_id: the id of its task.
        fired: when that was published.
        ended: when that ended; None where nobody knows.
        ended_as: the state that it ended in.
        skipped: how many instants were passed over so far.
        skipped_last: the last of them.
        skipped_why: why that was.
    """

    name: str
    number: int = 0
    owner: str = ""
    seen: float = 0.0
    pending: tuple[float, ...] = ()
    last: float | None = None
    last_id: str = ""
    fired: float | None = None
    ended: float | None = None
    ended_as: str = ""
    skipped: int = 0
    skipped_last: float | None = None
    skipped_why: str = ""

    @property
    def busy(self) -> bool:
        """Whether the task of the last firing may still be on its way."""
        return self.last is not None and self.ended is None


@dataclass(frozen=True, slots=True)
class Rules:
    """How long after its instant a firing is what. In seconds.

    Args:
        takeover: so late a firing may be because its scheduler died and another one took over: it is late,
            not missed.
        horizon: what is older is given up, for nobody could tell any more whether it has run.
    """

    takeover: float
    horizon: float


def task_id(app: str, name: str, instant: float) -> str:
    """The id of the task of one firing."""
    return derived_id(instant, "schedule", app, name, round(instant * 1000))


def schedule_key(name: str) -> bytes:
    """The key of a definition's record."""
    return f"schedule/{name}".encode()


def firings_key(name: str) -> bytes:
    """The key of the record that tells of its firings."""
    return f"firing/{name}".encode()


def admit(schedule: Schedule, firings: Firings, now: float, rules: Rules) -> Firings:
    """Lets in what has come due: as `pending`, or as skipped by the catch-up policy.

    While somebody was there all the time, or took over within `rules.takeover`, every instant is let in.
    After a longer stop the policy decides; an instant that is late by no more than that is let in anyway,
    if it is the latest.

    Args:
        schedule: the schedule.
        firings: what has become of it so far.
        now: seconds since 1970.
        rules: what counts as late, and as too old.

    Raises:
        ConfigError: its times can't be read.
    """
    firings = _without_stale(schedule, firings)
    room = MOST - len(firings.pending)
    if not schedule.fires or not room:
        return firings
    start = max(firings.seen, schedule.since, now - rules.horizon)
    coming = takewhile(lambda instant: instant <= now, instants(schedule.when, start))
    due = list(islice(coming, room) if schedule.catch_up == "all" else coming)
    if not due:
        return firings
    if due[0] >= now - rules.takeover or schedule.catch_up == "all":
        chosen = due[:room]
        due = chosen  # what there is no room for comes again
    elif schedule.catch_up == "once" or due[-1] >= now - rules.takeover:
        chosen = due[-1:]
    else:
        chosen = []
    let_in = replace(firings, seen=due[-1], pending=(*firings.pending, *chosen))
    return _skip(
        let_in, due[: len(due) - len(chosen)], "missed: no scheduler was there, or Kafka was away"
    )


def release(schedule: Schedule, firings: Firings) -> tuple[tuple[float, ...], Firings]:
    """Which of the pending instants fire now, and what is left; `fired` notes that they did.

    Args:
        schedule: the schedule.
        firings: what has become of it so far, what has come due let in, and the end of the last one noted
            if it is known.
    """
    pending = firings.pending
    if not pending or not schedule.fires:
        return (), firings
    if schedule.overlap == "allow":
        return pending, replace(firings, pending=())
    if schedule.overlap == "queue":
        return (
            ((), firings) if firings.busy else (pending[:1], replace(firings, pending=pending[1:]))
        )
    # Those that have come due together would overlap with the first of them.
    chosen = () if firings.busy else pending[:1]
    left = _skip(replace(firings, pending=()), pending[len(chosen) :], "the last one had not ended")
    return chosen, left


def fired(firings: Firings, app: str, instant: float, now: float) -> Firings:
    """What is noted once the firing of that instant is acknowledged."""
    return replace(
        firings,
        last=instant,
        last_id=task_id(app, firings.name, instant),
        fired=now,
        ended=None,
        ended_as="",
    )


def next_instant(schedule: Schedule, firings: Firings | None, now: float) -> float | None:
    """When it fires next, seconds since 1970; None for never, or not for now.

    Raises:
        ConfigError: its times can't be read.
    """
    if not schedule.fires:
        return None
    seen = 0.0 if firings is None else firings.seen
    return next(instants(schedule.when, max(seen, schedule.since, now)), None)


def version_of(schedule: Schedule) -> str:
    """What tells its definition from another one: a digest of all that its author wrote."""
    said = (
        schedule.name, schedule.task, repr(schedule.when), schedule.value.hex(), schedule.queue,
        schedule.priority, schedule.key, schedule.expires, schedule.catch_up, schedule.overlap,
    )  # fmt: skip
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def declare(known: Schedule | None, wanted: Schedule, *, decides: bool) -> Schedule | None:
    """What to write for a schedule that code defines; None where nothing is to be written.

    `init` decides: what its code says holds. A scheduler that starts only brings what is new, for in a
    rolling deploy one with older code may start after the new definition was written: a version that was
    superseded before, or removed, is left as it is.

    Args:
        known: what stands in the topic.
        wanted: what the code says; `since`, `at` and `who` are those of now.
        decides: whether the caller is `init`.
    """
    if known is None:
        return wanted
    if known.version == wanted.version and not (known.removed and decides):
        return None
    if wanted.version in known.superseded and not decides:
        return None
    goes_on = known.when == wanted.when and not known.removed
    earlier = dict.fromkeys(filter(None, (known.version, *known.superseded)))
    earlier.pop(wanted.version, None)
    return replace(
        wanted,
        paused=known.paused and not known.removed,
        since=known.since if goes_on else wanted.since,
        superseded=tuple(earlier)[:SUPERSEDED],
    )


def added(there: Schedule | None, schedule: Schedule) -> Schedule:
    """What to write for a schedule that is added at run time in the place of a removed one of that name.

    The versions that code had of it are remembered, so that no scheduler that starts brings them back.
    """
    if there is None:
        return schedule
    earlier = dict.fromkeys(filter(None, (there.version, *there.superseded)))
    return replace(schedule, superseded=tuple(earlier)[:SUPERSEDED])


def vanished(
    known: Iterable[Schedule], wanted: Collection[str], packages: Collection[str]
) -> list[Schedule]:
    """Those of the topic that this code once defined, and does not any more.

    Args:
        known: all of the topic.
        wanted: the names of all that the code defines.
        packages: the packages that the code consists of: another program's schedules are its own matter.
    """
    return [
        one
        for one in known
        if one.package and one.package in packages and one.name not in wanted and not one.removed
    ]


def newer(firings: Firings, known: Firings | None) -> bool:
    """Whether a record tells more than what is known already, or as much."""
    return known is None or (firings.number, firings.seen) >= (known.number, known.seen)


def telling(when: When) -> Mapping[str, str | float | None]:
    """When a schedule fires, as its record has it: `cron`, `tz` and `every`."""
    if isinstance(when, Every):
        return {"cron": "", "tz": "", "every": when.seconds}
    return {"cron": when.line, "tz": when.tz, "every": None}


def _without_stale(schedule: Schedule, firings: Firings) -> Firings:
    """What waits from before a pause or another time table is no firing any more."""
    stale = [instant for instant in firings.pending if instant <= schedule.since]
    if not stale:
        return firings
    kept = tuple(instant for instant in firings.pending if instant > schedule.since)
    return _skip(replace(firings, pending=kept), stale, "paused or changed meanwhile")


def _skip(firings: Firings, passed: Iterable[float], why: str) -> Firings:
    listed = list(passed)
    if not listed:
        return firings
    return replace(
        firings, skipped=firings.skipped + len(listed), skipped_last=listed[-1], skipped_why=why
    )
