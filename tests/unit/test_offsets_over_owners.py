"""The tracker and its codec over any number of owners, against a model that remembers everything.

A log grows, with holes where transactions end; compaction and retention take records away; an owner
is given records, finishes them in any order, is rewound, commits and dies; the next one goes on from
the last commit.

Broken on purpose once, and seen to fail: vanished records waited for, a rewound record given again, what
is owed forgotten at a resume, offsets taken for consecutive integers.
"""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskstream.broker import offset_codec
from taskstream.broker.offsets import Progress, Tracker

WINDOW = 1000


class Owners(RuleBasedStateMachine):
    """One partition and its owners, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.end = 0
        self.read_at = 0
        self.tracker = Tracker.resume(Progress.at(0))
        self.in_hand: set[int] = set()
        # What the present owner knows to be finished, and what the last commit told of it.
        self.finished: set[int] = set()
        self.committed: tuple[int, str] = (0, offset_codec.encode(Progress.at(0)))
        self.told: set[int] = set()
        self.highest_watermark = 0

    @rule(holes=st.integers(0, 300))
    def append(self, holes: int) -> None:
        """A record is published, behind offsets that no record has."""
        self.log.append(self.end + holes)
        self.end += holes + 1

    @precondition(lambda self: self._next() is not None)
    @rule()
    def deliver(self) -> None:
        """Kafka delivers the next record: it is given unless it is finished or in hand."""
        offset = self._next()
        assert offset is not None
        expected = offset not in self.finished and offset not in self.in_hand
        assert self.tracker.deliver(offset) == expected
        if expected:
            self.in_hand.add(offset)
        self.read_at = offset + 1

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """One of the records in hand is finished, once or twice."""
        offset = data.draw(st.sampled_from(sorted(self.in_hand)))
        for _ in range(data.draw(st.integers(1, 2))):
            self.tracker.finish(offset)
        self.in_hand.remove(offset)
        self.finished.add(offset)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """Compaction takes a record away, or retention everything before one."""
        at = data.draw(st.integers(0, len(self.log) - 1))
        if data.draw(st.booleans()):
            del self.log[at]
        else:
            del self.log[:at]

    @rule()
    def rewind(self) -> None:
        """The consumer reads again from the watermark: nothing is given twice."""
        self.read_at = self.tracker.watermark

    @rule(reserve=st.integers(0, 4000))
    def commit(self, reserve: int) -> None:
        """What a commit tells of each record is the truth, and it fits."""
        progress = self.tracker.progress(self.tracker.position + reserve)
        text = offset_codec.encode(progress)
        assert len(text) <= offset_codec.LIMIT_BYTES
        assert offset_codec.decode(progress.watermark, text) == progress
        for offset in self.log:
            if offset < progress.position:
                assert (offset in progress.unfinished) == (offset not in self.finished)
        self.committed, self.told = (progress.watermark, text), set(self.finished)

    @rule()
    def die(self) -> None:
        """The owner dies, and the next one knows what the last commit told."""
        progress = offset_codec.decode(*self.committed)
        assert progress is not None
        self.tracker = Tracker.resume(progress)
        self.finished, self.in_hand = set(self.told), set()
        self.read_at = self.highest_watermark = progress.watermark

    @invariant()
    def the_watermark_is_sound(self) -> None:
        """It claims nothing that is not finished, and never goes back."""
        watermark = self.tracker.watermark
        assert all(offset in self.finished for offset in self.log if offset < watermark)
        assert watermark >= self.highest_watermark
        self.highest_watermark = watermark

    @invariant()
    def what_is_in_hand_is_counted(self) -> None:
        """Without what is owed still, which must not count against reading on."""
        assert self.tracker.in_hand == len(self.in_hand)
        assert self.tracker.pending >= self.tracker.in_hand

    def teardown(self) -> None:
        """Once everything is delivered and finished, with one record behind what has vanished, it is over."""
        self.append(0)
        while self._next() is not None:
            self.deliver()
        for offset in sorted(self.in_hand):
            self.tracker.finish(offset)
        assert self.tracker.watermark == self.tracker.position == self.end

    def _next(self) -> int | None:
        return next((offset for offset in self.log if offset >= self.read_at), None)


TestOwners = Owners.TestCase


@given(
    seed=st.integers(0, 2**32),
    span=st.sampled_from([WINDOW, 10**4, 10**5, 10**6, 10**7, 10**8]),
    reserve=st.integers(0, 4000),
)
def test_a_full_window_fits_however_it_is_scattered(seed: int, span: int, reserve: int) -> None:
    """A thousand unfinished records anywhere in a hundred million offsets: under 4,096 bytes."""
    offsets = sorted(random.Random(seed).sample(range(span), WINDOW))
    _assert_fits([offset - offsets[0] for offset in offsets], reserve)


@pytest.mark.parametrize(
    "gaps",
    [
        [1] * WINDOW,
        [127, 128] * (WINDOW // 2),
        [2**14 + n for n in range(WINDOW)],
        # As many of the longest as a hundred million offsets allow, the others as long as can be.
        [2**21 + 17 * n for n in range(39)] + [2**14 + 7 * n for n in range(WINDOW - 39)],
    ],
    ids=["dense", "two bytes", "three bytes", "worst"],
)
def test_the_worst_windows_fit(gaps: Sequence[int]) -> None:
    """Distances that take as many bytes as they can, and are no two alike."""
    _assert_fits([sum(gaps[:n]) for n in range(WINDOW)], 4000)


def _assert_fits(unfinished: Sequence[int], reserve: int) -> None:
    position = unfinished[-1] + 1
    progress = Progress(0, position, tuple(unfinished), position + reserve)
    text = offset_codec.encode(progress)
    assert len(text) <= offset_codec.LIMIT_BYTES
    assert offset_codec.decode(0, text) == progress
