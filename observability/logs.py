"""Log lines as an event and its values, each carrying its task and its trace: text for people, or JSON.

Built on the standard library alone, so that whatever a user's program does with logging keeps
working: a handler of theirs shows our records as text, and `ContextFilter` on it adds the ids. (structlog
was tried: it brings rich with it, and every process of ours would start 100 ms later.)

Invariants: whatever the values hold, they can't forge a line: only a record starts at the left edge, and
in JSON every line is a record. And no known secret gets into one.
"""

import copy
import io
import json as json_format
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, TextIO

from taskstream.core.errors import ConfigError
from taskstream.core.secrets import Veil
from taskstream.core.settings import Settings
from taskstream.observability.repeats import Repeats, Summary, kind_of
from taskstream.observability.table import LOG_FIELDS, LOG_SPAN, LOG_TRACE

bound: ContextVar[Mapping[str, object]] = ContextVar("taskstream_bound", default={})  # noqa: B039 - never changed in place
"""What every record of this asyncio task or thread says; the worker's child sets it per attempt."""

TEXT, JSON = "text", "json"

LOOK_AT_KAFKA = (
    "nothing is lost; if it goes on, look after Kafka: `taskstream doctor APP` says what is wrong"
)
LOOK_AT_STORE = "nothing is lost; if it goes on, look after the result store: `taskstream doctor APP` says what is wrong"
REPORT_IT = "this should never happen: please report it with these lines"
"""What several warnings advise."""

PRINTED = "taskstream.printed"
"""The logger of what a user's code prints, where every line must be JSON."""


def logger(name: str) -> "Logger":
    """The logger of a module; `name` is its `__name__`."""
    return Logger(logging.getLogger(name))


class Logger:
    """Writes events with their values: `log.info("partition assigned", topic=topic, offset=7)`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: logging.Logger) -> None:
        self._inner = inner

    @property
    def debugging(self) -> bool:
        """Whether debug lines are written: to be asked once for many tasks, before their values are made."""
        return self._inner.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, **values: object) -> None:
        """For someone who looks for a bug."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """What a quiet day consists of."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Something is wrong, and is being dealt with; `advice` says what to do (a test insists on it)."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Something is wrong, and needs someone; `advice` says what for."""
        self._write(logging.ERROR, event, values)

    def exception(self, event: str, **values: object) -> None:
        """`error` with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, values, traceback=True)

    def stacks(self, event: str, stacks: str, **values: object) -> None:
        """`error` with a text of many lines, which is shown like a traceback."""
        self._write(logging.ERROR, event, values, stacks=stacks)

    def _write(
        self,
        level: int,
        event: str,
        values: Mapping[str, object],
        *,
        traceback: bool = False,
        stacks: str = "",
    ) -> None:
        # The caller's frame is two above this one.
        self._inner.log(level, Event(event, values, stacks), exc_info=traceback, stacklevel=3)


class Event:
    """A log message that is still data; as text, the event and its values."""

    __slots__ = ("stacks", "text", "values")

    def __init__(self, text: str, values: Mapping[str, object], stacks: str = "") -> None:
        self.text = text
        self.values = values
        self.stacks = stacks

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


def configure(
    level: str,
    form: str = TEXT,
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Sends all log records of this process to one place; for processes that are ours.

    In JSON nothing else is written there either: warnings of Python and errors that nobody catches are
    records, too. What an earlier handler has only counted is told first.

    Args:
        level: "debug", "info", "warning" or "error".
        form: "text", or "json" for one JSON object a line.
        secrets: what is never written, whoever logs it.
        stream: standard error, unless given.
        clock: monotonic seconds.

    Raises:
        ConfigError: there is no such level, or no such form.
    """
    number = _LEVELS.get(level.lower())
    if number is None:
        raise ConfigError(f"unknown log level {level!r}: use one of {', '.join(_LEVELS)}")
    if form not in (TEXT, JSON):
        raise ConfigError(f"unknown log format {form!r}: use {TEXT} or {JSON}")
    handler = _Handler(stream or _behind(sys.stderr), clock)
    veil = Veil(secrets)
    handler.setFormatter(_JsonFormatter(veil) if form == JSON else _TextFormatter(veil))
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(earlier)
        earlier.close()
    root.addHandler(handler)
    root.setLevel(number)
    chatty = number if number == logging.DEBUG else max(number, logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(chatty)
    if form == JSON:
        logging.getLogger(PRINTED).setLevel(logging.INFO)  # whatever the level: a print has none
        logging.captureWarnings(capture=True)
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread


def configure_by(settings: Settings, *, level: str | None = None, form: str | None = None) -> None:
    """`configure` by an app's settings, whose secrets are never written.

    Args:
        settings: the settings.
        level: instead of the setting `log_level`, where it is given.
        form: the same of `log_format`.

    Raises:
        ConfigError: as `configure`.
    """
    configure(level or settings.log_level, form or settings.log_format, secrets=settings.secrets)


def flags(level: str | None, form: str | None) -> list[str]:
    """The words that pass on to another process of ours what was asked for in words, and only that."""
    return [
        *(["--log-level", level] if level else []), *(["--log-format", form] if form else []),
    ]  # fmt: skip


def is_configured() -> bool:
    """Whether `configure` was called in this process."""
    return any(isinstance(each, _Handler) for each in logging.getLogger().handlers)


def is_json() -> bool:
    """Whether it has asked for JSON: then nothing else is to be written."""
    return any(
        isinstance(each, _Handler) and isinstance(each.formatter, _JsonFormatter)
        for each in logging.getLogger().handlers
    )


def catch_prints() -> None:
    """Where every line is to be JSON: what code prints becomes records, with the ids of its task.

    For processes that run a user's code. What is written past Python, by a library in C or by a process
    that a task starts, goes where it went.
    """
    if is_json():
        writing = threading.local()
        sys.stdout = _Printed("stdout", _behind(sys.stdout), writing)
        sys.stderr = _Printed("stderr", _behind(sys.stderr), writing)


_CHATTY = ("cassandra", "httpx", "httpcore")
"""Libraries that tell of every request or connection at info: heard from only where it is wrong."""

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that configuring again replaces it and leaves those of others alone.

    Of what libraries and warnings say again and again it writes the first, and then how often it came.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        super().__init__(stream)
        self._repeats: Repeats[logging.LogRecord] = Repeats()
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        if record.levelno >= logging.WARNING:
            _advise(record)
        kind = kind_of(record.name, record.levelno, partial(_plain_text, record))
        if kind is None or self._repeats.admits(kind, partial(_kept, record), now):
            super().emit(record)
        self._tell(self._repeats.due(now))

    def close(self) -> None:
        """Tells what was only counted, too: logging's end and who configures anew call it."""
        self.acquire()
        try:
            self._tell(self._repeats.rest(self._clock()))
        finally:
            self.release()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Says of a line that can't be made where it comes from; where the stream has gone, nothing.

        The base class prints what it was to hold, past the form and the veil, and to the standard stream,
        which may be one whose lines come back here.
        """
        error = sys.exc_info()[1]
        values = {
            "place": f"{record.pathname}:{record.lineno}",
            "error": error,
            "advice": _MEND_LINE,
        }
        told = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno,
            Event("a log line can't be written", values), (), None,
        )  # fmt: skip
        with suppress(OSError, ValueError):  # the latter where it is closed
            self.stream.write(self.format(told) + self.terminator)
            self.flush()

    def _tell(self, summaries: Iterable[Summary[logging.LogRecord]]) -> None:
        for last, times, seconds in summaries:
            # Of whichever task the last one was: the count is of all.
            last.context = {"repeated": times, "within_s": round(seconds)}
            last.created = time.time()  # a log that goes back in time is hard to read
            last.msecs = last.created % 1 * 1000
            super().emit(last)


def _kept(record: logging.LogRecord) -> logging.LogRecord:
    """A record as it is kept to be told later: without its traceback, which holds all that a failed call held."""
    kept = copy.copy(record)
    kept.exc_info = None
    return kept


def _advise(record: logging.LogRecord) -> None:
    """Adds what to do to what a client of ours complains of, which knows nothing of us."""
    for name, advice in _ADVICE.items():
        if record.name == name or record.name.startswith(f"{name}."):
            record.context = {**getattr(record, "context", {}), "advice": advice}


_MEND_LINE = "mend the call at that place: its text and its arguments do not fit together"
_ADVICE = {"cassandra": LOOK_AT_STORE, "taskstream.kafka": LOOK_AT_KAFKA}


class _Formatter(logging.Formatter):
    def __init__(self, veil: Veil) -> None:
        super().__init__()
        self.veil = veil


class _TextFormatter(_Formatter):
    """`2026-08-01T12:00:00.123Z info taskstream.broker.group partition assigned topic=shop.tasks`."""

    def format(self, record: logging.LogRecord) -> str:
        text, values = _content(record)
        line = f"{_moment(record)} {record.levelname.lower():<7} {record.name} {flat(text)}"
        if values:
            line += f" {_pairs(values)}"
        # A traceback is for reading: in text it may take lines of its own, indented below its event.
        traceback = _traceback(self, record)
        return self.veil.over(f"{line}\n{_INDENT.sub('    ', traceback)}" if traceback else line)


class _JsonFormatter(_Formatter):
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
        # Before it is written as JSON, where a quote in a secret would have a backslash.
        veiled = {name: self._veiled(value) for name, value in document.items()}
        return json_format.dumps(veiled, default=_text)

    def _veiled(self, value: object) -> object:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and math.isfinite(value):  # JSON has no word for the others
            return value
        if isinstance(value, Mapping):
            return {str(name): self._veiled(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._veiled(one) for one in value]
        return self.veil.over(_text(value))


LONGEST_PRINT = 8192
"""Characters after which what is printed becomes a line although none has ended: a bar that is drawn over and
over has no end."""


class _Printed(io.TextIOBase):
    """A standard stream whose lines become records; each thread's line is whole.

    All else that a stream can do, it does as the stream itself: what is written to its `buffer`, say.
    """

    def __init__(self, name: str, inner: TextIO, writing: threading.local) -> None:
        self._name = name
        self._inner = inner
        self._log = logger(PRINTED)
        self._begun = threading.local()
        self._writing = writing  # whether this thread does; both streams have one

    def write(self, text: str) -> int:
        if getattr(self._writing, "now", False):
            # A handler of the user's own writes here what has just been printed here: without an end.
            return len(text)
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        if len(rest) > LONGEST_PRINT:
            lines.append(rest)
            rest = ""
        self._begun.text = rest
        self._writing.now = True
        try:
            for line in lines:
                if line.strip():
                    self._log.info(line, stream=self._name)
        finally:
            self._writing.now = False
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """That of the stream itself, for processes that a task starts."""
        return self._inner.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._inner.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _behind(stream: TextIO) -> TextIO:
    """The stream itself, where its lines become records: those must not become records again."""
    return stream._inner if isinstance(stream, _Printed) else stream  # noqa: SLF001 - our own


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    event = Event("an error that nobody caught ends this process", {})
    logging.getLogger("taskstream").critical(event, exc_info=(kind, error, trace))


def _uncaught_in_thread(about: Any) -> None:
    if about.exc_value is None or issubclass(about.exc_type, SystemExit):
        return
    event = Event(
        "an error that nobody caught ends a thread", {"thread": getattr(about.thread, "name", "")}
    )
    trace = (about.exc_type, about.exc_value, about.exc_traceback)
    logging.getLogger("taskstream").critical(event, exc_info=trace)


_INDENT = re.compile("^", re.MULTILINE)
_PLAIN = re.compile(r"[^\s\"=]+")


def _plain_text(record: logging.LogRecord) -> str:
    """What a record says without its values; a message that can't be made is told by its template."""
    if isinstance(record.msg, Event):
        return record.msg.text
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the handler reports it, with the place
        return str(record.msg)


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
    if isinstance(record.msg, Event) and record.msg.stacks:
        return record.msg.stacks
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
