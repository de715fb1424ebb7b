"""What a replay is, as values: what is refused, where tasks go, and what they say of their origin.

Broken on purpose once, and seen to fail: `repeated` without `home=None`; `new_id` without the replay's name.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.policies import policies

from taskstream.core.envelope import Death, Envelope, Place, read, write
from taskstream.core.errors import ConfigError
from taskstream.core.ids import derived_id, is_uuid7, time_of
from taskstream.core.replay import (
    Ids,
    Plan,
    ReplayRequest,
    Stretch,
    advanced,
    lane_of,
    repeated,
)
from taskstream.core.replay import new_id as replayed_id
from taskstream.core.states import JUDGED

NOW = 1_800_000_000.0

names = st.text("abcdefgh_-", min_size=1, max_size=8)
moments = st.floats(0, 2e9)
stretches = st.builds(
    lambda topic, partition, first, length: Stretch(f"shop.{topic}.normal", partition, first, first + length),
    st.sampled_from(["tasks", "mail"]), st.integers(0, 9), st.integers(0, 10**9), st.integers(0, 10**6),
)  # fmt: skip
plans = st.builds(
    Plan,
    name=names,
    stretches=st.lists(stretches, max_size=5, unique_by=lambda one: one.place).map(tuple),
    since=st.none() | moments,
    until=st.none() | moments,
    tasks=st.lists(names, max_size=2).map(tuple),
    key=st.none() | names,
    where=st.sampled_from(["", "cents > 1 and city == 'Köln'"]),
    settled=moments,
    states=st.lists(st.sampled_from(sorted(JUDGED)), max_size=2).map(tuple),
    error=st.sampled_from(["", "*Timeout"]),
    text=st.sampled_from(["", "no answer"]),
    ids=st.sampled_from(Ids),
    shadow=st.sampled_from(["", "nightly"]),
    rate=st.none() | st.floats(0.1, 1e6),
)
envelopes = st.builds(
    Envelope,
    task=names,
    id=st.builds(derived_id, moments, names) | names,
    run=st.integers(0, 5),
    attempt=st.just(1),
    priority=st.none() | names,
    home=st.none() | st.just(Place("shop.tasks.low", 3)),
    group=st.none() | names,
    due=st.none() | moments,
    expires=st.none() | moments,
    published=st.none() | moments,
    grace=st.none() | moments,
    lookup=st.booleans(),
    reply_to=st.none() | st.just(Place("shop.replies", 1)),
    parent=st.none() | names,
    root=st.none() | names,
    since=st.none() | moments,
    entered=st.none() | moments,
    deferred=st.booleans(),
    retry=st.none() | policies,
    death=st.none() | st.just(Death("ValueError", "no", "shop.tasks.low/3/7", 1.0)),
    trace=st.sampled_from([(), (("traceparent", b"00-1-2-01"),)]),
    others=st.sampled_from([(), (("tenant", b"eu"),)]),
)


def plan(**fields: object) -> Plan:
    """A plan of one stretch."""
    told = {"name": "monday", "stretches": (Stretch("shop.tasks.normal", 0, 5, 9),), **fields}
    return Plan(**told)  # type: ignore[arg-type]


@given(plans)
def test_a_plan_survives_its_text(one: Plan) -> None:
    """Whoever resumes a replay elsewhere has the plan that was settled here."""
    assert Plan.from_text(one.to_text()) == one


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "stretches": [], "colour": 1}'])
def test_a_plan_of_another_version_is_refused(text: str) -> None:
    """What can't be read is no plan, and the error says why that may be."""
    with pytest.raises(ConfigError, match="another version"):
        Plan.from_text(text)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "from when on"),
        ({"since": 0, "ids": "old"}, "new or same"),
        ({"since": 0, "to_topic": "a", "to_queue": "b"}, "one of the two"),
        ({"since": 0, "to_topic": "a", "shadow": "b"}, "one of the two"),
        ({"since": 0, "rate": 0}, "above 0"),
        ({"since": 0, "states": ["waiting"]}, "no attempt ends as 'waiting'"),
    ],
)
def test_what_can_not_be_meant_is_refused_before_anything_is_read(
    told: dict[str, object], why: str
) -> None:
    """A replay of everything, and choices that exclude each other."""
    with pytest.raises(ConfigError, match=why):
        ReplayRequest(**told)  # type: ignore[arg-type]


def test_zero_is_a_time_like_any_other() -> None:
    """From 0 is how to say all that there is."""
    assert ReplayRequest(since=0).since == 0


@pytest.mark.parametrize(
    ("topic", "lane"),
    [
        ("shop.tasks.normal", ("tasks", "normal")),
        ("shop.delay.5s", None),
        ("shop.dead", None),
        ("shop.control", None),
        ("stock.tasks.normal", None),
        ("orders", None),
        ("shop.tasks.normal.old", None),
    ],
)
def test_only_task_topics_of_the_app_have_a_queue_and_a_priority(
    topic: str, lane: tuple[str, str] | None
) -> None:
    """Its other topics and those of others have none."""
    assert lane_of("shop", topic) == lane


@pytest.mark.parametrize(
    ("told", "to"),
    [
        ({}, "shop.tasks.normal"),
        ({"to_priority": "low"}, "shop.tasks.low"),
        ({"to_queue": "mail"}, "shop.mail.normal"),
        ({"to_queue": "mail", "to_priority": "low"}, "shop.mail.low"),
        ({"to_topic": "stock.tasks.high"}, "stock.tasks.high"),
        ({"shadow": "nightly"}, "shop-shadow-nightly.tasks.normal"),
        ({"shadow": "nightly", "to_priority": "low"}, "shop-shadow-nightly.tasks.low"),
    ],
)
def test_where_tasks_go(told: dict[str, object], to: str) -> None:
    """Home, or where was said; what was not said stays."""
    assert plan(**told).destination("shop", "shop.tasks.normal") == to


def test_nothing_goes_back_to_a_topic_of_others() -> None:
    """Its tasks need a topic that was named."""
    with pytest.raises(ConfigError, match="topic of others"):
        plan().destination("shop", "orders")
    assert plan(to_topic="shop.tasks.low").destination("shop", "orders") == "shop.tasks.low"


@given(envelopes)
def test_a_new_id_is_the_same_however_often_it_is_asked_for(envelope: Envelope) -> None:
    """It has the shape and the time of the old one's, and differs by replay and task."""
    place = Place("shop.tasks.normal", 0)
    one = replayed_id(plan(), envelope, place, NOW)
    assert one == replayed_id(plan(rate=3.0), envelope, place, NOW)
    assert one != replayed_id(plan(name="tuesday"), envelope, place, NOW)
    assert one != replayed_id(plan(), envelope, Place("shop.tasks.normal", 1), NOW)
    assert is_uuid7(one)
    if is_uuid7(envelope.id):
        assert time_of(one) == time_of(envelope.id)


@given(envelopes, st.booleans())
def test_a_repeated_task_starts_anew_and_says_of_what(envelope: Envelope, keeps_id: bool) -> None:
    """Nothing of the old record's way is left; what belongs to the task, and what others added, is."""
    task_id = envelope.id if keeps_id else derived_id(NOW, "x")
    again = repeated(envelope, task_id=task_id, run=3, priority="low", written=5.0, now=NOW)
    assert again.replay_of == envelope.id
    assert (again.id, again.run, again.attempt, again.priority) == (task_id, 3, 1, "low")
    assert again.lookup
    assert (again.task, again.parent, again.root, again.others) == (
        envelope.task, envelope.parent, envelope.root, envelope.others,
    )  # fmt: skip
    gone = (
        again.home,
        again.group,
        again.due,
        again.grace,
        again.since,
        again.entered,
        again.reply_to,
        again.death,
        again.trace,
    )
    assert gone == (None, None, None, None, None, None, None, None, ())
    assert read(write(again)).replay_of == envelope.id


def test_a_repeated_task_may_wait_as_long_as_before() -> None:
    """An `expires` counts from the replay on: else all of an old window would end as expired."""
    envelope = Envelope("charge", "a", published=100.0, expires=160.0)
    assert (
        repeated(envelope, task_id="b", run=0, priority=None, written=0, now=NOW).expires
        == NOW + 60
    )


def test_how_far_it_is_counts_what_lies_behind_and_no_more() -> None:
    """Positions before the plan's first offset, or beyond its end, count for nothing."""
    two = plan(stretches=(Stretch("t", 0, 5, 9), Stretch("t", 1, 0, 10)))
    assert two.total == 14
    assert advanced(two, {}) == 0
    assert advanced(two, {Place("t", 0): 7}) == 2
    assert advanced(two, {Place("t", 0): 99, Place("t", 1): 3}) == 7
    assert advanced(two, {Place("t", 0): 1}) == 0
