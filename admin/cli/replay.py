"""`taskstream replay …`: tasks that stand in a topic are published again."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    AsJson,
    Commands,
    Reason,
    ShowProgress,
    Yes,
    confirm,
    new_table,
    open_app,
    print_json,
    print_table,
    progress_bar,
    until_interrupted,
)
from taskstream.core.errors import ConfigError, TaskstreamError

if TYPE_CHECKING:
    from taskstream.admin.republish import Tell
    from taskstream.admin.shadow import Comparison
    from taskstream.core.replay import Plan, ReplayProgress, ReplayReport

DEFAULT = "run"
"""The command that is meant where `replay` is followed by none."""

Shadow = Annotated[str, typer.Option(metavar="NAME", help="The shadow's name.", show_default=False)]


class _Group(Commands):
    """`replay APP …` means `replay run APP …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def register(cli: typer.Typer) -> None:
    """Adds `replay` to the command line."""
    replay = typer.Typer(cls=_Group, no_args_is_help=True)
    replay.command(
        DEFAULT,
        epilog="Example: taskstream replay run shop.main:app --from '2h ago' --task charge --where "
        "'cents > 100' --dry-run; `run` may be left out",
    )(run)
    replay.command("list", epilog="Example: taskstream replay list shop.main:app")(list_replays)
    replay.command(
        "compare", epilog="Example: taskstream replay compare shop.main:app --shadow nightly"
    )(compare)
    cli.add_typer(
        replay,
        name="replay",
        help="Publish tasks again that stand in a topic; `replay run --help` tells the options.",
        epilog="Example: taskstream replay shop.main:app --from 2026-01-31T10:00Z --to "
        "2026-01-31T10:10Z --task charge --dry-run",
    )


def run(
    app: AppPath,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Records of this time or later: ISO 8601 (UTC unless it names a zone), seconds since "
            "1970, or as '2h ago'.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Records before this time; default now."),
    ] = None,
    offsets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P:FROM-TO",
            help="Records of partition P from one offset to before another; `P:FROM-` for all that "
            "follow. May be repeated.",
        ),
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option(metavar="P", help="Only this partition. May be repeated.")
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC", help="Read this topic; default all task topics. May be repeated."
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(help="Read the topics of this queue.")] = None,
    priority: Annotated[str | None, typer.Option(help="Read the topics of this priority.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only tasks of this name, or of a pattern as 'send_*'. May be repeated.",
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only tasks with this ordering key.")] = None,
    where: Annotated[
        str, typer.Option(help='Only tasks whose arguments meet this: "cents > 100".')
    ] = "",
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE",
            help="Only tasks that have ended so by now: succeeded, dead, … May be repeated.",
        ),
    ] = None,
    error: Annotated[
        str, typer.Option(help="Only tasks whose last error is of this type, or of a pattern.")
    ] = "",
    text: Annotated[
        str, typer.Option(help="Only tasks whose last error has this in its type or text.")
    ] = "",
    new_ids: Annotated[
        bool,
        typer.Option(
            "--new-ids/--same-ids",
            help="Each as a new task that says which one it repeats, or as a further run of the same one.",
        ),
    ] = True,
    to_topic: Annotated[
        str | None, typer.Option(help="Publish to this topic instead of the same one.")
    ] = None,
    to_queue: Annotated[str | None, typer.Option(help="Publish to this queue.")] = None,
    to_priority: Annotated[str | None, typer.Option(help="Publish with this priority.")] = None,
    shadow: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Publish into this shadow, whose workers run @app.task(shadow=...) functions.",
        ),
    ] = "",
    wait: Annotated[
        float, typer.Option(help="With --shadow: seconds to wait for outcomes to compare.")
    ] = 0.0,
    rate: Annotated[
        float | None, typer.Option(help="How many a second at most; default as fast as it goes.")
    ] = None,
    name: Annotated[str, typer.Option(help="By which it is resumed; default from the time.")] = "",
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on with a replay that was interrupted."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be published, with some of it shown.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Publish tasks again: by time, offsets or partition, filtered, at a rate.

    Counts first and asks, unless told --yes. Ctrl-C ends it in order, and says how to go on.
    """
    from taskstream.admin import replay
    from taskstream.core.replay import Ids, ReplayRequest

    opened = open_app(app)
    if resume is not None:
        if (
            since
            or until
            or offsets
            or partition
            or topic
            or task
            or key
            or where
            or state
            or error
            or text
            or shadow
            or dry_run
        ):
            raise ConfigError(
                "--resume goes on with the plan as it was: beside it there are --rate, --reason, --wait "
                "and --json"
            )
        with _on_the_way(app, resume) as tell:
            report = replay.resume(opened, resume, rate=rate, reason=reason, tell=tell)
        _finish(opened, report, wait, as_json=as_json)
        return
    request = ReplayRequest(
        topics=topic or (), queue=queue, priority=priority, since=since, until=until,
        offsets=_offsets(offsets or ()), partitions=partition or (), tasks=task or (), key=key,
        where=where, states=state or (), error=error, text=text, ids=Ids.NEW if new_ids else Ids.SAME, to_topic=to_topic, to_queue=to_queue,
        to_priority=to_priority, shadow=shadow, rate=rate, name=name,
    )  # fmt: skip
    plan = replay.settle(opened, request)
    if dry_run:
        _show(_counted(opened, plan), as_json=as_json)
        return
    if not yes and sys.stdin.isatty():
        counted = _counted(opened, plan)
        _tell(counted)
        confirm(f"Publish {counted.count:,} tasks again?", yes=False)
    else:
        confirm(f"Publish tasks of {plan.total:,} records again?", yes=yes)
    with _on_the_way(app, plan.name) as tell:
        report = replay.replay(opened, plan, reason=reason, tell=tell)
    _finish(opened, report, wait, as_json=as_json)


def _counted(app: Any, plan: "Plan") -> "ReplayReport":
    from taskstream.admin.replay import dry_run

    with progress_bar("counting") as show:
        return dry_run(app, plan, tell=_moving(show))


def list_replays(app: AppPath, *, as_json: AsJson = False) -> None:
    """List replays of the last days: by whom, how far, and which can be resumed."""
    from taskstream.admin.replay import replays
    from taskstream.core.moments import moment

    found = replays(open_app(app))
    if as_json:
        print_json([one.as_json() for one in found])
        return
    _print_table(
        ("name", "state", "begun", "by", "read", "why"),
        [
            (
                one.notice.plan.name, "done" if one.finished else "unfinished", moment(one.notice.at),
                one.notice.who, f"{one.read:,} of {one.notice.plan.total:,}", one.notice.reason,
            )
            for one in found
        ],
    )  # fmt: skip
    if any(not one.finished for one in found):
        sys.stderr.write("go on with an unfinished one by `taskstream replay APP --resume NAME`\n")


def compare(
    app: AppPath,
    *,
    shadow: Shadow,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for outcomes that are missing yet.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compare how tasks ended in a shadow with how they ended before, id by id.

    Ends with exit code 1 where some differ.
    """
    from taskstream.admin import shadow as shadows

    found = shadows.compare(open_app(app), shadow, wait=wait)
    if as_json:
        print_json(found.as_json())
    else:
        _show_comparison(found)
    if found.total(shadows.Match.DIFFERENT):
        raise typer.Exit(1)


def _finish(app: Any, report: "ReplayReport", wait: float, *, as_json: bool) -> None:
    """Shows what was published, and for a shadow what became of it so far."""
    shadow = report.plan.shadow
    if not shadow:
        _show(report, as_json=as_json)
        return
    from taskstream.admin import shadow as shadows

    found = shadows.compare(app, shadow, wait=wait)
    if as_json:
        print_json({**report.as_json(), "comparison": found.as_json()})
        return
    _show(report, as_json=False)
    _show_comparison(found)
    if found.total(shadows.Match.MISSING):
        sys.stderr.write(
            f"outcomes are missing yet: run `taskstream worker APP --shadow {shadow}`, and look again "
            f"with `taskstream replay compare APP --shadow {shadow}`\n"
        )


def _offsets(told: Sequence[str]) -> dict[int, tuple[int, int | None]]:
    found: dict[int, tuple[int, int | None]] = {}
    for text in told:
        partition, _, both = text.partition(":")
        first, dash, end = both.partition("-")
        try:
            found[int(partition)] = (int(first), int(end) if end else None)
        except ValueError as error:
            raise ConfigError(f"--offsets {text!r}: write P:FROM-TO, as 0:100-200") from error
        if not dash:
            raise ConfigError(f"--offsets {text!r}: write P:FROM-TO, as 0:100-200")
    return found


@contextmanager
def _on_the_way(app: str, name: str) -> "Iterator[Tell]":
    """Gives what a replay tells how far it is, by which it is interrupted, too.

    Says how to go on, whatever ends it.
    """
    try:
        with until_interrupted() as interrupted, progress_bar("replaying") as show:
            yield _moving(show, interrupted)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; go on with `taskstream replay {app} --resume {name}`\n")
        raise
    except ConfigError:
        raise  # nothing has been published
    except TaskstreamError:
        sys.stderr.write(f"failed; go on with `taskstream replay {app} --resume {name}`\n")
        raise


def _moving(show: ShowProgress, interrupted: Callable[[], bool] = lambda: False) -> "Tell":
    def tell(how_far: "ReplayProgress") -> None:
        show(how_far.read, how_far.total, f"{how_far.tasks:,} tasks")
        if interrupted():
            raise KeyboardInterrupt

    return tell


def _tell(report: "ReplayReport") -> None:
    """The dry run before the question, on standard error."""
    for line in _lines(report):
        sys.stderr.write(f"{line}\n")


def _show(report: "ReplayReport", *, as_json: bool) -> None:
    if as_json:
        print_json(report.as_json())
        return
    for line in _lines(report):
        sys.stdout.write(f"{line}\n")


def _lines(report: "ReplayReport") -> Iterator[str]:
    for what, told in _planned(report.plan):
        yield f"{what:<12} {told}"
    for task, count in report.tasks.items():
        yield f"{count:>12,} {task}"
    for reason, count in report.skipped.items():
        yield f"{count:>12,} left out: {reason}"
    if report.untold:
        yield f"left out, for example: {report.untold}"
    if report.dry:
        for one in report.samples:
            yield f"{one.source}  {one.id}  {one.task}  {one.arguments}"
    done = "would be published" if report.dry else "published"
    tasks = "task" if report.count == 1 else "tasks"
    yield f"{report.count:,} {tasks} {done}, in {report.seconds:.1f} s"


def _planned(plan: "Plan") -> Iterator[tuple[str, str]]:
    from taskstream.core.moments import moment

    topics = dict.fromkeys(one.topic for one in plan.stretches)
    yield "name", plan.name
    yield "records", f"{plan.total:,} of {', '.join(topics) or 'no topic'}"
    for what, told in (
        ("from", None if plan.since is None else moment(plan.since)),
        ("to", None if plan.until is None else moment(plan.until)),
        ("tasks", ", ".join(plan.tasks)),
        ("key", plan.key),
        ("where", plan.where),
        ("ended", ", ".join(plan.states)),
        ("error", plan.error),
        ("text", plan.text),
        ("ids", "the same, as further runs" if plan.keeps_ids else "new"),
        ("to topic", plan.to_topic),
        ("to queue", plan.to_queue),
        ("to priority", plan.to_priority),
        ("shadow", plan.shadow),
        ("rate", None if plan.rate is None else f"{plan.rate:g} a second"),
    ):
        if told:
            yield what, told


def _show_comparison(found: "Comparison") -> None:
    from taskstream.admin.shadow import Match

    _print_table(
        ("task", *Match),
        [
            (task, *(f"{counts.get(one, 0):,}" for one in Match))
            for task, counts in found.tasks.items()
        ],
    )
    for one in found.differences:
        sys.stdout.write(
            f"{one.task} {one.id}: {_ended(one.own)}; in the shadow {_ended(one.shadow)}\n"
        )


def _ended(ending: Any) -> str:
    if ending.error_type is not None:
        return f"{ending.state} by {ending.error_type}: {ending.error}"
    return f"{ending.state} with {ending.value!r}"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = new_table(columns)
    for row in rows:
        table.add_row(*row)
    print_table(table)
