"""How one publish differs from the task's definition: `task.options(delay=60, id="inv-9")`.

Pure: given the time, options say when a task is due and when it expires, or refuse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from taskstream.core.errors import BadArguments
from taskstream.core.retry import LONGEST_TEXT_BYTES, NO_RETRY, Retry
from taskstream.core.tiers import LONGEST_DELAY

LONGEST_ID_BYTES = 512
"""A caller's own id is part of every row, header and key: it must stay small."""

KeyFunction = Callable[..., object]
"""From the task's arguments to its ordering key: text, a whole number, a UUID, or None for none."""


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of `options(...)`, told in `Options`."""

    delay: float | None
    at: datetime | float | None
    expires: datetime | float | None
    retry: Retry | Literal["task"] | None
    id: str | None
    queue: str | None
    priority: str | None
    key: str | KeyFunction | None
    unordered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One publish's own choices; what is not given is as the task's definition says.

    Args:
        delay: seconds from the publish until the task may run.
        at: when it may run: an aware datetime, or seconds since 1970. Not together with `delay`.
        expires: when it is too old to run: seconds from the publish, or an aware datetime.
        retry: when a failed attempt is tried again; None is a single attempt, "task" what the task says.
        id: the caller's own id: published again with the same topic and key, it counts once.
        queue: another queue.
        priority: another priority.
        key: the ordering key of this publish, or a function of the task's arguments.
        unordered: allows a keyed task another queue or priority, where it may overtake, or be
            overtaken by, the tasks of its key.

    Raises:
        BadArguments: a value that can't be meant; names the option.
    """

    delay: float | None = None
    at: datetime | float | None = None
    expires: datetime | float | None = None
    retry: Retry | Literal["task"] | None = "task"
    id: str | None = None
    queue: str | None = None
    priority: str | None = None
    key: str | KeyFunction | None = None
    unordered: bool = False

    def __post_init__(self) -> None:
        if self.delay is not None and self.at is not None:
            raise BadArguments("options(delay=, at=): give one of the two")
        for name in ("delay", "at", "expires"):
            _check_time(name, getattr(self, name))
        if self.delay is not None and not self.delay >= 0:
            raise BadArguments(f"options(delay={self.delay}): must not be negative")
        for name in ("at", "expires"):
            value = getattr(self, name)
            if isinstance(value, datetime) and value.tzinfo is None:
                raise BadArguments(
                    f"options({name}={value.isoformat()}): a datetime needs a time zone"
                )
        if self.id is not None:
            _check_id(self.id)
        _check_retry(self.retry)

    @property
    def policy(self) -> Retry | None:
        """The retry policy that its record carries; None where the task's own counts."""
        if self.retry is None:
            return NO_RETRY
        return self.retry if isinstance(self.retry, Retry) else None

    @property
    def differs(self) -> bool:
        """Whether one publish with these differs from the next one in more than arguments, id and time."""
        return any(one is not None for one in (self.id, self.delay, self.at, self.expires))

    def due(self, now: float) -> float | None:
        """When the task may run, seconds since 1970; None means at once.

        Args:
            now: the time of the publish, seconds since 1970.

        Raises:
            BadArguments: more than a year ahead.
        """
        if self.delay is not None:
            due = now + self.delay
        elif self.at is not None:
            due = self.at.timestamp() if isinstance(self.at, datetime) else float(self.at)
        else:
            return None
        if not due - now <= LONGEST_DELAY:
            raise BadArguments(
                f"options(delay=, at=): {due - now:g} s ahead is more than the {LONGEST_DELAY:g} s "
                "(a year) that delay topics can carry"
            )
        return due if due > now else None

    def expiry(self, now: float) -> float | None:
        """When the task is too old to run, seconds since 1970; None means never.

        Args:
            now: the time of the publish, seconds since 1970.

        Raises:
            BadArguments: not after the publish, or not after the due time.
        """
        if self.expires is None:
            return None
        ends = self.expires
        expiry = ends.timestamp() if isinstance(ends, datetime) else now + ends
        if not expiry > (self.due(now) or now):
            raise BadArguments(f"options(expires={ends}): the task would expire before it may run")
        return expiry


def _check_time(name: str, value: Any) -> None:
    takes = (int, float) if name == "delay" else (int, float, datetime)
    if value is not None and not isinstance(value, takes):
        or_moment = "" if name == "delay" else ", or a datetime"
        raise BadArguments(f"options({name}={value!r}): must be seconds, a number{or_moment}")


def _check_retry(retry: Any) -> None:
    if retry is None or retry == "task":
        return
    if not isinstance(retry, Retry):
        raise BadArguments(
            f"options(retry={retry!r}): must be a Retry, or None for a single attempt"
        )
    size_bytes = len(retry.text.encode())
    if size_bytes > LONGEST_TEXT_BYTES:
        raise BadArguments(
            f"options(retry=...): takes {size_bytes} bytes of the record's headers, and may take "
            f"{LONGEST_TEXT_BYTES}: name fewer exceptions or delays, or give the policy to the task"
        )


def _check_id(task_id: Any) -> None:
    if not isinstance(task_id, str) or not task_id or not task_id.isprintable():
        raise BadArguments(f"options(id={task_id!r}): must be printable text")
    if len(task_id.encode()) > LONGEST_ID_BYTES:
        raise BadArguments(f"options(id=...): at most {LONGEST_ID_BYTES} bytes of UTF-8")


PLAIN = Options()
"""A publish without options."""
