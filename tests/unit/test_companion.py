"""The process beside a worker: it is started when told to, and ends with the block."""

import pytest

from taskstream.admin.companion import Companion


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
