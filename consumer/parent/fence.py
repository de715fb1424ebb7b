"""How long a worker may go on without a word from Kafka: pure, from the groups' session time-out.

Kafka fences neither commits nor rows. So a worker that its group may have given up stops by itself,
before anybody else may start its tasks: the session time-out counts from the last thing that the
coordinator has heard, and every acknowledged commit is one.
"""

from dataclasses import dataclass

STOP_AFTER = 30.0
"""Seconds without an acknowledged commit after which nothing new starts, however long a session is."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The limits that follow from a session time-out, all in seconds.

    Args:
        session: after how long the group takes a silent member to be gone.
        heartbeat: how often a worker tells of itself.
    """

    session: float
    heartbeat: float

    @property
    def stop_after(self) -> float:
        """Without an acknowledged commit for so long, nothing new of that priority starts."""
        return min(STOP_AFTER, self.session / 3)

    @property
    def cancel_after(self) -> float:
        """Without one for so long, what runs of that priority is cancelled, and nothing of it recorded."""
        return self.session * 2 / 3

    @property
    def beat_limit(self) -> float:
        """For so long a child goes on without a sign of life from its parent."""
        return self.session / 2

    @property
    def silence(self) -> float:
        """Without a heartbeat for so long, a worker is taken to run nothing any more."""
        return max(self.session, 3 * self.heartbeat)

    @property
    def stop_holding_after(self) -> float:
        """Without an acknowledged heartbeat for so long, a worker ends what it held over a rebalance."""
        return self.silence * 2 / 3

    @property
    def commit_again(self) -> float:
        """How often everything is committed again, changed or not: several times before it stops."""
        return min(5.0, self.session / 6)

    @property
    def grace(self) -> float:
        """What running tasks get to end when their partition goes to another worker."""
        return min(5.0, self.session / 4)

    @property
    def tell_within(self) -> float:
        """What Kafka gets to take the heartbeat that tells of tasks which outlive that grace."""
        return min(3.0, self.session / 6)
