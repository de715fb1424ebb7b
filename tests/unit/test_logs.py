"""Log records as text and as JSON, with the ids of the task and the trace they belong to."""

import io
import json
import logging
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from taskstream.core.errors import ConfigError
from taskstream.observability.logs import ContextFilter, add, bound, configure, logger

SPAN = trace.NonRecordingSpan(
    trace.SpanContext(int("ab" * 16, 16), int("cd" * 8, 16), is_remote=True)
)


@pytest.fixture(autouse=True)
def root_restored() -> Iterator[None]:
    """Gives the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(*, json: bool, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(level, "json" if json else "text", stream=stream)
    return stream


def decline() -> None:
    raise ValueError("declined")


def documents(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_an_event_with_its_values() -> None:
    """As text: time in UTC, level, logger, event, then key=value, quoted where needed."""
    stream = configured(json=False)
    logger("taskstream.broker").info("partition assigned", topic="shop.tasks", lag=7, why="a b")
    moment, rest = stream.getvalue().split(" ", 1)
    assert moment.endswith("Z")
    assert rest == 'info    taskstream.broker partition assigned topic=shop.tasks lag=7 why="a b"\n'


def test_json_keeps_the_values_as_data() -> None:
    """Numbers stay numbers, and no value can take the place of a field of ours."""
    stream = configured(json=True)
    logger("taskstream.broker").warning("full", lag=7, level="mine", error=ValueError("x"))
    [document] = documents(stream)
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "warning",
        "logger": "taskstream.broker",
        "event": "full",
        "lag": 7,
        "error": "ValueError: x",
    }


@pytest.mark.parametrize("as_json", [True, False])
@given(text=st.text(max_size=30), value=st.text(max_size=30))
def test_no_value_can_forge_a_line(as_json: bool, text: str, value: str) -> None:
    """Line breaks and control characters in an event or a value stay inside its line."""
    stream = configured(json=as_json)
    logger("x").info(text, value=value)
    logging.getLogger("x").info("%s", text)
    assert len(stream.getvalue().splitlines()) == 2


def test_records_carry_their_task_and_their_trace() -> None:
    """What a user's code logs inside an attempt can be found by the task's id and by the trace."""
    stream = configured(json=True)

    def attempt() -> None:
        add(task="charge", task_id="o-17", attempt=2)
        logging.getLogger("shop").info("charged %s cents", 1200)

    with trace.use_span(SPAN):
        copy_context().run(attempt)
    logging.getLogger("shop").info("outside")
    inside, outside = documents(stream)
    assert inside["event"] == "charged 1200 cents"
    assert (inside["task"], inside["task_id"], inside["attempt"]) == ("charge", "o-17", 2)
    assert (inside["trace_id"], inside["span_id"]) == ("ab" * 16, "cd" * 8)
    assert set(outside) == {"time", "level", "logger", "event"}


def test_added_values_last_as_long_as_their_context() -> None:
    """A later value of the same name wins, and outside of the context nothing is left of either."""

    def attempt() -> dict[str, object]:
        add(task="outer", worker="w1")
        add(task="inner")
        return dict(bound.get())

    assert copy_context().run(attempt) == {"task": "inner", "worker": "w1"}
    assert dict(bound.get()) == {}


def test_a_user_s_own_handler_can_name_the_ids() -> None:
    """With our filter, a format of theirs shows the ids, and nothing outside of a task."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[%(task)s %(task_id)s %(trace_id)s] %(message)s"))
    handler.addFilter(ContextFilter())
    log = logging.getLogger("shop.own")
    log.addHandler(handler)

    def attempt() -> None:
        add(task="charge", task_id="o-17")
        logger("shop.own").error("declined", cents=1200)

    try:
        with trace.use_span(SPAN):
            copy_context().run(attempt)
        logger("shop.own").error("later")
    finally:
        log.removeHandler(handler)
    trace_id = "ab" * 16
    assert stream.getvalue() == f"[charge o-17 {trace_id}] declined cents=1200\n[  ] later\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_an_exception_shows_its_traceback(as_json: bool) -> None:
    """In JSON as a field, as text indented below its event."""
    stream = configured(json=as_json)
    try:
        decline()
    except ValueError:
        logger("shop").exception("attempt failed", task="charge")
    text = documents(stream)[0]["traceback"] if as_json else stream.getvalue()
    assert "ValueError: declined" in text
    if not as_json:
        assert all(line.startswith("    ") for line in text.splitlines()[1:])


def test_a_value_without_a_text_is_logged_as_such() -> None:
    """A broken __str__ takes no log line with it."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    for as_json in (True, False):
        stream = configured(json=as_json)
        logger("x").info("seen", value=Broken())
        assert "<unprintable Broken>" in stream.getvalue()


def test_records_name_the_line_that_wrote_them(caplog: pytest.LogCaptureFixture) -> None:
    """The file and line are the caller's, not those of our logger."""
    logger("where").error("here")
    try:
        decline()
    except ValueError:
        logger("where").exception("there")
    assert {record.filename for record in caplog.records} == {"test_logs.py"}


def test_configuring_again_replaces_only_what_is_ours() -> None:
    """No line comes twice, and a handler of someone else stays."""
    theirs = logging.NullHandler()
    logging.getLogger().addHandler(theirs)
    first, second = configured(json=False), configured(json=False, level="warning")
    logger("x").info("quiet")
    logger("x").warning("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1
    assert theirs in logging.getLogger().handlers


def test_an_unknown_level_is_refused() -> None:
    """The error lists the levels there are."""
    with pytest.raises(ConfigError, match="debug, info, warning, error"):
        configure("loud")
