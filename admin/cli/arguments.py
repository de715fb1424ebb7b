"""What several commands take: the app, `--json`, and how words without an app are understood."""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskstream.core.errors import ConfigError
from taskstream.core.states import State

if TYPE_CHECKING:
    from taskstream.app.app import App

VARIABLE = "TASKSTREAM_APP"

AppPath = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        envvar=VARIABLE,
        show_envvar=True,
        help="module:attribute of the App, imported from the working directory.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")
]
Reason = Annotated[
    str, typer.Option(help="Why, for whoever reads the order later.", show_default=False)
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]


def open_app(path: str) -> "App":
    """The App at `module:attribute`. Raises ConfigError."""
    from taskstream.app.loader import load

    return load(path)


def with_app(words: Sequence[str], *, least: int, most: int, usage: str) -> tuple[str, list[str]]:
    """Tells the app from the words behind it, where TASKSTREAM_APP may stand for it.

    Args:
        words: all words of the command.
        least: how many follow the app at least.
        most: how many follow it at most; the last one may be left out where it is more than `least`,
            and then must be JSON or `-` to be told from the app's name.
        usage: what should have been typed, for the error.

    Raises:
        ConfigError: there are too few words or too many.
    """
    rest = list(words)
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


def tell_unknown(state: State) -> None:
    """Says on standard error what it may mean that nothing is known of a task."""
    if state is State.UNKNOWN:
        sys.stderr.write(
            "no trace of this id yet: the task still waits in its queue, or the id is wrong\n"
        )


def _is_payload(word: str) -> bool:
    return word == "-" or word.lstrip().startswith("{")
