"""What the parent knows of one partition that it owns: pure state.

The horizon is reserved ahead: no task is given out at an offset at or above the horizon of the last
acknowledged commit. So whoever takes the partition over knows from that commit which records may
have been started (they are looked up in the store), and which have not.

A task that outlives the grace of a revocation goes on where it is, and the last commit names it as held
(`Held`). Later owners pass that on, and start neither it nor anything behind its key until its holder
has ended it or is gone.
"""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import decode, encode
from taskstream.broker.offsets import Held, Progress, Tracker
from taskstream.consumer.parent.intake import Intake
from taskstream.consumer.parent.lanes import Entry
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.observability import logs

WINDOW = 1000
"""How many records of a partition may be unfinished."""

WINDOW_FULL = 750
"""Where its intake pauses: one more `take` may be on its way."""

RESERVE = 4000
"""How many offsets a commit reserves ahead of what was delivered."""

REMEMBERED = 2000
"""Of how many records delivered last the ids are known."""

_log = logs.logger(__name__)


@dataclass(slots=True, eq=False)
class Partition:
    """One partition, from its assignment to its end. Not thread-safe.

    Args:
        place: which one.
        epoch: which assignment this is; fences verdicts of an earlier one.
        intake: who reads it.
        fence: what tasks are given as their fencing number.
        tracker: which records are finished.
        inherited: records below this offset may have been started by an earlier owner.
        suspected: and a process may have died of those below this one.
        end: the end of the partition at its assignment.
        held: by offset, what an earlier owner goes on running.
        reserved: the horizon of the last acknowledged commit.
    """

    place: Place
    epoch: int
    intake: Intake
    fence: int
    tracker: Tracker
    inherited: int
    suspected: int
    end: int
    held: dict[int, Held] = field(default_factory=dict)
    reserved: int = 0
    revoking: bool = False
    beyond: deque[Entry] = field(default_factory=deque)
    """Delivered at or above the horizon: given out once it has moved."""
    given_to: int = 0
    """One past the highest offset given out."""
    entries: dict[int, Entry] = field(default_factory=dict)
    """Delivered and not finished, by offset."""
    _met: dict[int, None] = field(default_factory=dict)
    """Hashes of the ids met last, the oldest first."""
    _sent: Progress | None = None
    _acknowledged: Progress | None = None

    @classmethod
    def begin(cls, assigned: Assigned, *, epoch: int, intake: Intake, fence: int) -> "Partition":
        """Continues where the group's last commit left off."""
        start = assigned.low if assigned.committed is None else assigned.committed
        progress = decode(start, assigned.metadata)
        if progress is None:  # not our commit: whatever stands there may have been started
            # But of a group that somebody reset one can't say that its worker died.
            progress = Progress(start, start, horizon=assigned.high, in_order=True)
        return cls(
            place=assigned.place,
            epoch=epoch,
            intake=intake,
            fence=fence,
            tracker=Tracker.resume(progress),
            inherited=progress.horizon,
            # What was appended since can't have been running when an earlier owner died.
            suspected=start if progress.in_order else min(progress.horizon, assigned.high),
            end=assigned.high,
            held={one.offset: one for one in progress.held},
            given_to=start,
        )

    @property
    def full(self) -> bool:
        """Whether too much of it is unfinished to take more in."""
        return self.tracker.in_hand >= WINDOW_FULL

    @property
    def head(self) -> Entry | None:
        """The unfinished task with the lowest offset, which no commit passes; None if not in hand."""
        return self.entries.get(self.tracker.watermark)

    def finish(self, entry: Entry) -> None:
        """A task of this partition needs nothing more."""
        self.tracker.finish(entry.record.offset)
        self.entries.pop(entry.record.offset, None)

    def has_met(self, task_id: bytes) -> bool:
        """Whether a record of that id came a short while ago, or, rarely, one that looks like it.

        A producer that gives a record up while it is under way may send those behind it twice: no
        sequence number tells the broker, since it begins a new epoch.
        """
        if not task_id:
            return False  # a foreign record: its id follows from its offset
        number = hash(task_id)
        if number in self._met:
            return True
        self._met[number] = None
        if len(self._met) > REMEMBERED:
            del self._met[next(iter(self._met))]
        return False

    def within_horizon(self, entry: Entry) -> bool:
        """Whether the entry may be given out now; else it waits here until the horizon has moved."""
        if entry.record.offset < self.reserved:
            return True
        self.beyond.append(entry)
        return False

    @property
    def commit_is_urgent(self) -> bool:
        """Whether tasks wait, or soon will, for the horizon to move."""
        return self._sent is None and self.tracker.position > self.reserved - RESERVE // 2

    def commit(self, *, full: bool) -> tuple[int, str] | None:
        """What to commit now, or None: nothing changed, or an answer is still due.

        Args:
            full: also if nothing changed. Kafka does not fence commits, so a frozen former owner can
                rewind ours when it wakes up; a repeated commit puts that right.
        """
        if self._sent is not None:
            return None
        progress = self._progress(max(self.inherited, self.tracker.position + RESERVE))
        if progress == self._acknowledged and not full:
            return None
        self._sent = progress
        return progress.watermark, _encoded(progress)

    def last_commit(self, held: Collection[Held] = ()) -> tuple[int, str]:
        """What to commit when the partition is given up: nothing is reserved any more.

        What an earlier owner may have started stays to be looked up, for we may not have come to it.

        Args:
            held: what goes on running here.
        """
        horizon = max(self.inherited, self.given_to, self.tracker.watermark)
        progress = self._progress(horizon, held, in_order=True)
        return progress.watermark, _encoded(progress)

    def _progress(
        self, horizon: int, held: Collection[Held] = (), *, in_order: bool = False
    ) -> Progress:
        progress = self.tracker.progress(horizon, in_order=in_order)
        if not held and not self.held:
            return progress
        unfinished = set(progress.unfinished)
        known = {**self.held, **{one.offset: one for one in held}}
        return replace(
            progress, held=tuple(known[offset] for offset in sorted(known.keys() & unfinished))
        )

    def acknowledge(self) -> Iterable[Entry]:
        """The commit is stored; returns the entries that may be given out now."""
        self._acknowledged, self._sent = self._sent, None
        if self._acknowledged is not None:
            self.reserved = self._acknowledged.horizon
        while self.beyond and self.beyond[0].record.offset < self.reserved:
            yield self.beyond.popleft()

    def refuse(self) -> None:
        """The commit failed; the next one says the same and more."""
        self._sent = None


def _encoded(progress: Progress) -> str:
    try:
        return encode(progress)
    except BrokerError as error:
        if not progress.held:
            raise
        # Better two copies of one task than a partition that nobody can commit.
        _log.error(
            "held tasks are left out of a commit, and may run twice",
            error=str(error),
            advice="let fewer tasks run at once in a partition, or let them end faster than a "
            "rebalance",
        )
        return encode(replace(progress, held=()))
