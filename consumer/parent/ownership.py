"""Which partitions are ours, from their assignment to their end, and what is committed for them.

A completion counts only while its partition is still the same assignment (`current`): whoever owned it
before, or owns it later, has an epoch of his own. Of a partition that is being given up nothing may
start (`startable`); see `handover`.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from taskstream.broker.group import Assigned, Offsets
from taskstream.broker.offsets import Held
from taskstream.consumer.parent.intake import Intake
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.partitions import Partition
from taskstream.core.clock import Clock
from taskstream.core.envelope import Place
from taskstream.core.errors import BrokerError
from taskstream.core.faultpoints import AFTER_COMMIT, BEFORE_COMMIT, fault_point
from taskstream.observability import logs, table
from taskstream.observability.metrics import Metrics

COMMIT_EVERY = 0.25
"""Seconds between commits while anything changes."""

_log = logs.logger(__name__)


class Ownership:
    """The partitions of all intakes. Not thread-safe: it belongs to the loop.

    Args:
        metrics: where failures and waits are counted.
        clock: the time.

    Attributes:
        commit_again: seconds after which everything is committed again, changed or not.
        sure_for: seconds after Kafka's last word for which we take ourselves for the owner.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self.commit_again = 5.0
        self.sure_for = 15.0
        self._metrics = metrics
        self._clock = clock
        self._partitions: dict[Place, Partition] = {}
        self._epochs = itertools.count(1)
        self._commit_at = 0.0
        self._commit_all_at = 0.0
        # Whether nothing has happened since it was found that there is nothing to commit.
        self._quiet = False
        self._acknowledged_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._partitions)

    def items(self) -> list[tuple[Place, Partition]]:
        """Every partition of ours; a copy, for other threads may look."""
        return list(self._partitions.items())

    def of(self, intake: Intake) -> dict[Place, Partition]:
        """The partitions that this intake reads."""
        return {
            place: partition
            for place, partition in self._partitions.items()
            if partition.intake is intake
        }

    def find(self, place: Place) -> Partition | None:
        """That partition, if it is ours."""
        return self._partitions.get(place)

    def current(self, entry: Entry) -> Partition | None:
        """The entry's partition, while it is the same assignment."""
        partition = self._partitions.get(entry.place)
        return partition if partition is not None and partition.epoch == entry.epoch else None

    def startable(self, entry: Entry) -> Partition | None:
        """The same, but for a partition that is being given up: nothing of it may start."""
        partition = self.current(entry)
        return None if partition is None or partition.revoking else partition

    def is_sure_of(self, entry: Entry) -> bool:
        """Whether Kafka has confirmed lately that the entry's partition is ours.

        A process that was halted until a moment ago hears its children before it hears of its loss.
        """
        heard = self._acknowledged_at.get(entry.lane, -math.inf)
        return self._clock.monotonic() - heard <= self.sure_for

    # Come and go

    def assign(self, intake: Intake, assigned: Sequence[Assigned]) -> None:
        """Partitions are ours from now on; a commit that reserves their horizon is due at once."""
        if not self.of(intake):
            self._acknowledged_at[intake.lane] = self._clock.monotonic()
        for one in assigned:
            self._partitions[one.place] = Partition.begin(
                one,
                epoch=next(self._epochs),
                intake=intake,
                fence=int(self._clock.now() * 1e6),
            )
        if assigned:
            _log.info("partitions are ours", places=_listed(one.place for one in assigned))
        self._commit_at = 0.0

    def begin_to_revoke(self, places: Iterable[Place]) -> None:
        """Lets nothing more of these partitions start; they are ours until they are given up."""
        for place in places:
            partition = self._partitions.get(place)
            if partition is not None:
                partition.revoking = True
                self._acknowledged_at[partition.intake.lane] = self._clock.monotonic()

    def give_up(
        self, places: Collection[Place], held: Mapping[Place, Collection[Held]]
    ) -> dict[Place, tuple[int, str]]:
        """Forgets these partitions; returns what to commit for them.

        One that has come back meanwhile stays: its intake waits no longer for the answer to the last
        revocation, and has been assigned it anew.

        Args:
            places: which ones.
            held: what of them goes on running here.
        """
        going = [
            place for place in places if (one := self.find(place)) is not None and one.revoking
        ]
        commits = {
            place: self._partitions[place].last_commit(held.get(place, ())) for place in going
        }
        self.forget(going)
        return commits

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions have gone."""
        gone = [place for place in places if self._partitions.pop(place, None) is not None]
        if gone:
            _log.info("partitions are given up", places=_listed(gone))

    # Commit

    def commit(self, now: float) -> None:
        """Starts the commits that are due; `committed` hears their outcome.

        Args:
            now: monotonic seconds.
        """
        again = now >= self._commit_all_at
        if now < self._commit_at and not any(
            partition.commit_is_urgent for partition in self._partitions.values()
        ):
            self._quiet = False  # whatever woke us may have changed something
            return
        self._commit_at = now + COMMIT_EVERY
        self._quiet = True
        if again:
            self._commit_all_at = now + self.commit_again
        due: dict[Intake, dict[Place, tuple[int, str]]] = {}
        for place, partition in self._partitions.items():
            commit = None if partition.revoking else partition.commit(full=again)
            if commit is not None:
                due.setdefault(partition.intake, {})[place] = commit
        for intake, offsets in due.items():
            self._quiet = False
            fault_point(BEFORE_COMMIT)
            try:
                intake.commit(offsets)
            except BrokerError as error:
                self.committed(error, {place: offset for place, (offset, _) in offsets.items()})

    def committed(self, error: BrokerError | None, offsets: Mapping[Place, int]) -> list[Entry]:
        """Notes a commit's outcome; returns what may be given out now that the horizon has moved."""
        if error is not None:
            _log.warning(
                "a commit failed; it is repeated",
                places=_listed(offsets),
                error=str(error),
                advice=logs.LOOK_AT_KAFKA,
            )
            for lane in {one.intake.lane for one in map(self.find, offsets) if one is not None}:
                self._metrics.counter(table.COMMIT_FAILURES, **table.lane_labels(lane)).inc()
        else:
            fault_point(AFTER_COMMIT)
            if _log.debugging:
                for place, offset in offsets.items():
                    _log.debug("an offset is committed", place=str(place), offset=offset)
        freed: list[Entry] = []
        for place in offsets:
            partition = self._partitions.get(place)
            if partition is None:
                continue
            if error is not None:
                partition.refuse()
            else:
                self._acknowledged_at[partition.intake.lane] = self._clock.monotonic()
                freed += partition.acknowledge()
        return freed

    def commit_ages(self) -> dict[str, float]:
        """Seconds since Kafka last acknowledged a commit, by lane; only where it should.

        An assignment or a revocation counts as well: each is the group's word that we are its member.
        """
        now = self._clock.monotonic()
        lanes = {partition.intake.lane for _, partition in self.items()}
        return {lane: now - at for lane, at in list(self._acknowledged_at.items()) if lane in lanes}

    def last_commits(self, intake: Intake) -> Offsets:
        """What to commit when the intake leaves its group."""
        return {place: partition.last_commit() for place, partition in self.of(intake).items()}

    def hold_full(self, intakes: Iterable[Intake]) -> None:
        """Tells each intake which of its partitions are full; every turn, because finishing ends it."""
        full: dict[Intake, set[Place]] = {}
        for place, partition in self._partitions.items():
            if partition.full:
                full.setdefault(partition.intake, set()).add(place)
        for intake in intakes:
            intake.hold(frozenset(full.get(intake, ())))

    def next_at(self, now: float) -> float:
        """When to look again for something to commit, in monotonic seconds.

        Where nothing happens nothing can change, and only the next commit of everything is due.
        """
        if not self._partitions:
            return now + 1.0
        return self._commit_all_at if self._quiet else self._commit_at


def _listed(places: Iterable[Place]) -> str:
    return ",".join(map(str, places))
