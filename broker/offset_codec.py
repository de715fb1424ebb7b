"""A partition's progress as the metadata of a commit: text of at most 4,096 bytes.

Layout, before base64: a version byte, then varints (LEB128): position and horizon as distances from
the watermark, the count of unfinished offsets, and each of them as the distance from the one before.
The body is deflated where that is shorter; the version byte says so.
"""

import base64
import binascii
import zlib
from collections.abc import Iterator

from taskstream.broker.offsets import Progress
from taskstream.core.errors import BrokerError

LIMIT_BYTES = 4096
"""The broker's limit on a commit's metadata (`offset.metadata.max.bytes`)."""

FULL_BYTES = 3072
"""What a full window of a thousand scattered offsets stays below, long before the limit."""

_PLAIN, _DEFLATED = 1, 2


def encode(progress: Progress) -> str:
    """The metadata text of a commit at `progress.watermark`.

    Raises:
        BrokerError: it would not fit; the caller has let too many records in.
    """
    body = bytearray()
    _append(body, progress.position - progress.watermark)
    _append(body, max(0, progress.horizon - progress.watermark))
    _append(body, len(progress.unfinished))
    previous = progress.watermark
    for offset in progress.unfinished:
        _append(body, offset - previous)
        previous = offset
    deflated = zlib.compress(bytes(body), 1) if len(body) > 64 else bytes(body)
    smaller = len(deflated) < len(body)
    raw = bytes([_DEFLATED]) + deflated if smaller else bytes([_PLAIN]) + bytes(body)
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
        if version == _DEFLATED:
            body = zlib.decompress(body)
        elif version != _PLAIN:
            return None
        numbers = _varints(body)
        position = watermark + next(numbers)
        horizon = watermark + next(numbers)
        unfinished = []
        offset = watermark
        for _ in range(next(numbers)):
            offset += next(numbers)
            unfinished.append(offset)
    except (binascii.Error, ValueError, IndexError, StopIteration, zlib.error):
        return None
    return Progress(watermark, position, tuple(unfinished), horizon)


def _append(body: bytearray, number: int) -> None:
    while number > 0x7F:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


def _varints(body: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            yield number
            number = shift = 0
