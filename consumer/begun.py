"""Which tasks a child has begun, in memory that outlives it.

A child is given more tasks than it runs at once. When it dies, only those that it had begun can be to
blame; the others wait for their turn in its queues, and must not be suspected. Telling the parent of
each beginning would cost a frame, and the last ones would be lost; a cell in shared memory costs well
under a microsecond, and holds whatever stood in it at the instant of death.

A task counts as begun while its arguments are decoded (bytes may hang or kill, too), and then from its
start until its verdict is reported.
"""

import mmap
import os
import sys
import tempfile

CELL_BYTES = 8


class Begun:
    """The cells, on either side; each number stands in one of them at most.

    `prepare` belongs to one thread; `begin` and `forget` may be called from any.

    Args:
        descriptor: of the file behind the memory; may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._cells = memoryview(self._memory).cast("q")
        # The first cell is the one of the thread that prepares.
        self._free = list(range(len(self._cells) - 1, 0, -1))
        self._cell_of: dict[int, int] = {}

    def prepare(self, number: int) -> None:
        """Notes which task's arguments are decoded now; 0 for none."""
        self._cells[0] = number

    def begin(self, number: int) -> None:
        """Notes that a task starts; where all cells are taken, it goes without."""
        # pop and append are one step each under the interpreter's lock.
        if self._free:
            cell = self._free.pop()
            self._cell_of[number] = cell
            self._cells[cell] = number

    def forget(self, number: int) -> None:
        """Notes that a task has been reported; harmless for one that never began."""
        cell = self._cell_of.pop(number, None)
        if cell is not None:
            self._cells[cell] = 0
            self._free.append(cell)

    @property
    def numbers(self) -> frozenset[int]:
        """The tasks that have begun and are not reported."""
        return frozenset(self._cells) - {0}

    def close(self) -> None:
        """Gives the memory back."""
        self._cells.release()
        self._memory.close()


def create(cells: int) -> int:
    """A file for so many tasks at once, that goes when nobody has it open; returns its descriptor.

    Raises:
        OSError: there is no room for it.
    """
    if sys.platform == "linux":
        # Never on a disk, whose writing back would hold up a child that stores into it.
        descriptor = os.memfd_create("taskstream-begun")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, (cells + 1) * CELL_BYTES)
    return descriptor
