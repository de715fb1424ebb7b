"""A lock between processes: two starts must not race for one download or one data directory."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, *, when_held: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock on that file while the block runs, waiting for it as long as it takes.

    The system frees it when the holder dies, so no lock is ever left behind. The file stays:
    deleting it would let a third process lock a new file of that name beside the waiting second.

    Args:
        path: made where missing, its folder too.
        when_held: called once if somebody else holds the lock and we have to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if when_held is not None:
                when_held()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
