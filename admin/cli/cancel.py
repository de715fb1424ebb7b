"""`taskstream cancel`."""

import sys

import typer

from taskstream.admin.cli.arguments import (
    AsJson,
    FirstWord,
    Reason,
    TaskId,
    open_app,
    print_json,
    tell_unknown,
    with_app,
)


def register(cli: typer.Typer) -> None:
    """Adds `cancel` to the command line."""
    cli.command(
        epilog="Example: taskstream cancel shop.main:app 0190a5b0-7c1f-7000-8000-000000000000 --reason 'sent twice'"
    )(cancel)


def cancel(
    first: FirstWord = None,
    second: TaskId = None,
    *,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Ask for the end of a task: one that waits never starts, one that runs is told.

    Back when the request is durable; `taskstream result --wait` shows what became of the task. Ends with
    exit code 1 if the task has ended already.
    """
    from taskstream.admin import tasks

    path, (task_id,) = with_app(
        (first, second),
        least=1,
        most=1,
        usage="taskstream cancel APP ID [--reason TEXT] [--json]",
    )
    done = tasks.cancel(open_app(path), task_id, reason=reason)
    if as_json:
        print_json(done.as_json())
    elif done.requested:
        sys.stdout.write(f"cancel requested; the task was {done.state}\n")
    else:
        sys.stdout.write(f"nothing to cancel; the task is {done.state}\n")
    tell_unknown(done.state)
    if not done.requested:
        raise typer.Exit(1)
