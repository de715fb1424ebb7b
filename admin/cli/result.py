"""`taskstream result`."""

import sys
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import (
    AsJson,
    FirstWord,
    TaskId,
    open_app,
    print_json,
    tell_unknown,
    with_app,
)
from taskstream.core.states import State


def register(cli: typer.Typer) -> None:
    """Adds `result` to the command line."""
    cli.command(
        epilog="Example: taskstream result shop.main:app 0190a5b0-7c1f-7000-8000-000000000000 --wait 10"
    )(result)


def result(
    first: FirstWord = None,
    second: TaskId = None,
    *,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a final state.", show_default=False)
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show a task: its state, result, error and attempts.

    Ends with exit code 0 if the task has succeeded, else with 1.
    """
    from taskstream.admin import tasks

    path, (task_id,) = with_app(
        (first, second),
        least=1,
        most=1,
        usage="taskstream result APP ID [--wait S] [--json]",
    )
    shown = tasks.show(open_app(path), task_id, wait=wait)
    if as_json:
        print_json(shown.as_json())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in shown.lines()))
    tell_unknown(shown.state)
    if shown.state is not State.SUCCEEDED:
        raise typer.Exit(1)
