"""Task ids: UUIDv7 text, new or derived, and what can be read back from one.

An id we derive (for a foreign record, a cron firing, a flow step) has the same shape: the time
first, a hash where the random bits would be. So two parties that know the same facts compute the
same id, and every id sorts by time and tells its minute.
"""

import hashlib
import os
import re
import time
from collections import deque

_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_has_shape = re.compile(_PATTERN).fullmatch
_bytes_have_shape = re.compile(_PATTERN.encode()).fullmatch


_TAIL_BYTES = 10
_TAILS = 400

# Random bytes for the next ids. Each look at the system's source gives the interpreter away to other threads:
# 8 of the 27 microseconds of a publish. Taking one out is atomic, so no two threads get the same.
_tails: deque[bytes] = deque()
os.register_at_fork(after_in_child=_tails.clear)


def new_id() -> str:
    """A new UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits."""
    try:
        tail = _tails.popleft()
    except IndexError:
        random = os.urandom(_TAIL_BYTES * _TAILS)
        tail, *rest = (random[at : at + _TAIL_BYTES] for at in range(0, len(random), _TAIL_BYTES))
        _tails.extend(rest)
    return _format(time.time_ns() // 1_000_000, tail)


def derived_id(seconds: float, *facts: str | int) -> str:
    """The id that follows from a time (seconds since 1970) and the facts that make it unique."""
    text = "\x1f".join(str(fact) for fact in facts)
    # Rounded first, for what a float lacks: 128.765 is 128764.99999999999 thousandths.
    return _format(
        int(round(seconds * 1000, 3)), hashlib.sha256(text.encode()).digest()[:_TAIL_BYTES]
    )


def is_uuid7(task_id: str | bytes) -> bool:
    """Whether the id has the shape of a UUIDv7, so that its time can be read from it."""
    matches = _has_shape(task_id) if isinstance(task_id, str) else _bytes_have_shape(task_id)
    return matches is not None


def time_of(task_id: str) -> float:
    """The time in a UUIDv7, in seconds since 1970. Check with `is_uuid7` first."""
    return milliseconds_of(task_id) / 1000


def milliseconds_of(task_id: str) -> int:
    """The time in a UUIDv7, in milliseconds since 1970. Check with `is_uuid7` first."""
    return int(task_id[:8] + task_id[9:13], 16)


def first_id_of(seconds: float) -> str:
    """Stands before every UUIDv7 of that millisecond and later, and behind those before; is none itself."""
    digits = f"{int(seconds * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _format(milliseconds: int, tail: bytes) -> str:
    time_text, text = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}", tail.hex()
    variant = "89ab"[tail[9] & 3]
    return f"{time_text[:8]}-{time_text[8:]}-7{text[:3]}-{variant}{text[3:6]}-{text[6:18]}"
