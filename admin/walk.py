"""Reading parts of topics from their first offset to their end, each partition in order.

What is read is settled by offsets alone, so two walks over the same stretches meet the same records.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from taskstream.broker.failures import ClientLost
from taskstream.broker.records import Record
from taskstream.broker.tail import Tail
from taskstream.core.envelope import Place
from taskstream.core.replay import Stretch
from taskstream.core.settings import Settings

TAKE = 1000
"""How many records come at once, at most."""

POLL = 0.5
"""Seconds that one poll waits for the first record; it returns at once when one comes."""


class Chunk(NamedTuple):
    """Some records, and what has been read with them.

    Args:
        records: in order of each partition.
        positions: the offset to be read next in each partition of their topic.
    """

    records: Sequence[Record]
    positions: Mapping[Place, int]


def walk(
    settings: Settings, stretches: Iterable[Stretch], *, client_id: str, limit: int = TAKE
) -> Iterator[Chunk]:
    """The records of all stretches, one topic after the other, its partitions side by side.

    Args:
        settings: where Kafka is.
        stretches: each partition once.
        client_id: how the broker's logs call this client.
        limit: how many records come at once, at most.

    Raises:
        OffsetLost: retention has deleted what was to be read next.
        BrokerError: Kafka refused, or a topic does not exist.
    """
    by_topic: dict[str, list[Stretch]] = {}
    for one in stretches:
        by_topic.setdefault(one.topic, []).append(one)
    for topic, ours in by_topic.items():
        yield from _walk(settings, topic, ours, client_id, limit)


def _walk(
    settings: Settings, topic: str, stretches: Sequence[Stretch], client_id: str, limit: int
) -> Iterator[Chunk]:
    ends = {one.partition: one.end for one in stretches}
    at = {one.partition: one.first for one in stretches}
    while left := [number for number in ends if at[number] < ends[number]]:
        starts = {number: at[number] for number in left}
        with Tail(settings, topic, starts, partitions=left, client_id=client_id) as tail:
            try:
                yield from _follow(tail, ends, at, limit)
            except ClientLost:
                continue  # a new client goes on from there


def _follow(tail: Tail, ends: Mapping[int, int], at: dict[int, int], limit: int) -> Iterator[Chunk]:
    """Reads on with one client; notes in `at` how far each partition is."""
    left = set(tail.position)
    while left:
        records = [
            record
            for record in tail.take(limit, POLL)
            if record.partition in left and record.offset < ends[record.partition]
        ]
        # Holes of compaction and transactions may lie before an end: the position knows of them.
        position = tail.position
        for number in left:
            at[number] = min(max(at[number], position[number]), ends[number])
        yield Chunk(records, {Place(tail.topic, number): at[number] for number in left})
        done = [number for number in left if at[number] >= ends[number]]
        if done:
            tail.leave(done)
            left.difference_update(done)
