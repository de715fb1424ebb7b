"""`taskstream top`."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from taskstream.admin.cli.arguments import AppPath, AsJson, open_app, print_json, until_interrupted
from taskstream.core.errors import ConfigError, TaskstreamError

if TYPE_CHECKING:
    from taskstream.admin.overview.live import Live
    from taskstream.admin.overview.picture import Choice, Picture

FASTEST, SLOWEST = 0.2, 60.0
"""Seconds between two pictures."""

INTERVALS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
WINDOWS = (10.0, 60.0, 300.0)
"""What the keys for the interval and for the window go through."""

COMPLETE_WITHIN = 30.0
"""Seconds that a single picture waits for all that it should show."""

CLOSE_WITHIN = 2.0
"""Seconds that each of the reading threads has to end."""

NOTED_FOR = 15.0
"""Seconds for which a logged warning is shown."""

PIPED_WIDTH = 160


def register(cli: typer.Typer) -> None:
    """Adds `top` to the command line."""
    cli.command(epilog="Example: taskstream top shop.main:app --queue tasks --sort lag")(top)


def top(
    app: AppPath,
    *,
    queue: Annotated[
        str, typer.Option(help="Only this queue; all by default.", show_default=False)
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            help="Order of the queues: queue (the app's own), rate, errors, waited, ran, lag, oldest, dead."
        ),
    ] = "queue",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    last: Annotated[
        float, typer.Option(help="Seconds that rates and percentiles are about, 5 to 300.")
    ] = 60.0,
    interval: Annotated[float, typer.Option(help="Seconds between two pictures, 0.2 to 60.")] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="One picture, and end; so it is without a terminal.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an app does, live: rates, errors, waiting and running times, backlogs, workers, failures.

    Keys: q ends it, tab goes to the next queue, s sorts, r reverses, v shows one part at length, w changes
    what rates are about, + and - the interval, space stops and goes on.
    """
    from taskstream.admin.overview.live import Live
    from taskstream.admin.overview.picture import LONGEST, Choice

    if not FASTEST <= interval <= SLOWEST:
        raise ConfigError(f"--interval {interval:g}: use {FASTEST:g} to {SLOWEST:g} seconds")
    opened = open_app(app)
    opened.load_tasks()
    choice = Choice(queue, sort, reverse, last).checked(opened.queues)
    single = once or as_json or not sys.stdout.isatty()
    live = Live(opened, history=last if single else LONGEST, with_actions=False)
    with until_interrupted() as over:
        live.start()
        try:
            if single:
                _show_once(opened.name, live, choice, over, as_json=as_json)
            else:
                view = View(choice, tuple(opened.queues), interval)
                _watch(opened.name, live, view, over)
        finally:
            live.close(CLOSE_WITHIN)


# --- one picture


def _show_once(
    app: str, live: "Live", choice: "Choice", over: Callable[[], bool], *, as_json: bool
) -> None:
    from rich.console import Console

    from taskstream.admin.cli.screen import Frame, draw
    from taskstream.admin.overview.picture import take
    from taskstream.core.clock import SYSTEM_CLOCK

    _await_all(live, over)
    if over():
        return
    picture = take(app, live, choice, SYSTEM_CLOCK)
    if as_json:
        print_json(picture.as_json())
        return
    # A pipe has no width: what reads it wants each row on one line.
    console = Console(
        width=None if sys.stdout.isatty() else PIPED_WIDTH, markup=False, highlight=False
    )
    console.print(draw(picture, Frame(sort=choice.sort), console.width, None))


def _await_all(live: "Live", over: Callable[[], bool]) -> None:
    """Waits until all is read. Raises TaskstreamError where that can't be."""
    until = time.monotonic() + COMPLETE_WITHIN
    pause = threading.Event()
    while not live.complete and time.monotonic() < until and not over():
        if live.troubles:
            raise TaskstreamError("; ".join(live.troubles))
        pause.wait(0.05)


# --- picture after picture


@dataclass(frozen=True, slots=True)
class View:
    """What is to be seen, and how often anew.

    Args:
        choice: what of the app.
        queues: all queues of the app.
        interval: seconds between two pictures.
        panel: which part.
        stopped: whether the picture stands still.
        over: whether there is nothing more to see.
    """

    choice: "Choice"
    queues: tuple[str, ...]
    interval: float = 1.0
    panel: str = "all"
    stopped: bool = False
    over: bool = False


def pressed(view: View, key: str) -> View:
    """What is to be seen after a key; pure. A key that means nothing changes nothing."""
    from taskstream.admin.cli.screen import PANELS
    from taskstream.admin.overview.picture import SORTS

    choice = view.choice
    match key:
        case "q":
            return replace(view, over=True)
        case "tab" | "backtab":
            queue = _next(("", *view.queues), choice.queue, 1 if key == "tab" else -1)
            return replace(view, choice=replace(choice, queue=queue))
        case "s" | "S":
            sort = _next(tuple(SORTS), choice.sort, 1 if key == "s" else -1)
            return replace(view, choice=replace(choice, sort=sort))
        case "r":
            return replace(view, choice=replace(choice, reverse=not choice.reverse))
        case "v" | "V":
            return replace(view, panel=_next(PANELS, view.panel, 1 if key == "v" else -1))
        case "w":
            longer = [window for window in WINDOWS if window > choice.seconds] or WINDOWS
            return replace(view, choice=replace(choice, seconds=longer[0]))
        case "+" | "-":
            return replace(view, interval=_step(view.interval, longer=key == "+"))
        case "space":
            return replace(view, stopped=not view.stopped)
    return view


def _next(all_of: Sequence[str], now: str, step: int) -> str:
    return all_of[(all_of.index(now) + step) % len(all_of)]


def _step(interval: float, *, longer: bool) -> float:
    if longer:
        return next((one for one in INTERVALS if one > interval), interval)
    return next((one for one in reversed(INTERVALS) if one < interval), interval)


def _watch(app: str, live: "Live", view: View, over: Callable[[], bool]) -> None:
    from rich.console import Console
    from rich.live import Live as Display

    from taskstream.admin.cli.keys import listening
    from taskstream.admin.cli.screen import Frame, draw
    from taskstream.admin.overview.picture import take
    from taskstream.core.clock import SYSTEM_CLOCK

    console = Console(markup=False, highlight=False)
    with (
        _noted() as notes,
        listening(sys.stdin) as wait,
        Display(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as display,
    ):
        picture: Picture | None = None
        while not over():
            if picture is None or not view.stopped:
                picture = take(app, live, view.choice, SYSTEM_CLOCK)
            frame = Frame(
                view.choice.sort, view.panel, view.interval, view.stopped, sys.stdin.isatty(), notes()
            )  # fmt: skip
            display.update(draw(picture, frame, console.width, console.height), refresh=True)
            for key in wait(view.interval, over):
                before, view = view, pressed(view, key)
                if view.choice != before.choice:
                    picture = (
                        None  # what was asked for just now is shown, also while all stands still
                    )
            if view.over:
                return


@contextmanager
def _noted() -> Iterator[Callable[[], tuple[str, ...]]]:
    """Keeps warnings from being written across the screen; gives a question for those of just now."""
    kept: deque[tuple[float, str]] = deque(maxlen=3)

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append((time.monotonic(), record.getMessage()))

    handler = Notes(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield lambda: tuple(
            text for at, text in tuple(kept) if time.monotonic() - at < NOTED_FOR
        )  # fmt: skip
    finally:
        logging.getLogger().removeHandler(handler)
