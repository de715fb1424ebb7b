"""What `taskstream top` shows, made from plain values.

Broken on purpose once, and seen to fail: rates over all that was read instead of the last seconds, a backlog's
growth from the two last looks alone, `failures` without its states, the lanes of other queues counted.
"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream import App
from taskstream.admin.overview.live import LANES, LaneCounts, Live, Look, Pulse
from taskstream.admin.overview.picture import (
    SORTS,
    TREND_OVER,
    Choice,
    Durations,
    Picture,
    growth,
    made,
    take,
)
from taskstream.admin.overview.rings import bucket_of
from taskstream.admin.queues import Lane
from taskstream.admin.workers import RunningTask, Worker
from taskstream.core.clock import ManualClock
from taskstream.core.errors import ConfigError
from taskstream.core.states import State
from taskstream.results.row import Row

NOW = 1_764_000_000.0


def row(state: State, at: float, *, queue: str = "tasks", priority: str = "high") -> Row:
    """An attempt that ended so many seconds before now; it waited for 2 s and ran for half a second."""
    end = NOW - at
    return Row(
        task_id=f"id-{at}", run=0, attempt=1, state=state, task="charge", written_us=int(end * 1e6),
        queue=queue, priority=priority, published=end - 2.5, started=end - 0.5, finished=end,
        error_type=None if state is State.SUCCEEDED else "ValueError", error="no",
    )  # fmt: skip


def lane(queue: str, priority: str, lag: int = 0, oldest: float | None = None) -> Lane:
    """A priority of a queue with so many records waiting."""
    return Lane(queue, priority, f"shop.{queue}.{priority}", 4, lag, oldest, paused=False, dead=0)


def worker(*, halted: tuple[str, ...] = (), running: tuple[RunningTask, ...] = ()) -> Worker:
    """One that is alive and serves the queue `tasks`."""
    return Worker("w1", "host", 1, "0.1", ("tasks",), NOW - 60, NOW, 2, running, halted=halted)


def picture(
    rows: list[Row], choice: Choice | None = None, look: Look | None = None, **parts: object
) -> Picture:
    """What is seen after these attempts."""
    choice, pulse = choice or Choice(), Pulse(ManualClock(NOW))
    for one in rows:
        pulse.hear(one)
    given: dict[str, object] = {
        "look": look or Look(NOW, (lane("tasks", "high"), lane("tasks", "low"), lane("mail", "normal")), (worker(),)),
        "lanes": pulse.lanes(choice.seconds), "states": pulse.states(), "lag": [], "dead": {}, "alarms": [],
        "tasks": [], "failures": [*pulse.failures(State.RETRYING), *pulse.failures(State.DEAD)],
        "complete": True, "now": NOW,
    }  # fmt: skip
    return made("shop", choice, **{**given, **parts})  # type: ignore[arg-type]


def test_rates_are_about_the_last_seconds() -> None:
    """What ended before them counts no more, and each lane has its own."""
    rows = [row(State.SUCCEEDED, at) for at in range(0, 100, 5)]
    rows += [row(State.RETRYING, 1), row(State.DEAD, 2), row(State.SUCCEEDED, 3, queue="mail", priority="normal")]  # fmt: skip
    told = picture(rows, Choice(seconds=10))
    by_name = {f"{line.queue}.{line.priority}": line.flow for line in told.lanes}
    assert list(by_name) == ["tasks.high", "tasks.low", "mail.normal"]
    assert by_name["tasks.high"].finished == 0.4  # those of 0 s and 5 s, and the two that failed
    assert (by_name["tasks.high"].retried, by_name["tasks.high"].died) == (0.1, 0.1)
    assert by_name["tasks.high"].failing == 0.5
    assert by_name["tasks.low"].failing is None
    assert (told.total.finished, told.total.failing) == (0.5, 0.4)
    assert told.total.waited.p50 == pytest.approx(2.0, rel=0.2)
    assert told.total.ran.p99 == pytest.approx(0.5, rel=0.2)


def test_a_chosen_queue_is_alone() -> None:
    """Its lanes, its workers and its failures; what all queues have together is left out."""
    rows = [row(State.DEAD, 1), row(State.DEAD, 2, queue="mail", priority="normal")]
    told = picture(rows, Choice(queue="mail"))
    assert [line.queue for line in told.lanes] == ["mail"]
    assert told.total.died == pytest.approx(1 / 60)
    assert [failure.queue for failure in told.failures] == ["mail"]
    assert told.workers == ()
    assert told.history == ()


def test_what_died_stands_before_what_is_tried_again() -> None:
    """A storm of retries hides no death; each kind newest first."""
    rows = [row(State.RETRYING, 1), row(State.DEAD, 9), row(State.RETRYING, 3), row(State.DEAD, 5)]
    told = picture(rows)
    assert [(one.state, NOW - one.at) for one in told.failures] == [
        ("dead", 5.0), ("dead", 9.0), ("retrying", 1.0), ("retrying", 3.0),
    ]  # fmt: skip


def test_a_backlog_tells_where_it_goes() -> None:
    """How fast it grows over half a minute, and when it is empty if it shrinks like that."""
    look = Look(NOW, (lane("tasks", "high", 400, 12.0), lane("tasks", "low", 70)), (worker(),))
    lag = [
        (NOW - 90, {"shop.tasks.high": 9_000}),
        (NOW - 20, {"shop.tasks.high": 800, "shop.tasks.low": 10}),
        (NOW - 3, {"shop.tasks.high": 900, "shop.tasks.low": 50}),
        (NOW, {"shop.tasks.high": 400, "shop.tasks.low": 70}),
    ]
    high, low = picture([], look=look, lag=lag).lanes
    assert (high.lag, high.oldest_s, high.grows, high.empty_in) == (400, 12.0, -20.0, 20.0)
    assert (low.grows, low.empty_in) == (3.0, None)


def test_growth_of_looks_that_are_far_apart() -> None:
    """Who looks less often than the trend is long compares two looks; one look tells nothing."""
    assert growth([]) is None
    assert growth([(NOW, 5)]) is None
    assert growth([(NOW - 2 * TREND_OVER, 40), (NOW, 100)]) == 1.0
    assert growth([(NOW, 5), (NOW, 6)]) is None


def test_a_lane_says_why_it_stands() -> None:
    """Halted by a worker whose tasks died, or not known at all before the first look."""
    look = Look(NOW, (lane("tasks", "high"),), (worker(halted=("tasks.high",)),))
    (line,) = picture([], look=look).lanes
    assert line.halted
    (unknown,) = picture([row(State.SUCCEEDED, 1)], look=Look()).lanes
    assert (unknown.lag, unknown.halted) == (None, False)


def test_the_history_has_whole_bins_that_end_now() -> None:
    """Two seconds each, and as many as were read."""
    told = picture(
        [row(State.SUCCEEDED, at) for at in (1, 1, 2, 3)], states=_seconds([1, 2, 3, 4, 5])
    )
    assert told.history == (2.5, 4.5)


def _seconds(counts: list[int]) -> list[tuple[float, Counter[State]]]:
    return [
        (NOW + number, Counter({State.SUCCEEDED: count})) for number, count in enumerate(counts)
    ]


@pytest.mark.parametrize("sort", [name for name in SORTS if name != "queue"])
def test_the_worst_comes_first(sort: str) -> None:
    """Whatever is asked for, the lane with more of it is above the one with less; the other way round below."""
    rows = [row(State.DEAD, at / 10, priority="low") for at in range(9)]
    look = Look(NOW, (lane("tasks", "high"), lane("tasks", "low", 7, 3.0)), ())
    told = picture(rows, Choice(sort=sort), look, dead={"shop.tasks.low": 4})
    assert [line.priority for line in told.lanes] == ["low", "high"]
    turned = picture(rows, Choice(sort=sort, reverse=True), look, dead={"shop.tasks.low": 4})
    assert [line.priority for line in turned.lanes] == ["high", "low"]


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        (Choice(queue="nails"), "mail, tasks"),
        (Choice(sort="size"), "oldest"),
        (Choice(seconds=1), "5 to 300"),
        (Choice(seconds=float("nan")), "5 to 300"),
    ],
)  # fmt: skip
def test_a_choice_that_cant_be_meant_is_refused(choice: Choice, named: str) -> None:
    """The error says what may be meant instead."""
    with pytest.raises(ConfigError, match=named):
        choice.checked(["tasks", "mail"])


def test_a_picture_as_json_has_plain_lines() -> None:
    """What scripts read: each lane's figures beside its name, and what waits in all."""
    look = Look(NOW, (lane("tasks", "high", 3, 2.0),), (worker(),))
    shown = picture([row(State.DEAD, 1)], look=look).as_json()
    (line,) = shown["lanes"]
    assert (line["queue"], line["lag"], line["empty_in"], line["failing"]) == ("tasks", 3, None, 1.0)  # fmt: skip
    assert set(line["waited"]) == {"p50", "p95", "p99"}
    assert (shown["app"], shown["lag"], shown["complete"]) == ("shop", 3, True)
    assert shown["failures"][0]["error"] == "ValueError"


def test_a_running_task_tells_its_lane() -> None:
    """From the topic that its record came from, also where queue names have a hyphen."""
    task = RunningTask("id", 0, 1, "shop.big-ones.high/3/99", NOW - 5)
    assert picture([]).lane_of(task) == "big-ones.high"


def test_lanes_that_nobody_has_are_bounded() -> None:
    """Records of anybody may name any queue: so many are counted apart, and the others only together."""
    pulse = Pulse(ManualClock(NOW))
    for number in range(LANES + 20):
        pulse.hear(row(State.SUCCEEDED, 1, queue=f"q{number}"))
    assert len(pulse.lanes(60)) == LANES
    assert pulse.lately(60)[0].total() == LANES + 20
    pulse.forget_counts()
    assert pulse.lanes(60) == {}


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=50))
def test_percentiles_are_in_order_and_right_to_a_fifth(seconds: list[float]) -> None:
    """Half, 95 and 99 of 100: none is below what it stands for, or above it by more than a bucket."""
    found = Durations.of(Counter(map(bucket_of, seconds)))
    assert found.p50 is not None
    assert found.p95 is not None
    assert found.p99 is not None
    assert found.p50 <= found.p95 <= found.p99
    assert found.p99 >= max(seconds) * 0.9999 or len(seconds) > 100
    assert found.p99 <= max(0.001, max(seconds) * 1.2)


def test_counts_of_nothing_are_unknown() -> None:
    """No attempt, no duration: a dash, and not a nought."""
    assert Durations.of(Counter()) == Durations(None, None, None)
    assert LaneCounts(Counter(), Counter(), Counter()).states.total() == 0


def test_an_app_without_events_says_so() -> None:
    """Noughts would look like an app that does nothing."""
    for events in (True, False):
        app = App("shop", bootstrap_servers="nowhere:1", events=events)
        choice, clock = Choice(), ManualClock(NOW)
        told = take("shop", Live(app, clock=clock), choice, clock).alarms
        assert any("events=False" in alarm for alarm in told) is not events
