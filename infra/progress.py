"""What is told while servers come and go; the command line draws it, tests leave it out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from taskstream.infra.catalogue import Server


class Stage(StrEnum):
    """How far a server is."""

    FETCHING = "fetching"
    STARTING = "starting"
    ANSWERS = "up"
    WAS_UP = "was up"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """A server reached a stage.

    Args:
        server: which one.
        stage: how far it is.
        detail: one line for people; may be empty.
    """

    server: Server
    stage: Stage
    detail: str = ""


Listener = Callable[[Progress], None]
"""Called from the threads that work on the servers, so it must be safe to call from several."""


def nobody(_progress: Progress) -> None:
    """The listener that hears nothing."""
