"""The command line: a file per group of commands, which call `admin` and show what it says.

Standard output gets the answer, and with `--json` one document and nothing else; standard error gets
what is told on the way. Errors are left to `taskstream.__main__`. What a command needs is imported
when it runs, so that `taskstream --help` and completion stay fast.
"""

import typer

from taskstream.admin.cli import (
    cancel,
    demo,
    doctor,
    init,
    publish,
    queues,
    result,
    scheduler,
    servers,
    version,
    worker,
    workers,
)


def command_line() -> typer.Typer:
    """All commands, in the order in which a newcomer meets them."""
    cli = typer.Typer(
        name="taskstream",
        help="A distributed task queue for Python on the Kafka you already run.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # a bug of ours is best told by a plain traceback
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    demo.register(cli)
    servers.register(cli)
    for commands in (
        init,
        worker,
        scheduler,
        publish,
        result,
        cancel,
        queues,
        workers,
        doctor,
        version,
    ):
        commands.register(cli)
    return cli
