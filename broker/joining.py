"""How a member comes into its group: in which protocol, and which refusals are not final.

The new protocol (KIP-848) where the brokers have it, classic with cooperative-sticky elsewhere. The
brokers are asked before a member joins, because its client would not find out: against Kafka before
4.0, librdkafka 2.16 looks for another coordinator for ever and says nothing. A 4.x broker that has
the protocol switched off by its feature level only refuses the first heartbeat, with a fatal error.

A name of static membership (`group.instance.id`) is refused in the new protocol while its last
bearer's session lasts. Whether that one crashed or is alive, nobody can say before: so a member
waits for as long as a session can last.
"""

from collections.abc import Callable

from taskstream.broker.cluster import Cluster, GroupProtocol, look_at
from taskstream.core.clock import Clock
from taskstream.core.settings import Settings
from taskstream.observability import logs

NAME_PATIENCE = 65.0
"""Seconds that a member waits for its name: brokers allow sessions of a minute at most by default."""

ASK_AGAIN = 1.0
"""Seconds between two tries, and the longest wait for an answer in one."""

_log = logs.logger(__name__)


class Joining:
    """What one member knows of the way into its group. Not thread-safe.

    Args:
        settings: `kafka` may name the protocol, which is then never questioned.
        group: the consumer group, for the log.
        clock: measures patience.
        cluster: what the brokers have said already; None asks them, once it is time to join.
        look: asks the cluster.

    Attributes:
        protocol: what to connect with; final once `ready` has said yes, and until `again` does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        clock: Clock,
        cluster: Cluster | None = None,
        look: Callable[[Settings, float], Cluster] = look_at,
    ) -> None:
        self._settings = settings
        self._group = group
        self._clock = clock
        self._look = look
        given = settings.kafka.get("group.protocol")
        self.protocol: str = given or GroupProtocol.CONSUMER
        self._ours_to_choose = not given and not settings.embedded
        self._settled = not self._ours_to_choose
        self._try_at = 0.0
        self._give_up_at: float | None = None
        if cluster is not None:
            self._settle(cluster)

    def ready(self) -> bool:
        """Whether to join now; the first time, asks the brokers what they speak.

        Raises:
            BrokerError: they don't answer; ask again.
        """
        now = self._clock.monotonic()
        if now < self._try_at:
            return False
        if not self._settled:
            self._try_at = now + ASK_AGAIN  # unless there is an answer
            self._settle(self._look(self._settings, ASK_AGAIN))
            self._try_at = now
        return True

    def again(self, refusal: str) -> bool:
        """Whether a member that was refused before it owned anything joins again, once `ready`.

        Args:
            refusal: Kafka's name of the fatal error.
        """
        if (
            refusal == "UNSUPPORTED_VERSION"
            and self._ours_to_choose
            and self.protocol == GroupProtocol.CONSUMER
        ):
            self._fall_back("the coordinator refuses the new protocol")
            return True
        if refusal == "UNRELEASED_INSTANCE_ID":
            now = self._clock.monotonic()
            if self._give_up_at is None:
                self._give_up_at = now + NAME_PATIENCE
                _log.warning(
                    "the instance name is held, waiting for it",
                    group=self._group,
                    advice="if the worker of that name is not the one that is being replaced, "
                    "give each a name of its own",
                )
            self._try_at = now + ASK_AGAIN
            return now < self._give_up_at
        return False

    def _settle(self, cluster: Cluster) -> None:
        if not self._settled and cluster.protocol is not GroupProtocol.CONSUMER:
            said = f"speak {','.join(cluster.protocols)}" if cluster.protocols else "don't say"
            self._fall_back(f"the brokers {said}")
        self._settled = True

    def _fall_back(self, why: str) -> None:
        self.protocol = GroupProtocol.CLASSIC
        _log.warning(
            "joining by the classic group protocol",
            group=self._group,
            why=why,
            advice="nothing, if the brokers are to stay as they are; Kafka 4.0 and newer have "
            "the new protocol",
        )
