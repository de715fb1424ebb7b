"""How many tasks wait in a delay tier, from what its scheduler has committed."""

from taskstream.admin.delays import waiting
from taskstream.broker.offsets import Progress
from taskstream.core.envelope import Place

A, B = Place("shop.delay.5s", 0), Place("shop.delay.5s", 1)


def test_what_is_read_and_what_is_not_counts() -> None:
    """Those that wait in the scheduler's memory, and those that it has not come to."""
    progress = {A: Progress(10, 20, (10, 15)), B: Progress.at(0)}
    assert waiting(progress, {A: (0, 25), B: (0, 3)}) == 2 + 5 + 3


def test_what_kafka_has_deleted_does_not_count() -> None:
    """And where no scheduler has ever committed, all that is there does."""
    assert waiting({A: Progress(10, 20, (10, 15))}, {A: (12, 25)}) == 1 + 5
    assert waiting({A: Progress(10, 20, (10, 15))}, {A: (22, 25)}) == 3
    assert waiting({A: None}, {A: (5, 9), B: (7, 7)}) == 4
