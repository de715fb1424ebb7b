"""What a forked child does with what it has inherited.

Broken on purpose once, and seen to fail: garbage not frozen in the child.
"""

import gc
import os

import taskstream.broker.forks  # noqa: F401 - from its import on, forks are prepared for


class Client:
    """A client that nobody refers to but itself, as one in a dropped object with cycles."""

    def __init__(self, freed: int) -> None:
        self.itself = self
        self.freed = freed

    def __del__(self) -> None:
        os.write(self.freed, b"freed")


def test_a_child_frees_no_client_that_its_parent_has_dropped() -> None:
    """Its threads are not there: where the collector came upon one in a child, the process crashed."""
    reading, writing = os.pipe()
    gc.disable()
    try:
        Client(writing)
        child = os.fork()
        if child == 0:
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        os.write(writing, b"all")
        assert os.read(reading, 100) == b"all"
    finally:
        gc.enable()
        gc.collect()
        os.close(reading)
        os.close(writing)
