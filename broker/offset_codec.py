"""A partition's progress as the metadata of a commit: text of at most 4,096 bytes.

Layout, before base64: a version byte, then varints (LEB128): position and horizon as distances from
the watermark, the count of unfinished offsets, and each of them as the distance from the one before.
Where somebody else holds some of them, those follow by holder: the count of holders, then for each the
length of its name, the name's bytes, since when in microseconds, the count of its offsets, and each of
them as the distance from the one before, the first one from the watermark. Where the partition was given
up in order, a 1 ends it. The body is deflated where that is shorter; the version byte says which of the
four it is.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Sequence

from taskstream.broker.offsets import Held, Progress
from taskstream.core.errors import BrokerError

LIMIT_BYTES = 4096
"""The broker's limit on a commit's metadata (`offset.metadata.max.bytes`)."""

FULL_BYTES = 3072
"""What a full window of a thousand scattered offsets stays below, long before the limit."""

_PLAIN, _DEFLATED, _HELD_PLAIN, _HELD_DEFLATED = 1, 2, 3, 4


def encode(progress: Progress) -> str:
    """The metadata text of a commit at `progress.watermark`.

    Raises:
        BrokerError: it would not fit; the caller has let too many records in.
    """
    body = bytearray()
    _append(body, progress.position - progress.watermark)
    _append(body, max(0, progress.horizon - progress.watermark))
    _append_offsets(body, progress.watermark, progress.unfinished)
    plain, deflated = (_PLAIN, _DEFLATED) if not progress.held else (_HELD_PLAIN, _HELD_DEFLATED)
    if progress.held:
        _append_held(body, progress)
    if progress.in_order:
        _append(body, 1)
    packed = zlib.compress(bytes(body), 1) if len(body) > 64 else bytes(body)
    smaller = len(packed) < len(body)
    raw = bytes([deflated]) + packed if smaller else bytes([plain]) + bytes(body)
    text = base64.b64encode(raw).decode()
    if len(text) > LIMIT_BYTES:
        raise BrokerError(
            f"{len(progress.unfinished)} unfinished records from offset {progress.watermark} on need "
            f"{len(text)} bytes of commit metadata, more than the broker's {LIMIT_BYTES}"
        )
    return text


def decode(watermark: int, metadata: str) -> Progress | None:
    """The progress in a commit's metadata; None where the metadata is not ours.

    A commit that another tool made (a group reset, say) carries none, and one from a newer version
    carries what we can't read: in both cases the caller must assume the least.
    """
    try:
        raw = base64.b64decode(metadata, validate=True)
        version, body = raw[0], raw[1:]
        if version in (_DEFLATED, _HELD_DEFLATED):
            body = zlib.decompress(body)
        elif version not in (_PLAIN, _HELD_PLAIN):
            return None
        reader = _Reader(body)
        position = watermark + reader.number()
        horizon = watermark + reader.number()
        unfinished = tuple(reader.offsets(watermark))
        held = tuple(reader.held(watermark)) if version in (_HELD_PLAIN, _HELD_DEFLATED) else ()
        in_order = reader.more and reader.number() == 1
    except (binascii.Error, ValueError, IndexError, zlib.error):
        return None
    return Progress(watermark, position, unfinished, horizon, held, in_order)


def _append_held(body: bytearray, progress: Progress) -> None:
    holders: dict[tuple[str, int], list[int]] = {}
    for held in progress.held:
        holders.setdefault((held.worker, held.since_us), []).append(held.offset)
    _append(body, len(holders))
    for (worker, since_us), offsets in holders.items():
        name = worker.encode()
        _append(body, len(name))
        body += name
        _append(body, since_us)
        _append_offsets(body, progress.watermark, offsets)


def _append_offsets(body: bytearray, previous: int, offsets: Sequence[int]) -> None:
    _append(body, len(offsets))
    for offset in offsets:
        _append(body, offset - previous)
        previous = offset


def _append(body: bytearray, number: int) -> None:
    while number > 0x7F:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


class _Reader:
    """Reads a body from its start on; raises IndexError or ValueError where it is cut or no text."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._body)

    def number(self) -> int:
        number = shift = 0
        while True:
            byte = self._body[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return number
            shift += 7

    def text(self) -> str:
        length = self.number()
        start, self._at = self._at, self._at + length
        return self._body[start : self._at].decode()

    def offsets(self, previous: int) -> Iterator[int]:
        for _ in range(self.number()):
            previous += self.number()
            yield previous

    def held(self, watermark: int) -> Iterable[Held]:
        found = []
        for _ in range(self.number()):
            worker, since_us = self.text(), self.number()
            found += [Held(offset, worker, since_us) for offset in self.offsets(watermark)]
        return sorted(found, key=lambda one: one.offset)
