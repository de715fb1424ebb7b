"""Keeps as many children as are wanted, while the worker runs: by number, by load, by command.

No partition changes hands for it: a child that leaves takes no more tasks, finishes what it holds, and
goes; what it might have been given is given to the others. What is decided is decided in `staffing` and
`autoscale`; here it is carried out.
"""

from taskstream.consumer.parent.autoscale import Autoscale, Load, Range
from taskstream.consumer.parent.children import Child, Children
from taskstream.consumer.parent.staffing import WARM, Limits, Member, changes, solo_wanted
from taskstream.core.clock import Clock
from taskstream.observability import logs

LOOK_EVERY = 1.0
"""Seconds between two looks at the load."""

_log = logs.logger(__name__)


class Staff:
    """The number of children. It belongs to the loop; `command` alone may be called from any thread.

    Args:
        children: those that are there.
        count: how many are wanted of each kind, shared and solo.
        autoscale: as many as the load asks for, within this range, instead of `count`.
        limits: when a child is replaced.
        slots: how many tasks a shared child runs at once, whatever they are: reserved ones don't count.
        clock: the time.
    """

    def __init__(
        self,
        children: Children,
        *,
        count: int,
        autoscale: Range | None,
        limits: Limits,
        slots: int,
        clock: Clock,
    ) -> None:
        self._children = children
        self._count = count
        self._autoscale = None if autoscale is None else Autoscale(autoscale)
        self._commanded: int | None = None
        self._limits = limits
        self._slots = slots
        self._clock = clock
        self._look_at = 0.0

    @property
    def wanted(self) -> int:
        """How many children of each kind there should be; solo ones only as far as there is work."""
        if self._commanded is not None:
            return self._commanded
        return self._count if self._autoscale is None else self._autoscale.wanted

    def command(self, count: int | None) -> None:
        """Sets the number, whatever the load; None goes back to what the worker was started with.

        Args:
            count: 1 or more.
        """
        if count != self._commanded:
            if count is None:
                _log.info("the number of children is no longer commanded")
            else:
                _log.info("the number of children is commanded", children=count)
        self._commanded = count

    def keep(self, *, waiting: int, waiting_alone: int, solo_reserved: int = 0) -> None:
        """Starts and retires children; call it in each turn.

        Args:
            waiting: tasks that could be given out to a shared child.
            waiting_alone: tasks that wait for a child of their own.
            solo_reserved: how many solo children more there are to be, for urgent tasks alone.
        """
        now = self._clock.monotonic()
        if self._autoscale is not None and now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._look(self._autoscale, waiting, waiting_alone, now)
        self._apply(self._children.serving(solo=False), self.wanted, solo=False)
        solo = self._children.serving(solo=True)
        if solo or waiting_alone:
            wanted = self._solo_wanted(solo, waiting_alone, solo_reserved, now)
            self._apply(solo, wanted, solo=True)

    def _solo_wanted(self, solo: list[Child], waiting: int, reserved: int, now: float) -> int:
        return solo_wanted(
            waiting=waiting,
            busy=sum(bool(child.held) for child in solo),
            warm=sum(bool(child.held) or now - child.used < WARM for child in solo),
            most=self.wanted,
            reserved=reserved,
        )

    def _apply(self, here: list[Child], wanted: int, *, solo: bool) -> None:
        step = changes((self._member(child) for child in here), wanted)
        if step.start and self._children.may_start:
            for _ in range(step.start):
                self._children.start(solo=solo)
        for child in here:
            if child.number in step.leave:
                self._children.retire(child)

    def _member(self, child: Child) -> Member:
        rss_bytes = None if child.pulse is None else child.pulse.rss_bytes
        worn = child.spent or self._limits.worn(child.finished, rss_bytes)
        return Member(child.number, child.ready, worn, len(child.held))

    def _look(self, autoscale: Autoscale, waiting: int, waiting_alone: int, now: float) -> None:
        shared, solo = self._children.serving(solo=False), self._children.serving(solo=True)
        slots = len(shared) * self._slots
        held = sum(len(child.held) for child in shared)
        before = autoscale.wanted
        autoscale.observe(
            [
                Load(slots, min(slots, held), max(0, held - slots) + waiting),
                Load(before, sum(bool(child.held) for child in solo), waiting_alone),
            ],
            settled=sum(child.ready for child in shared) >= before,
            now=now,
        )
        if autoscale.wanted != before:
            _log.info(
                "the load changes the number of children",
                before=before, after=autoscale.wanted, busy=held, waiting=waiting + waiting_alone,
            )  # fmt: skip
