"""Actions that take longer than a page waits; asks no server.

Broken on purpose once, and seen to fail: only errors of ours caught, the bound on how many are remembered left out.
"""

from collections.abc import Callable, Sequence

import pytest
from tests.support.eventually import eventually

from taskstream.admin.dashboard.jobs import KEPT, Job, Jobs
from taskstream.core.clock import ManualClock
from taskstream.core.errors import TaskstreamError


def ended(job: Job) -> None:
    """It has come to its end."""
    assert job.finished is not None


@pytest.mark.parametrize(
    ("error", "told"),
    [(TaskstreamError("no such letter"), "no such letter"), (KeyError("secret"), "KeyError")],
)
def test_what_ended_by_an_error_does_not_look_done(error: Exception, told: str) -> None:
    """Ours is told as it is; of any other its kind, for its text may be anything, and the log has it."""

    def fails(_progress: Callable[[int, int], None], _stop: Callable[[], bool]) -> Sequence[str]:
        raise error

    job = Jobs(ManualClock()).start("redrive", fails)
    eventually(lambda: ended(job))
    assert told in job.trouble
    assert "secret" not in job.trouble


def test_only_so_many_are_remembered() -> None:
    """The oldest that has ended is forgotten first."""
    jobs = Jobs(ManualClock())
    started = []
    for number in range(KEPT + 1):
        started.append(jobs.start(str(number), lambda _progress, _stop: ["done"]))
        eventually(lambda: ended(started[-1]))
    assert jobs.find(started[0].id) is None
    assert all(jobs.find(job.id) is job for job in started[1:])
