"""The command line without servers: help, exit codes, and how words become an app and the rest."""

import io
import json
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from tests.support.terminal import Terminal, terminal_at
from typer.testing import CliRunner

from taskstream import __main__ as program
from taskstream._version import __version__
from taskstream.admin.cli import _needed, command_line
from taskstream.admin.cli.arguments import progress_bar, until_interrupted, with_app
from taskstream.core.errors import BrokerError, ConfigError, TaskstreamError
from taskstream.observability import logs

COMMANDS = (
    "demo", "up", "down", "status", "init", "worker", "scheduler", "publish", "result", "cancel",
    "replay", "replay run", "replay list", "replay compare",
    "queues list", "queues pause", "queues resume", "queues drain", "queues purge",
    "dead list", "dead show", "dead redrive", "dead purge",
    "schedules list", "schedules add", "schedules remove", "schedules pause", "schedules resume",
    "schedules run", "delays list", "workers list", "workers scale", "top", "dashboard", "doctor",
    "version",
)  # fmt: skip


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal where no server is known."""
    return terminal_at(tmp_path, TASKSTREAM_DATA_DIR=str(tmp_path / "data"), TEST_APP_NAME="shop")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    """Each command can be learned from its help, which shows a line to type."""
    shown = CliRunner().invoke(command_line(), [*shlex.split(command), "--help"])
    assert shown.exit_code == 0
    assert f"Example: taskstream {command}" in shown.stdout


def test_every_command_is_told() -> None:
    """The list of this test is the list of the command line."""
    shown = CliRunner().invoke(command_line(), ["--help"])
    for command in COMMANDS:
        assert f"  {command.split()[0]} " in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_not_need_the_others(command: str) -> None:
    """Where the first word names a command, only its file is loaded, and it works as with all."""
    words = [*shlex.split(command), "--help"]
    alone = CliRunner().invoke(command_line(words), words)
    assert alone.stdout == CliRunner().invoke(command_line(), words).stdout
    assert len(_needed(words)) == 1


def test_a_slip_of_the_pen_is_met_with_all_commands() -> None:
    """A word that is no command is answered with those that it may have meant."""
    slip = CliRunner().invoke(command_line(["wrker"]), ["wrker"])
    assert slip.exit_code == 2
    assert "worker" in slip.output


def test_lists_of_commands_cut_no_sentence() -> None:
    """A newcomer reads the whole first sentence of each command."""
    for words in (
        ["--help"],
        *([group, "--help"] for group in ("dead", "queues", "replay", "schedules")),
    ):
        assert "..." not in CliRunner().invoke(command_line(), words).stdout.replace("]...", "")


def test_version_as_json_stands_alone() -> None:
    """Standard output holds one JSON document."""
    shown = CliRunner().invoke(command_line(), ["version", "--json"])
    assert f'"taskstream": "{__version__}"' in shown.stdout
    assert shown.stdout.startswith("{")


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (BrokerError("Kafka is away"), 1, "taskstream: Kafka is away\n"),
        (ConfigError("no such app"), 2, "taskstream: no such app\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    told: str,
) -> None:
    """Our errors are told without a traceback; what the user meant wrongly is 2, the rest 1."""
    monkeypatch.setattr(program, "_run", _raising(raised))
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == told


def test_an_error_is_a_line_of_json_where_all_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What reads a container's log must not stumble over its last words; an address shows no user."""
    stream = io.StringIO()
    kept = sys.excepthook, threading.excepthook
    logs.configure("info", "json", stream=stream)
    monkeypatch.setattr(
        program, "_run", _raising(BrokerError("at http://anna:geheim@host it failed"))
    )
    try:
        with pytest.raises(SystemExit):
            program.main()
    finally:
        root = logging.getLogger()
        root.handlers[:] = [
            one for one in root.handlers if "taskstream" not in type(one).__module__
        ]
        logging.captureWarnings(capture=False)
        sys.excepthook, threading.excepthook = kept
    assert json.loads(stream.getvalue())["error"] == "at http://***@host it failed"
    assert capsys.readouterr().err == ""


def test_without_its_libraries_it_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the base install alone, the command says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "taskstream.admin.cli", None)
    monkeypatch.setattr("builtins.__import__", _without("typer"))
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 1
    assert "pip install 'taskstream[cli]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "app", "rest"),
    [
        (["m:app", "add", "{}"], "m:app", ["add", "{}"]),
        (["m:app", "add"], "m:app", ["add"]),
        (["add", "{}"], "from:env", ["add", "{}"]),
        (["add", "-"], "from:env", ["add", "-"]),
        (["add"], "from:env", ["add"]),
    ],
)
def test_the_app_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, words: list[str], app: str, rest: list[str]
) -> None:
    """TASKSTREAM_APP stands for APP where it is left out, and gives way where it isn't."""
    monkeypatch.setenv("TASKSTREAM_APP", "from:env")
    assert with_app(words, least=1, most=2, usage="") == (app, rest)


@pytest.mark.parametrize("words", [[], ["add"], ["add", "{}"], ["a", "b", "c", "d"]])
def test_without_an_app_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Too few or too many words are bad usage."""
    monkeypatch.delenv("TASKSTREAM_APP", raising=False)
    with pytest.raises(ConfigError, match="usage: publish APP TASK"):
        with_app(words, least=1, most=2, usage="publish APP TASK")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nonsense"], 2, "No such command"),
        (["worker", "nowhere:app", "--no-scheduler"], 2, "no module named 'nowhere'"),
        (["worker", "main:app", "--children", "0"], 2, "--children 0: must be 1 or more"),
        (["worker", "main:app", "--instance", "a b"], 2, "--instance 'a b': use 1 to 100 letters"),
        (["worker", "main:app", "--autoscale", "4"], 2, "write LEAST,MOST"),
        (["worker", "main:app", "--autoscale", "2,4", "--children", "3"], 2, "not both"),
        (["worker", "main:app", "--group", "a.b"], 2, "group name 'a.b' is not allowed"),
        (["init", "main:app", "--group", "a.b"], 2, "group name 'a.b' is not allowed"),
        (["worker", "main:app", "--max-tasks-per-child", "0"], 2, "must be 1 or more"),
        (["worker", "main:app", "--max-memory-per-child", "much"], 2, "like 512M"),
        (["init", "main:app"], 2, "no Kafka is configured"),
        (["init", "main:nothing"], 2, "found main:app"),
        (["init"], 2, "Missing argument 'APP'"),
        (["publish", "main:app", "add", '{"a": 1}'], 2, "no Kafka is configured"),
        (["replay", "main:app"], 2, "from when on"),
        (["replay", "main:app", "--from", "1h ago"], 2, "no Kafka is configured"),
        (["replay", "main:app", "--offsets", "5"], 2, "write P:FROM-TO"),
        (
            ["replay", "main:app", "--resume", "x", "--from", "0"],
            2,
            "goes on with the plan as it was",
        ),
        (["worker", "main:app", "--shadow", "A.B", "--no-scheduler"], 2, "shadow name"),
        (["cancel", "main:app"], 2, "usage: taskstream cancel APP ID"),
        (["dead", "list", "main:app", "--by", "size"], 2, "count by reason, task or topic"),
        (["dead", "list", "main:app", "--since", "yesterday"], 2, "'yesterday' is no time"),
        (["dead", "list", "main:app", "--where", "cents >"], 2, "where 'cents >'"),
        (["dead", "show", "main:app"], 2, "usage: taskstream dead show APP ID"),
        (["dead", "main:app"], 2, "as in `taskstream dead list main:app`"),
        (["main:app"], 2, "as in `taskstream worker main:app`"),
        (["events", "main:app", "--last", "soon"], 2, "'soon' is no length of time"),
        (["dead", "redrive"], 2, "usage: taskstream dead redrive APP"),
        (["dead", "redrive", "main:app", "--set", "cents"], 2, "write NAME=VALUE"),
        (["dead", "redrive", "main:app", "--edit"], 2, "give its id"),
        (["workers", "scale", "main:app", "many"], 2, "'many' is no number of children"),
        (["workers", "scale", "main:app", "0"], 2, "0 children: a worker has 1 to 1000"),
        (["schedules", "pause", "main:app"], 2, "usage: taskstream schedules pause APP NAME"),
        (
            ["schedules", "add", "main:app", "add"],
            2,
            "usage: taskstream schedules add APP TASK CRON",
        ),
        (["schedules", "add", "main:app", "add", "@daily", "{"], 2, "the arguments are not JSON"),
        (["schedules", "add", "main:app", "add", "--every", "0"], 2, "from 1 second to a year"),
    ],
)
def test_bad_usage_exits_with_2(terminal: Terminal, words: list[str], code: int, told: str) -> None:
    """What can't be meant is one clear line, and nothing on standard output."""
    done = terminal.run(*words)
    assert (done.code, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_retry_policy_that_can_not_be_meant_is_bad_usage(terminal: Terminal) -> None:
    """Exit 2, with the option and the word."""
    done = terminal.run("publish", "main:app", "add", "{}", "--retry", "atempts=2")
    assert done.code == 2
    assert "--retry" in done.stderr
    assert "atempts" in done.stderr


def test_doctor_says_that_nothing_is_configured(terminal: Terminal) -> None:
    """Without any setting the doctor fails, and its JSON says both ways out."""
    done = terminal.run("doctor", "main:app", "--json")
    assert done.code == 1
    (finding,) = done.json
    assert finding["health"] == "fail"
    assert "taskstream up" in finding["detail"]
    assert "embedded" in finding["detail"]


def _raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


def _without(missing: str) -> Callable[..., object]:
    real = __import__

    def load(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("taskstream.admin.cli"):
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    return load


def test_commands_leave_errors_to_the_program() -> None:
    """A command raises our errors as they are; only `main` turns them into lines."""
    cli = typer.Typer()

    @cli.command()
    def failing() -> None:
        raise TaskstreamError("no")

    assert isinstance(CliRunner().invoke(cli, []).exception, TaskstreamError)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("pause shop", "usage: taskstream queues pause APP QUEUE[.PRIORITY] | --task NAME"),
        ("pause main:app taks", "no queue 'taks': did you mean 'tasks'?"),
        ("drain main:app tasks.hihg", "queue tasks has no priority 'hihg': did you mean 'high'?"),
        ("resume main:app --task flakey", "no task 'flakey': did you mean 'flaky'?"),
        ("purge main:app mail", "no queue 'mail'; there are tasks"),
    ],
)
def test_an_order_to_what_is_not_there_guesses_and_asks_nobody(
    terminal: Terminal, words: str, told: str
) -> None:
    """Bad usage, before any server is needed."""
    done = terminal.run("queues", *shlex.split(words))
    assert done.code == 2
    assert told in done.stderr


def test_every_command_is_found_in_its_own_file() -> None:
    """Loaded alone, it is there; so a command in a file of another name has to be in the list of those."""
    for command in commands_of(command_line()):
        assert command in commands_of(command_line([command])), command


def test_two_interrupts_and_the_first_one_only_asks() -> None:
    """Ctrl-C or SIGTERM; the second one interrupts at once, and afterwards all is as before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with until_interrupted() as pressed:
        assert not pressed()
        signal.raise_signal(signal.SIGTERM)
        assert pressed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_progress_bar_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """In a log it is nothing."""
    with progress_bar("counting") as show:
        show(1, 2, "one task")
    assert capsys.readouterr() == ("", "")


def commands_of(cli: typer.Typer) -> set[str]:
    """The names at its top."""
    return set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]
