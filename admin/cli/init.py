"""`taskstream init`."""

import sys
from typing import Annotated

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    AsJson,
    ShadowOf,
    open_app,
    print_json,
    shadow_path,
)


def register(cli: typer.Typer) -> None:
    """Adds `init` to the command line."""
    cli.command(epilog="Example: taskstream init shop.main:app")(init)


def init(
    app: AppPath,
    *,
    group: Annotated[
        str | None,
        typer.Option(help="Also commit starting offsets for the workers of `--group NAME`."),
    ] = None,
    shadow: ShadowOf = "",
    as_json: AsJson = False,
) -> None:
    """Create topics, starting offsets, schemas and tables.

    Safe to run again: it creates what is missing and changes nothing that exists. Where something
    differs from the settings it says so, and ends with exit code 1.
    """
    from taskstream.admin import provision

    report = provision.init(open_app(shadow_path(app, shadow)), group=group)
    if as_json:
        print_json(report.as_json())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in report.lines()))
    for line in report.drift:
        sys.stderr.write(f"differs: {line}\n")
    if report.drift:
        raise typer.Exit(1)
