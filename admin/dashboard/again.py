"""The pages of replays and of orders about queues: what somebody wants, what it would touch, and doing it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from taskstream.admin import queues, replay
from taskstream.admin.dashboard.forms import read_form, reason_of
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.core.errors import ConfigError, TaskstreamError
from taskstream.core.moments import instant, moment
from taskstream.core.replay import ReplayProgress, ReplayReport, ReplayRequest

WANTED = ("queue", "priority", "since", "until", "task", "key", "where", "ids", "rate")
"""What a replay can be told, by name."""

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
        fields: by name.
    """

    fields: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, str], now: float) -> "Wanted":
        """What is wanted there, with times as they are meant now: what comes later is not meant."""
        fields = {name: given.get(name, "").strip()[:1000] for name in WANTED}
        for name in ("since", "until"):
            if fields[name]:
                fields[name] = moment(instant(fields[name], now))
        fields["until"] = fields["until"] or moment(now)
        return cls(fields)

    def request(self) -> ReplayRequest:
        """The same for `admin.replay`. Raises ConfigError."""
        asked = self.fields
        if not asked["since"]:
            raise ConfigError(
                "say from when on tasks are to be replayed, as in 2h or 2026-01-31T12:00"
            )
        try:
            rate = float(asked["rate"]) if asked["rate"] else None
        except ValueError:
            raise ConfigError(
                f"rate {asked['rate']!r} is none: write how many tasks a second"
            ) from None
        return ReplayRequest(
            queue=asked["queue"] or None,
            priority=asked["priority"] or None,
            since=asked["since"],
            until=asked["until"],
            tasks=(asked["task"],) if asked["task"] else (),
            key=asked["key"] or None,
            where=asked["where"],
            ids=asked["ids"] or "new",
            rate=rate,
        )


class Again:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def replay(self, request: Request) -> Response:
        """What to replay."""
        return self._shell.page(request, "replay.html", "Replay", queues=self._shell.app.queues)

    async def known(self, request: Request) -> Response:
        """The replays that the brokers know of."""

        def read() -> str:
            found: Sequence[replay.KnownReplay] = ()
            trouble = ""
            try:
                found = list(reversed(replay.replays(self._shell.app)))
            except TaskstreamError as error:
                trouble = str(error)
            visitor = self._shell.visitor(request)
            return render("parts/replays.html", found=found, trouble=trouble, **visitor)

        text = await aside(read)
        if "hx-request" in request.headers:
            return Response(text, media_type="text/html")
        return self._shell.page(request, "alone.html", "Replays", text=text)

    async def replay_preview(self, request: Request) -> Response:
        """What a replay would publish, and the form that does it."""
        wanted = Wanted.of(request.query_params, self._shell.clock.now())
        asked = wanted.request()

        def dry() -> Mapping[str, Any]:
            app = self._shell.app
            report = replay.dry_run(app, replay.settle(app, asked))
            return {
                "told": told_of(report), "count": report.count,
                "samples": [(one.task, one.id, one.arguments) for one in report.samples],
            }  # fmt: skip

        return self._preview(request, "replay", "/actions/replay", wanted.fields, dry)

    async def act_replay(self, request: Request) -> Response:
        """Begins a replay; its page tells how far it has come."""
        form = await read_form(self._shell, request)
        reason = reason_of(form)
        if not form.get("which-until"):
            raise ConfigError("until is missing: begin with a preview")
        given = {name: form.get(f"which-{name}", "") for name in WANTED}
        asked = Wanted.of(given, self._shell.clock.now()).request()
        app, who = self._shell.app, request.scope["state"]["user"]

        def work(progress: Callable[[int, int], None], stop: Callable[[], bool]) -> Sequence[str]:
            def tell(seen: ReplayProgress) -> None:
                progress(seen.read, seen.total)
                if stop():
                    raise KeyboardInterrupt  # its way to be stopped in good order

            plan = replay.settle(app, asked)
            try:
                return told_of(replay.replay(app, plan, reason=reason, who=who, tell=tell))
            except KeyboardInterrupt:
                return [
                    f"Interrupted: `taskstream replay run --resume {plan.name}` goes on with it."
                ]

        job = self._shell.jobs.start("replay", work)
        return RedirectResponse(f"{root_of(request)}/jobs/{job.id}", 303)

    async def order_preview(self, request: Request) -> Response:
        """What an order about a queue or a kind of task would touch, and the form that gives it."""
        verb, target = (request.query_params.get(name, "").strip() for name in ("verb", "target"))
        _known_verb(verb)

        def count() -> Mapping[str, Any]:
            app = self._shell.app
            holding = [
                str(one) for one in queues.standing(app).orders if one.target.startswith(target)
            ]
            waiting = queues.waiting(app, target)
            told = [
                MEANINGS[verb],
                f"{waiting.queued:,} tasks are queued or run.",
                f"{waiting.retrying:,} are to be tried again, {waiting.delayed:,} are delayed.",
                *(f"Now {one}." for one in holding),
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
        place = token_hex(16)
        text = self._shell.text(
            request, "again.html", f"Preview of a {what}", what=what, fields=fields, place=place
        )
        head, _, tail = text.partition(place)

        def looked() -> str:
            found: Mapping[str, Any] = {"told": (), "count": 0, "samples": ()}
            trouble = ""
            try:
                found = look()
            except TaskstreamError as error:
                trouble = str(error)
            return render(
                "parts/again.html", what=what, action=action, fields=fields, trouble=trouble,
                **found, **self._shell.visitor(request),
            )  # fmt: skip

        async def stream() -> AsyncIterator[str]:
            yield head
            yield await aside(looked)
            yield tail

        return StreamingResponse(stream(), media_type="text/html")


def told_of(report: ReplayReport) -> list[str]:
    """What a replay has published, or would publish, in words."""
    would = "would be published" if report.dry else "are published"
    lines = [f"{report.count:,} tasks {would} again."]
    lines += [f"{number:,} of them are {task or '?'}." for task, number in report.tasks.items()]
    lines += [
        f"{number:,} records are passed over: {why}." for why, number in report.skipped.items()
    ]
    return [*lines, report.untold] if report.untold else lines


def _known_verb(verb: str) -> None:
    if verb not in VERBS:
        raise ConfigError(f"verb {verb!r} is none: use {', '.join(VERBS)}")
