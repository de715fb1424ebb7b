"""`taskstream doctor`."""

import sys

import typer

from taskstream.admin.cli.arguments import AppPath, AsJson, open_app, print_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(cli: typer.Typer) -> None:
    """Adds `doctor` to the command line."""
    cli.command(epilog="Example: taskstream doctor shop.main:app --json")(doctor)


def doctor(app: AppPath, *, as_json: AsJson = False) -> None:
    """Find what is wrong with the set-up, and say what to do.

    Ends with exit code 1 where something fails; a warning is no failure.
    """
    from taskstream.admin.doctor import Finding, Health, examine

    found: list[Finding] = []
    for one in examine(lambda: open_app(app)):
        found.append(one)
        if not as_json:
            mark = typer.style(f"{one.health:<4}", _COLOURS[one.health])
            typer.echo(f"{mark}  {one.check:<9} {one.detail}")
            if one.advice:
                typer.echo(f"{'':<16}-> {one.advice}")
            sys.stdout.flush()
    if as_json:
        print_json([one.as_json() for one in found])
    if any(one.health is Health.FAIL for one in found):
        raise typer.Exit(1)
