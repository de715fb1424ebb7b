"""Keys as they are pressed, without Enter behind them."""

import os
import select
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

LOOK_EVERY = 0.2
"""Seconds after which a wait asks whether it is over: a signal alone does not end it."""

_NAMES = {b"\t": "tab", b"\x1b[Z": "backtab", b" ": "space"}


def names(typed: bytes) -> list[str]:
    """The keys in what a terminal sent: letters as they are, others by name; what is unknown is left out."""
    found = []
    while typed:
        size = _size(typed)
        key, typed = typed[:size], typed[size:]
        if name := _NAMES.get(key):
            found.append(name)
        elif len(key) == 1 and 0x20 < key[0] < 0x7F:
            found.append(key.decode())
    return found


def _size(typed: bytes) -> int:
    """How many bytes the first key is."""
    if not typed.startswith((b"\x1b[", b"\x1bO")):
        return 1
    for number, byte in enumerate(typed[2:], start=3):
        if 0x40 <= byte <= 0x7E:
            return number
    return len(typed)


Wait = Callable[[float, Callable[[], bool]], list[str]]
"""Waits so many seconds for keys, or until it is over; gives those that were pressed, at once."""


@contextmanager
def listening(terminal: TextIO) -> Iterator[Wait]:
    """Lets a terminal send each key by itself, until the end; it is then as it was.

    Where nobody can press a key, the wait is only a wait.
    """
    if not terminal.isatty():
        yield lambda seconds, over: _wait(None, seconds, over)
        return
    number = terminal.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield lambda seconds, over: _wait(number, seconds, over)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _wait(number: int | None, seconds: float, over: Callable[[], bool]) -> list[str]:
    watched = [] if number is None else [number]
    while seconds > 0 and not over():
        slice_ = min(LOOK_EVERY, seconds)
        if select.select(watched, [], [], slice_)[0]:
            typed = os.read(watched[0], 1024)
            if not typed:
                watched = []  # the terminal has gone
                continue
            return names(typed)
        seconds -= slice_
    return []
