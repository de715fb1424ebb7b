"""What live pages are sent each second: parts of pages, rendered once for all who look."""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskstream.admin.dashboard.render import render
from taskstream.admin.overview import views
from taskstream.admin.overview.live import Live
from taskstream.core.clock import Clock
from taskstream.core.states import State

EVERY = 1.0
"""Seconds for which what was rendered is good."""


class Frames:
    """The parts of pages that change by themselves. Any thread may ask.

    Args:
        live: what goes on.
        clock: the time.
        read_only: whether nothing may be changed, so that nothing offers to.
    """

    def __init__(self, live: Live, clock: Clock, *, read_only: bool = False) -> None:
        self._live = live
        self._clock = clock
        self._read_only = read_only
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}
        self._parts: Mapping[str, Callable[[], Mapping[str, Any]]] = {
            "cards": self._cards,
            "alarms": self._alarms,
            "lanes": lambda: {"lanes": self._live.look.lanes, "read_only": read_only},
            "failures": self._failures,
            "errors": self._errors,
            "task_lines": lambda: {"lines": views.task_lines(self._live.pulse.tasks())},
            "workers": self._workers,
            "series": self._series,
        }

    @property
    def names(self) -> frozenset[str]:
        """The parts there are."""
        return frozenset(self._parts)

    def part(self, name: str, root: str) -> str:
        """One part, as HTML or, for the charts, as JSON; at most a second old.

        Args:
            name: which one.
            root: where the dashboard is mounted.
        """
        with self._lock:
            now = self._clock.monotonic()
            rendered_at, text = self._kept.get((name, root), (-EVERY, ""))
            if now - rendered_at >= EVERY:
                values = self._parts[name]()
                if name == "series":
                    text = json.dumps(values, separators=(",", ":"))
                else:
                    text = render(f"parts/{name}.html", root=root, **values)
                self._kept[name, root] = (now, text)
            return text

    def _cards(self) -> Mapping[str, Any]:
        lately = self._live.pulse.lately(views.LATELY)
        return {"cards": views.cards(self._live.look, lately, self._clock.now())}

    def _alarms(self) -> Mapping[str, Any]:
        states, _, _ = self._live.pulse.lately(views.LATELY)
        live = self._live
        return {"alarms": views.alarms(live.look, states, live.troubles, self._clock.now())}

    def _failures(self) -> Mapping[str, Any]:
        pulse = self._live.pulse
        dead, again = (pulse.failures(state) for state in (State.DEAD, State.RETRYING))
        return {"dead": dead[: views.SHOWN_FAILURES], "again": again[: views.SHOWN_RETRIES]}

    def _errors(self) -> Mapping[str, Any]:
        found = views.error_lines(self._live.pulse.errors())[: views.SHOWN_ERRORS]
        return {"errors": found, "read_only": self._read_only}

    def _workers(self) -> Mapping[str, Any]:
        look = self._live.look
        return {"workers": look.workers, "at": look.at, "now": self._clock.now()}

    def _series(self) -> Mapping[str, Any]:
        pulse, look = self._live.pulse, self._live.look
        return views.series(pulse.states(), *pulse.durations(), self._live.lag, look.lanes)
