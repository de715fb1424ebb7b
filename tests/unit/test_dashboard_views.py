"""What the dashboard's pages show, made from plain values.

Broken on purpose once, and seen to fail: failures in the order of their coming, a heartbeat that is older than the row believed, `Query.parameters`
without the mark, a waterfall that begins at roots alone, times without a zone taken as local ones.
"""

import os
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.dashboard.query import FINDABLE, Query
from taskstream.admin.dashboard.schemas import schema_view
from taskstream.admin.dashboard.waterfall import waterfall
from taskstream.admin.overview import views, words
from taskstream.admin.overview.live import (
    ACTIONS,
    ERRORS,
    FAILURES,
    OTHERS,
    TASK_NAMES,
    Look,
    Pulse,
)
from taskstream.admin.queues import Lane
from taskstream.admin.workers import RunningTask, Worker
from taskstream.core.audit import Action
from taskstream.core.clock import ManualClock
from taskstream.core.errors import ConfigError
from taskstream.core.ids import derived_id
from taskstream.core.states import State
from taskstream.observability.collector import SeenSpan
from taskstream.results.row import Row
from taskstream.results.search import Mark, Search
from taskstream.schemas.schema import Schema

NOW = 1_764_000_000.0
ID = derived_id(NOW, "one")


def row(attempt: int = 1, state: State = State.SUCCEEDED, *, run: int = 0, at: float = 0.0) -> Row:
    """An attempt that started so many seconds after now, and took half a second."""
    return Row(
        task_id=ID, run=run, attempt=attempt, state=state, task="charge", written_us=int((NOW + at) * 1e6),
        queue="tasks", priority="high", worker="w1", published=NOW - 1, started=NOW + at,
        finished=NOW + at + 0.5, source=f"shop.tasks.high/0/{attempt}", trace_id="a" * 32,
        error_type=None if state is State.SUCCEEDED else "ValueError",
    )  # fmt: skip


def lane(**changes: object) -> Lane:
    fields: dict[str, object] = {
        "queue": "tasks", "priority": "high", "topic": "shop.tasks.high", "partitions": 4, "lag": 0,
        "oldest_s": None, "paused": False, "dead": 0,
    }  # fmt: skip
    return Lane(**{**fields, **changes})  # type: ignore[arg-type]


def worker(*running: RunningTask) -> Worker:
    return Worker("w1", "host", 1, "0.1", ("tasks",), NOW - 60, NOW, 2, running)


def test_a_task_that_died_and_was_redriven_is_told_whole() -> None:
    """Two runs, the redrive and its word between them, in the order in which they happened."""
    asked = row(0, State.WAITING, run=1, at=10)._replace(started=None, finished=NOW + 10)
    rows = [
        row(1, State.RETRYING)._replace(due=NOW + 3),
        row(2, State.DEAD, at=3),
        asked,
        row(1, run=1, at=12),
    ]
    action = Action(verb="redrive", target=ID, at=NOW + 9.9, who="ann", reason="fixed")
    told = views.task_view(ID, rows, [], [action, Action(verb="cancel", target="x", at=1, who="b")])
    assert told.state is State.SUCCEEDED
    assert not told.may_be_cancelled
    assert [run.number for run in told.runs] == [1, 0]
    assert told.runs[0].asked == asked
    assert [one.waited for one in told.runs[1].attempts] == [1.0, 2.5]
    assert [one.waited for one in told.runs[0].attempts] == [2.0]
    assert (told.waited, told.took) == (1.0, 13.5)
    assert [event.what for event in told.timeline] == [
        "published", "started", "retrying", "due again", "started", "dead", "redrive", "asked to run again",
        "started", "succeeded",
    ]  # fmt: skip
    assert "because: fixed" in told.timeline[6].more
    assert [event.after for event in told.timeline][:3] == [None, 1.0, 0.5]
    assert told.sources == (
        "shop.tasks.high/0/1", "shop.tasks.high/0/0", "shop.tasks.high/0/2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "attempt", "state"),
    [
        ([], 1, State.RUNNING),
        ([row(1, State.RETRYING)], 2, State.RUNNING),
        ([row(1, State.RUNNING)], 1, State.RUNNING),
        ([row(2, State.RETRYING)], 2, State.RETRYING),  # the heartbeat is older than the row
        ([row(3)], 2, State.SUCCEEDED),
        ([], None, State.UNKNOWN),
    ],
)
def test_a_heartbeat_tells_that_a_task_runs(
    rows: list[Row], attempt: int | None, state: State
) -> None:
    """It counts where it tells of a later attempt than the store does, and only there."""
    running = () if attempt is None else (RunningTask(ID, 0, attempt, "t/0/9", NOW),)
    told = views.task_view(ID, rows, [worker(*running)], [])
    assert told.state is state
    assert bool(told.holder) == (state is State.RUNNING)


def test_alarms_say_what_is_wrong() -> None:
    """Each of them comes with its cause, and none comes without."""
    fine = Look(NOW, (lane(lag=3, oldest_s=2.0),), (worker(),))
    assert views.alarms(fine, Counter({State.SUCCEEDED: 50, State.DEAD: 9}), [], NOW) == []
    wrong = Look(NOW - 60, (lane(lag=3, oldest_s=400.0), lane(paused=True)), ())
    told = views.alarms(wrong, Counter({State.DEAD: 12}), ["no Kafka"], NOW)
    assert len(told) == 6
    assert told[0] == "no Kafka"
    assert views.alarms(Look(), Counter(), [], NOW) == []  # nothing is known yet


def test_figures_are_not_made_up() -> None:
    """Before lanes were asked for, and long after, there is no number of what waits."""
    nothing: tuple[Counter[State], Counter[int], Counter[int]] = (Counter(), Counter(), Counter())
    for look, value in ((Look(), None), (Look(NOW - 1, (lane(lag=7),)), 7), (Look(NOW - 99), None)):
        (waiting,) = [one for one in views.cards(look, nothing, NOW) if one.name == "waiting"]
        assert waiting.value == value


def test_the_charts_have_whole_bins_of_equal_length() -> None:
    """Rates are counts over five whole seconds; cut bins at either end are left out."""
    states = [(NOW + second, Counter({State.SUCCEEDED: 10})) for second in range(3, 18)]
    made = views.series(states, [], [], [(NOW, {"shop.tasks.high": 5})], [lane()])
    assert made["rates"]["times"] == [NOW + 5, NOW + 10]
    assert made["rates"]["lines"][0]["values"] == [10.0, 10.0]
    assert made["lag"]["lines"] == [{"name": "tasks high", "tone": "", "values": [5]}]


def test_the_pulse_counts_each_attempt_and_keeps_what_failed() -> None:
    """By state, by task, with waits of first attempts alone; redrives' words are no attempts."""
    pulse = Pulse(ManualClock(NOW + 5))
    for event in (
        row(1, State.RETRYING), row(2, State.DEAD, at=1), row(1, at=2), row(0, State.WAITING, run=1),
    ):  # fmt: skip
        pulse.hear(event)
    states, wait, run = pulse.lately(60)
    assert states == Counter({State.RETRYING: 1, State.DEAD: 1, State.SUCCEEDED: 1})
    assert (wait.total(), run.total()) == (2, 3)
    assert [one.attempt for one in pulse.failures(State.DEAD)] == [2]
    assert pulse.tasks()["charge"].states == states
    (line,) = views.task_lines(pulse.tasks())
    assert (line.attempts, line.failed, line.dead) == (3, 2, 1)
    pulse.forget_counts()
    assert pulse.lately(60)[0] == Counter()


def test_failures_are_in_the_order_of_their_time() -> None:
    """Partitions of the events topic are read one after the other: what comes last may be the oldest."""
    pulse = Pulse(ManualClock(NOW + 500))
    for second in [*range(0, 300, 2), *range(1, 300, 2)]:
        pulse.hear(row(1, State.DEAD, at=second))
    assert [one.started for one in pulse.failures(State.DEAD)] == [
        NOW + second for second in range(299, 299 - FAILURES, -1)
    ]


def test_the_pulse_is_bounded() -> None:
    """However many names and actions come, so many are kept; an action that comes twice is one."""
    pulse = Pulse(ManualClock(NOW))
    for number in range(TASK_NAMES + 50):
        pulse.hear(row()._replace(task=f"task {number}"))
    assert len(pulse.tasks()) == TASK_NAMES + 1
    assert pulse.tasks()[OTHERS].states.total() == 50
    for number in [*range(ACTIONS + 10), ACTIONS + 9]:
        pulse.hear(Action(verb="cancel", target=str(number), at=NOW + number, who="ann"))
    kept = pulse.actions()
    assert len(kept) == ACTIONS
    assert (kept[0].target, kept[-1].target) == (str(ACTIONS + 9), "10")


words_of_query = st.text(st.characters(codec="utf-8"), max_size=12).map(str.strip)


@given(
    st.builds(
        Query,
        states=st.lists(st.sampled_from(FINDABLE), unique=True).map(tuple),
        task=words_of_query,
        key=words_of_query,
        error=words_of_query,
        text=words_of_query,
        after=words_of_query,
    )
)
def test_filters_survive_their_address(query: Query) -> None:
    """What stands in the address is what was asked, and can be sent to somebody."""
    from urllib.parse import parse_qs

    assert Query.of(parse_qs(query.parameters, keep_blank_values=True)) == query


@given(st.floats(0, 1e10), st.text(st.characters(codec="utf-8")))
def test_a_mark_survives_its_address(born: float, task_id: str) -> None:
    """A page goes on exactly where the one before ended, whatever the id holds."""
    mark = Mark(born, task_id)
    assert Mark.parse(str(mark)) == mark
    assert Query().at(mark).mark() == mark


@pytest.mark.parametrize("after", ["x", "1", "~a", "-1~a", "nan~a", "inf~a", "1e300~a"])
def test_a_mark_that_is_none_is_refused(after: str) -> None:
    """A cut or changed address is told from an empty list."""
    with pytest.raises(ConfigError, match="first page"):
        Query(after=after).mark()


def test_times_without_a_zone_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the form says, wherever the server stands."""
    monkeypatch.setitem(os.environ, "TZ", "America/New_York")
    time.tzset()
    try:
        search = Query(since="2026-01-31T12:00", until="2026-01-31T13:00+01:00").search(NOW)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert search == Search(since=1769860800.0, until=1769860800.0)


@pytest.mark.parametrize(
    "query",
    [Query(states=("gone",)), Query(since="yesterday"), Query(until="0001-01-01T00:00")],
)
def test_filters_that_cant_be_read_are_named(query: Query) -> None:
    """The error shows the word that is wrong."""
    with pytest.raises(ConfigError, match="'"):
        query.search(NOW)


spans = st.lists(
    st.builds(
        SeenSpan,
        trace_id=st.just("t"),
        span_id=st.sampled_from("abcdef"),
        parent_id=st.sampled_from(["", *"abcdefxy"]),
        name=st.just("n"),
        service=st.just("s"),
        started=st.floats(0, 100),
        duration=st.floats(-1, 100),
        error=st.sampled_from(["", "bad"]),
    ),
    max_size=12,
)


@given(spans)
def test_every_span_has_its_row_and_its_bar_inside(found: list[SeenSpan]) -> None:
    """Once each, also without a parent, with two of one id, or in a circle of parents."""
    made = waterfall(found)
    assert sorted(map(repr, (bar.span for bar in made.bars))) == sorted(map(repr, found))
    for bar in made.bars:
        assert bar.left >= 0
        assert bar.width > 0
        assert bar.left + bar.width <= 100.001
    assert made.failed == sum(bool(span.error) for span in found)


def test_a_trace_is_a_tree() -> None:
    """Each span stands below its parent, moved in by one, brothers in the order of their begin."""

    def span(name: str, parent: str, started: float) -> SeenSpan:
        return SeenSpan("t", name, parent, name, "s", started, 1.0)

    made = waterfall([span("c", "b", 3), span("d", "a", 4), span("b", "a", 2), span("a", "", 1)])
    assert [(bar.span.name, bar.depth) for bar in made.bars] == [
        ("a", 0), ("b", 1), ("c", 2), ("d", 1),
    ]  # fmt: skip
    assert (made.bars[0].left, made.bars[1].left, made.duration) == (0.0, 25.0, 4.0)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "-"), (0.0, "0 ms"), (0.0004, "<1 ms"), (0.0123, "12.3 ms"), (0.9999, "1.0 s"), (3.44, "3.4 s"),
        (59.6, "1 min"), (125.0, "2 min 5 s"), (3600.0, "1 h"), (3661.0, "1 h 1 min"), (100_000.0, "1 d 3 h"),
        (-2.0, "-2.0 s"),
    ],
)  # fmt: skip
def test_durations_are_told_in_two_parts(seconds: float | None, told: str) -> None:
    """As a person would say it."""
    assert words.duration(seconds) == told


def test_times_of_nonsense_are_a_dash() -> None:
    """A header may hold any number; a page must not fail on it."""
    assert (words.moment(1e15), words.iso(-5.0), words.moment(None)) == ("-", "", "-")
    assert words.moment(NOW) == "2025-11-24 16:00:00.000"


def test_errors_are_counted_by_kind_and_task() -> None:
    """The most deadly first; what nobody met for a quarter of an hour is gone, and so many kinds are kept."""
    clock = ManualClock(NOW)
    pulse = Pulse(clock)
    for _ in range(3):
        pulse.hear(row(state=State.RETRYING))
    pulse.hear(row(state=State.DEAD)._replace(error_type="Declined"))
    assert views.error_lines(pulse.errors()) == [
        views.ErrorLine("Declined", "charge", 1, 0),
        views.ErrorLine("ValueError", "charge", 0, 3),
    ]
    for number in range(ERRORS):
        pulse.hear(row(state=State.DEAD)._replace(error_type=f"E{number}"))
    assert len(pulse.errors()) == ERRORS + 1
    assert pulse.errors()[OTHERS, OTHERS][State.DEAD] == 2
    clock.advance(1000.0)
    assert pulse.errors() == {}
    pulse.hear(row(state=State.DEAD, at=1000.0)._replace(error_type="Late"))
    assert list(pulse.errors()) == [("charge", "Late")]


def test_versions_are_told_from_the_newest_on() -> None:
    """Each with what it changed, what of it the newest can't read, and which one the code here has."""
    fields = [{"name": "order", "type": "string"}, {"name": "cents", "type": "int"}]
    first, second = (
        Schema({"type": "record", "name": "charge", "fields": some})
        for some in (fields, [{"name": "order", "type": "long"}])
    )
    told = schema_view([first, second], first)
    assert [version.number for version in told.versions] == [2, 1]
    assert told.newest.changed == (
        "order was string and is long now",
        "cents was removed (it was int)",
    )
    assert told.versions[1].trouble == ("order was string and is long now",)
    assert [version.here for version in told.versions] == [False, True]
    assert told.here == "differs"


def test_a_schema_is_told_in_words() -> None:
    """Field by field, and how the code beside it differs."""
    avro = {
        "type": "record", "name": "charge", "fields": [
            {"name": "order", "type": "string"},
            {"name": "cents", "type": ["null", "long"], "default": None},
            {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}},
            {"name": "tags", "type": {"type": "array", "items": {"type": "map", "values": "int"}}},
            {"name": "kind", "type": {"type": "enum", "name": "shop.Kind", "symbols": ["A", "B"]}},
        ],
    }  # fmt: skip
    stored = Schema(avro)
    told = schema_view([stored], stored)
    assert [(field.type, field.default) for field in told.newest.fields] == [
        ("string", None), ("null or long", "null"), ("decimal(38, 2)", None), ("array of map of int", None),
        ("one of A, B", None),
    ]  # fmt: skip
    assert (told.here, schema_view([stored], None).here) == ("same", "")
    other = Schema({**avro, "fields": avro["fields"][:1]})
    assert schema_view([stored], other).here == "differs"


def test_the_audit_log_is_narrowed_by_parts_of_names() -> None:
    """Who and target by a part, in capital letters or small ones; the verb as a whole."""
    actions = [
        Action(verb="cancel", target="id-1", at=NOW, who="Ann@host"),
        Action(verb="scale", target="*", at=NOW, who="bob"),
    ]
    assert views.chosen(actions, "ann", "", "") == actions[:1]
    assert views.chosen(actions, "", "scale", "") == actions[1:]
    assert views.chosen(actions, "", "", "ID-") == actions[:1]
