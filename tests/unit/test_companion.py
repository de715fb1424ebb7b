"""The process beside a worker: it is started when told to, and ends with the block.

Broken on purpose once, and seen to fail: a death that is told of before the last words are heard.
"""

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskstream.admin.companion import BAD_USAGE, Companion, tell
from taskstream.observability import table
from taskstream.observability.metrics import Metrics, Told


def test_one_that_was_never_started_ends_at_once() -> None:
    """A worker whose children can't start leaves no scheduler behind."""
    with Companion(("scheduler", "shop:app")):
        pass


def test_one_that_can_not_start_is_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """Bad usage stays bad usage; the thread that waits for it ends."""
    with Companion(("scheduler", "no_such_module:app")) as companion:
        companion.start()
        companion._thread.join(30.0)
        assert not companion._thread.is_alive()
    assert "can't start" in caplog.text


def test_what_it_counts_is_heard_to_the_end() -> None:
    """Also what it counted since its last word; half a line of one that was killed harms nobody."""
    metrics, heard = Metrics(), Metrics()
    listening, told = os.pipe()
    stopping = threading.Event()
    metrics.counter(table.MOVED, to="home").inc(3)
    metrics.gauge(table.DELAYED, lambda: {("shop.delay.5s",): 7.0})
    stopping.set()
    tell(metrics, told, stopping)
    listening_again, cut = os.pipe()
    os.write(cut, b'[[["taskstream.moved", ["ho')
    os.close(cut)

    def hear(word: Told | None) -> None:
        assert word is not None
        heard.hear("scheduler", word)

    with Companion(("scheduler", "shop:app"), hear) as companion:
        companion._listen(listening)
        companion._listen(listening_again)
    assert heard.series(table.MOVED) == {("home",): 3}
    assert heard.series(table.DELAYED) == {("shop.delay.5s",): 7}


def test_its_last_words_come_before_the_word_of_its_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round the gauges of one that has died would stay; and it is stopped once, by whoever does."""
    speaks = tmp_path / "speaks"
    speaks.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "for _ in range(4000):\n    os.write(int(sys.argv[-1]), b'[[], [], []]\\n')\n"
        f"sys.exit({BAD_USAGE})\n"
    )
    speaks.chmod(0o700)
    monkeypatch.setattr("taskstream.admin.companion.sys", SimpleNamespace(executable=str(speaks)))
    heard: list[Told | None] = []

    def hear(word: Told | None) -> None:
        if not heard and companion._process is not None:
            companion._process.wait()  # so that nearly all is heard only when it has died
        heard.append(word)

    with Companion((), hear) as companion:
        companion.start()
        companion._thread.join(30.0)
        companion.stop()
    assert heard == [*[Told([], [], [])] * 4000, None]


def test_a_worker_that_has_gone_is_told_nothing() -> None:
    """The pipe is broken: the scheduler goes on without a word, until it sees the end of its parent."""
    listening, told = os.pipe()
    os.close(listening)
    stopping = threading.Event()
    stopping.set()
    tell(Metrics(), told, stopping)
