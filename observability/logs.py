"""Log lines as an event and key=value pairs, each carrying its task and its trace.

Built on the standard library alone, so that whatever a user's program does with logging keeps
working: a handler of theirs shows our records as text, and `ContextFilter` on it adds the ids.

Invariant: whatever the values hold, they can't forge a line: only a record starts at the left edge.
"""

import json as json_format
import logging
import re
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TextIO

from taskstream.core.errors import ConfigError
from taskstream.observability.table import LOG_FIELDS, LOG_SPAN, LOG_TRACE

bound: ContextVar[Mapping[str, object]] = ContextVar("taskstream_bound", default={})  # noqa: B039 - never changed in place
"""What every record of this asyncio task or thread says; the worker's child sets it per attempt."""


def add(**values: object) -> None:
    """Adds values to every record written from here on, while this context's variables last."""
    bound.set({**bound.get(), **values})


def logger(name: str) -> "Logger":
    """The logger of a module; `name` is its `__name__`."""
    return Logger(logging.getLogger(name))


class Logger:
    """Writes events with their values: `log.info("partition assigned", topic=topic, offset=7)`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: logging.Logger) -> None:
        self._inner = inner

    def debug(self, event: str, **values: object) -> None:
        """For someone who looks for a bug."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """What a quiet day consists of."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Something is wrong, and is being dealt with."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Something is wrong, and needs someone."""
        self._write(logging.ERROR, event, values)

    def exception(self, event: str, **values: object) -> None:
        """`error` with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, values, traceback=True)

    def _write(
        self, level: int, event: str, values: Mapping[str, object], *, traceback: bool = False
    ) -> None:
        # The caller's frame is two above this one.
        self._inner.log(level, Event(event, values), exc_info=traceback, stacklevel=3)


class Event:
    """A log message that is still data; as text, the event and its values."""

    __slots__ = ("text", "values")

    def __init__(self, text: str, values: Mapping[str, object]) -> None:
        self.text = text
        self.values = values

    def __str__(self) -> str:
        return f"{self.text} {_pairs(self.values)}" if self.values else self.text


class ContextFilter(logging.Filter):
    """Puts the ids of the current task and trace on every record that passes a handler.

    A format may then name them: `%(task)s %(task_id)s %(trace_id)s %(span_id)s`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: nothing is held back."""
        context = {**bound.get(), **_trace_ids()}
        for field in LOG_FIELDS:
            setattr(record, field.name, context.get(field.name, ""))
        record.context = context
        return True


def configure(level: str, json: bool = False, *, stream: TextIO | None = None) -> None:
    """Sends all log records of this process to one place; for processes that are ours.

    Args:
        level: "debug", "info", "warning" or "error".
        json: one JSON document a line instead of text.
        stream: standard error, unless given.

    Raises:
        ConfigError: there is no such level.
    """
    number = _LEVELS.get(level.lower())
    if number is None:
        raise ConfigError(f"unknown log level {level!r}: use one of {', '.join(_LEVELS)}")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if json else _TextFormatter())
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(number)
    chatty = number if number == logging.DEBUG else max(number, logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(chatty)


_CHATTY = ("cassandra", "httpx", "httpcore")
"""Libraries that tell of every request or connection at info: heard from only where it is wrong."""

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that configuring again replaces it and leaves those of others alone."""


class _TextFormatter(logging.Formatter):
    """`2026-08-01T12:00:00.123Z info taskstream.broker.group partition assigned topic=shop.tasks`."""

    def format(self, record: logging.LogRecord) -> str:
        text, values = _content(record)
        line = f"{_moment(record)} {record.levelname.lower():<7} {record.name} {flat(text)}"
        if values:
            line += f" {_pairs(values)}"
        # A traceback is for reading: in text it may take lines of its own, indented below its event.
        traceback = _traceback(self, record)
        return f"{line}\n{_INDENT.sub('    ', traceback)}" if traceback else line


class _JsonFormatter(logging.Formatter):
    """One JSON document a line: time, level, logger, event, then the values."""

    def format(self, record: logging.LogRecord) -> str:
        text, values = _content(record)
        own = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": text,
        }
        document = {**own, **values, **own}
        traceback = _traceback(self, record)
        if traceback:
            document["traceback"] = traceback
        return json_format.dumps(document, default=_text)


_INDENT = re.compile("^", re.MULTILINE)
_PLAIN = re.compile(r"[^\s\"=]+")


def _content(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    """A record's event and all its values: ours as data, a foreign message as one text."""
    context: Mapping[str, object] = getattr(record, "context", {})
    if isinstance(record.msg, Event):
        return record.msg.text, {**record.msg.values, **context}
    return record.getMessage(), dict(context)


def _moment(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return formatter.formatException(record.exc_info)


def _pairs(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_quoted(_text(value))}" for name, value in values.items())


def _text(value: object) -> str:
    """A value as text; a value whose own text fails must not take the log line with it."""
    try:
        return (
            f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
        )
    except Exception:  # noqa: BLE001 - it is a user's __str__
        return f"<unprintable {type(value).__name__}>"


def _quoted(text: str) -> str:
    plain = text.isprintable() and _PLAIN.fullmatch(text)
    return text if plain else json_format.dumps(text, ensure_ascii=not text.isprintable())


def flat(text: str) -> str:
    """The text, its line breaks and the like escaped, so that no value can forge a line."""
    return text if text.isprintable() else json_format.dumps(text)[1:-1]


def _trace_ids() -> dict[str, str]:
    # Loaded late: who only writes logs must not pay for the import.
    from opentelemetry.trace import (  # noqa: PLC0415
        format_span_id,
        format_trace_id,
        get_current_span,
    )

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        LOG_TRACE.name: format_trace_id(context.trace_id),
        LOG_SPAN.name: format_span_id(context.span_id),
    }
