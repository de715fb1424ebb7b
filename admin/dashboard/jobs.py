"""Actions that take longer than a page waits: each in a thread, with how far it has come."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from secrets import token_urlsafe

from taskstream.core.clock import Clock
from taskstream.core.errors import ConfigError, TaskstreamError
from taskstream.observability.logs import REPORT_IT, logger

AT_ONCE = 4
"""How many run at once; more are refused."""

KEPT = 50
"""How many are remembered."""

_log = logger(__name__)

Work = Callable[[Callable[[int, int], None], Callable[[], bool]], Sequence[str]]
"""Does it, given what to tell of the progress and what to ask whether to stop; gives what came of it."""


@dataclass(slots=True)
class Job:
    """One action.

    Args:
        id: nobody can guess it.
        title: what it does.
        begun: when, seconds since 1970.
        through: how many are through.
        total: of how many; 0 while nobody knows.
        told: what came of it, line by line.
        trouble: why it ended early; empty where it did not.
        finished: when it ended; None while it goes on.
        stopping: whether somebody wants it to end early.
    """

    id: str
    title: str
    begun: float
    through: int = 0
    total: int = 0
    told: Sequence[str] = ()
    trouble: str = ""
    finished: float | None = None
    stopping: threading.Event = field(default_factory=threading.Event)


class Jobs:
    """The actions of one process. Any thread may call any method.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def start(self, title: str, work: Work) -> Job:
        """Begins an action.

        Raises:
            ConfigError: too many are under way.
        """
        with self._lock:
            under_way = sum(job.finished is None for job in self._jobs.values())
            if under_way >= AT_ONCE:
                raise ConfigError(f"{under_way} actions are under way: wait for one of them to end")
            while len(self._jobs) >= KEPT:
                del self._jobs[
                    next(one.id for one in self._jobs.values() if one.finished is not None)
                ]
            job = Job(token_urlsafe(12), title, self._clock.now())
            self._jobs[job.id] = job
        # No daemon: who ends the server waits for what it has begun, which stops in good order.
        threading.Thread(target=self._run, args=(job, work), name="taskstream-job").start()
        return job

    def find(self, job_id: str) -> Job | None:
        """The action of that id; None where it is forgotten."""
        return self._jobs.get(job_id)

    def under_way(self, title: str) -> Job | None:
        """The action of that title that has not ended; None where there is none."""
        jobs = list(self._jobs.values())
        return next((job for job in jobs if job.title == title and job.finished is None), None)

    def stop(self) -> None:
        """Asks all to end early."""
        for job in list(self._jobs.values()):
            job.stopping.set()

    def _run(self, job: Job, work: Work) -> None:
        def progress(through: int, total: int) -> None:
            job.through, job.total = through, total

        try:
            job.told = work(progress, job.stopping.is_set)
        except TaskstreamError as error:
            job.trouble = str(error)
        except Exception as error:  # noqa: BLE001 - else its page would say that it was done
            job.trouble = f"it failed unexpectedly, as the log tells: {type(error).__name__}"
            _log.exception("an action failed", what=job.title, advice=REPORT_IT)
        finally:
            job.finished = self._clock.now()
