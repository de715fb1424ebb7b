"""`taskstream top` on real servers: for scripts, and as a person has it, in a terminal.

Broken on purpose once, and seen to fail: a picture before all is read, the terminal left as it is for keys, an
interrupt that ends it in the middle.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.commands import APP, run
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.stage import ROOT, Stage, staged

from taskstream import State

HELD = "held-until-the-end"

HOME = "\x1b[H"
"""What each picture begins with: the cursor goes to the first line."""

STYLES = re.compile(r"\x1b\[[0-9;]*m")

pytestmark = pytest.mark.servers("kafka", "cassandra")


@pytest.fixture(scope="module")
def stage(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An app with 20 tasks that succeeded, two that died, and one that runs until the tests are over."""
    with staged(tmp_path_factory.mktemp("top"), **servers.addresses) as stage:
        stage.worker()
        done = [stage.task("add").publish(n) for n in range(20)]
        died = [stage.task("never_works").publish(n) for n in range(2)]
        stage.task("waits_for").options(id=HELD).publish(str(stage.directory / "gate"))
        stage.wait_for(done, {State.SUCCEEDED: 20})
        stage.wait_for(died, {State.DEAD: 2})
        yield stage


@dataclass(slots=True)
class Terminal:
    """A terminal with a command in it, and all that was written on it.

    Args:
        process: the command.
        number: the end of the terminal that a person has.
        other: the end that the command has.
    """

    process: "subprocess.Popen[bytes]"
    number: int
    other: int
    written: bytearray = field(default_factory=bytearray)

    def press(self, keys: str) -> None:
        """Presses keys."""
        os.write(self.number, keys.encode())

    def await_text(self, *texts: str) -> None:
        """Waits until one picture has all these texts."""

        def look() -> None:
            pictures = [
                STYLES.sub("", one)
                for one in bytes(self.written).decode(errors="replace").split(HOME)[-2:]
            ]
            assert any(all(text in one for text in texts) for one in pictures), pictures[-1]

        eventually(look, 30)

    @property
    def modes(self) -> list[Any]:
        """How the terminal treats what is typed."""
        return termios.tcgetattr(self.other)

    def read(self, over: threading.Event) -> None:
        """Keeps what is written, until it is over."""
        while not over.is_set():
            if select.select([self.number], [], [], 0.1)[0]:
                self.written += os.read(self.number, 65536)


@contextmanager
def terminal(stage: Stage, *words: str, columns: int, lines: int) -> Iterator[Terminal]:
    """A terminal of that size, in which `top` runs."""
    number, other = pty.openpty()
    # Tests that run side by side have a size in their environment, which no shell exports.
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "taskstream", "top", APP, *words],
        cwd=ROOT,
        env={**kept, **stage.environment, "TERM": "xterm-256color"},
        stdin=other, stdout=other, stderr=other,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C is a signal
    )  # fmt: skip
    opened, over = Terminal(process, number, other), threading.Event()
    reader = threading.Thread(target=opened.read, args=(over,))
    reader.start()
    try:
        yield opened
    finally:
        process.kill()
        process.wait()
        over.set()
        reader.join()
        os.close(number)
        os.close(other)


def test_scripts_get_one_picture(stage: Stage) -> None:
    """One document, or one page in a pipe, with all that happened before it was asked for."""

    def heard_of() -> dict[str, Any]:
        shown: dict[str, Any] = run(stage, "top", APP, "--json").json
        assert any(
            (task["id"], task["task"]) == (HELD, "waits_for")
            for worker in shown["workers"]
            for task in worker["running"]
        )
        return shown

    shown = eventually(heard_of)
    lanes = {lane["priority"]: lane for lane in shown["lanes"]}
    assert shown["complete"]
    assert lanes["normal"]["finished"] * shown["seconds"] == pytest.approx(20 + 2 * 3)
    assert lanes["normal"]["died"] * shown["seconds"] == pytest.approx(2)
    assert lanes["normal"]["retried"] * shown["seconds"] == pytest.approx(2 * 2)
    assert lanes["normal"]["dead"] == 2
    assert shown["lag"] == lanes["normal"]["lag"] >= 1
    assert lanes["normal"]["waited"]["p95"] > 0
    assert [worker["children"] for worker in shown["workers"]] == [2]
    assert [failure["state"] for failure in shown["failures"]] == ["dead"] * 2 + ["retrying"] * 4
    assert {line["name"]: line["dead"] for line in shown["tasks"]} == {"add": 0, "never_works": 2}

    page = run(stage, "top", APP, "--queue", "tasks", "--sort", "errors")
    assert (page.code, page.stderr) == (0, "")
    assert "\x1b" not in page.stdout
    assert "taskstream top" in page.stdout
    assert HELD in page.stdout
    assert "ValueError: no 1 will do" in page.stdout


def test_a_person_looks_presses_keys_and_ends_it(stage: Stage) -> None:
    """What runs and what failed appear by themselves; Ctrl-C and `q` leave the terminal as it was, with exit code 0."""
    with terminal(stage, columns=140, lines=44) as wide:
        before = wide.modes
        wide.await_text(HELD, "never_works", "ValueError: no 1 will do", "2 children")
        assert wide.modes != before
        wide.press("sv")
        wide.await_text("Queues, by rate")
        wide.press("\t")
        wide.await_text(f"taskstream top {stage.app.name} tasks  ")
        wide.press("\x03")
        assert wide.process.wait(20) == 0
        assert wide.modes == before
        assert bytes(wide.written).count(b"\x1b[?1049l") == 1
        assert b"Traceback" not in wide.written

    with terminal(stage, "--interval", "0.2", columns=44, lines=16) as narrow:
        narrow.await_text("Queues", "tasks.high", "q quit")
        narrow.press("q")
        assert narrow.process.wait(20) == 0
        assert narrow.modes == before
