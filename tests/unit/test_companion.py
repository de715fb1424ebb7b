"""The process beside a worker: it is started when told to, and ends with the block."""

import os
import threading

import pytest

from taskstream.admin.companion import Companion, tell
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


def test_a_worker_that_has_gone_is_told_nothing() -> None:
    """The pipe is broken: the scheduler goes on without a word, until it sees the end of its parent."""
    listening, told = os.pipe()
    os.close(listening)
    stopping = threading.Event()
    stopping.set()
    tell(Metrics(), told, stopping)
