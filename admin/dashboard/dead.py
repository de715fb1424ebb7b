"""The pages of the dead letters: by reason, one by one, and what a redrive or a purge would touch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskstream.admin import dead
from taskstream.admin.dashboard.flaws import Flaws
from taskstream.admin.dashboard.forms import counted, number, read_form, reason_of
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.reading import read_rate, settled
from taskstream.admin.dashboard.render import render
from taskstream.admin.dashboard.shell import Shell
from taskstream.admin.letters import Found, Letter, letters
from taskstream.admin.overview.morgue import chosen, groups
from taskstream.admin.redrive import Redriven, Refusal, redrive
from taskstream.admin.selection import Selection
from taskstream.admin.where import Where
from taskstream.core.errors import ConfigError
from taskstream.core.moments import instant

LETTERS = 50
"""Rows of a page."""

GROUPS = 30
REFUSALS = 20
"""How many refusals are told one by one."""

FIELDS = ("task", "reason", "text", "where", "since", "until", "id")
WHATS = ("redrive", "purge")
WHICH = "which-"
"""Before the names of filters in a form, which has a reason of its own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which letters somebody means, as it stands in an address or a form.

    Args:
        fields: the filters by name; patterns as in `thumb_*`.
    """

    fields: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, str], prefix: str = "") -> "Asked":
        """What is asked there, each filter by its name behind a prefix."""
        return cls({name: given.get(f"{prefix}{name}", "").strip()[:1000] for name in FIELDS})

    def flaws(self, now: float) -> dict[str, str]:
        """What can't be read of it, by the name of its field."""
        flaws = Flaws()
        flaws.read("since", self.fields, lambda text: instant(text, now))
        flaws.read("until", self.fields, lambda text: instant(text, now))
        flaws.read("where", self.fields, _where)
        return flaws.told

    def settled(self, now: float) -> "Asked":
        """The same with times as they are meant now: what dies later is not meant. Raises ConfigError."""
        return Asked(settled(self.fields, now))

    def selection(self, now: float) -> Selection:
        """The letters that are meant. Raises ConfigError."""
        asked = self.fields
        return Selection(
            task=asked["task"] or None,
            reason=asked["reason"] or None,
            text=asked["text"] or None,
            since=instant(asked["since"], now) if asked["since"] else None,
            until=instant(asked["until"], now) if asked["until"] else None,
            where=asked["where"] or None,
            ids=frozenset({asked["id"]}) if asked["id"] else frozenset(),
        )

    def parameters(self, **more: object) -> str:
        """The same as an address's parameters."""
        told = {**{name: text for name, text in self.fields.items() if text}, **more}
        return urlencode(told)


class Dead:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def letters(self, request: Request) -> Response:
        """All open letters by reason, and a page of those that are asked for."""
        asked = Asked.of(request.query_params)
        now = self._shell.clock.now()
        morgue, flaws = self._shell.live.morgue, asked.flaws(now)
        everything = morgue.letters()
        given: dict[str, Any] = {
            "asked": asked, "flaws": flaws, "groups": groups(everything)[:GROUPS], "caught_up": morgue.caught_up,
            "full": morgue.full,
        }  # fmt: skip
        if flaws:
            return self._shell.page(
                request, "dead.html", "Dead letters", status=400, place="", **given
            )
        page = number(request.query_params.get("page", "1"))

        def look() -> str:
            found = self._chosen(everything, asked.selection(now))
            return self._rows(request, asked, found, page)

        return self._shell.streamed(request, "dead.html", "Dead letters", look, **given)

    def _chosen(self, everything: Sequence[Letter], selection: Selection) -> Found:
        """The letters that are meant; only a condition asks for the topic, which has the arguments."""
        if selection.where is None:
            return Found(tuple(chosen(everything, selection)))
        return letters(self._shell.app, selection)

    def _rows(self, request: Request, asked: Asked, found: Found, page: int) -> str:
        first = (page - 1) * LETTERS
        return render(
            "parts/letters.html",
            asked=asked,
            found=found,
            letters=found.letters[first : first + LETTERS],
            total=len(found.letters),
            page=page,
            more=len(found.letters) > first + LETTERS,
            **self._shell.visitor(request),
        )

    async def preview(self, request: Request) -> Response:
        """What a redrive or a purge would touch, and the form that does it."""
        what = request.query_params.get("what", "")
        if what not in WHATS:
            raise ConfigError(f"what {what!r} is none: use {' or '.join(WHATS)}")
        asked = Asked.of(request.query_params)
        now = self._shell.clock.now()
        flaws = asked.flaws(now)
        if flaws:
            raise ConfigError("; ".join(flaws.values()))
        # What is not in the preview must not be touched: a time like 15m would be another one when the form is sent.
        asked = asked.settled(now)
        selection = asked.selection(now)
        return self._shell.streamed(
            request, "preview.html", f"Preview of a {what}",
            lambda: self._previewed(request, what, asked, selection), what=what, asked=asked,
        )  # fmt: skip

    async def act(self, request: Request) -> Response:
        """Begins a redrive or a purge; its page tells how far it has come."""
        form = await read_form(self._shell, request)
        what, reason = form.get("what", ""), reason_of(form)
        if what not in WHATS:
            raise ConfigError(f"what {what!r} is none: use {' or '.join(WHATS)}")
        asked = Asked.of(form, WHICH)
        if not asked.fields["until"]:
            raise ConfigError("until is missing: begin with a preview")
        selection = asked.selection(self._shell.clock.now())
        changes, arguments, rate = _changes(form), _arguments(form), read_rate(form.get("rate", ""))
        who, app = request.scope["state"]["user"], self._shell.app

        def work(progress: Callable[[int, int], None], stop: Callable[[], bool]) -> Sequence[str]:
            if what == "purge":
                purged = dead.purge(
                    app, selection, progress=progress, stop=stop, reason=reason, who=who
                )
                return told_of_purge(purged)
            done = redrive(
                app, selection, changes=changes, arguments=arguments, rate=rate,
                progress=progress, stop=stop, reason=reason, who=who,
            )  # fmt: skip
            return told_of_redrive(done)

        job = self._shell.jobs.start(f"{what} of dead letters", work)
        to = f"/jobs/{job.id}?{urlencode({'task': asked.fields['id']})}"
        return RedirectResponse(f"{root_of(request)}{to}", 303)

    async def job(self, request: Request) -> Response:
        """How far an action has come."""
        job = self._shell.jobs.find(request.path_params["id"])
        task = request.query_params.get("task", "")
        return self._shell.page(
            request, "job.html", "Action", status=404 if job is None else 200, job=job, task=task
        )

    async def job_part(self, request: Request) -> Response:
        """The same, as a part of its page."""
        job = self._shell.jobs.find(request.query_params.get("id", ""))
        text = render(
            "parts/job.html", job=job, now=self._shell.clock.now(), **self._shell.visitor(request)
        )
        return Response(text, media_type="text/html")

    def _previewed(self, request: Request, what: str, asked: Asked, selection: Selection) -> str:
        original = ""
        if what == "purge":
            purged = dead.purge(self._shell.app, selection, dry_run=True)
            told, count = told_of_purge(purged), purged.purged
        else:
            done = redrive(self._shell.app, selection, dry_run=True)
            told, count = told_of_redrive(done), done.redriven + done.already
            if asked.fields["id"] and count:
                original = self._arguments_of(asked.fields["id"])
        return render(
            "parts/preview.html", what=what, asked=asked, told=told, count=count, original=original,
            **self._shell.visitor(request),
        )  # fmt: skip

    def _arguments_of(self, task_id: str) -> str:
        """The arguments of one letter as they can be corrected; empty where they can't be read."""
        shown = dead.show(self._shell.app, task_id)
        if shown.arguments is None:
            return ""
        return json.dumps(shown.arguments, indent=2, ensure_ascii=False)


def told_of_redrive(done: Redriven) -> list[str]:
    """What came of a redrive, or would come of it, in words."""
    runs = (
        "would run again" if done.dry_run else "runs again" if done.redriven == 1 else "run again"
    )
    lines = [f"{_meant(done.selected)}; {counted(done.redriven, 'task')} {runs}."]
    lines += [f"{count:,} of them are {task or '?'}." for task, count in done.by_task.items()]
    lines += _some(done.resumed, "were begun by an earlier redrive that did not come to its end")
    lines += _some(done.already, "have gone on before, and are only closed")
    lines += _some(done.unexpired, "had expired; that is left out")
    return [*lines, *_rest(done.refused, done.left, done.untold, done.why_untold)]


def told_of_purge(done: dead.Purged) -> list[str]:
    """What came of a purge, or would come of it, in words."""
    are = "would be closed" if done.dry_run else "are closed"
    lines = [f"{_meant(done.selected)}; {done.purged:,} {are}, and their tasks stay dead."]
    return [*lines, *_rest(done.refused, done.left, done.untold, done.why_untold)]


def _rest(refused: Sequence[Refusal], left: int, untold: int, why: str) -> list[str]:
    lines = [*_some(len(refused), "are refused"), *_some(left, "were not reached")]
    lines += _some(untold, f"are left out, for it can't be told whether they are meant ({why})")
    lines += [f"{one.task} {one.id}: {one.why}." for one in refused[:REFUSALS]]
    return lines


def _meant(count: int) -> str:
    return f"{counted(count, 'letter')} {'is' if count == 1 else 'are'} meant"


def _some(count: int, what: str) -> list[str]:
    return [f"{count:,} {what}."] if count else []


def _changes(form: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments to be corrected, from lines of `name=JSON`."""
    found = {}
    for line in filter(None, (line.strip() for line in form.get("changes", "").splitlines())):
        name, equals, text = line.partition("=")
        if not equals:
            raise ConfigError(f"{line!r} is no change: write name=VALUE, the value as JSON")
        found[name.strip()] = _json(name.strip(), text)
    return found or None


def _arguments(form: Mapping[str, str]) -> dict[str, Any] | None:
    """All arguments of a single letter, where somebody has changed them."""
    given, was = form.get("arguments", "").strip(), form.get("was", "").strip()
    if not given or not was:
        return None
    arguments = _json("arguments", given)
    if not isinstance(arguments, dict):
        raise ConfigError("arguments must be one JSON object, by name")
    return None if arguments == _json("was", was) else arguments


def _where(text: str) -> object:
    """Refuses what is no condition. Raises ConfigError."""
    return Where(text)


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} is no JSON: {error}") from error
