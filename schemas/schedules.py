"""Schedules and their firings as records of the schedules topic, and all that the topic says together."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from taskstream.broker.records import Record
from taskstream.core.cron import Cron, Every
from taskstream.core.errors import ConfigError, Undecodable
from taskstream.core.schedule import Firings, Schedule, firings_key, newer, schedule_key, telling
from taskstream.observability import logs
from taskstream.schemas.records import Records

_log = logs.logger(__name__)

_SCHEDULE_TIMES = ("since", "at")
_FIRINGS_TIMES = ("seen", "last", "fired", "ended", "skipped_last")


def encode_schedule(records: Records, schedule: Schedule) -> bytes:
    """The value of a definition's record."""
    fields = asdict(schedule)
    del fields["when"]
    fields |= telling(schedule.when)
    return records.encode("schedule", _to_micros(fields, _SCHEDULE_TIMES))


def encode_firings(records: Records, firings: Firings) -> bytes:
    """The value of the record that tells of a schedule's firings."""
    fields = _to_micros(asdict(firings), _FIRINGS_TIMES)
    fields["pending"] = [_micros(instant) for instant in firings.pending]
    return records.encode("firings", fields)


def decode_schedule(records: Records, value: bytes | None) -> Schedule:
    """The schedule in a record's value.

    Raises:
        Undecodable: it is none, or one of a version that is not known here.
    """
    fields = _to_seconds(_fields(records, value, "schedule"), _SCHEDULE_TIMES)
    line, tz, seconds = fields.pop("cron"), fields.pop("tz"), fields.pop("every")
    fields["superseded"] = tuple(fields["superseded"])
    try:
        when = Cron(line, tz) if seconds is None else Every(seconds)
        return Schedule(when=when, **fields)
    except ConfigError as error:
        raise Undecodable(str(error)) from error


def decode_firings(records: Records, value: bytes | None) -> Firings:
    """What a record's value tells of a schedule's firings.

    Raises:
        Undecodable: nothing, or it is of a version that is not known here.
    """
    fields = _to_seconds(_fields(records, value, "firings"), _FIRINGS_TIMES)
    fields["pending"] = tuple(micros / 1e6 for micros in fields["pending"])
    return Firings(**fields)


@dataclass(slots=True)
class Book:
    """All that the topic says so far. Not thread-safe.

    Args:
        schedules: by name, removed ones too.
        firings: by the schedule's name.
    """

    schedules: dict[str, Schedule] = field(default_factory=dict)
    firings: dict[str, Firings] = field(default_factory=dict)

    def hear(self, records: Records, batch: Iterable[Record]) -> "Heard":
        """Takes in records of the topic, in order."""
        heard = Heard()
        for record in batch:
            kind, _, name = (record.key or b"").decode(errors="replace").partition("/")
            try:
                if kind == "schedule":
                    self._hear_schedule(records, name, record)
                    heard.changed.add(name)
                elif kind == "firing":
                    self._hear_firings(records, name, record, heard)
            except Undecodable as error:
                _log.error(
                    "the schedules topic holds what can't be read",
                    source=record.source,
                    key=repr(record.key),
                    error=str(error),
                    advice="add the schedule again: `taskstream schedules add APP NAME`; it is "
                    "not fired meanwhile",
                )
        return heard

    def _hear_schedule(self, records: Records, name: str, record: Record) -> None:
        if record.value is None:
            self.schedules.pop(name, None)
        else:
            self.schedules[name] = decode_schedule(records, record.value)

    def _hear_firings(self, records: Records, name: str, record: Record, heard: "Heard") -> None:
        if record.value is None:
            self.firings.pop(name, None)
            return
        told = decode_firings(records, record.value)
        if newer(told, self.firings.get(name)):
            self.firings[name] = told
            heard.told.add(name)
        else:
            heard.outdated[name] = told


@dataclass(slots=True)
class Heard:
    """What a batch of records was about, by names of schedules.

    Args:
        changed: whose definition it brought.
        told: of whose firings it told something new.
        outdated: of whose firings it told what is known to be over.
    """

    changed: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    outdated: dict[str, Firings] = field(default_factory=dict)


def record_of(records: Records, one: Schedule | Firings) -> tuple[bytes, bytes]:
    """Key and value of its record."""
    if isinstance(one, Schedule):
        return schedule_key(one.name), encode_schedule(records, one)
    return firings_key(one.name), encode_firings(records, one)


def _fields(records: Records, value: bytes | None, wanted: str) -> dict[str, Any]:
    name, fields = records.decode(value)
    if name != wanted:
        raise Undecodable(f"a record of {wanted} is expected, not {name}")
    return fields


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


def _to_micros(fields: dict[str, Any], times: Iterable[str]) -> dict[str, Any]:
    told = {name: None if fields[name] is None else _micros(fields[name]) for name in times}
    return {**fields, **told}


def _to_seconds(fields: dict[str, Any], times: Iterable[str]) -> dict[str, Any]:
    told = {name: None if fields[name] is None else fields[name] / 1e6 for name in times}
    return {**fields, **told}
