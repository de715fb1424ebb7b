"""Which tasks a person means."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.selection import Facts, Selection, Sieve
from taskstream.core.errors import BrokerError, ConfigError, Undecodable
from taskstream.core.moments import instant, moment

FACTS = Facts("o-17", "charge", 1000.0, "CardDeclined", "Card 4711 was DECLINED\nby the bank")

words = st.sampled_from(["charge", "refund", "CardDeclined", "Timeout", "o-17"])
facts = st.builds(
    Facts,
    id=words,
    task=words,
    at=st.floats(0, 100, allow_nan=False),
    reason=words,
    message=words,
)
selections = st.builds(
    Selection,
    task=st.none() | words,
    reason=st.none() | words,
    since=st.none() | st.floats(0, 100, allow_nan=False),
    until=st.none() | st.floats(0, 100, allow_nan=False),
    text=st.none() | words,
    ids=st.frozensets(words, max_size=2),
)


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), True),
        (Selection(task="charge"), True),
        (Selection(task="ch*"), True),
        (Selection(task="Charge"), False),
        (Selection(reason="*Declined"), True),
        (Selection(reason="Timeout"), False),
        (Selection(text="declined"), True),
        (Selection(text="by the BANK"), True),
        (Selection(text="expired"), False),
        (Selection(since=1000.0), True),
        (Selection(since=1000.1), False),
        (Selection(until=1000.0), False),
        (Selection(until=1000.1), True),
        (Selection(ids=frozenset({"o-17", "o-18"})), True),
        (Selection(ids=frozenset({"o-18"})), False),
        (Selection(task="charge", reason="Timeout"), False),
    ],
)
def test_all_that_is_given_must_hold(selection: Selection, meant: bool) -> None:
    """Names are patterns, texts are found in any letters, since counts and until does not."""
    assert selection.matches(FACTS) is meant


@given(selections, facts)
def test_each_filter_only_takes_away(selection: Selection, one: Facts) -> None:
    """What all filters let pass, each of them alone lets pass, and the other way round."""
    given_alone = [
        Selection(task=selection.task),
        Selection(reason=selection.reason),
        Selection(since=selection.since),
        Selection(until=selection.until),
        Selection(text=selection.text),
        Selection(ids=selection.ids),
    ]
    assert selection.matches(one) is all(alone.matches(one) for alone in given_alone)


def test_it_is_told_in_the_audit_log_as_it_was_given() -> None:
    """Only what was given, as text, times as people read them."""
    selection = Selection(task="ch*", since=0.0, ids=frozenset({"b", "a"}), where="cents > 1")
    assert selection.described() == {
        "task": "ch*", "since": "1970-01-01T00:00:00.000+00:00", "ids": "a b", "where": "cents > 1",
    }  # fmt: skip
    assert Selection().described() == {}


def decode(value: bytes | None) -> Mapping[str, Any]:
    """Arguments as these tests write them; anything else can't be read."""
    if not value or not value.isdigit():
        raise Undecodable("the bytes are no charge")
    return {"cents": int(value)}


def test_a_condition_is_asked_of_those_only_that_the_rest_lets_pass() -> None:
    """Nothing is decoded that another filter has taken away, and nothing without a condition."""
    asked: list[bytes | None] = []

    def noted(value: bytes | None) -> Mapping[str, Any]:
        asked.append(value)
        return decode(value)

    sieve = Sieve(Selection(task="charge", where="cents > 100"), noted)
    other = Facts("o-18", "refund", 0.0)
    assert [sieve.passes(FACTS, b"101"), sieve.passes(FACTS, b"100"), sieve.passes(other, b"999")] == [
        True, False, False,
    ]  # fmt: skip
    assert asked == [b"101", b"100"]
    assert Sieve(Selection(), noted).passes(other, b"unread")
    assert len(asked) == 2


def test_what_can_not_be_told_is_left_out_and_counted() -> None:
    """Bytes that can't be read and arguments that are missing: neither is dropped in silence.

    Broken on purpose once, and seen to fail: a sieve that counts nothing.
    """
    sieve = Sieve(Selection(where="cents > 100"), decode)
    assert not sieve.passes(FACTS, b"no number")
    assert not sieve.passes(FACTS, None)
    assert sieve.passes(FACTS, b"101")
    assert sieve.untold == 2
    assert sieve.why == "task charge (o-17): the bytes are no charge"
    misspelt = Sieve(Selection(where="pence > 100"), decode)
    assert not misspelt.passes(FACTS, b"101")
    assert (misspelt.untold, "pence" in misspelt.why) == (1, True)


def test_a_schema_store_that_is_away_is_nobodys_fault() -> None:
    """It ends the search instead of leaving out whatever came by."""

    def away(value: bytes | None) -> Mapping[str, Any]:
        raise BrokerError("Kafka is away")

    with pytest.raises(BrokerError, match="away"):
        Sieve(Selection(where="cents > 100"), away).passes(FACTS, b"101")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 999_910.0),
        ("15m", 999_100.0),
        ("2h", 992_800.0),
        ("1.5d", 870_400.0),
        ("1970-01-01T00:01", 60.0),
        ("1970-01-01T01:01+01:00", 60.0),
        ("1970-01-02", 86_400.0),
    ],
)
def test_a_time_is_iso_or_so_long_ago(text: str, seconds: float) -> None:
    """Without a zone it is UTC."""
    assert instant(text, 1_000_000.0) == seconds


@pytest.mark.parametrize("text", ["yesterday", "", "15", "m", "-3h", "2026-13-01"])
def test_any_other_time_is_refused_with_what_to_write(text: str) -> None:
    """And never guessed."""
    with pytest.raises(ConfigError, match="write 2026-01-31T12:00"):
        instant(text, 0.0)


@given(st.integers(0, 4_000_000_000_000))
def test_a_moment_is_read_as_it_was_told(milliseconds: int) -> None:
    """To the millisecond."""
    assert abs(instant(moment(milliseconds / 1000), 0.0) - milliseconds / 1000) < 1e-4
