"""Runs all tests, in two runs at once: those that break servers have servers of their own.

    python tests/run.py PROCESSES [PYTEST OPTIONS...]

Tests that are marked `alone` freeze and kill servers, and wait most of the time for what follows. So they
run one after the other on servers that are started for them and go away with them, beside all other tests,
which run in PROCESSES processes on the servers of `taskstream up`. What they report is shown when both runs
have ended.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

_NOTHING_TO_RUN = 5  # pytest's exit code where no test was selected


def main(processes: str, *options: str) -> int:
    """Pytest's exit code of the first run that failed; 0 where all that was selected has passed."""
    together = ("--numprocesses", processes, "--dist", "worksteal", "-m", "not long and not alone")
    with (
        tempfile.TemporaryDirectory(prefix="taskstream-tests-") as folder,
        ThreadPoolExecutor(1) as beside,
    ):
        report = Path(folder) / "report"
        alone = beside.submit(_alone, Path(folder), report, options)
        codes = [_pytest(*together, *options), alone.result()]
        sys.stdout.write(report.read_text(encoding="utf-8"))
    failed = [code for code in codes if code not in {0, _NOTHING_TO_RUN}]
    return failed[0] if failed else min(codes)


def _alone(data_dir: Path, report: Path, options: Sequence[str]) -> int:
    # In this directory no server is up, so the run starts its own.
    servers = {"TASKSTREAM_DATA_DIR": str(data_dir), "TASKSTREAM_TESTS_START_SERVERS": "1"}
    with report.open("w", encoding="utf-8") as output:
        return _pytest("-m", "alone and not long", *options, output=output, **servers)


def _pytest(*arguments: str, output: IO[str] | None = None, **environment: str) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, stdout=output, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
