"""`up`, `down` and `status` at the terminal: exit codes, and JSON that stands alone."""

import json
from pathlib import Path

import pytest
import typer
from tests.support.servers import free_ports
from typer.testing import CliRunner

from taskstream.admin.cli.servers import register
from taskstream.infra.catalogue import Server
from taskstream.infra.settings import PORTS, variable


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A terminal whose data directory is empty."""
    monkeypatch.setenv("TASKSTREAM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TASKSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    return CliRunner()


@pytest.fixture
def cli() -> typer.Typer:
    """A command line with nothing but these commands."""
    cli = typer.Typer()
    register(cli)
    return cli


def test_status_of_nothing_is_an_empty_list(run: CliRunner, cli: typer.Typer) -> None:
    """Nothing up is no failure, and standard output holds one JSON document."""
    result = run.invoke(cli, ["status", "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_down_of_nothing_is_harmless(run: CliRunner, cli: typer.Typer, tmp_path: Path) -> None:
    """It succeeds, says so on standard error, and makes no directories."""
    result = run.invoke(cli, ["down", "--wipe"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing was up" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["up", "--only", "zookeeper"], "unknown server 'zookeeper'"),
        (["up", "--kafka-port", "0"], "kafka_port must be a port"),
        (["up", "--way", "magic"], "way must be one of"),
        (["up", "--nonsense"], "--nonsense"),
    ],
)
def test_bad_usage_exits_with_2(
    run: CliRunner, cli: typer.Typer, arguments: list[str], message: str
) -> None:
    """What can't be meant is refused before anything is started."""
    result = run.invoke(cli, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "--nonsense" in arguments or result.stderr.startswith("taskstream: ")


def test_a_failure_exits_with_1_and_one_line(
    run: CliRunner, cli: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be done here is one line on standard error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, port in zip(PORTS[Server.JAEGER], free_ports(3), strict=True):
        monkeypatch.setenv(variable(name), str(port))
    result = run.invoke(cli, ["up", "--only", "jaeger", "--json", "--way", "processes"])
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = [line for line in result.stderr.splitlines() if " s  jaeger:" not in line]
    assert line.startswith("taskstream: go is missing on the PATH")


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_help_shows_an_example(run: CliRunner, cli: typer.Typer, command: str) -> None:
    """Each command can be learned from its help."""
    result = run.invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: taskstream {command}" in result.stdout
