"""`taskstream demo` from a user's terminal: what README promises of its first minute."""

import re
from pathlib import Path

import pytest
from tests.support.terminal import Terminal


def assert_whole(shown: str) -> None:
    """The table of final states, the dead letters, and one trace with three attempts."""
    assert "published 303 tasks" in shown
    assert re.search(r"charge .* 100 .* 100 .* yes", shown)
    assert re.search(r"reserve: fails twice .* 3 .* yes", shown)
    assert "NO" not in shown
    assert re.search(r"pack .* Undecodable .* these bytes are no task", shown)
    assert re.search(r"ship .* NoCarrier .* 2 ", shown)
    assert len(re.findall(r"── process shop\.tasks\.normal", shown)) == 3
    assert len(re.findall(r"── INSERT results", shown)) == 3
    assert "every task ended as it must" in shown


def test_it_runs_without_any_server(tmp_path: Path) -> None:
    """Embedded, with settings of another app around, and without a terminal: exit 0, plain lines."""
    terminal = Terminal(
        tmp_path,
        {
            "TASKSTREAM_DATA_DIR": str(tmp_path),
            "TASKSTREAM_BOOTSTRAP_SERVERS": "nowhere:9092",
            "TASKSTREAM_CASSANDRA_HOSTS": "nowhere",
        },
    )
    done = terminal.run("demo")
    assert done.code == 0, done.stderr
    assert_whole(done.stdout)
    assert "\x1b" not in done.stdout


@pytest.mark.servers("kafka", "cassandra", "jaeger")
def test_it_runs_on_real_servers(tmp_path: Path) -> None:
    """On the servers of `taskstream up` the trace comes from Jaeger, with its link."""
    done = Terminal(tmp_path).run("demo", "--real", timeout=110)
    if "start them with `taskstream up`" in done.stderr:
        pytest.skip("these servers were started for the tests alone")
    assert done.code == 0, done.stderr
    assert_whole(done.stdout)
    assert re.search(r"the same in Jaeger: http://\S+/trace/[0-9a-f]{32}", done.stdout)


def test_real_without_servers_says_what_to_do(tmp_path: Path) -> None:
    """One line, exit 1."""
    done = Terminal(tmp_path, {"TASKSTREAM_DATA_DIR": str(tmp_path)}).run("demo", "--real")
    assert done.code == 1
    assert "taskstream up" in done.stderr
