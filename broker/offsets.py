"""Which delivered records of one partition are finished: pure state, no Kafka.

Records finish in any order, and offsets have holes (transaction markers, compaction), so progress
is kept in delivery order: `position` is one past the last record delivered, and everything below it
is finished but for the offsets listed as unfinished. The watermark, which is what a commit may
claim, is the first unfinished offset. At most about a thousand records are unfinished at a time
(the caller stops taking more), so the list always fits the commit's metadata; what is finished
never needs room, however far ahead it runs.

Invariants (`tests/unit/test_offsets.py` checks them against a naive model):
- an offset below the watermark is finished, for good;
- the watermark never goes back;
- a tracker rebuilt from a commit says of every record what the committing one would have said.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Held:
    """An unfinished record that an earlier owner goes on running: whoever comes later waits for it.

    Args:
        offset: the record's.
        worker: who runs it, by the name that stands in its heartbeats.
        since_us: microseconds since 1970 by that worker's clock: a heartbeat that was written then, or
            later, and does not tell of the record says that it runs no more.
    """

    offset: int
    worker: str
    since_us: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What one commit says of a partition.

    Args:
        watermark: the committed offset: everything below it is finished.
        position: one past the last offset delivered, at least `watermark`.
        unfinished: offsets in [watermark, position) that are not finished, ascending.
        horizon: no record at or above it was given out when this was committed.
        held: those of the unfinished that somebody else runs, by ascending offset.
        in_order: whether whoever committed this gave the partition up in order, so that no process
            died of what stands below the horizon.
    """

    watermark: int
    position: int
    unfinished: tuple[int, ...] = ()
    horizon: int = 0
    held: tuple[Held, ...] = ()
    in_order: bool = False

    @classmethod
    def at(cls, offset: int) -> "Progress":
        """Nothing delivered yet, nothing given out: where a new group starts."""
        return cls(watermark=offset, position=offset, horizon=offset)


@dataclass(slots=True)
class Tracker:
    """The progress of one partition while this process owns it. Not thread-safe.

    Build one with `Tracker.resume`.
    """

    position: int
    _unfinished: dict[int, None] = field(default_factory=dict)
    _owed: deque[int] = field(default_factory=deque)
    """Unfinished in the commit we resumed from, and not delivered to us yet; ascending."""

    @classmethod
    def resume(cls, progress: Progress) -> "Tracker":
        """Continues where a commit left off."""
        return cls(
            progress.position, dict.fromkeys(progress.unfinished), deque(progress.unfinished)
        )

    def deliver(self, offset: int) -> bool:
        """Notes a record that Kafka delivered; False if it is finished or in hand already."""
        if self._owed:
            self._forget_vanished(offset)
            if self._owed and self._owed[0] == offset:
                self._owed.popleft()
                return True
        if offset < self.position:
            return False
        self.position = offset + 1
        self._unfinished[offset] = None
        return True

    def finish(self, offset: int) -> None:
        """Notes that a delivered record needs nothing more; harmless to repeat."""
        self._unfinished.pop(offset, None)

    @property
    def watermark(self) -> int:
        """The offset that a commit may claim: all below it are finished."""
        return next(iter(self._unfinished), self.position)

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Delivered (or owed) offsets that are not finished, ascending."""
        return tuple(self._unfinished)

    @property
    def pending(self) -> int:
        """How many offsets are not finished."""
        return len(self._unfinished)

    @property
    def in_hand(self) -> int:
        """How many delivered records are not finished; without those that are owed to us still.

        What is owed comes first, and only by reading on: it must not count against reading on.
        """
        return len(self._unfinished) - len(self._owed)

    @property
    def gap(self) -> int:
        """How many offsets lie between the watermark and the position."""
        return self.position - self.watermark

    def progress(self, horizon: int, *, in_order: bool = False) -> Progress:
        """What to commit now."""
        return Progress(self.watermark, self.position, self.unfinished, horizon, in_order=in_order)

    def _forget_vanished(self, offset: int) -> None:
        # Kafka delivers in ascending order: what was owed below this offset is not in the log any
        # more (retention, compaction), and would hold the watermark for ever.
        while self._owed and self._owed[0] < offset:
            self._unfinished.pop(self._owed.popleft(), None)
