"""A child's end of the socket to its parent."""

import os
import socket
import threading
from collections.abc import Iterator

from taskstream.consumer.pipe import Frame, Frames

_READ_BYTES = 256 * 1024


class Link:
    """Frames in, frames out. `send` may be called from any thread, `frames` belongs to one.

    Args:
        number: the socket's file descriptor, inherited from the parent.
    """

    def __init__(self, number: int) -> None:
        # What the task starts must not inherit it: the parent would never see this process end.
        os.set_inheritable(number, False)
        self._socket = socket.socket(fileno=number)
        os.register_at_fork(after_in_child=self._socket.close)
        self._sending = threading.Lock()

    def send(self, frame: bytes) -> None:
        """Says something to the parent; blocks while it does not read.

        Raises:
            OSError: the parent has gone.
        """
        with self._sending:
            self._socket.sendall(frame)

    def frames(self) -> Iterator[Frame]:
        """What the parent says, until it has gone."""
        frames = Frames()
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError:
                return
            if not data:
                return
            yield from frames.feed(data)
