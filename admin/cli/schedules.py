"""`taskstream schedules …`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    AsJson,
    Commands,
    FirstWord,
    Reason,
    Yes,
    confirm,
    new_table,
    open_app,
    print_json,
    print_table,
    with_app,
)
from taskstream.admin.publishing import json_object
from taskstream.core.errors import BadArguments, ConfigError

if TYPE_CHECKING:
    from taskstream.admin.schedules import ShownSchedule

Second = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)
]


def register(cli: typer.Typer) -> None:
    """Adds `schedules` to the command line."""
    schedules = typer.Typer(cls=Commands, no_args_is_help=True)
    for name, function, example in (
        ("list", list_schedules, "shop.main:app --json"),
        ("add", add, "shop.main:app clean '0 3 * * *' --tz Europe/Berlin"),
        ("remove", remove, "shop.main:app clean"),
        ("pause", pause, "shop.main:app clean --reason 'the shop is closed'"),
        ("resume", resume, "shop.main:app clean"),
        ("run", run, "shop.main:app clean"),
    ):
        schedules.command(name, epilog=f"Example: taskstream schedules {name} {example}")(function)
    schedules.command("bring", hidden=True)(bring)
    cli.add_typer(
        schedules,
        name="schedules",
        help="What is published again and again, and when.",
        epilog="Example: taskstream schedules list shop.main:app",
    )


def list_schedules(app: AppPath, *, as_json: AsJson = False) -> None:
    """List schedules: when each fires next, when it fired last and how that ended.

    Times are UTC.
    """
    from taskstream.admin.schedules import schedules

    found = schedules(open_app(app))
    if as_json:
        print_json([one.as_json() for one in found])
    elif found:
        _show(found)
    else:
        sys.stderr.write("no schedule is there: see `taskstream schedules add --help`\n")


def add(
    first: FirstWord = None,
    second: Annotated[
        str | None, typer.Argument(metavar="TASK", help="The task's name.", show_default=False)
    ] = None,
    third: Annotated[
        str | None,
        typer.Argument(
            metavar="CRON", help="A cron line in quotes; not with --every.", show_default=False
        ),
    ] = None,
    fourth: Annotated[
        str | None,
        typer.Argument(metavar="JSON", help="The task's arguments, an object.", show_default=False),
    ] = None,
    *,
    every: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Fire every so many seconds.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name; default the task's.")] = None,
    tz: Annotated[str, typer.Option(help="The time zone of the cron line.")] = "UTC",
    catch_up: Annotated[
        str, typer.Option(help="What is made up for after a stop: skip, once or all.")
    ] = "once",
    overlap: Annotated[
        str, typer.Option(help="Where the last firing has not ended: allow, skip or queue.")
    ] = "allow",
    queue: Annotated[str | None, typer.Option(help="Another queue than the task's.")] = None,
    priority: Annotated[str | None, typer.Option(help="Another priority.")] = None,
    key: Annotated[str | None, typer.Option(help="The ordering key of its tasks.")] = None,
    expires: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="When a late task is too old to run.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Add a schedule at run time; all schedulers know it within a second."""
    from taskstream.admin import schedules
    from taskstream.core.cron import Every

    usage = (
        "taskstream schedules add APP TASK CRON|--every SECONDS [JSON] [--name NAME] [--tz ZONE]"
    )
    least = 1 if every is not None else 2
    words = (first, second, third, fourth)
    path, rest = with_app(words, least=least, most=least + 1, usage=usage)
    arguments = _arguments(rest[0], rest[least]) if len(rest) > least else {}
    added = schedules.add(
        open_app(path),
        rest[0],
        rest[1] if every is None else Every(every),
        arguments,
        name=name, tz=tz, queue=queue, priority=priority, key=key, expires=expires, reason=reason,
        catch_up=catch_up, overlap=overlap,  # type: ignore[arg-type] # it checks them
    )  # fmt: skip
    if as_json:
        print_json({"name": added.name})
    else:
        sys.stdout.write(f"{added.name}: {added.task} {added.when}\n")


def remove(
    first: FirstWord = None,
    second: Second = None,
    *,
    yes: Yes = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Remove a schedule; what it has published goes on.

    One that code defines comes back with the next `taskstream init` of that code.
    """
    from taskstream.admin import schedules

    path, name = _named(first, second, "remove")
    confirm(f"Remove the schedule {name}?", yes=yes)
    gone = schedules.remove(open_app(path), name, reason=reason)
    _say({"name": name, "removed": True}, f"{name} is removed", as_json=as_json)
    if gone.package:
        sys.stderr.write(
            f"{name} is defined in the code of {gone.package}: take it out there, or the next "
            "`taskstream init` brings it back\n"
        )


def pause(
    first: FirstWord = None, second: Second = None, *, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Let a schedule fire nothing until `resume`; what comes due meanwhile is not made up for."""
    from taskstream.admin import schedules

    path, name = _named(first, second, "pause")
    schedules.pause(open_app(path), name, reason=reason)
    _say({"name": name, "paused": True}, f"{name} is paused", as_json=as_json)


def resume(
    first: FirstWord = None, second: Second = None, *, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Let a paused schedule fire again, from now on."""
    from taskstream.admin import schedules

    path, name = _named(first, second, "resume")
    schedules.resume(open_app(path), name, reason=reason)
    _say({"name": name, "paused": False}, f"{name} goes on", as_json=as_json)


def run(
    first: FirstWord = None, second: Second = None, *, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Publish a schedule's task once, now, beside its firings; prints the task's id."""
    from taskstream.admin import schedules

    path, name = _named(first, second, "run")
    task_id = schedules.run(open_app(path), name, reason=reason)
    _say({"name": name, "id": task_id}, task_id, as_json=as_json)


def bring(app: AppPath) -> None:
    """Bring the schedules in code to Kafka where they are new there; a scheduler does so when it starts."""
    from taskstream.admin.schedules import declare_all

    opened = open_app(app)
    opened.configure(quiet=True)
    opened.load_tasks()
    if opened.schedules and declare_all(opened, decides=False).left:
        sys.stderr.write(
            "some schedules in this code are older than those that are in force, or were removed: "
            "`taskstream init` brings them back\n"
        )


def _named(first: str | None, second: str | None, verb: str) -> tuple[str, str]:
    path, (name,) = with_app(
        (first, second),
        least=1,
        most=1,
        usage=f"taskstream schedules {verb} APP NAME [--reason TEXT] [--json]",
    )
    return path, name


def _arguments(task: str, text: str) -> dict[str, Any]:
    try:
        return json_object(task, text)
    except BadArguments as error:
        raise ConfigError(str(error)) from error  # as any word that was typed and can't be meant


def _say(document: dict[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        sys.stdout.write(f"{line}\n")


def _show(found: "Sequence[ShownSchedule]") -> None:
    table = new_table()
    for column in ("name", "task", "when", "next", "last", "state", "skipped", "origin"):
        table.add_column(column, no_wrap=True, justify="right" if column == "skipped" else "left")
    for one in found:
        table.add_row(
            one.name, one.task, one.when, "paused" if one.paused else _moment(one.next),
            _moment(one.last), one.last_state or "-", str(one.skipped), one.origin,
        )  # fmt: skip
    print_table(table)


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
