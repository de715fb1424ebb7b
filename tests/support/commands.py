"""Commands on the app of a stage, as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from taskstream.core import faultpoints
from tests.support.stage import ROOT, Stage
from tests.support.terminal import Done

APP = "tests.support.jobs:app"


def start(stage: Stage, *words: str, faults: Path | None = None) -> "subprocess.Popen[str]":
    """Starts a command.

    Args:
        stage: whose app it is about; its modules are found from the checkout's folder.
        words: of the command line, with `APP` where the app belongs.
        faults: where faults are laid for it.
    """
    laid = {} if faults is None else {faultpoints.VARIABLE: str(faults)}
    return subprocess.Popen(
        [sys.executable, "-m", "taskstream", *words],
        cwd=ROOT,
        env={**os.environ, **stage.environment, **laid, "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(stage: Stage, *words: str, faults: Path | None = None, timeout: float = 60.0) -> Done:
    """Runs a command to its end."""
    process = start(stage, *words, faults=faults)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Done(process.returncode, stdout, stderr)
