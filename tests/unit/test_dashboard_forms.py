"""What people type into the dashboard's forms, read and told back; asks no server.

Broken on purpose once, and seen to fail: a field's error kept from its field, a zone's error told at the line,
`Wanted.like` without the zone, `page_of` without quoting, a list's link to its replay
with the first state alone, with its states left out, and with a name that is not made a pattern.
"""

from urllib.parse import parse_qs, parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from taskstream import App
from taskstream.admin.dashboard import again, timetable
from taskstream.admin.dashboard.dead import Asked
from taskstream.admin.dashboard.query import Query
from taskstream.admin.dashboard.reading import read_rate
from taskstream.admin.dashboard.render import page_of
from taskstream.core.audit import Action
from taskstream.core.cron import Cron, Every
from taskstream.core.errors import ConfigError
from taskstream.core.schedule import Schedule

NOW = 1_764_000_000.0
app = App("forms", bootstrap_servers="127.0.0.1:1")


@app.task
def clean(days: int, city: str = "") -> None: ...


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("0 3 * * *", "0 3 * * *"), ("@daily", "@daily"), ("every 30", Every(30)), ("every 30 s", Every(30)),
        ("Every 5 min", Every(300)), ("every 1.5h", Every(5400)), ("every 2 d", Every(172800)),
    ],
)  # fmt: skip
def test_times_are_read_as_people_type_them(typed: str, meant: object) -> None:
    """A cron line as it is, or a period with its unit."""
    assert timetable.read_times(typed) == meant


@given(
    st.one_of(
        st.builds(Cron, st.sampled_from(["0 3 * * *", "*/5 * * * 1-5"]), st.sampled_from(["UTC", "Europe/Berlin"])),
        st.integers(1000, 10**9).map(lambda ms: Every(ms / 1000)),
    )
)  # fmt: skip
def test_a_schedule_comes_back_from_its_form(when: Cron | Every) -> None:
    """What a form shows of a schedule, sent as it is, means the same schedule."""
    schedule = Schedule(
        name="nightly", task="clean", when=when, value=b"", queue="tasks", priority="low", key="k",
        expires=90.0, catch_up="all", overlap="skip",
    )  # fmt: skip
    wanted = timetable.Wanted.like(schedule, {"days": 7})
    told = timetable.Wanted.of(dict(wanted.fields)).told()
    times = told["when"] if isinstance(when, Every) else Cron(told["when"], told["tz"])
    assert times == when
    assert (told["arguments"], told["key"], told["expires"], told["catch_up"], told["overlap"]) == (
        {"days": 7}, "k", 90.0, "all", "skip",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "typed", "told"),
    [
        ("when", "every 0.1 s", "1 second to a year"), ("when", "61 * * * *", "61"), ("tz", "Mars/Olympus", "no time zone"),
        ("arguments", "{", "not JSON"), ("arguments", '{"hours": 1}', "hours"), ("arguments", "[]", "JSON object"),
        ("name", "a b", "not allowed"), ("queue", "other", "other"), ("priority", "urgent", "urgent"), ("expires", "soon", "soon"),
    ],
)  # fmt: skip
def test_a_schedule_that_cant_be_is_told_at_its_field(field: str, typed: str, told: str) -> None:
    """The field that is wrong, and no other."""
    fields = {"task": "clean", "when": "0 3 * * *", "arguments": '{"days": 7}', field: typed}
    flaws = timetable.Wanted.of(fields).flaws(app)
    assert list(flaws) == [field]
    assert told in flaws[field]


def test_what_can_be_has_no_flaw() -> None:
    """Also a task whose code is elsewhere: its schema is asked for later."""
    for task, arguments in (("clean", '{"days": 7}'), ("elsewhere", '{"x": 1}')):
        fields = {"task": task, "when": "every 5 min", "arguments": arguments, "queue": "tasks"}
        assert timetable.Wanted.of(fields).flaws(app) == {}


def test_filters_tell_all_that_is_wrong_at_once() -> None:
    """By the field's name, for tasks, for dead letters and for replays."""
    query = Query(states=("gone",), since="yesterday", until="0001-01-01T00:00", after="x")
    assert sorted(query.flaws(NOW)) == ["after", "since", "state", "until"]
    asked = Asked.of({"where": "cents >", "since": "soon", "until": "2h"})
    assert sorted(asked.flaws(NOW)) == ["since", "where"]
    wanted = again.Wanted.of(
        {"where": "import os", "rate": "-1", "shadow": "a b", "state": "dead,gone"}
    )
    assert sorted(wanted.flaws(NOW)) == ["rate", "shadow", "since", "state", "where"]


def test_a_replay_is_settled_once() -> None:
    """Its times are moments from the preview on, so that what comes later is not meant."""
    settled = again.Wanted.of({"since": "2h"}).settled(NOW)
    assert settled.fields["since"] == "2025-11-24T14:00:00.000+00:00"
    assert settled.settled(NOW + 999).fields == settled.fields


def test_letters_are_settled_once() -> None:
    """As a replay is: a time that counts from now would move on between the preview and the act."""
    asked = Asked.of({"since": "2h", "until": "15m"}).settled(NOW)
    assert asked.selection(NOW + 999) == asked.selection(NOW)
    assert asked.fields["until"] == "2025-11-24T15:45:00.000+00:00"
    assert Asked.of({}).settled(NOW).selection(NOW + 999).until == NOW


def test_one_record_is_replayed_by_its_place() -> None:
    """Without a time, for the place says it all; what is no place is told."""
    wanted = again.Wanted.of({"record": "shop.tasks.high/3/15", "ids": "same"})
    assert wanted.flaws(NOW) == {}
    asked = wanted.request()
    assert (asked.topics, asked.offsets, asked.since) == (("shop.tasks.high",), {3: (15, 16)}, None)
    for text in ("shop.tasks.high/3", "a/b/c", "//", "t/1/-1", "t/1/" + "9" * 30):
        assert list(again.Wanted.of({"record": text}).flaws(NOW)) == ["record"]


def test_a_list_of_tasks_leads_to_the_replay_of_just_these() -> None:
    """Each filter that a replay has, in its own words: a name is a pattern there, and states may be several."""
    query = Query(("dead", "retrying"), task="send[1]", queue="tasks", since="2h", error="*Timeout", text="no answer")  # fmt: skip
    wanted = again.Wanted.in_address(QueryParams(query.as_replay))
    assert wanted.flaws(NOW) == {}
    asked = wanted.request()
    assert (asked.states, asked.error, asked.text) == (
        ("dead", "retrying"),
        "*Timeout",
        "no answer",
    )
    assert (asked.tasks, asked.queue, asked.since) == (("send[[]1]",), "tasks", "2h")
    # What the preview has settled comes back from a form, one text for each field.
    assert again.Wanted.of(wanted.fields).request() == asked


def test_no_replay_is_offered_of_what_has_not_ended() -> None:
    """A replay can't ask for such states, and without them it would be one of all other tasks."""
    assert Query(("running",)).as_replay == ""
    (pair,) = parse_qs(Query(("running", "dead")).as_replay)["state"]
    assert pair == "dead"
    assert "state" not in parse_qs(Query().as_replay)


def test_a_list_of_tasks_leads_to_their_letters() -> None:
    """By the words that dead letters have for the same."""
    query = Query(task="a*", error="*Timeout", since="2h", key="k")
    assert Asked.of(dict(parse_qsl(query.as_letters))).flaws(NOW) == {}
    assert dict(parse_qsl(query.as_letters)) == {
        "task": "a[*]",
        "reason": "*Timeout",
        "since": "2h",
    }


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", "1e9"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    """And an empty one is none at all."""
    with pytest.raises(ConfigError, match="rate"):
        read_rate(text)
    assert read_rate(" ") is None


@pytest.mark.parametrize(
    ("verb", "target", "page"),
    [
        ("cancel", "id/1", "/tasks/id%2F1"), ("cancel", "task:1", "/tasks/task%3A1"), ("scale", "w1", "/workers"), ("redrive", "dead:a b", "/tasks/a%20b"),
        ("purge", "dead:*", "/dead"), ("pause", "queue:tasks.low", "/queues"), ("pause", "task:<x>", "/tasks?task=%3Cx%3E"),
        ("run", "schedule:nightly", "/schedules/of/nightly"), ("replay", "replay:r-1", "/replay"), ("x", "*", ""), ("x", "y:z", ""),
    ],
)  # fmt: skip
def test_an_action_leads_to_what_it_was_done_to(verb: str, target: str, page: str) -> None:
    """By its target; where nobody knows the kind, nowhere."""
    assert page_of(Action(verb=verb, target=target, at=NOW, who="ann")) == page
