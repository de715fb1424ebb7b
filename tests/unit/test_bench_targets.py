"""The targets of the bench, judged on the medians of a run."""

from benchmarks.targets import TARGETS, Judged, judge, point

MEDIANS = {
    "taskstream": {"drain_per_s": 16_000.0, "publish_per_s": 60_000.0, "body_p50_ms": 2.0},
    "bare": {"drain_per_s": 20_000.0, "raw_produce_per_s": 200_000.0, "consumed_p50_ms": 1.0},
    "huey": {"drain_per_s": 4_000.0, "publish_per_s": 6_000.0},
    "faststream": {"drain_per_s": 9_000.0, "publish_per_s": 5_000.0},
    "taskiq-redis": {"drain_per_s": 1_000.0},
    "taskiq-kafka": {"drain_per_s": 2_500.0, "publish_per_s": 8_000.0},
    point("backlog", 10_000): {"drain_per_s": 16_000.0, "parent_mib": 50.0},
    point("backlog", 1_000_000): {"drain_per_s": 15_200.0, "parent_mib": 60.0},
}


def judged(what: str) -> Judged:
    """What the run above says of one target."""
    return next(one for one in judge(MEDIANS) if one.what == what)


def test_at_least_and_at_most_are_told_apart() -> None:
    """A target is reached at its bound."""
    assert judged("drain, to the bare loop's").reached is True
    assert judged("drain, to the bare loop's").measured == 0.8
    assert judged("publish to task body, p50, to the floor").reached is False
    assert judged("publish to task body, p50").reached is True


def test_peers_are_compared_at_their_best() -> None:
    """The fastest that keeps results, and the best variant of each project."""
    assert judged("drain, to the fastest peer's that keeps results").measured == 4.0
    assert judged("drain, to Taskiq's best").measured == 6.4
    assert judged("publish_many, to the fastest peer's publish").measured == 7.5


def test_growth_is_compared_between_its_points() -> None:
    """Rate and memory of a million against ten thousand."""
    assert judged("drain with 1,000,000 waiting, to that with 10,000").reached is True
    assert (
        judged("the parent's memory with 1,000,000 waiting, to that with 10,000").reached is False
    )


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    """A peer that is missing decides nothing."""
    assert judged("drain, to Celery's best") == Judged(
        "drain, to Celery's best", "≥ 10 times", None, "times", None
    )
    assert all(one.reached is None for one in judge({}))


def test_targets_have_names_of_their_own() -> None:
    """The page lists each once."""
    assert len({target.what for target in TARGETS}) == len(TARGETS)
