"""What fires and what is passed over: the two policies, takeovers, and which definition holds.

Broken on purpose once, and seen to fail: `admit` that counts from now and not from what was seen; `release`
that lets a busy queue go on; a stop that counts as a takeover; `declare` without the memory of what was
superseded; `newer` that takes an earlier owner's word.
"""

from collections import Counter
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.core.cron import Cron, Every, instants
from taskstream.core.errors import ConfigError, Undecodable
from taskstream.core.ids import is_uuid7, time_of
from taskstream.core.schedule import (
    MOST,
    SUPERSEDED,
    CatchUp,
    Firings,
    Overlap,
    Rules,
    Schedule,
    added,
    admit,
    declare,
    fired,
    next_instant,
    release,
    task_id,
    vanished,
    version_of,
)
from taskstream.schemas.records import Records
from taskstream.schemas.schedules import (
    Book,
    decode_firings,
    decode_schedule,
    encode_firings,
    encode_schedule,
    record_of,
)

NOON = 1_800_000_000.0
RULES = Rules(takeover=150.0, horizon=86400.0)
CATCH_UPS = st.sampled_from(get_args(CatchUp))


def schedule(seconds: float = 60.0, **how: Any) -> Schedule:
    given: dict[str, Any] = {
        "name": "clean", "task": "clean", "when": Every(seconds), "value": b"\xc3\x01", "queue": "tasks",
        "priority": "normal", "since": NOON, "at": NOON,
    }  # fmt: skip
    return Schedule(**{**given, **how})


def turn(one: Schedule, known: Firings, now: float) -> tuple[list[float], Firings]:
    """One look of a scheduler: what it fires, and what it notes."""
    firing, after = release(one, admit(one, known, now, RULES))
    for instant in firing:
        after = fired(after, "shop", instant, now)
    return list(firing), after


NEW = Firings(name="clean")


# --- what is due


def test_a_new_schedule_fires_from_now_on() -> None:
    """Nothing that came before it was made is a firing of it."""
    assert turn(schedule(), NEW, NOON + 59) == ([], NEW)
    firing, after = turn(schedule(), NEW, NOON + 60)
    assert firing == [NOON + 60]
    assert (after.seen, after.last, after.skipped) == (NOON + 60, NOON + 60, 0)
    assert after.last_id == task_id("shop", "clean", NOON + 60)


def test_a_second_scheduler_fires_the_same_again() -> None:
    """One that does not know of a firing yet publishes the same task: its id follows from name and instant."""
    first, _ = turn(schedule(), NEW, NOON + 61)
    again, _ = turn(schedule(), NEW, NOON + 80)
    assert first == again
    one = task_id("shop", "clean", first[0])
    assert is_uuid7(one)
    assert time_of(one) == first[0]
    others = {
        task_id("shop", "clean", NOON),
        task_id("shop", "tidy", first[0]),
        task_id("mall", "clean", first[0]),
    }
    assert one not in others
    assert len(others) == 3


@given(
    CATCH_UPS,
    st.sampled_from([1.0, 7.0, 30.0, 60.0]),
    st.lists(st.tuples(st.floats(0.1, 70.0), st.booleans()), max_size=40),
)
def test_over_takeovers_each_instant_fires(
    catch_up: CatchUp, period: float, looks: list[tuple[float, bool]]
) -> None:
    """Whatever the policy, and whoever dies between firing and noting: every instant fires, and only those.

    No more than a takeover passes between a death and the next look, so nothing is missed.
    """
    one = schedule(period, catch_up=catch_up)
    known, now, published = NEW, NOON, set()
    for pause, dies in [*looks, (0.0, False)]:
        now += pause
        firing, after = turn(one, known, now)
        published.update(firing)
        # What a scheduler that died has not noted is found due again by the next one.
        if not dies or now + 70.0 - (known.seen or NOON) > RULES.takeover:
            known = after
    due = list(takewhile(lambda instant: instant <= now, instants(one.when, NOON)))
    assert sorted(published) == due
    assert known.skipped == 0


@given(st.lists(st.floats(0.1, 9000.0), min_size=1, max_size=20))
def test_all_makes_up_for_everything(pauses: list[float]) -> None:
    """With `all`, each instant of any stop fires exactly once, so many at a time, in order."""
    one = schedule(60.0, catch_up="all")
    known, now = NEW, NOON
    published: list[float] = []
    for pause in pauses:
        now += pause
        firing, known = turn(one, known, now)
        published += firing
    assert published == list(takewhile(lambda instant: instant <= now, instants(one.when, NOON)))


def test_what_is_too_much_at_once_follows() -> None:
    """A stop of a day leaves 86,400 seconds; they fire by a thousand, the oldest first."""
    one = schedule(1.0, catch_up="all")
    firing, known = turn(one, NEW, NOON + 3000)
    assert firing == [NOON + number for number in range(1, MOST + 1)]
    firing, known = turn(one, known, NOON + 3000)
    assert firing == [NOON + MOST + number for number in range(1, MOST + 1)]
    assert known.skipped == 0


@pytest.mark.parametrize(
    ("catch_up", "late", "expected", "skipped"),
    [
        ("skip", 200.0, [], 3),
        ("skip", 20.0, [3], 2),
        ("once", 200.0, [3], 2),
        ("once", 20.0, [3], 2),
        ("all", 200.0, [1, 2, 3], 0),
    ],
)
def test_after_a_stop_the_policy_decides(
    catch_up: CatchUp, late: float, expected: list[int], skipped: int
) -> None:
    """Three were missed; the latest is due anyway where it is late by no more than a takeover."""
    one = schedule(600.0, catch_up=catch_up)
    firing, known = turn(one, NEW, NOON + 1800 + late)
    assert firing == [NOON + 600 * number for number in expected]
    assert (known.seen, known.skipped) == (NOON + 1800, skipped)
    assert bool(known.skipped_why) is bool(skipped)
    assert turn(one, known, NOON + 1800 + late) == ([], known)


def test_what_is_too_old_is_given_up() -> None:
    """Beyond the horizon nobody could tell whether it has run."""
    one = schedule(3600.0, catch_up="all")
    firing, _ = turn(one, NEW, NOON + 10 * 86400)
    assert firing == [NOON + 9 * 86400 + 3600 * number for number in range(1, 25)]


def test_a_clock_that_goes_back_fires_nothing_twice() -> None:
    """What a scheduler whose clock was ahead has fired is over for those behind."""
    _, known = turn(schedule(), NEW, NOON + 600)
    assert turn(schedule(), known, NOON + 400) == ([], known)
    assert turn(schedule(), known, NOON + 599) == ([], known)
    assert turn(schedule(), known, NOON + 660)[0] == [NOON + 660]


@pytest.mark.parametrize("how", [{"paused": True}, {"removed": True}])
def test_a_paused_one_fires_nothing(how: dict[str, bool]) -> None:
    """Nor does a removed one, and neither has a next firing."""
    one = schedule(**how)
    assert turn(one, NEW, NOON + 600) == ([], NEW)
    assert next_instant(one, NEW, NOON) is None


@pytest.mark.parametrize("catch_up", get_args(CatchUp))
def test_a_pause_is_not_made_up_for(catch_up: CatchUp) -> None:
    """A resume begins anew, also with what waited when the pause began."""
    one = schedule(catch_up=catch_up, overlap="queue")
    _, known = turn(one, NEW, NOON + 60)
    _, known = turn(one, known, NOON + 180)
    assert known.pending == (NOON + 120, NOON + 180)
    paused = replace(one, paused=True)
    assert turn(paused, known, NOON + 600)[0] == []
    resumed = replace(one, since=NOON + 900)
    ended = replace(known, ended=NOON + 200)
    assert turn(resumed, ended, NOON + 959)[0] == []
    firing, after = turn(resumed, ended, NOON + 960)
    assert firing == [NOON + 960]
    assert after.skipped == 2


def test_next_is_after_all_that_was_seen() -> None:
    """Whoever's clock is behind does not announce what has fired already."""
    known = replace(NEW, seen=NOON + 600)
    assert next_instant(schedule(), None, NOON + 30) == NOON + 60
    assert next_instant(schedule(), known, NOON + 30) == NOON + 660


# --- overlap


def test_skip_passes_over_while_the_last_one_runs() -> None:
    """And fires again at the first instant after its end."""
    one = schedule(overlap="skip")
    firing, known = turn(one, NEW, NOON + 60)
    assert firing == [NOON + 60]
    firing, known = turn(one, known, NOON + 120)
    assert (firing, known.skipped, known.pending) == ([], 1, ())
    firing, known = turn(one, replace(known, ended=NOON + 130), NOON + 180)
    assert firing == [NOON + 180]
    assert known.ended is None


def test_skip_fires_one_of_those_that_come_together() -> None:
    """They would overlap with each other."""
    firing, known = turn(schedule(overlap="skip"), NEW, NOON + 125)
    assert (firing, known.skipped, known.seen) == ([NOON + 60], 1, NOON + 120)


def test_allow_asks_nobody() -> None:
    """All that is due fires, whatever runs."""
    one = schedule(overlap="allow")
    firing, known = turn(one, NEW, NOON + 125)
    assert firing == [NOON + 60, NOON + 120]
    assert turn(one, known, NOON + 180)[0] == [NOON + 180]


@given(st.lists(st.tuples(st.floats(0.1, 300.0), st.booleans()), max_size=60), CATCH_UPS)
def test_a_queue_fires_one_after_the_other(
    looks: list[tuple[float, bool]], catch_up: CatchUp
) -> None:
    """Never two at once, in order, and none that was let in is lost, while the owner is there.

    The owner looks at least every minute, as a scheduler does; tasks end when they end.
    """
    one = schedule(60.0, overlap="queue", catch_up=catch_up)
    known, now, running = NEW, NOON, False
    published: list[float] = []
    for pause, ends in looks:
        until = now + pause
        while now < until:
            now = min(until, now + 60.0)
            if running and ends:
                known, running = replace(known, ended=now), False
            firing, known = turn(one, known, now)
            assert not (running and firing)
            assert len(firing) <= 1
            running = running or bool(firing)
            published += firing
    due = list(takewhile(lambda instant: instant <= now, instants(one.when, NOON)))
    assert published + list(known.pending) == due
    assert published == sorted(published)


def test_a_queue_has_an_end() -> None:
    """A thousand wait; what comes beyond is a matter of the catch-up policy once there is room."""
    one = schedule(1.0, overlap="queue", catch_up="skip")
    known = replace(NEW, last=NOON, fired=NOON)
    for second in range(1, MOST + 500):
        firing, known = turn(one, known, NOON + second)
        assert firing == []
    assert len(known.pending) == MOST
    firing, known = turn(one, replace(known, ended=NOON), NOON + MOST + 500)
    assert firing == [NOON + 1]
    firing, known = turn(one, replace(known, ended=NOON), NOON + MOST + 501)
    assert firing == [NOON + 2]
    assert len(known.pending) == MOST - 1
    assert known.pending[-1] == NOON + MOST + 501
    assert known.skipped == 500


# --- which definition holds


def coded(version: str, **how: Any) -> Schedule:
    return schedule(package="shop", version=version, **how)


def test_code_brings_what_is_new() -> None:
    """A schedule that nobody knows is written by whoever comes first."""
    assert declare(None, coded("a"), decides=False) == coded("a")
    assert declare(coded("a"), coded("a"), decides=False) is None
    assert declare(coded("a"), coded("a"), decides=True) is None


def test_newer_code_replaces_and_older_code_does_not() -> None:
    """In a rolling deploy a scheduler of the old code may start after the new one."""
    new = declare(coded("old"), coded("new", since=NOON + 9), decides=False)
    assert new is not None
    assert (new.version, new.superseded) == ("new", ("old",))
    assert declare(new, coded("old"), decides=False) is None
    back = declare(new, coded("old"), decides=True)
    assert back is not None
    assert (back.version, back.superseded) == ("old", ("new",))
    assert declare(back, coded("new"), decides=False) is None


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=30))
def test_only_init_goes_back(starts: list[tuple[str, bool]]) -> None:
    """Whoever starts when: a version that was left comes again by `init` alone."""
    known: Schedule | None = None
    left: set[str] = set()
    for version, decides in starts:
        written = declare(known, coded(version), decides=decides)
        if written is not None and known is not None:
            assert decides or version not in left
            left.add(known.version)
            left.discard(version)
        known = written or known
    assert known is None or set(known.superseded) == left


def test_a_memory_has_an_end() -> None:
    """Of the versions before it a definition keeps the latest."""
    known: Schedule | None = None
    for number in range(SUPERSEDED + 10):
        known = declare(known, coded(str(number)), decides=False)
        assert known is not None
    assert known is not None
    assert known.superseded == tuple(str(number) for number in range(SUPERSEDED + 8, 8, -1))


def test_another_time_table_begins_anew() -> None:
    """Other arguments do not: what was missed before the deploy is still made up for."""
    later = {"since": NOON + 5000}
    other = declare(coded("a"), coded("b", when=Every(90.0), **later), decides=False)
    same = declare(coded("a"), coded("b", value=b"other", **later), decides=False)
    assert other is not None
    assert same is not None
    assert (other.since, same.since) == (NOON + 5000, NOON)


def test_a_pause_outlives_a_deploy() -> None:
    """Whoever paused it decides when it goes on."""
    again = declare(coded("a", paused=True), coded("b"), decides=True)
    assert again is not None
    assert again.paused


def test_what_was_removed_stays_so_but_for_init() -> None:
    """A scheduler of the same code does not bring it back; other code, or `init`, does, from now on."""
    gone = coded("a", removed=True, paused=True)
    assert declare(gone, coded("a"), decides=False) is None
    for back in (
        declare(gone, coded("a", since=NOON + 9), decides=True),
        declare(gone, coded("b", since=NOON + 9), decides=False),
    ):
        assert back is not None
        assert (back.removed, back.paused, back.since) == (False, False, NOON + 9)


def test_what_was_added_in_the_place_of_a_removed_one_stays() -> None:
    """The code that once defined that name does not bring its own back, but by `init`."""
    gone = coded("b", removed=True, superseded=("a",))
    runtime = added(gone, schedule(when=Every(5.0)))
    assert runtime.origin == "runtime"
    assert added(None, schedule()) == schedule()
    for version in ("a", "b"):
        assert declare(runtime, coded(version), decides=False) is None
        assert declare(replace(runtime, removed=True), coded(version), decides=False) is None
        assert declare(runtime, coded(version), decides=True) is not None


def test_init_removes_what_its_own_code_does_not_define_any_more() -> None:
    """What another program's code defines, or somebody added, is not its matter."""
    mine, kept = coded("a", name="mine"), coded("a", name="kept")
    known = [
        mine, kept, schedule(name="theirs", package="mall"), schedule(name="added"),
        replace(mine, name="gone", removed=True),
    ]  # fmt: skip
    assert vanished(known, {"kept"}, {"shop"}) == [mine]
    assert vanished(known, {"kept"}, {"shop", ""}) == [mine]


def test_a_version_is_all_that_the_author_wrote() -> None:
    """And nothing else: when it was written, by whom, and whether it is paused are no part of it."""
    one = schedule()
    same = replace(one, paused=True, removed=True, since=1.0, at=2.0, who="me", superseded=("x",))
    assert version_of(one) == version_of(same)
    others: list[dict[str, Any]] = [
        {"name": "tidy"}, {"task": "tidy"}, {"when": Every(61.0)}, {"when": Cron("* * * * *")},
        {"value": b"\xc3\x02"}, {"queue": "gpu"}, {"priority": "low"}, {"key": "k"}, {"expires": 1.0},
        {"catch_up": "all"}, {"overlap": "skip"},
    ]  # fmt: skip
    versions = [version_of(replace(one, **how)) for how in others]
    assert len({version_of(one), *versions}) == len(others) + 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"name": ""}, "schedule name ''"),
        ({"name": "a/b"}, "schedule name 'a/b'"),
        ({"catch_up": "twice"}, "catch_up='twice' must be one of skip, once, all"),
        ({"overlap": "maybe"}, "overlap='maybe' must be one of allow, skip, queue"),
        ({"expires": 0.0}, "expires"),
    ],
)
def test_what_can_not_be_is_refused(how: dict[str, Any], told: str) -> None:
    """The error names the schedule and what is wrong with it."""
    with pytest.raises(ConfigError, match=told):
        schedule(**how)


# --- records

TIMES = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
TEXTS = st.text(max_size=8)


@given(
    st.builds(
        Schedule,
        name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
        task=TEXTS,
        when=st.builds(Cron, TEXTS, TEXTS) | st.builds(Every, st.integers(1, 10_000)),
        value=st.binary(max_size=20),
        queue=TEXTS,
        priority=TEXTS,
        key=st.none() | TEXTS,
        expires=st.none() | st.floats(0.1, 1e6),
        catch_up=CATCH_UPS,
        overlap=st.sampled_from(get_args(Overlap)),
        paused=st.booleans(),
        removed=st.booleans(),
        since=TIMES,
        at=TIMES,
        who=TEXTS,
        package=TEXTS,
        version=TEXTS,
        superseded=st.lists(TEXTS, max_size=3).map(tuple),
    )
)
def test_a_schedule_comes_back_from_its_record(one: Schedule) -> None:
    """All of it, to the millisecond."""
    ours = RECORDS
    assert decode_schedule(ours, encode_schedule(ours, one)) == one


@given(
    st.builds(
        Firings,
        name=TEXTS,
        number=st.integers(0, 2**40),
        owner=TEXTS,
        seen=TIMES,
        pending=st.lists(TIMES, max_size=5).map(tuple),
        last=st.none() | TIMES,
        last_id=TEXTS,
        fired=st.none() | TIMES,
        ended=st.none() | TIMES,
        ended_as=TEXTS,
        skipped=st.integers(0, 2**40),
        skipped_last=st.none() | TIMES,
        skipped_why=TEXTS,
    )
)
def test_firings_come_back_from_their_record(one: Firings) -> None:
    """An instant is the same number after the way through the topic: it makes the task's id."""
    assert decode_firings(RECORDS, encode_firings(RECORDS, one)) == one


RECORDS = Records()


@given(st.integers(1000, 10_000_000), st.floats(1.7e9, 1.9e9))
def test_an_instant_survives_its_record(milliseconds: int, after: float) -> None:
    """Bit for bit, so that what was seen is not due again."""
    for instant in islice(instants(Every(milliseconds / 1000), after), 3):
        kept = decode_firings(RECORDS, encode_firings(RECORDS, replace(NEW, seen=instant)))
        assert kept.seen == instant


def records(*ones: Schedule | Firings | tuple[bytes, bytes | None]) -> list[Record]:
    pairs = [one if isinstance(one, tuple) else record_of(RECORDS, one) for one in ones]
    return [
        Record("shop.schedules", 0, offset, key, value, (), NOON)
        for offset, (key, value) in enumerate(pairs)
    ]


def test_the_last_definition_counts_and_a_tombstone_ends_it() -> None:
    """As in any compacted topic."""
    book = Book()
    heard = book.hear(RECORDS, records(schedule(), schedule(paused=True)))
    assert book.schedules["clean"].paused
    assert heard.changed == {"clean"}
    heard = book.hear(RECORDS, records((b"schedule/clean", None), (b"firing/clean", None)))
    assert not book.schedules
    assert heard.changed == {"clean"}


def test_a_late_word_of_an_earlier_owner_is_known_as_such() -> None:
    """What a frozen scheduler notes when it wakes does not set its successor back."""
    book = Book()
    book.hear(RECORDS, records(replace(NEW, number=7, seen=NOON)))
    heard = book.hear(RECORDS, records(replace(NEW, number=6, owner="zombie")))
    assert book.firings["clean"].seen == NOON
    assert heard.outdated["clean"].owner == "zombie"
    assert not heard.told
    assert book.hear(RECORDS, records(replace(NEW, number=8))).told == {"clean"}
    heard = book.hear(RECORDS, records(replace(NEW, number=8, seen=NOON)))
    assert heard.told == {"clean"}
    heard = book.hear(RECORDS, records(replace(NEW, number=8, seen=NOON - 60)))
    assert set(heard.outdated) == {"clean"}, "of the same number the one that has seen more counts"


def test_what_can_not_be_read_is_passed_over() -> None:
    """Foreign bytes, and keys of a later version, stop nobody."""
    book = Book()
    strange: list[tuple[bytes, bytes | None]] = [
        (b"schedule/odd", b"bytes"), (b"firing/odd", b"\xc3\x01nonsense"), (b"later/odd", b"x"),
    ]  # fmt: skip
    assert book.hear(RECORDS, records(*strange, schedule())).changed == {"clean"}
    assert list(book.schedules) == ["clean"]
    wrong = encode_firings(RECORDS, NEW)
    with pytest.raises(Undecodable, match="a record of schedule is expected, not firings"):
        decode_schedule(RECORDS, wrong)


def test_the_ids_of_a_year_differ() -> None:
    """Every firing has a task of its own."""
    ids = Counter(task_id("shop", "clean", NOON + 60 * number) for number in range(10_000))
    assert ids.most_common(1)[0][1] == 1
