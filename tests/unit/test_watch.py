"""What counts as stuck, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.consumer.watch import LOOK_EVERY, Pace, Progress, Watchdog
from taskstream.core.clock import ManualClock


def test_a_counter_that_stands_still_is_stuck_after_its_patience() -> None:
    """Each has a patience of its own; one step makes it well again."""
    progress = Progress()
    paces = {"the loop": Pace(7, 3.0), "an intake": Pace(0, 5.0)}
    found = [progress.look(paces, float(now)) for now in range(7)]
    assert found[3] == {}
    assert found[4] == {"the loop": 4.0}
    assert found[6] == {"the loop": 6.0, "an intake": 6.0}
    assert progress.look({**paces, "the loop": Pace(8, 3.0)}, 7.0) == {"an intake": 7.0}


@given(gaps=st.lists(st.floats(0.1, 10_000.0), max_size=30), patience=st.floats(1.0, 100.0))
def test_what_moves_is_never_stuck(gaps: list[float], patience: float) -> None:
    """However late the looks come: a step between each two of them is progress."""
    progress, now = Progress(), 0.0
    for count, gap in enumerate(gaps):
        assert progress.look({"the loop": Pace(count, patience)}, now) == {}
        now += gap


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """A frozen host wakes up: nothing had the chance to move, and nothing is called stuck."""
    progress = Progress()
    assert progress.look({"the loop": Pace(1, 3.0)}, 0.0) == {}
    assert progress.look({"the loop": Pace(1, 3.0)}, 3600.0) == {}
    after = [progress.look({"the loop": Pace(1, 3.0)}, 3600.0 + n * LOOK_EVERY) for n in (1, 2, 3)]
    assert after == [{}, {}, {"the loop": 4.0}]


def test_what_is_gone_is_forgotten() -> None:
    """A child that ended while it was stuck is not a problem any more, nor is its successor."""
    progress = Progress()
    for now in range(3):
        progress.look({"child 1": Pace(1, 1.0)}, float(now))
    assert progress.look({"child 2": Pace(1, 1.0)}, 3.0) == {}
    assert progress.look({"child 1": Pace(1, 1.0)}, 4.0) == {}


def test_stacks_are_dumped_once_and_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """One error and one dump when it gets stuck, a sentence for /live meanwhile, a word at the end."""
    caplog.set_level("INFO")
    clock, count = ManualClock(), 1
    dumped: list[list[str]] = []
    watchdog = Watchdog(
        lambda: {"the loop": Pace(count, 2.0)},
        dump=lambda stuck: dumped.append(list(stuck)),
        clock=clock,
    )
    for _ in range(6):
        watchdog.look()
        clock.advance(LOOK_EVERY)
    assert dumped == [["the loop"]]
    assert watchdog.problems == ["the loop has made no step for 5 s"]
    count = 2
    watchdog.look()
    assert watchdog.problems == []
    assert [(record.levelname) for record in caplog.records] == ["ERROR", "INFO"]
