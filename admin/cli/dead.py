"""`taskstream dead …`."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskstream.admin.cli.arguments import (
    VARIABLE,
    AppPath,
    AsJson,
    Commands,
    FirstWord,
    Reason,
    TaskId,
    Yes,
    confirm,
    new_table,
    open_app,
    print_json,
    print_table,
    progress_bar,
    until_interrupted,
    with_app,
)
from taskstream.core.errors import ConfigError

if TYPE_CHECKING:
    from taskstream.admin.dead import Purged
    from taskstream.admin.letters import By, Letter
    from taskstream.admin.redrive import Redriven, Refusal
    from taskstream.admin.selection import Selection
    from taskstream.app.app import App

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

REFUSALS_SHOWN = 5
"""How many of the letters that were refused are told one by one."""

_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="APP [ID]...",
        help="module:attribute, unless TASKSTREAM_APP is set; then ids of tasks, if only some are meant.",
        show_default=False,
    ),
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="Of this task; * and ? stand for any letters.")
]
ErrorName = Annotated[
    str | None, typer.Option("--error", help="Died of this error type; * and ? as above.")
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Died since then: 2026-01-31T12:00 (UTC unless it names a zone), or 15m, 2h, 3d ago."
    ),
]
Until = Annotated[str | None, typer.Option(help="Died before then; as above.")]
Text = Annotated[str | None, typer.Option(help="With this text in the error.")]
WhereText = Annotated[
    str | None,
    typer.Option(
        "--where", help="For which this holds of the arguments: 'cents > 100 and city == \"Bonn\"'."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only look, and say what would be done.")]


def register(cli: typer.Typer) -> None:
    """Adds `dead` to the command line."""
    dead = typer.Typer(cls=Commands, no_args_is_help=True)
    dead.command("list", epilog="Example: taskstream dead list shop.main:app --by task --since 2h")(
        list_letters
    )
    dead.command(
        "show",
        epilog="Example: taskstream dead show shop.main:app 0190a5b0-7c1f-7000-8000-000000000000",
    )(show)
    dead.command(
        "redrive",
        epilog="Example: taskstream dead redrive shop.main:app --task charge --error CardDeclined "
        "--set cents=100 --rate 50 --reason 'the amount was wrong'",
    )(redrive)
    dead.command(
        "purge",
        epilog="Example: taskstream dead purge shop.main:app --error Undecodable --until 7d",
    )(purge)
    cli.add_typer(
        dead,
        name="dead",
        help="Dead letters: tasks that were given up.",
        epilog="Example: taskstream dead list shop.main:app",
    )


def list_letters(
    app: AppPath,
    *,
    task: TaskName = None,
    error: ErrorName = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    where: WhereText = None,
    by: Annotated[str, typer.Option(help="Count by: reason, task or topic.")] = "reason",
    limit: Annotated[int, typer.Option(help="How many letters to show, the newest ones.")] = 20,
    closed: Annotated[
        bool, typer.Option("--closed", help="Also those that were redriven or purged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List dead letters: how many there are of which kind, then the newest ones."""
    from taskstream.admin.letters import counts, letters

    if by not in ("reason", "task", "topic"):
        raise ConfigError(f"--by {by!r}: count by reason, task or topic")
    chosen = _selection(
        (), task=task, error=error, since=since, until=until, text=text, where=where
    )
    found = letters(open_app(app), chosen, closed=closed)
    counted = counts(found.letters, _by(by))
    newest = found.letters[: max(0, limit)]
    _tell_untold(found.untold, found.why)
    if as_json:
        print_json(
            {
                "total": len(found.letters),
                "by": by,
                "counts": [{"name": name, "count": count} for name, count in counted.items()],
                "untold": found.untold,
                "letters": [one.as_json() for one in newest],
            }
        )
        return
    if not found.letters:
        sys.stderr.write("no dead letters\n")
        return
    _print_counts(by, counted)
    _print_letters(newest)
    if len(newest) < len(found.letters):
        sys.stderr.write(f"the newest {len(newest)} of {len(found.letters)}; --limit shows more\n")


def show(
    first: FirstWord = None,
    second: TaskId = None,
    *,
    run: Annotated[
        int | None, typer.Option(help="Which run of the task; the last one that died by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter in full: arguments, every attempt's error, where it came from."""
    from taskstream.admin import dead

    path, (task_id,) = with_app(
        (first, second),
        least=1,
        most=1,
        usage="taskstream dead show APP ID [--run N] [--json]",
    )
    shown = dead.show(open_app(path), task_id, run=run)
    if as_json:
        print_json(shown.as_json())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in shown.lines()))


def redrive(
    words: Words = None,
    *,
    task: TaskName = None,
    error: ErrorName = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    where: WhereText = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Correct an argument: JSON, or else text. May be repeated.",
        ),
    ] = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Correct the arguments of one letter in $EDITOR.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(help="How many a second at most; default as fast as it goes.")
    ] = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Run the tasks of dead letters again, from the first attempt on, where they are at home.

    Says first what would be done, then asks. Never runs a letter twice; after Ctrl-C, or whatever else came
    in between, the same command does the rest.
    """
    from taskstream.admin import dead
    from taskstream.admin.redrive import redrive as carry_out

    path, ids = _app_and_ids(
        words, "taskstream dead redrive APP [ID]... [--task NAME] [--set NAME=VALUE]"
    )
    opened = open_app(path)
    now = time.time()
    # What dies from here on was not asked about.
    chosen = _selection(
        ids, task=task, error=error, since=since, until=until, text=text, where=where, now=now
    )
    corrections = _changes(changes or [])
    arguments: Mapping[str, Any] | None = None
    if edit:
        if len(ids) != 1 or corrections:
            raise ConfigError("--edit corrects one letter: give its id, and no --set")
        arguments = _edited(dead.show(opened, ids[0]).arguments or {})
    plan = carry_out(
        opened, chosen, changes=corrections, arguments=arguments, rate=rate, dry_run=True
    )
    _tell_redriven(plan)
    if dry_run or not (plan.redriven or plan.already):
        _end(plan.as_json(), failed=bool(plan.refused), as_json=as_json)
        return
    if plan.redriven:
        confirm(_question("Redrive", plan.redriven, opened), yes=yes)
    with until_interrupted() as stop, progress_bar("redriving") as progress:
        done = carry_out(
            opened,
            chosen,
            changes=corrections,
            arguments=arguments,
            rate=rate,
            progress=progress,
            stop=stop,
            reason=reason,
        )
    _tell_redriven(done)
    _end(done.as_json(), failed=bool(done.refused), left=done.left, as_json=as_json)


def purge(
    words: Words = None,
    *,
    task: TaskName = None,
    error: ErrorName = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    where: WhereText = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Close dead letters that nobody wants to see any more; without a filter, all of them.

    Their tasks stay dead, and can't be redriven any more.
    """
    from taskstream.admin import dead

    path, ids = _app_and_ids(words, "taskstream dead purge APP [ID]... [--task NAME]")
    opened = open_app(path)
    chosen = _selection(
        ids,
        task=task,
        error=error,
        since=since,
        until=until,
        text=text,
        where=where,
        now=time.time(),
    )
    plan = dead.purge(opened, chosen, dry_run=True)
    _tell_purged(plan)
    if dry_run or not plan.purged:
        _end(plan.as_json(), failed=bool(plan.refused), as_json=as_json)
        return
    confirm(_question("Purge", plan.purged, opened), yes=yes)
    with until_interrupted() as stop, progress_bar("purging") as progress:
        done = dead.purge(opened, chosen, progress=progress, stop=stop, reason=reason)
    _tell_purged(done)
    _end(done.as_json(), failed=bool(done.refused), left=done.left, as_json=as_json)


# What was typed


def _app_and_ids(words: Sequence[str] | None, usage: str) -> tuple[str, list[str]]:
    """Tells the app from the ids behind it, where TASKSTREAM_APP may stand for it."""
    rest, default = list(words or ()), os.environ.get(VARIABLE)
    if rest and (not default or _APP.fullmatch(rest[0])):
        return rest[0], rest[1:]
    if default:
        return default, rest
    raise ConfigError(f"usage: {usage}; without APP, set {VARIABLE}")


def _selection(
    ids: Sequence[str],
    *,
    task: str | None,
    error: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
    where: str | None,
    now: float | None = None,
) -> "Selection":
    """The letters that are meant.

    Args:
        ids: as typed, like those that follow.
        task: as above.
        error: as above.
        since: as above.
        until: as above.
        text: as above.
        where: as above.
        now: the latest moment of a death that counts, where there is one.
    """
    from taskstream.admin.selection import Selection
    from taskstream.core.moments import instant

    present = time.time() if now is None else now
    before = now if until is None else instant(until, present)
    return Selection(
        task=task,
        reason=error,
        since=None if since is None else instant(since, present),
        until=before,
        text=text,
        where=where,
        ids=frozenset(ids),
    )


def _changes(typed: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for one in typed:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {one!r}: write NAME=VALUE, as in --set cents=100")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes


def _edited(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as they were left in the editor."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "arguments.json"
        file.write_text(json.dumps(arguments, indent=2, ensure_ascii=False) + "\n", "utf-8")
        ended = subprocess.run([*shlex.split(editor), str(file)], check=False)
        if ended.returncode:
            raise ConfigError(f"{editor} ended with {ended.returncode}: nothing was done")
        try:
            edited = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(f"what was edited is no JSON: {error}; nothing was done") from error
    if not isinstance(edited, dict):
        raise ConfigError("the arguments must be one JSON object; nothing was done")
    return edited


def _by(word: str) -> "By":
    return "task" if word == "task" else "topic" if word == "topic" else "reason"


# What is told


def _question(verb: str, count: int, app: "App") -> str:
    return f"{verb} {_letters(count)} of {app.name}?"


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"


def _tell_redriven(done: "Redriven") -> None:
    would = "would be " if done.dry_run else ""
    lines = [f"{_letters(done.redriven)} {would}redriven"]
    lines += [f"  {count:>8,}  {task}" for task, count in sorted(done.by_task.items())]
    if done.resumed:
        lines.append(
            f"{done.resumed:,} of them had been begun before, and are brought to their end"
        )
    if done.already:
        lines.append(f"{done.already:,} had been redriven before; their letters are closed")
    if done.unexpired:
        lines.append(f"{done.unexpired:,} are past their expiry, which is left out")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    _tell_refused(done.refused)
    _tell_untold(done.untold, done.why_untold)


def _tell_purged(done: "Purged") -> None:
    would = "would be " if done.dry_run else ""
    sys.stderr.write(f"{_letters(done.purged)} {would}purged\n")
    _tell_refused(done.refused)
    _tell_untold(done.untold, done.why_untold)


def _tell_refused(refused: Sequence["Refusal"]) -> None:
    if not refused:
        return
    sys.stderr.write(f"{_letters(len(refused))} refused:\n")
    for one in refused[:REFUSALS_SHOWN]:
        sys.stderr.write(f"  {one.task} {one.id}: {one.why}\n")
    if len(refused) > REFUSALS_SHOWN:
        sys.stderr.write("  … --json tells all\n")


def _tell_untold(untold: int, why: str) -> None:
    if untold:
        sys.stderr.write(f"of {_letters(untold)} it can't be told, and they are left out: {why}\n")


def _end(document: Any, *, failed: bool, as_json: bool, left: int = 0) -> None:
    """Ends the command: with what was refused, or left over, not with 0."""
    if as_json:
        print_json(document)
    if left:
        sys.stderr.write(f"interrupted: {left:,} are left; the same command does the rest\n")
        raise typer.Exit(INTERRUPTED)
    if failed:
        raise typer.Exit(1)


def _print_counts(by: str, counted: Mapping[str, int]) -> None:
    table = new_table((), ("letters",))
    table.add_column(by)
    for name, count in counted.items():
        table.add_row(f"{count:,}", name)
    print_table(table)
    sys.stdout.write("\n")


def _print_letters(letters: Sequence["Letter"]) -> None:
    from taskstream.core.moments import moment

    table = new_table(("died", "id", "task"))
    table.add_column("run", justify="right")
    table.add_column("error", no_wrap=True, overflow="ellipsis")
    shows_closed = any(letter.closed for letter in letters)
    if shows_closed:
        table.add_column("closed", no_wrap=True)
    for one in letters:
        first_line = one.message.partition("\n")[0]
        row = [moment(one.at)[:19], one.id, one.task, str(one.run), f"{one.reason}: {first_line}"]
        if shows_closed:
            row.append("" if one.closed is None else one.closed.how)
        table.add_row(*row)
    print_table(table)
