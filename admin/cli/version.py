"""`taskstream version`."""

import platform
import sys

import typer

from taskstream.admin.cli.arguments import AsJson, print_json


def register(cli: typer.Typer) -> None:
    """Adds `version` to the command line."""
    cli.command(epilog="Example: taskstream version --json")(version)


def version(*, as_json: AsJson = False) -> None:
    """Show the versions of taskstream, Python and the Kafka client."""
    from taskstream._version import __version__
    from taskstream.broker.cluster import client_version

    versions = {
        "taskstream": __version__,
        "python": platform.python_version(),
        "librdkafka": client_version(),
    }
    if as_json:
        print_json(versions)
    else:
        sys.stdout.write("".join(f"{name} {number}\n" for name, number in versions.items()))
