"""Envelopes and headers are exact inverses, and foreign headers pass untouched.

Broken on purpose once, and seen to fail: `read_at` took a header that belongs to one task alone (`ts-due`)
for one that many have in common, and kept headers however many there were.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.policies import policies

from taskstream.core.envelope import (
    TRACE_HEADERS,
    Death,
    Envelope,
    Header,
    Place,
    Stamp,
    _read_common,
    address_to,
    bury,
    identity_of,
    name_task,
    peek,
    read,
    read_at,
    standing,
    write,
)
from taskstream.core.errors import Undecodable
from taskstream.core.ids import is_uuid7

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
times = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1e6)
places = st.builds(Place, words, st.integers(0, 10_000))
foreign = st.tuples(
    words.filter(lambda name: not name.startswith("ts-") and name not in TRACE_HEADERS),
    st.binary(max_size=20) | st.none(),
)

envelopes = st.builds(
    Envelope,
    task=words,
    id=words,
    run=st.integers(0, 99),
    attempt=st.integers(1, 99),
    uncounted=st.integers(0, 99),
    priority=st.none() | words,
    home=st.none() | places,
    group=st.none() | words,
    due=st.none() | times,
    expires=st.none() | times,
    published=st.none() | times,
    grace=st.none() | times,
    since=st.none() | times,
    lookup=st.booleans(),
    reply_to=st.none() | places,
    parent=st.none() | words,
    root=st.none() | words,
    replay_of=st.none() | words,
    entered=st.none() | times,
    deferred=st.booleans(),
    retry=st.none() | policies,
    death=st.none() | st.builds(Death, words, words, words, times),
    trace=st.just(()) | st.just((("traceparent", b"00-1-2-01"), ("baggage", b"k=v"))),
    others=st.lists(foreign, max_size=3).map(tuple),
)


@given(envelopes)
def test_what_is_written_is_read(envelope: Envelope) -> None:
    """Every envelope comes back from its headers as it was, to the microsecond."""
    back = read(write(envelope))
    for name in ("due", "expires", "published", "grace", "since", "entered"):
        before, after = getattr(envelope, name), getattr(back, name)
        assert (before is None and after is None) or abs(before - after) < 1e-6
    assert write(back) == write(envelope)


@given(envelopes, times, st.integers(0, 5))
def test_a_usual_record_is_read_as_any_other(
    envelope: Envelope, appended: float, turned: int
) -> None:
    """What is read once for many tasks, in whatever order it stands, says what `read` says of each."""
    first = Envelope(
        envelope.task,
        envelope.id,
        priority=envelope.priority,
        published=envelope.published,
        reply_to=envelope.reply_to,
        trace=envelope.trace,
    )
    nearly = [first._replace(**{name: getattr(envelope, name)}) for name in Envelope._fields]
    # The usual one once more, when it is known.
    for written in map(write, (envelope, first, first, *nearly)):
        headers = [*written[turned:], *written[:turned]]
        whole = read(headers)
        assert read_at(headers, appended) == whole._replace(since=whole.time_from(appended))


@pytest.mark.parametrize(
    ("name", "value"), [("ts-id", b"\xff"), ("ts-published", b"soon"), ("ts-reply-to", b"nowhere")]
)
def test_a_usual_record_that_can_t_be_read_names_its_header(name: str, value: bytes) -> None:
    """The way that is short for most is none past the error."""
    headers = [header for header in write(Envelope("charge", "o-17")) if header[0] != name]
    with pytest.raises(Undecodable, match=f"header {name}"):
        read_at([*headers, (name, value)], 0.0)


def test_what_is_kept_of_headers_is_bounded() -> None:
    """Of a record with very long or very many headers nothing is kept, and it is read as well."""
    task = ("ts-task", b"charge")
    for more in ([("ts-priority", b"p" * 100_000)], [("ts-priority", b"high")] * 100_000):
        _read_common.cache_clear()
        assert read_at([task, *more], 7.0) == read([task, *more])._replace(since=7.0)
        assert _read_common.cache_info().currsize == 0


@given(envelopes, words, times)
def test_a_stamp_makes_what_is_written_one_by_one(
    envelope: Envelope, task_id: str, published: float
) -> None:
    """Envelopes that differ in id and time alone, and their headers in the very same order."""
    one = envelope._replace(id=task_id, published=published)
    stamp = Stamp(envelope)
    assert stamp.envelope(task_id, published) == one
    assert stamp.headers(task_id, published) == write(one)


@given(envelopes)
def test_a_peek_agrees_with_the_whole(envelope: Envelope) -> None:
    """The few facts that the parent reads are those of the envelope."""
    facts = peek(write(envelope))
    assert (facts.task, facts.group) == (envelope.task, envelope.group)
    assert facts.lookup == (envelope.lookup or not is_uuid7(envelope.id)), (
        "a caller's id counts once"
    )
    assert abs(facts.due - (envelope.due or 0)) < 1e-6


@given(envelopes, times)
def test_what_orders_ask_of_a_record_agrees_with_the_whole(
    envelope: Envelope, appended: float
) -> None:
    """Its name, when it entered, and why it waits.

    It entered with this very record where that begins a run: what a redrive has from the dead letter that it
    was made of is another run's.
    """
    facts = standing(write(envelope), appended)
    assert (facts.task, facts.deferred) == (envelope.task, envelope.deferred)
    is_later = envelope.due is not None or envelope.attempt > 1
    entered = appended if envelope.entered is None or not is_later else envelope.entered
    assert abs(facts.entered - entered) < 1e-6


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ([], "ts-task"),
        ([("ts-task", b"a"), ("ts-run", b"many")], "ts-run"),
        ([("ts-task", b"a"), ("ts-attempt", b"-1")], "ts-attempt"),
        ([("ts-task", b"a"), ("ts-home", b"nowhere")], "ts-home"),
        ([("ts-task", b"\xff")], "ts-task"),
        ([("ts-task", b"a"), ("ts-due", None)], "ts-due"),
        ([("ts-task", b"a"), ("ts-attempt", b"2147483648")], "ts-attempt"),
        ([("ts-task", b"a"), ("ts-reply-to", b"x/1099511627776")], "ts-reply-to"),
        ([("ts-task", b"a"), ("ts-published", b"inf")], "ts-published"),
        ([("ts-task", b"a"), ("ts-due", b"nan")], "ts-due"),
    ],
)
def test_a_bad_header_is_named(headers: list[Header], named: str) -> None:
    """What can't be read is refused by the header's name, and a peek at it never fails."""
    with pytest.raises(Undecodable, match=named):
        read(headers)
    peek(headers)


def test_a_dead_letter_keeps_every_byte() -> None:
    """Burying adds the reason, replaces trace and earlier reason, and keeps the rest in order."""
    before: list[Header] = [
        ("ts-task", b"a"),
        ("ts-run", b"many"),
        ("x", b"1"),
        ("x", None),
        ("traceparent", b"old"),
        ("ts-dead-reason", b"Earlier"),
    ]
    after = bury(before, Death("Undecodable", "bad", "t/0/7", 1.0), [("traceparent", b"new")])
    assert after[:4] == before[:4]
    assert dict(after)["ts-dead-reason"] == b"Undecodable"
    assert [value for name, value in after if name == "traceparent"] == [b"new"]


def test_a_foreign_record_is_named_once() -> None:
    """Name and id are added where they are missing, and only there."""
    assert name_task([], "a", "1") == [("ts-task", b"a"), ("ts-id", b"1")]
    assert name_task([("ts-task", b"b")], "a", "1") == [("ts-task", b"b"), ("ts-id", b"1")]
    assert name_task([("x", b"y")], "", "1") == [("x", b"y"), ("ts-id", b"1")]


def test_a_snooze_is_an_attempt_that_does_not_count() -> None:
    """The identity moves on with each attempt; the counted attempt only with those that count."""
    first = Envelope("a", id="1")
    snoozed = first.next_attempt(due=1.0, counts=False)
    failed = snoozed.next_attempt(due=2.0)
    assert (snoozed.attempt, snoozed.counted_attempt) == (2, 1)
    assert (failed.attempt, failed.counted_attempt) == (3, 2)
    assert failed.lookup


def test_a_copy_has_the_identity_of_its_original() -> None:
    """Whatever else a second copy carries, and whether or not it can be read, it is counted with the first."""
    letter = write(Envelope("add", id="a", run=1, attempt=2))
    again = bury(letter, Death("Fatal", "why", "t/0/7", 1.0), [("traceparent", b"00-1")])
    assert identity_of(again) == identity_of(letter) == (b"a", b"1", b"2")
    assert identity_of([("ts-id", b"a"), ("ts-run", b"many")]) == (b"a", b"many", b"1")
    assert identity_of([]) == (b"", b"0", b"1")


@given(envelopes, places, times)
def test_a_new_run_begins_anew_and_stays_the_same_task(
    envelope: Envelope, home: Place, now: float
) -> None:
    """Attempts, due time, death and trace are over, and so is an expiry that has passed; the rest stays.

    Broken on purpose once, and seen to fail: an expiry that is kept whatever the time.
    """
    after = envelope.next_run(home=home, now=now)
    assert (after.run, after.attempt, after.uncounted) == (envelope.run + 1, 1, 0)
    assert (after.due, after.grace, after.since) == (None, None, None)
    assert (after.death, after.trace) == (None, ())
    assert (after.lookup, after.home) == (True, home)
    assert (after.entered, after.deferred) == (None, False)
    assert after.expires == (
        envelope.expires if envelope.expires is not None and envelope.expires > now else None
    )
    changed = {
        "run", "attempt", "uncounted", "due", "grace", "death", "trace", "lookup", "home", "expires",
        "since", "entered", "deferred",
    }  # fmt: skip
    for name in Envelope._fields:
        if name not in changed:
            assert getattr(after, name) == getattr(envelope, name)


def test_a_letter_names_the_group_that_gave_it_up() -> None:
    """Unless its headers name one already."""
    assert address_to([("ts-task", b"a")], "shop.tasks.high")[-1] == (
        "ts-group",
        b"shop.tasks.high",
    )
    named = [("ts-group", b"mine"), ("ts-task", b"a")]
    assert address_to(named, "shop.tasks.high") == named
