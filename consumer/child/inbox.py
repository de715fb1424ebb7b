"""What the parent has said and the child has not come to yet: urgent tasks first.

A child prepares one frame after the other, and a frame of many tasks takes a while. Order within one kind
is kept, and the rest comes on whatever is urgent (`Line`); the word to stop comes last of all.
"""

import threading

from taskstream.consumer.child.line import Line
from taskstream.consumer.pipe import Cancel, Frame, Recall, Stop, Turn


class Inbox:
    """Frames from the thread that reads to the thread that prepares."""

    def __init__(self) -> None:
        self._line: Line[tuple[Frame, Turn]] = Line(1, 0)
        self._stop: Stop | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        """Adds a frame."""
        with self._changed:
            if isinstance(frame, Stop):
                # What was sent before it may still wait here, and an end would leave it unprepared.
                self._stop = frame
            else:
                for turn in _turns(frame):
                    self._line.push((frame, turn), turn)
            self._changed.notify()

    def get(self) -> Frame:
        """Waits for the next frame."""
        with self._changed:
            while (found := self._line.pop()) is None:
                if self._stop is not None:
                    stop, self._stop = self._stop, None
                    return stop
                self._changed.wait()
            frame, turn = found
            self._line.free(turn)
            return frame


def _turns(frame: Frame) -> tuple[Turn, ...]:
    if isinstance(frame, Cancel | Recall):
        # Behind the tasks of either kind that came before it: it may be about any of them, finds none
        # that is not prepared yet, and is not said again.
        return (Turn.URGENT, Turn.COMMON)
    urgent = isinstance(frame, list) and bool(frame) and frame[0].turn is Turn.URGENT
    return (Turn.URGENT,) if urgent else (Turn.COMMON,)
