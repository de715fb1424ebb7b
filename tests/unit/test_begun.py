"""What a child has begun can be read after its death."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.begun import Begun, create


@pytest.fixture
def descriptor() -> Iterator[int]:
    """A file for eight tasks."""
    descriptor = create(8)
    yield descriptor
    os.close(descriptor)


def test_the_cells_outlive_the_process(descriptor: int) -> None:
    """A process that kills itself in the middle of its tasks leaves their numbers behind."""
    dies = (
        "import os, signal, sys\n"
        "from taskstream.consumer.begun import Begun\n"
        f"begun = Begun({descriptor})\n"
        "for number in (5, 6, 7): begun.begin(number)\n"
        "begun.forget(6)\n"
        "begun.prepare(9)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ours = Begun(descriptor)
    subprocess.run([sys.executable, "-c", dies], pass_fds=[descriptor], check=False)
    assert ours.numbers == {5, 7, 9}
    ours.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=40))
def test_exactly_what_has_begun_stands_there(steps: list[tuple[bool, int]]) -> None:
    """Whatever begins and ends in whatever order: the other side sees the same set."""
    descriptor = create(8)
    child, parent = Begun(descriptor), Begun(descriptor)
    os.close(descriptor)
    expected: set[int] = set()
    for begins, number in steps:
        if begins and number not in expected:
            child.begin(number)
            expected.add(number)
        elif not begins:
            child.forget(number)
            expected.discard(number)
        assert parent.numbers == expected
    child.close()
    parent.close()


def test_without_a_free_cell_a_task_runs_all_the_same(descriptor: int) -> None:
    """More than there is room for is no error, and room comes back."""
    begun = Begun(descriptor)
    for number in range(1, 12):
        begun.begin(number)
    assert begun.numbers == set(range(1, 9))
    for number in range(1, 12):
        begun.forget(number)
    assert begun.numbers == frozenset()
    begun.close()
