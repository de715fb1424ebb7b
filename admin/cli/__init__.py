"""The command line: a file per group of commands, which call `admin` and show what it says.

Standard output gets the answer, and with `--json` one document and nothing else; standard error gets
what is told on the way. Errors are left to `taskstream.__main__`. What a command needs is imported
when it runs, and no other command's file with it: a worker's children wait for that to be over.
"""

from collections.abc import Sequence
from importlib import import_module

import typer

from taskstream.admin.cli.arguments import Commands

FILES = (
    "demo", "servers", "init", "worker", "scheduler", "publish", "result", "cancel", "events", "replay",
    "queues", "dead", "delays", "workers", "schedules", "top", "dashboard", "doctor", "version",
)  # fmt: skip
"""The files here, in the order in which a newcomer meets their commands."""

ELSEWHERE = {"up": "servers", "down": "servers", "status": "servers", "rebuild": "events"}
"""Commands whose file has another name than they have."""


def command_line(words: Sequence[str] = ()) -> typer.Typer:
    """The commands.

    Args:
        words: what was typed; where it begins with a command, only its file is loaded.
    """
    cli = typer.Typer(
        name="taskstream",
        cls=Commands,
        help="A distributed task queue for Python on the Kafka you already run.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # a bug of ours is best told by a plain traceback
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cli.callback()(_no_options)
    for file in _needed(words):
        import_module(f"{__name__}.{file}").register(cli)
    return cli


def _needed(words: Sequence[str]) -> Sequence[str]:
    """The file that holds the command; all of them where none does, for help and for errors."""
    command = words[0] if words else ""
    file = ELSEWHERE.get(command, command)
    return (file,) if file in FILES else FILES


def _no_options() -> None:
    """Makes even a single command one that is called by its name."""
