"""Where a task is written: its own topic, or the delay topic it waits in first. Pure.

A key's partition is computed as Java's producers do (murmur2), so that a delayed task knows its
home before it has been there: the mover takes it to exactly the partition that a direct publish
with the same key goes to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from taskstream.core.envelope import Envelope, Header, Place
from taskstream.core.errors import PublishError
from taskstream.core.names import Names
from taskstream.core.tiers import DAY, LONGEST_DELAY, tier_for


class Fired(NamedTuple):
    """A schedule's firing.

    Args:
        schedule: the schedule's name.
        last: W3C headers of the last firing that is known; empty for none.
    """

    schedule: str
    last: tuple[Header, ...] = ()


class PublishRequest(NamedTuple):
    """One task to publish.

    Args:
        topic: the topic it is to run from, `Names.tasks(queue, priority)`.
        value: its arguments, framed Avro.
        envelope: its metadata; `due` in the future makes it wait in a delay topic first.
        key: its ordering key; tasks without one are spread by their id.
        headers: those of the envelope, where the caller has written them already.
        fired: where a schedule publishes it.
    """

    topic: str
    value: bytes
    envelope: Envelope
    key: str | None = None
    headers: list[Header] | None = None
    fired: Fired | None = None

    @property
    def key_bytes(self) -> bytes:
        """The record's key."""
        return (self.envelope.id if self.key is None else self.key).encode()


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Args:
        topic: what it is written to.
        envelope: its metadata there.
    """

    topic: str
    envelope: Envelope


def route(
    request: PublishRequest, *, names: Names, now: float, partitions: Callable[[str], int]
) -> Route:
    """Where a request goes at the moment `now`, in seconds since 1970.

    Args:
        request: the task.
        names: tell the delay topics.
        now: the time.
        partitions: tells how many partitions a topic has; asked only for tasks that wait.

    Raises:
        PublishError: it is due more than a year from now.
    """
    envelope = request.envelope
    if envelope.due is None or envelope.due <= now:
        return Route(request.topic, envelope)
    if envelope.due - now > LONGEST_DELAY:
        raise PublishError(
            f"task {envelope.task} ({envelope.id}) is due in {(envelope.due - now) / DAY:.0f} days: "
            f"the furthest is {LONGEST_DELAY / DAY:.0f}"
        )
    home = Place(request.topic, partition_for(request.key_bytes, partitions(request.topic)))
    # Whoever meets it at home can't know how often a crash made the mover take it there.
    waiting = envelope._replace(home=home, lookup=True)
    return Route(names.delay(tier_for(envelope.due - now)), waiting)


def partition_for(key: bytes, count: int) -> int:
    """The partition of a key among `count`, as Java's default partitioner chooses it."""
    return (murmur2(key) & 0x7FFF_FFFF) % count


def murmur2(data: bytes) -> int:
    """MurmurHash2 with 32 bits, as in Kafka's `Utils.murmur2`; unsigned here.

    A. Appleby's algorithm with the seed that Kafka fixed, 0x9747b28c.
    """
    length = len(data)
    hashed = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        hashed = (hashed * _M & _MASK) ^ word
    if whole < length:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15


_M = 0x5BD1E995
_MASK = 0xFFFF_FFFF
