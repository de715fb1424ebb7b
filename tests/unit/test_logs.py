"""Log records as text and as JSON, with the ids of the task and the trace they belong to.

Broken on purpose once, and seen to fail: a line that can't be made and is printed as the base class does, a
print that comes back to itself, a print that never ends its line, a count that is lost at the end, a traceback
that is kept, and a number for which JSON has no word.
"""

import ast
import gc
import io
import json
import logging
import sys
import threading
import weakref
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from taskstream.core.errors import ConfigError
from taskstream.observability.logs import (
    PRINTED,
    ContextFilter,
    bound,
    catch_prints,
    configure,
    is_json,
    logger,
)

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


def heard_by_nobody_else() -> None:
    """Takes pytest's own handlers away, which keep all records, and raise where a line can't be made."""
    root = logging.getLogger()
    root.handlers[:] = [
        one for one in root.handlers if type(one).__module__.startswith("taskstream")
    ]


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
        bound.set({"task": "charge", "task_id": "o-17", "attempt": 2})
        logging.getLogger("shop").info("charged %s cents", 1200)

    with trace.use_span(SPAN):
        copy_context().run(attempt)
    logging.getLogger("shop").info("outside")
    inside, outside = documents(stream)
    assert inside["event"] == "charged 1200 cents"
    assert (inside["task"], inside["task_id"], inside["attempt"]) == ("charge", "o-17", 2)
    assert (inside["trace_id"], inside["span_id"]) == ("ab" * 16, "cd" * 8)
    assert set(outside) == {"time", "level", "logger", "event"}


def test_a_user_s_own_handler_can_name_the_ids() -> None:
    """With our filter, a format of theirs shows the ids, and nothing outside of a task."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[%(task)s %(task_id)s %(trace_id)s] %(message)s"))
    handler.addFilter(ContextFilter())
    log = logging.getLogger("shop.own")
    log.addHandler(handler)

    def attempt() -> None:
        bound.set({"task": "charge", "task_id": "o-17"})
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


def test_no_known_secret_gets_into_a_line() -> None:
    """Not in an event, a value inside of another, an error, its traceback, or an address; nor escaped."""
    secret = 'pa"ss\\wörd'
    for form in ("text", "json"):
        stream = io.StringIO()
        configure("info", form, secrets=[secret], stream=stream)
        log = logger("taskstream.x")
        event = f"an event with {secret}"
        log.info(event, value=secret, inner={"list": [secret]}, n=1)
        log.info("an address", url="https://anna:unknown-to-us@host:1/")
        logging.getLogger("shop").warning("a library says %s", secret)
        try:
            raise_(secret)
        except ValueError as error:
            log.exception("it failed", error=error)
        text = stream.getvalue()
        assert "wörd" not in text
        assert "w\\u00f6rd" not in text
        assert "unknown-to-us" not in text
        assert len(text.splitlines()) >= 4


def raise_(text: str) -> None:
    raise ValueError(f"refused {text}")


def test_a_flood_of_a_library_is_its_first_line_and_a_count() -> None:
    """The count comes with the next line of whatever kind, once the window is over; a user's lines all come."""
    stream, now = io.StringIO(), [0.0]
    configure("info", "json", stream=stream, clock=lambda: now[0])
    for n in range(100):
        logging.getLogger("cassandra.pool").warning("no connection to host %d", n)
        logging.getLogger("shop").warning("no luck")
    now[0] = 60.0
    logger("taskstream.x").info("something else")
    found = documents(stream)
    pool = [one for one in found if one["logger"] == "cassandra.pool"]
    assert "taskstream doctor" in pool[0]["advice"]
    assert [(one["event"], one.get("repeated")) for one in pool] == [
        ("no connection to host 0", None), ("no connection to host 99", 99),
    ]  # fmt: skip
    assert sum(one["event"] == "no luck" for one in found) == 100


@pytest.fixture
def hooks_restored() -> Iterator[None]:
    """Gives back what JSON takes over of the interpreter."""
    kept = sys.excepthook, threading.excepthook, sys.stdout, sys.stderr
    yield
    sys.excepthook, threading.excepthook, sys.stdout, sys.stderr = kept
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("hooks_restored")
def test_in_json_what_nobody_catches_is_a_line_too() -> None:
    """Of a thread and of the process; an interrupt from the keyboard is no error."""
    stream = configured(json=True)
    thread = threading.Thread(target=decline, name="broken")
    thread.start()
    thread.join()
    try:
        decline()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    of_thread, of_process = documents(stream)
    assert of_thread["thread"] == "broken"
    assert all("declined" in one["traceback"] for one in (of_thread, of_process))


@pytest.mark.usefixtures("hooks_restored")
def test_in_json_prints_are_lines_and_never_twice() -> None:
    """At every level; printed in pieces it is one; configuring again makes no line a line of a line."""
    stream = io.StringIO()
    sys.stderr = stream
    for _ in range(2):
        configure("error", "json")
        catch_prints()
    print("one", end=" ")  # noqa: T201
    print("line\nand another")  # noqa: T201
    print("complained", file=sys.stderr)  # noqa: T201
    found = [(one["event"], one["stream"], one["logger"]) for one in documents(stream)]
    assert found == [
        ("one line", "stdout", PRINTED), ("and another", "stdout", PRINTED),
        ("complained", "stderr", PRINTED),
    ]  # fmt: skip


@pytest.mark.usefixtures("hooks_restored")
def test_a_handler_of_the_user_s_own_does_not_print_without_an_end() -> None:
    """One on the root logger that writes to a standard stream gets the lines that are printed there, too."""
    stream = io.StringIO()
    sys.stderr = stream
    configure("info", "json")
    catch_prints()
    logging.getLogger().addHandler(logging.StreamHandler())
    print("one")  # noqa: T201
    print("two", file=sys.stderr)  # noqa: T201
    assert [one["event"] for one in documents(stream)] == ["one", "two"]


class Gone(io.StringIO):
    """A pipe of which nobody reads any more."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.mark.usefixtures("hooks_restored")
def test_nobody_who_logs_or_prints_hears_that_the_stream_has_gone() -> None:
    """A task must not fail because whoever collects the logs did."""
    sys.stderr = Gone()
    configure("info", "json")
    catch_prints()
    print("one")  # noqa: T201
    logger("taskstream.x").warning("two", advice="none")


@pytest.mark.usefixtures("hooks_restored")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_that_can_not_be_made_says_where_it_comes_from(*, as_json: bool) -> None:
    """In the form of all lines, and without what it was to hold, which no veil has seen."""
    stream = io.StringIO()
    sys.stderr = stream
    configure("info", "json" if as_json else "text")
    catch_prints()
    heard_by_nobody_else()
    logging.getLogger("shop").warning("%d tasks", "hush-hush")
    (line,) = stream.getvalue().splitlines()
    assert "a log line can't be written" in line
    assert f"{__file__}:" in line
    assert "hush-hush" not in line
    assert json.loads(line)["logger"] == "shop" if as_json else " error   shop " in line


@pytest.mark.usefixtures("hooks_restored")
def test_what_is_printed_without_an_end_is_a_line_once_it_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bar that is drawn over and over must not fill the memory."""
    monkeypatch.setattr("taskstream.observability.logs.LONGEST_PRINT", 100)
    stream = io.StringIO()
    sys.stderr = stream
    configure("info", "json")
    catch_prints()
    for _ in range(25):
        print("\r#########", end="")  # noqa: T201
    assert [len(one["event"]) for one in documents(stream)] == [110, 110]


@pytest.mark.usefixtures("hooks_restored")
def test_a_stream_whose_lines_become_records_does_all_else_as_before() -> None:
    """Code that runs with text must run with JSON."""
    configured(json=True)
    bare = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sys.stdout = bare
    catch_prints()
    sys.stdout.buffer.write(b"raw")
    sys.stdout.reconfigure(line_buffering=True)
    assert bare.line_buffering
    bare.seek(0)
    assert bare.read() == "raw"


def test_a_number_that_json_has_no_word_for_is_text() -> None:
    """Strict readers refuse a line that holds NaN."""
    stream = configured(json=True)
    logger("taskstream.x").info("full", lag=float("nan"), room=float("inf"), share=0.5)
    [document] = documents(stream)
    assert (document["lag"], document["room"], document["share"]) == ("nan", "inf", 0.5)


def test_the_end_tells_of_a_flood_that_goes_on() -> None:
    """Its count is not lost with the process, or with a new configuration."""
    stream = configured(json=True)
    for _ in range(3):
        logging.getLogger("cassandra.pool").warning("no connection")
    configured(json=True)
    assert [one.get("repeated") for one in documents(stream)] == [None, 2]


def test_what_is_counted_holds_nothing_of_a_failed_call() -> None:
    """A traceback holds every frame of it, and all that stands there, for as long as it is kept."""
    configured(json=False)
    heard_by_nobody_else()
    held = []

    def fail() -> None:
        payload = threading.Event()  # of a kind that a weak reference can be taken of
        held.append(weakref.ref(payload))
        raise ValueError("refused")

    for _ in range(2):
        try:
            fail()
        except ValueError:
            logging.getLogger("cassandra.pool").exception("no connection")
    gc.collect()
    assert [one() for one in held] == [None, None]


def test_prints_stay_what_they_are_in_text() -> None:
    """Who reads it with their eyes wants no second word on each line."""
    before = sys.stdout
    configured(json=False)
    catch_prints()
    assert sys.stdout is before
    assert not is_json()


def test_stacks_are_shown_like_a_traceback() -> None:
    """Indented in text, a field in JSON."""
    for as_json in (False, True):
        stream = configured(json=as_json)
        logger("x").stacks("it stands still", "Thread one:\n  in here", pid=7)
        if as_json:
            assert documents(stream)[0]["traceback"] == "Thread one:\n  in here"
        else:
            assert stream.getvalue().splitlines()[1:] == ["    Thread one:", "      in here"]


def test_debug_is_asked_for_before_lines_are_made() -> None:
    """So that nothing is spent on lines that nobody wants."""
    configured(json=False)
    assert not logger("taskstream.x").debugging
    configured(json=False, level="debug")
    assert logger("taskstream.x").debugging


def test_an_unknown_form_is_refused() -> None:
    """The error names both."""
    with pytest.raises(ConfigError, match="use text or json"):
        configure("info", "yaml")


ROOT = Path(__file__).parents[2]
PACKAGES = (
    "admin", "app", "broker", "consumer", "observability", "producer", "results", "scheduler", "schemas",
)  # fmt: skip


def complaints() -> Iterator[tuple[Path, ast.Call]]:
    """Every call that logs a warning or an error through a logger of ours."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Name(id="_log"),
                            attr="warning" | "error" | "exception" | "stacks",
                        )
                    ):
                        yield path, node


def test_every_warning_says_what_to_do() -> None:
    """What happened is half of it: whoever reads it at night wants the other half as well."""
    found = list(complaints())
    assert len(found) > 40
    silent = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in found
        if not any(word.arg == "advice" for word in call.keywords)
    ]
    assert not silent
