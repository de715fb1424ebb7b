"""The templates. Everything is escaped: names, arguments and errors are anybody's text."""

import hashlib
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from taskstream.admin.overview import words
from taskstream.admin.overview.views import tone
from taskstream.core.audit import Action

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"


@cache
def environment() -> Environment:
    """The environment of all templates; made once."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        moment=words.moment,
        iso=words.iso,
        duration=words.duration,
        count=words.count,
        rate=words.rate,
        pretty=words.pretty,
        tone=tone,
        segment=segment,
        pattern=escape,
        page_of=page_of,
    )
    made.globals["version"] = fingerprint()
    return made


def render(template: str, **values: Any) -> str:
    """A template, filled in."""
    return environment().get_template(template).render(**values)


def page_of(action: Action) -> str:
    """The page of what an action was done to, within the dashboard; empty where there is none."""
    kind, colon, name = action.target.partition(":")
    if not colon or action.verb == "cancel":  # a task's id may hold a colon
        if action.verb == "scale":
            return "/workers"
        return "" if action.target == "*" else f"/tasks/{segment(action.target)}"
    if name == "*":
        return f"/{kind}" if kind == "dead" else ""
    pages = {
        "dead": f"/tasks/{segment(name)}",
        "queue": "/queues",
        "task": f"/tasks?task={segment(name)}",
        "schedule": f"/schedules/of/{segment(name)}",
        "replay": "/replay",
    }
    return pages.get(kind, "")


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


@cache
def fingerprint() -> str:
    """Changes with any static file, so that browsers may keep those they have."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
