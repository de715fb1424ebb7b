"""The pages of the schedules: what fires when, one of them in full, and adding or changing one with a preview."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskstream.admin import schedules
from taskstream.admin.dashboard.flaws import Flaws
from taskstream.admin.dashboard.forms import read_form, reason_of
from taskstream.admin.dashboard.guard import root_of
from taskstream.admin.dashboard.reading import read_seconds
from taskstream.admin.dashboard.render import render, segment
from taskstream.admin.dashboard.shell import Shell, aside
from taskstream.admin.overview.words import pretty
from taskstream.admin.publishing import json_object
from taskstream.app.timetable import read_when
from taskstream.core.cron import Cron, Every, check
from taskstream.core.errors import ConfigError
from taskstream.core.schedule import CatchUp, Overlap, Schedule
from taskstream.schemas.changes import type_in_words

if TYPE_CHECKING:
    from taskstream.app.app import App

HOLDS = ("pause", "resume", "run", "remove")
"""What can be done to a schedule that is there."""

WANTED = (
    "change", "task", "when", "tz", "arguments", "name", "queue", "priority", "key", "expires", "catch_up", "overlap",
)  # fmt: skip
"""What a form tells of a schedule that is to be, by name; `change` is the name of one that is there."""

UPCOMING = 5
"""How many of the next firings are told."""

_EVERY = re.compile(r"every\s+(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def read_times(text: str) -> str | Every:
    """When a schedule is to fire, as people type it: a cron line, or "every 30 s", "every 5 min".

    Raises:
        ConfigError: a period that can't be. A cron line is read elsewhere.
    """
    period = _EVERY.fullmatch(text.strip())
    if period is None:
        return text
    return Every(float(period[1]) * _SECONDS[(period[2] or "s").lower()])


def times_in_words(schedule: Schedule) -> str:
    """The inverse, for a form."""
    when = schedule.when
    return when.line if isinstance(when, Cron) else f"every {_plain(when.seconds)} s"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schedule that somebody wants, as it stands in an address or a form.

    Args:
        fields: by name.
    """

    fields: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, str], prefix: str = "") -> "Wanted":
        """What is wanted there, each field by its name behind a prefix."""
        told = {name: given.get(f"{prefix}{name}", "").strip()[:100_000] for name in WANTED}
        return cls({**told, "tz": told["tz"] or "UTC"})

    @classmethod
    def like(cls, schedule: Schedule, arguments: Mapping[str, Any] | None) -> "Wanted":
        """What stands there now."""
        told = {
            "change": schedule.name,
            "task": schedule.task,
            "name": schedule.name,
            "when": times_in_words(schedule),
            "tz": schedule.when.tz if isinstance(schedule.when, Cron) else "UTC",
            "arguments": "" if arguments is None else pretty(arguments),
            "queue": schedule.queue,
            "priority": schedule.priority,
            "key": schedule.key or "",
            "expires": "" if schedule.expires is None else _plain(schedule.expires),
            "catch_up": schedule.catch_up,
            "overlap": schedule.overlap,
        }
        return cls(told)

    @property
    def blank(self) -> bool:
        """Whether nobody has said yet what is wanted."""
        return not self.fields["task"] or not self.fields["when"]

    def flaws(self, app: "App") -> dict[str, str]:
        """What can't be of it, by field; asks nobody."""
        flaws, asked = Flaws(), self.fields
        flaws.read("when", asked, lambda text: check(read_when(read_times(text), asked["tz"])))
        if "no time zone" in flaws.told.get("when", ""):
            flaws.told["tz"] = flaws.told.pop("when")
        flaws.read("name", asked, _check_name)
        flaws.read("expires", asked, read_seconds)
        flaws.read("arguments", asked, lambda text: _check_arguments(app, asked["task"], text))
        for name in ("queue", "priority"):
            place = {"queue": asked["queue"] or None, "priority": asked["priority"] or None}
            if not flaws.told.get("queue"):
                flaws.read(name, asked, lambda _, place=place: app.place_of(asked["task"], **place))  # type: ignore[misc]
        return flaws.told

    def told(self) -> dict[str, Any]:
        """The same for `admin.schedules`. Raises ConfigError or BadArguments."""
        asked = self.fields
        return {
            "when": read_times(asked["when"]),
            "arguments": json_object(asked["task"], asked["arguments"] or "{}"),
            "tz": asked["tz"],
            "queue": asked["queue"] or None,
            "priority": asked["priority"] or None,
            "key": asked["key"] or None,
            "expires": read_seconds(asked["expires"]) if asked["expires"] else None,
            "catch_up": asked["catch_up"] or "once",
            "overlap": asked["overlap"] or "allow",
        }


class Timetable:
    """The pages.

    Args:
        shell: what they are made with.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def index(self, request: Request) -> Response:
        """All schedules."""

        def look() -> str:
            found = schedules.schedules(self._shell.app)
            now = self._shell.clock.now()
            return render(
                "parts/schedules.html", found=found, now=now, **self._shell.visitor(request)
            )

        done = _DONE.get(request.query_params.get("done", ""), "")
        return self._shell.streamed(request, "schedules.html", "Schedules", look, done=done)

    async def one(self, request: Request) -> Response:
        """One schedule: how it fires, what it publishes, and what can be done to it."""
        name = request.path_params["name"]
        done = _DONE.get(request.query_params.get("done", ""), "")

        def look() -> str:
            now = self._shell.clock.now()
            shown, schedule = self._find(name)
            return render(
                "parts/schedule.html", one=shown, now=now,
                coming=schedules.upcoming(schedule, UPCOMING, now), **self._shell.visitor(request),
            )  # fmt: skip

        return self._shell.streamed(
            request, "schedule.html", f"Schedule {name}", look, name=name, done=done
        )

    async def form(self, request: Request) -> Response:
        """What a new schedule is to be, or how one is to change; with a preview of its firings."""
        app = self._shell.app
        await aside(app.load_tasks)
        wanted = Wanted.of(request.query_params)
        if wanted.fields["change"] and wanted.blank:
            shown, schedule = await aside(lambda: self._find(wanted.fields["change"]))
            wanted = Wanted.like(schedule, shown.arguments)
        flaws = {} if wanted.blank else wanted.flaws(app)
        title = "Change a schedule" if wanted.fields["change"] else "Add a schedule"
        given: dict[str, Any] = {
            "asked": wanted.fields, "flaws": flaws, "tasks": sorted(app.tasks), "queues": app.queues,
            "catch_ups": get_args(CatchUp), "overlaps": get_args(Overlap), "signature": _signature(app, wanted.fields["task"]),
        }  # fmt: skip
        if wanted.blank or flaws or self._shell.access.read_only:
            status = 400 if flaws else 200
            return self._shell.page(
                request, "schedule_form.html", title, status=status, place="", **given
            )
        return self._shell.streamed(
            request, "schedule_form.html", title, lambda: self._previewed(request, wanted), **given
        )

    async def act(self, request: Request) -> Response:
        """Does to one schedule what a form asks for."""
        form = await read_form(self._shell, request)
        verb, reason = form.get("verb", ""), reason_of(form)
        app, who = self._shell.app, request.scope["state"]["user"]
        if verb in ("add", "change"):
            wanted = Wanted.of(form, "which-")
            name = await aside(lambda: _put(app, wanted, reason, who))
            return self._to(request, verb, name)
        name = form.get("name", "")
        if verb not in HOLDS:
            raise ConfigError(f"verb {verb!r} is none: use {', '.join(HOLDS)}, add or change")
        if verb == "run":
            task_id = await aside(lambda: schedules.run(app, name, reason=reason, who=who))
            return RedirectResponse(f"{root_of(request)}/tasks/{segment(task_id)}?done=run", 303)
        do = {"pause": schedules.pause, "resume": schedules.resume, "remove": schedules.remove}[
            verb
        ]
        await aside(lambda: do(app, name, reason=reason, who=who))
        return self._to(request, verb, "" if verb == "remove" else name)

    def _to(self, request: Request, verb: str, name: str) -> Response:
        path = f"/schedules/of/{segment(name)}" if name else "/schedules"
        return RedirectResponse(f"{root_of(request)}{path}?{urlencode({'done': verb})}", 303)

    def _find(self, name: str) -> tuple[schedules.ShownSchedule, Schedule]:
        return schedules.find(self._shell.app, name, clock=self._shell.clock)

    def _previewed(self, request: Request, wanted: Wanted) -> str:
        """What would be, and the form that makes it so."""
        now = self._shell.clock.now()
        told, asked = wanted.told(), wanted.fields
        schedule = schedules.prepare(
            self._shell.app, asked["task"], told.pop("when"), told.pop("arguments"),
            name=asked["change"] or asked["name"] or None, clock=self._shell.clock, **told,
        )  # fmt: skip
        return render(
            "parts/schedule_preview.html", asked=asked, schedule=schedule, now=now,
            coming=schedules.upcoming(schedule, UPCOMING, now), **self._shell.visitor(request),
        )  # fmt: skip


_DONE = {
    "add": "It is there: every scheduler knows it within a second.",
    "change": "It is changed: every scheduler knows it within a second.",
    "pause": "It is paused: it fires nothing until it is resumed.",
    "resume": "It goes on from now; what would have come meanwhile is not made up for.",
    "remove": "It is removed; what it has published goes on.",
}


def _put(app: "App", wanted: Wanted, reason: str, who: str) -> str:
    """Adds or changes it; returns its name."""
    told, asked = wanted.told(), wanted.fields
    when, arguments = told.pop("when"), told.pop("arguments")
    if asked["change"]:
        return schedules.change(
            app, asked["change"], when, arguments, reason=reason, who=who, **told
        ).name
    return schedules.add(
        app, asked["task"], when, arguments, name=asked["name"] or None, reason=reason, who=who, **told
    ).name  # fmt: skip


def _signature(app: "App", task: str) -> list[tuple[str, str, bool]]:
    """Name, type and whether it must be given, of each argument of a task whose code is here."""
    known = app.find(task)
    fields = () if known is None else known.schema.arguments.full.get("fields", ())
    return [
        (field["name"], type_in_words(field["type"]), "default" not in field) for field in fields
    ]


def _plain(seconds: float) -> str:
    """A number without an exponent, and with no digit lost that a form can tell."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _check_name(name: str) -> None:
    Schedule(name=name, task=name, when=Every(1.0), value=b"", queue="", priority="")


def _check_arguments(app: "App", task: str, text: str) -> None:
    from taskstream.schemas.generic import GenericCodec  # noqa: PLC0415 - loads the Avro library

    values, known = json_object(task, text), app.find(task)
    if known is not None:
        GenericCodec(known.schema.arguments).encode(values)
