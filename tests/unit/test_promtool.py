"""The alert rules in Prometheus' own hands: read by promtool, and played on the stories of infra/prometheus/tests.yaml.

Skipped, with a reason, where promtool is not installed: building it takes minutes, and `tests/unit/test_boards.py`
judges the rules without it. In an empty module it is built by Go:

    go get -tool github.com/prometheus/prometheus/cmd/promtool@v0.313.5 && go tool promtool --version

Broken on purpose once, and seen to fail: another age, another `for`, a longer look back, and a pause that is no
excuse any more.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "infra" / "prometheus"
VARIABLE = "TASKSTREAM_PROMTOOL"
PROMTOOL = os.environ.get(VARIABLE) or shutil.which("promtool")

pytestmark = pytest.mark.skipif(
    PROMTOOL is None,
    reason=f"promtool is not on the PATH (or named by {VARIABLE}): rules are not played",
)


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "taskstream.rules.yaml"),
        ("test", "rules", "tests.yaml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_configuration_and_rules(words: tuple[str, ...]) -> None:
    """They are valid, and in each story exactly those alerts fire that it is about."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
