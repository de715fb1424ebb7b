"""The pages of replays and of orders about queues: what somebody wants, what it would touch, and doing it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskstream.admin import queues, replay, shadow
from taskstream.admin.dashboard.flaws import Flaws
from taskstream.admin.dashboard.forms import counted, read_form, reason_of
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.reading import read_rate, settled
from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.admin.where import Where
from taskstream.core.errors import ConfigError
from taskstream.core.moments import instant
from taskstream.core.names import check_part
from taskstream.core.replay import Plan, ReplayProgress, ReplayReport, ReplayRequest
from taskstream.core.states import State

WANTED = (
    "queue", "priority", "since", "until", "task", "key", "where", "state", "error", "text", "ids", "shadow", "rate",
    "record",
)  # fmt: skip
"""What a replay can be told, by name."""

STATES = tuple(state for state in State if state.final or state is State.RETRYING)
"""In which a task may have been, so that it is asked for by it."""

VERBS = ("pause", "resume", "drain", "purge")

MEANINGS = {
    "pause": "Nothing more of it starts. What runs goes on.",
    "resume": "Its pauses and drains are taken back.",
    "drain": "What is there is finished, and nothing starts that enters later.",
    "purge": "What has entered up to now and does not run ends as cancelled. It can't be taken back.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be replayed, as it stands in an address or a form.

    Args:
        fields: by name; several states have a comma between them.
    """

    fields: Mapping[str, str]

    @classmethod
    def in_address(cls, given: QueryParams) -> "Wanted":
        """What is wanted in an address, where each state stands by itself."""
        return cls.of({**given, "state": ",".join(filter(None, given.getlist("state")))})

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Wanted":
        """What is wanted there, as it was typed."""
        return cls({name: given.get(name, "").strip()[:1000] for name in WANTED})

    def flaws(self, now: float) -> dict[str, str]:
        """What can't be read of it, by the name of its field."""
        flaws, asked = Flaws(), self.fields
        for name in ("since", "until"):
            flaws.read(name, asked, lambda text: instant(text, now))
        flaws.read("state", asked, read_states)
        flaws.read("where", asked, Where)
        flaws.read("rate", asked, read_rate)
        flaws.read("shadow", asked, lambda text: check_part("shadow", text))
        flaws.read("record", asked, read_record)
        if not asked["since"] and not asked["record"]:
            flaws.told["since"] = "say from when on, as in 2h or 2026-01-31T12:00"
        return flaws.told

    def settled(self, now: float) -> "Wanted":
        """The same with times as they are meant now: what comes later is not meant. Raises ConfigError."""
        return Wanted(settled(self.fields, now))

    def request(self) -> ReplayRequest:
        """The same for `admin.replay`. Raises ConfigError."""
        asked = self.fields
        place = read_record(asked["record"]) if asked["record"] else None
        return ReplayRequest(
            topics=(place[0],) if place is not None else (),
            offsets={place[1]: (place[2], place[2] + 1)} if place is not None else {},
            queue=asked["queue"] or None,
            priority=asked["priority"] or None,
            since=asked["since"] or None,
            until=asked["until"],
            tasks=(asked["task"],) if asked["task"] else (),
            key=asked["key"] or None,
            where=asked["where"],
            states=read_states(asked["state"]),
            error=asked["error"],
            text=asked["text"],
            shadow=asked["shadow"],
            ids=asked["ids"] or "new",
            rate=read_rate(asked["rate"]),
        )


class Again:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def replay(self, request: Request) -> Response:
        """What to replay, and the replays that the brokers know of."""
        return self._form(request, Wanted.in_address(request.query_params), {})

    async def replay_preview(self, request: Request) -> Response:
        """What a replay would publish, and the form that does it."""
        now = self._shell.clock.now()
        wanted = Wanted.in_address(request.query_params)
        flaws = wanted.flaws(now)
        if flaws:
            return self._form(request, wanted, flaws)
        wanted = wanted.settled(now)
        asked = self._own(wanted).request()

        def dry() -> Mapping[str, Any]:
            app = self._shell.app
            report = replay.dry_run(app, replay.settle(app, asked))
            return {
                "told": told_of(report), "count": report.count,
                "samples": [(one.task, one.id, one.arguments) for one in report.samples],
            }  # fmt: skip

        return self._preview(request, "replay", "/actions/replay", wanted.fields, dry)

    async def resume_preview(self, request: Request) -> Response:
        """What is left of a replay that ended early, and the form that goes on with it."""
        name = request.query_params.get("name", "").strip()

        def look() -> Mapping[str, Any]:
            known = replay.find(self._shell.app, name)
            left = known.notice.plan.total - known.read
            told = [
                f"{known.read:,} of {known.notice.plan.total:,} records are behind it, {left:,} are left.",
                f"It was begun by {known.notice.who}, because: {known.notice.reason or 'nobody said'}.",
                "It goes on from its last commit. What a crash has it publish a second time has the same id, and runs once.",
            ]
            if self._shell.jobs.under_way(_title(name)) is not None:
                return {
                    "told": [*told, "It is under way right now, from this dashboard."],
                    "count": 0,
                    "samples": (),
                }
            return {"told": told, "count": left, "samples": ()}

        return self._preview(request, "resume", "/actions/replay", {"resume": name}, look)

    async def act_replay(self, request: Request) -> Response:
        """Begins a replay, or goes on with one; its page tells how far it has come."""
        form = await read_form(self._shell, request)
        reason = reason_of(form)
        app, who = self._shell.app, request.scope["state"]["user"]
        name, rate = form.get("which-resume", ""), read_rate(form.get("rate", ""))

        if name:
            if self._shell.jobs.under_way(_title(name)) is not None:
                raise ConfigError(f"replay {name} is under way already")
            title = _title(name)
            begin = partial(replay.resume, app, name, rate=rate, reason=reason, who=who)
        else:
            plan = await aside(lambda: self._plan(form))
            title = _title(plan.name)
            begin = partial(replay.replay, app, plan, reason=reason, who=who)

        def work(progress: Callable[[int, int], None], stop: Callable[[], bool]) -> Sequence[str]:
            def tell(seen: ReplayProgress) -> None:
                progress(seen.read, seen.total)
                if stop():
                    raise KeyboardInterrupt  # its way to be stopped in good order

            try:
                return told_of(begin(tell=tell))
            except KeyboardInterrupt:
                return ["Interrupted in good order: the page of replays goes on with it."]

        job = self._shell.jobs.start(title, work)
        return RedirectResponse(f"{root_of(request)}/jobs/{job.id}", 303)

    def _plan(self, form: Mapping[str, str]) -> Plan:
        """The plan of what a form asks for, as the preview has settled it. Raises ConfigError."""
        if not form.get("which-until"):
            raise ConfigError("until is missing: begin with a preview")
        wanted = Wanted.of({name: form.get(f"which-{name}", "") for name in WANTED})
        settled = self._own(wanted).settled(self._shell.clock.now())
        return replay.settle(self._shell.app, settled.request())

    def _own(self, wanted: Wanted) -> Wanted:
        """The same, unless its record is another app's: this page is for one app alone. Raises ConfigError."""
        app, record = self._shell.app, wanted.fields["record"]
        topics = {app.names.tasks(queue, one) for queue, some in app.queues.items() for one in some}
        if record and read_record(record)[0] not in topics:
            raise ConfigError(f"record {record!r} stands in no topic of tasks of {app.name}")
        return wanted

    async def compare(self, request: Request) -> Response:
        """What the tasks of a shadow came to, beside what they came to themselves."""
        name = request.query_params.get("shadow", "").strip()

        def look() -> str:
            found = shadow.compare(self._shell.app, name)
            return render(
                "parts/comparison.html", found=found, matches=list(shadow.Match), **self._shell.visitor(request)
            )  # fmt: skip

        return self._shell.streamed(request, "compare.html", "Shadow", look, name=name)

    def _form(self, request: Request, wanted: Wanted, flaws: Mapping[str, str]) -> Response:
        def look() -> str:
            found = list(reversed(replay.replays(self._shell.app)))
            under_way = {
                one.notice.plan.name
                for one in found
                if self._shell.jobs.under_way(_title(one.notice.plan.name)) is not None
            }
            return render(
                "parts/replays.html", found=found, under_way=under_way, **self._shell.visitor(request)
            )  # fmt: skip

        return self._shell.streamed(
            request, "replay.html", "Replay", look, status=400 if flaws else 200,
            queues=self._shell.app.queues, states=STATES, asked=wanted.fields, flaws=flaws,
            ticked=wanted.fields["state"].split(","),
        )  # fmt: skip

    async def order_preview(self, request: Request) -> Response:
        """What an order about a queue or a kind of task would touch, and the form that gives it."""
        verb, target = (request.query_params.get(name, "").strip() for name in ("verb", "target"))
        _known_verb(verb)

        def count() -> Mapping[str, Any]:
            app = self._shell.app
            waiting = queues.waiting(app, target)
            told = [
                MEANINGS[verb],
                f"{waiting.queued:,} tasks are queued or run.",
                f"{waiting.retrying:,} are to be tried again, {waiting.delayed:,} are delayed.",
                *(f"Now {one}." for one in queues.holding(app, target)),
            ]
            return {"told": told, "count": max(1, waiting.total), "samples": ()}

        return self._preview(
            request, verb, "/actions/queue", {"verb": verb, "target": target}, count
        )

    async def act_order(self, request: Request) -> Response:
        """Gives an order about a queue or a kind of task."""
        form = await read_form(self._shell, request)
        verb, target = form.get("which-verb", ""), form.get("which-target", "")
        _known_verb(verb)
        reason, who = reason_of(form), request.scope["state"]["user"]
        give = {
            "pause": queues.pause, "resume": queues.resume, "drain": queues.drain, "purge": queues.purge,
        }[verb]  # fmt: skip
        await aside(lambda: give(self._shell.app, target, reason=reason, who=who))
        return RedirectResponse(f"{root_of(request)}/queues?{urlencode({'done': 'order'})}", 303)

    def _preview(
        self,
        request: Request,
        what: str,
        action: str,
        fields: Mapping[str, str],
        look: Callable[[], Mapping[str, Any]],
    ) -> Response:
        def looked() -> str:
            return render(
                "parts/again.html", what=what, action=action, fields=fields, **look(),
                **self._shell.visitor(request),
            )  # fmt: skip

        return self._shell.streamed(
            request, "again.html", f"Preview of a {what}", looked, what=what, fields=fields
        )


def told_of(report: ReplayReport) -> list[str]:
    """What a replay has published, or would publish, in words."""
    would = "would be" if report.dry else "is" if report.count == 1 else "are"
    lines = [f"{counted(report.count, 'task')} {would} published again."]
    lines += [f"{number:,} of them are {task or '?'}." for task, number in report.tasks.items()]
    lines += [
        f"{counted(number, 'record')} passed over: {why}." for why, number in report.skipped.items()
    ]
    return [*lines, report.untold] if report.untold else lines


def read_record(text: str) -> tuple[str, int, int]:
    """Topic, partition and offset of a record, as rows tell them: "topic/partition/offset". Raises ConfigError."""
    topic, _, offset = text.rpartition("/")
    topic, _, partition = topic.rpartition("/")
    if not topic or not _is_number(partition) or not _is_number(offset):
        raise ConfigError(f"record {text!r} is none: write topic/partition/offset")
    return topic, int(partition), int(offset)


def read_states(text: str) -> tuple[State, ...]:
    """States with commas between them. Raises ConfigError."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in STATES:
            raise ConfigError(f"no attempt ends as {name!r}: use {', '.join(STATES)}")
    return tuple(map(State, names))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _title(name: str) -> str:
    """By which an action is known that carries out this replay."""
    return f"replay {name}"


def _known_verb(verb: str) -> None:
    if verb not in VERBS:
        raise ConfigError(f"verb {verb!r} is none: use {', '.join(VERBS)}")
