"""How `taskstream top` draws, and what its keys do.

Broken on purpose once, and seen to fail: names as they are, `fitting` without its gaps, `shares` that gives the
first part all, an escape sequence read as its letters.
"""

from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tests.support.hostile import HOSTILE

from taskstream.admin.cli.keys import names
from taskstream.admin.cli.screen import PANELS, Frame, bars, draw, shares
from taskstream.admin.cli.top import INTERVALS, View, pressed
from taskstream.admin.overview.picture import (
    SORTS,
    Choice,
    Durations,
    Failure,
    Flow,
    LaneLine,
    Picture,
)
from taskstream.admin.overview.views import TaskLine
from taskstream.admin.workers import RunningTask, Worker

NOW = 1_764_000_000.0
FLOW = Flow(412.25, 3.0, 0.05, 0.0074, Durations(0.05, 0.12, 0.9), Durations(0.2, 0.35, 2.0))
IDLE = Flow(0.0, 0.0, 0.0, None, Durations(None, None, None), Durations(None, None, None))
ID = "01a2176a-da0e-7ede-b205-57ab2f9ac02f"


def lane(queue: str, priority: str, flow: Flow = FLOW, **more: object) -> LaneLine:
    """A line of the table of queues."""
    fields: dict[str, object] = {
        "lag": 1204, "oldest_s": 400.0, "grows": -12.0, "dead": 14, "paused": False, "halted": False,
    }  # fmt: skip
    return LaneLine(queue, priority, flow, **{**fields, **more})  # type: ignore[arg-type]


def failure(text: str = "4711 was declined", task: str = "charge") -> Failure:
    """An attempt that failed five seconds ago."""
    return Failure(NOW - 5, "dead", task, ID, "tasks", "high", 3, "CardDeclined", text)


BUSY = Picture(
    app="shop", at=NOW, seconds=60.0, queue="", complete=True, total=FLOW,
    history=tuple(float(number % 50) for number in range(60)),
    lanes=(lane("tasks", "high"), lane("tasks", "low", IDLE, paused=True, grows=None, oldest_s=None), lane("mail", "normal", halted=True)),
    workers=(Worker("w1", "host", 7, "0.1.0", ("tasks", "mail"), NOW - 3700, NOW - 1, 4, (RunningTask(ID, 0, 2, "shop.tasks.high/3/99", NOW - 70, "refund", 4242),), ("task:charge",), ("mail.normal",)),),
    alarms=("tasks low: the oldest of 1,204 tasks has waited for 400 s.",),
    tasks=(TaskLine("charge", 24_700, 183, 3, 0.2, 0.35),),
    failures=(failure(),) * 30, looked_at=NOW - 2,
)  # fmt: skip
EMPTY = replace(BUSY, lanes=(), workers=(), failures=(), tasks=(), alarms=(), history=(), total=IDLE, complete=False, looked_at=0.0)  # fmt: skip


PLAIN = Frame()


def drawn(
    picture: Picture, width: int = 120, height: int | None = None, frame: Frame = PLAIN
) -> list[str]:
    """The lines on a terminal of this size."""
    console = Console(width=width, record=True, file=StringIO(), markup=False, highlight=False)
    console.print(draw(picture, frame, width, height))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_wide_terminal_shows_all() -> None:
    """Every figure of every part, each with its head."""
    lines = drawn(BUSY, 200)
    text = "\n".join(lines)
    heads = "queue done/s failed again/s died/s wait p50 p95 p99 run waiting grows/s oldest empty in dead worker children running seen up host pid version for id attempt record when state task error attempts died"
    assert all(head in text for head in heads.split())
    for told in (
        "taskstream top shop", "412 finished/s", "1 worker", "4 children", "42 dead letters", "! tasks low: the oldest",
        "tasks.high", "mail.normal", "halted", "paused", "6 min 40 s", "1 min 40 s", "0.7%", "-12", "halts mail.normal",
        "holds task:charge", "1 min 10 s", "refund", "4242", ID, "shop.tasks.high/3/99", "CardDeclined: 4711 was declined", "24,700",
    ):  # fmt: skip
        assert told in text, told
    (total,) = [line for line in lines if line.startswith("all")]
    assert "3,612" in total


@pytest.mark.parametrize(
    ("width", "kept", "dropped"),
    [
        (40, ("tasks.high", "done/s", "waiting"), ("wait p95", "host", "version")),
        (70, ("done/s", "failed", "oldest", "wait p95", "run p95"), ("wait p50", "wait p99", "version")),
        (100, ("grows/s", "died/s", "pid", "4242"), ("empty in", "shop.tasks.high/3/99")),
    ],
)  # fmt: skip
def test_a_narrow_terminal_drops_what_matters_least(
    width: int, kept: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    """Whole columns go, and the figures of those that stay are whole."""
    text = "\n".join(drawn(BUSY, width))
    for word in kept:
        assert word in text, word
    for word in dropped:
        assert word not in text, word
    assert "1,204" in text


texts = st.one_of(st.text(max_size=60), st.sampled_from(HOSTILE))


@settings(max_examples=60)
@given(
    st.integers(20, 220),
    st.one_of(st.none(), st.integers(14, 70)),
    st.lists(texts, min_size=1, max_size=4),
    st.sampled_from(PANELS),
    st.booleans(),
)
def test_nothing_is_wider_or_higher_than_the_terminal(
    width: int, height: int | None, given_texts: list[str], panel: str, with_keys: bool
) -> None:
    """Whatever names, errors and alarms hold: each line fits, no line is forged, and nothing steers the terminal."""
    text = given_texts[0]
    strange = replace(
        BUSY,
        app=text[:20] or "a",
        lanes=tuple(lane(one or "q", "high") for one in given_texts),
        failures=tuple(failure(one, one) for one in given_texts),
        alarms=tuple(given_texts),
        workers=(replace(BUSY.workers[0], worker=text, host=text, queues=(text,), halted=(text,), running=(RunningTask(text, 0, 1, f"{text}/0/0", NOW),)),),
        tasks=(TaskLine(text, 1, 0, 0, None, None),),
    )  # fmt: skip
    lines = drawn(strange, width, height, Frame(panel=panel, with_keys=with_keys, interval=1.0))
    if height is not None:
        assert len(lines) <= height
    for line in lines:
        assert line.isprintable()
        if height is not None or not line.startswith(
            "!"
        ):  # without a bound alarms are broken, not cut
            assert cell_len(line) <= width


@pytest.mark.parametrize("height", [14, 24, 45, 70])
def test_the_keys_stand_in_the_last_line(height: int) -> None:
    """However much there is to show, and however little."""
    for picture in (BUSY, EMPTY):
        lines = drawn(picture, 130, height, Frame(with_keys=True))
        assert len(lines) == height
        assert lines[-1].startswith("q quit")


def test_a_low_terminal_shows_some_of_each_part() -> None:
    """What is cut says so; what does not fit at all are the parts behind."""
    lines = drawn(BUSY, 100, 26, Frame(with_keys=True))
    text = "\n".join(lines)
    assert "Queues" in text
    assert "Workers" in text
    assert "Failed last (" in text
    assert "of 30)" in text
    tiny = "\n".join(drawn(BUSY, 100, 14, Frame(with_keys=True)))
    assert "tasks.high" in tiny
    assert "Failed last" not in tiny


def test_a_panel_is_shown_at_length() -> None:
    """One part has all lines."""
    lines = drawn(BUSY, 100, 50, Frame(panel="failures"))
    assert sum("CardDeclined" in line for line in lines) == 30
    assert not any("Workers" in line for line in lines)


def test_before_anything_is_known_nothing_is_made_up() -> None:
    """Dashes and words, no noughts of what was not asked yet."""
    text = "\n".join(drawn(EMPTY))
    assert "- waiting" in text
    assert "- workers" in text
    assert "Queues: not asked yet" in text
    assert "Still reading" in text
    idle = "\n".join(drawn(replace(EMPTY, complete=True, looked_at=NOW)))
    assert "0 workers" in idle
    assert "Workers: none is alive" in idle


def test_the_title_says_what_is_shown() -> None:
    """Queue, order, window, interval and that it stands still."""
    shown = drawn(replace(BUSY, queue="mail"), 120, 30, Frame("lag", "all", 2.0, stopped=True))
    assert "taskstream top shop mail" in shown[0]
    assert "STOPPED" in shown[0]
    assert "last 60 s" in shown[0]
    assert "every 2 s" in shown[0]
    assert any(line.startswith("Queues, by lag") for line in shown)


def test_what_was_logged_is_shown_with_the_alarms() -> None:
    """A warning would be written across the picture otherwise."""
    assert any(line.startswith("! no broker") for line in drawn(BUSY, frame=Frame(notes=("no broker",))))  # fmt: skip


@given(st.lists(st.floats(0, 1e9), max_size=80))
def test_bars_have_a_place_for_each_value(values: list[float]) -> None:
    """One character each, the highest being the whole height."""
    line = bars(values)
    assert len(line) == len(values)
    if any(values):
        assert line[values.index(max(values))] == "█"


@given(st.integers(0, 60), st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_lines_are_shared_fairly(room: int, wanted: list[int]) -> None:
    """Nobody gets more than he wants, nothing is wasted, and who wants more has no less than another."""
    given_lines = shares(room, wanted)
    assert all(got <= want for got, want in zip(given_lines, wanted, strict=True))
    assert sum(given_lines) == min(room, sum(wanted))
    hungry = [got for got, want in zip(given_lines, wanted, strict=True) if got < want]
    if hungry:
        assert max(given_lines) <= min(hungry) + 1


# Keys


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"q", ["q"]), (b"sS+", ["s", "S", "+"]), (b"\t\x1b[Z ", ["tab", "backtab", "space"]),
        (b"\x1b[A", []), (b"\x1b[1;5Cq", ["q"]), (b"\x1bOP", []), (b"\x1b", []), (b"\x1b[", []), (b"", []),
        ("ä".encode(), []), (b"\x03", []),
    ],
)  # fmt: skip
def test_keys_are_read_from_what_a_terminal_sends(typed: bytes, keys: list[str]) -> None:
    """Arrows and the like are one key each, not the letters of their sequence."""
    assert names(typed) == keys


@given(st.binary(max_size=40))
def test_any_bytes_are_keys_or_nothing(typed: bytes) -> None:
    """A terminal that sends noise ends nothing but by a `q`."""
    assert all(len(key) == 1 or key in {"tab", "backtab", "space"} for key in names(typed))


VIEW = View(Choice(), ("tasks", "mail"))


def test_tab_goes_through_the_queues() -> None:
    """All, each in turn, and all again; backwards the other way."""
    view, seen = VIEW, []
    for _ in range(3):
        view = pressed(view, "tab")
        seen.append(view.choice.queue)
    assert seen == ["tasks", "mail", ""]
    assert pressed(VIEW, "backtab").choice.queue == "mail"


def test_each_key_changes_one_thing() -> None:
    """Order, direction, part, window, interval, and whether it moves at all."""
    assert pressed(VIEW, "q").over
    assert pressed(VIEW, "s").choice.sort == list(SORTS)[1]
    assert pressed(VIEW, "S").choice.sort == list(SORTS)[-1]
    assert pressed(VIEW, "r").choice.reverse
    assert pressed(VIEW, "v").panel == "queues"
    assert pressed(VIEW, "w").choice.seconds == 300.0
    assert pressed(pressed(VIEW, "w"), "w").choice.seconds == 10.0
    assert pressed(VIEW, "+").interval == 2.0
    assert pressed(VIEW, "-").interval == 0.5
    assert pressed(pressed(VIEW, "space"), "space") == VIEW
    assert pressed(VIEW, "?") == VIEW


@given(st.lists(st.sampled_from(["tab", "backtab", "s", "S", "r", "v", "V", "w", "+", "-", "space", "x"]), max_size=40))  # fmt: skip
def test_any_keys_leave_a_view_that_can_be_shown(typed: list[str]) -> None:
    """However many are pressed, what is chosen exists."""
    view = View(Choice(seconds=33.0), ("tasks", "mail"), 0.7)
    for key in typed:
        view = pressed(view, key)
    view.choice.checked(["tasks", "mail"])
    assert view.panel in PANELS
    assert view.interval in (0.7, *INTERVALS)
