"""A fault point kills or stops exactly one process, where a test asks for it, and is nothing elsewhere."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.eventually import eventually

from taskstream.core import faultpoints

PASSES = """
from taskstream.core.faultpoints import AFTER_RUN, BEFORE_RUN, fault_point
for _ in range(3):
    fault_point(BEFORE_RUN)
    fault_point(AFTER_RUN)
print("alive")
"""


def _start(directory: Path | None) -> "subprocess.Popen[str]":
    environment = {name: text for name, text in os.environ.items() if name != faultpoints.VARIABLE}
    if directory is not None:
        environment[faultpoints.VARIABLE] = str(directory)
    return subprocess.Popen(
        [sys.executable, "-c", PASSES], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_without_the_variable_a_point_does_nothing(tmp_path: Path) -> None:
    """Whatever lies where, a process that was not told of the directory passes every point."""
    (tmp_path / faultpoints.AFTER_RUN).write_text("kill")
    assert _start(None).communicate()[0] == "alive\n"


def test_a_kill_strikes_one_process_and_says_which(tmp_path: Path) -> None:
    """The first one to come by dies of SIGKILL and leaves its pid; the next one lives."""
    (tmp_path / faultpoints.AFTER_RUN).write_text("kill\n")
    struck = _start(tmp_path)
    struck.communicate()
    assert struck.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == [f"{faultpoints.AFTER_RUN}.{struck.pid}"]
    assert _start(tmp_path).communicate()[0] == "alive\n"


def test_a_stopped_process_goes_on_where_it_stood(tmp_path: Path) -> None:
    """`stop` halts the process at the point; SIGCONT lets it finish."""
    (tmp_path / faultpoints.BEFORE_RUN).write_text("stop")
    process = _start(tmp_path)
    eventually((tmp_path / f"{faultpoints.BEFORE_RUN}.{process.pid}").exists)
    pid, status = os.waitpid(process.pid, os.WUNTRACED)
    assert (pid, os.WIFSTOPPED(status)) == (process.pid, True)
    process.send_signal(signal.SIGCONT)
    assert process.communicate()[0] == "alive\n"


def test_an_unknown_fault_is_loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that misspells its fault hears of it."""
    (tmp_path / faultpoints.BEFORE_RUN).write_text("burn")
    monkeypatch.setattr(faultpoints, "_directory", tmp_path)
    with pytest.raises(KeyError, match="burn"):
        faultpoints.fault_point(faultpoints.BEFORE_RUN)
