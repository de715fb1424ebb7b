"""What several commands take: the app, `--json`, and how words without an app are understood."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from typer.core import TyperGroup

from taskstream.core.errors import ConfigError
from taskstream.core.states import State

if TYPE_CHECKING:
    from rich.table import Table

    from taskstream.app.app import App
    from taskstream.core.settings import Settings

VARIABLE = "TASKSTREAM_APP"

WHOLE = 36
"""Characters of a column that no narrow terminal cuts: those of an id."""

SENTENCE = 200
"""Characters of a command's first sentence that a list of commands has room for."""

AppPath = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        envvar=VARIABLE,
        show_envvar=True,
        help="module:attribute of the App, imported from the working directory.",
    ),
]
FirstWord = Annotated[
    str | None,
    typer.Argument(
        metavar="APP", help="module:attribute, unless TASKSTREAM_APP is set.", show_default=False
    ),
]
"""The first word of a command that takes more than the app: see `with_app`."""
TaskId = Annotated[
    str | None, typer.Argument(metavar="ID", help="The task's id.", show_default=False)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")
]
ShadowOf = Annotated[
    str,
    typer.Option(
        "--shadow",
        metavar="NAME",
        help="The app's shadow of that name, as `APP@NAME` is: see docs/replay.md.",
        show_default=False,
    ),
]
Reason = Annotated[
    str, typer.Option(help="Why, for whoever reads the order later.", show_default=False)
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Don't ask; without a terminal it must be said.")
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        help="debug, info, warning or error; by default the setting log_level.", show_default=False
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        help="text, or json: one object a line; by default the setting log_format.",
        show_default=False,
    ),
]


def begin_logs(level: str | None, form: str | None, settings: "Settings | None" = None) -> None:
    """Sets up the log of this process; what a flag names wins over the settings.

    Args:
        level: the flag, None where it was not given.
        form: the same.
        settings: the app's; without them those of the environment and the settings file count.
    """
    from taskstream.app.configure import outside_settings
    from taskstream.observability import logs

    known = settings or outside_settings("log_level", "log_format")
    logs.configure_by(known, level=level, form=form)


def open_app(path: str) -> "App":
    """The App at `module:attribute`. Raises ConfigError."""
    from taskstream.app.loader import load

    return load(path)


def shadow_path(path: str, shadow: str) -> str:
    """What stands for the shadow of an app wherever an app can be named; the app itself without one."""
    from taskstream.core.shadow import MARK

    return f"{path}{MARK}{shadow}" if shadow else path


def with_app(
    words: Sequence[str | None], *, least: int, most: int, usage: str
) -> tuple[str, list[str]]:
    """Tells the app from the words behind it, where TASKSTREAM_APP may stand for it.

    Args:
        words: all words of the command; None for one that was not said.
        least: how many follow the app at least.
        most: how many follow it at most; the last one may be left out where it is more than `least`,
            and then must be JSON or `-` to be told from the app's name.
        usage: what should have been typed, for the error.

    Raises:
        ConfigError: there are too few words or too many.
    """
    rest = [word for word in words if word is not None]
    has_payload = most > least and bool(rest) and _is_payload(rest[-1])
    needed = least + has_payload
    if len(rest) == needed + 1:
        return rest[0], rest[1:]
    app = os.environ.get(VARIABLE)
    if len(rest) == needed and app:
        return app, rest
    hint = "" if app else f"; without APP, set {VARIABLE}"
    raise ConfigError(f"usage: {usage}{hint}")


def print_json(document: Any) -> None:
    """One document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def new_table(left: Sequence[str] = (), right: Sequence[str] = ()) -> "Table":
    """A table of columns that never break: those to the left first, then those to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in left:
        table.add_column(column, no_wrap=True)
    for column in right:
        table.add_column(column, justify="right")
    return table


def print_table(table: "Table") -> None:
    """A table on standard output, each row on one line.

    A pipe has no width, so nothing is cut there. On a terminal that is too narrow texts are cut; ids and the like
    stay whole, and the terminal breaks the lines: half an id is of no use.
    """
    from rich.cells import cell_len
    from rich.console import Console

    for column in table.columns:
        column.no_wrap = True
    natural = [
        max(cell_len(str(text)) for text in (column.header, *column.cells))
        for column in table.columns
    ]
    gaps = 2 * (len(natural) - 1)
    room = Console().width if sys.stdout.isatty() else sum(natural) + gaps
    for column, width in zip(table.columns, fitted(natural, room - gaps), strict=True):
        column.width = width
    needed = sum(column.width or 0 for column in table.columns) + gaps
    Console(width=max(room, needed, 1), markup=False, soft_wrap=needed > room).print(table)


def fitted(natural: Sequence[int], room: int) -> list[int]:
    """The widths of columns that are to fit into `room` characters: the widest give way first.

    None gets narrower than `WHOLE`, so that all of them may be wider than the room.
    """
    limit = max(natural, default=0)
    while limit > WHOLE and sum(min(width, limit) for width in natural) > room:
        limit -= 1
    return [min(width, limit) for width in natural]


def tell_unknown(state: State) -> None:
    """Says on standard error what it may mean that nothing is known of a task."""
    if state is State.UNKNOWN:
        sys.stderr.write(
            "no trace of this id yet: the task still waits in its queue, or the id is wrong\n"
        )


def _is_payload(word: str) -> bool:
    return word == "-" or word.lstrip().startswith("{")


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal whether to go on; ends the command where the answer is no.

    Args:
        question: what is about to be done, as a question.
        yes: whether the answer was given by `--yes`.

    Raises:
        ConfigError: nobody can be asked, and `--yes` was not given.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody can be asked here: say --yes")
    if not typer.confirm(question, err=True):
        sys.stderr.write("nothing was done\n")
        raise typer.Exit(1)


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Gives a question: whether Ctrl-C was pressed, or SIGTERM sent. The second one interrupts at once."""
    pressed: list[int] = []

    def press(number: int, _frame: object) -> None:
        pressed.append(number)  # and no lock: this runs in the middle of whatever holds one
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    before = {one: signal.signal(one, press) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Commands(TyperGroup):
    """Commands of one kind; the list of them says of each the whole first sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words. Raises ConfigError where the app stands in the command's place."""
        if args and ":" in args[0] and args[0] not in self.commands:
            guess = "list" if "list" in self.commands else "worker"
            raise ConfigError(
                f"{args[0]!r} stands where a command belongs, as in `{ctx.command_path} {guess} {args[0]}`; "
                f"`{ctx.command_path} --help` lists them"
            )
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """Writes the list of commands."""
        rows = [
            (name, command.get_short_help_str(limit=SENTENCE))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class ShowProgress(Protocol):
    """Moves a progress bar: how many are through, of how many, and a word beside it."""

    def __call__(self, through: int, total: int, note: str = "") -> None:
        """Moves it."""


@contextmanager
def progress_bar(what: str) -> Iterator[ShowProgress]:
    """A progress bar on standard error, where that is a terminal, and what moves it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        line = bar.add_task(what, total=None, note="")

        def show(through: int, total: int, note: str = "") -> None:
            bar.update(line, completed=through, total=total, note=note)

        yield show
