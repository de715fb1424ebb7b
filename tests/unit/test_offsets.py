"""The tracker and its codec against a model that keeps every record in a list."""

import base64
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker import offset_codec
from taskstream.broker.offsets import Held, Progress, Tracker


@dataclass
class Model:
    """The naive truth: all delivered offsets and whether each is finished."""

    start: int
    delivered: list[int] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)

    @property
    def watermark(self) -> int:
        """The first delivered offset that is not finished, else one past the last."""
        left = [offset for offset in self.delivered if offset not in self.finished]
        return left[0] if left else (self.delivered[-1] + 1 if self.delivered else self.start)


logs = st.lists(st.integers(1, 50), min_size=1, max_size=60).map(
    lambda gaps: [sum(gaps[: i + 1]) for i in range(len(gaps))]
)
"""Ascending offsets with holes."""


@given(log=logs, data=st.data())
def test_watermark_agrees_with_the_model(log: list[int], data: st.DataObject) -> None:
    """Whatever finishes in whatever order, the watermark is the first unfinished delivered offset."""
    model, tracker = Model(log[0]), Tracker.resume(Progress.at(log[0]))
    for offset in log:
        assert tracker.deliver(offset)
        model.delivered.append(offset)
        for done in data.draw(st.lists(st.sampled_from(model.delivered), max_size=3)):
            before = tracker.watermark
            tracker.finish(done)
            model.finished.add(done)
            assert tracker.watermark == model.watermark
            assert tracker.watermark >= before
    assert tracker.pending == len(set(log) - model.finished)


@given(log=logs, data=st.data())
def test_a_resumed_tracker_runs_exactly_what_is_left(log: list[int], data: st.DataObject) -> None:
    """An owner that resumes from the commit is given each unfinished record once, and no finished one."""
    cut = data.draw(st.integers(0, len(log)))
    tracker = Tracker.resume(Progress.at(log[0]))
    for offset in log[:cut]:
        tracker.deliver(offset)
    finished = set(data.draw(st.lists(st.sampled_from(log[:cut])))) if cut else set()
    for offset in finished:
        tracker.finish(offset)

    progress = tracker.progress(horizon=log[-1])
    committed = offset_codec.decode(progress.watermark, offset_codec.encode(progress))
    assert committed == Progress(
        progress.watermark, progress.position, progress.unfinished, max(progress.watermark, log[-1])
    )
    assert committed is not None
    resumed = Tracker.resume(committed)

    again = [offset for offset in log if offset >= progress.watermark and resumed.deliver(offset)]
    assert again == [offset for offset in log if offset not in finished]
    assert not any(resumed.deliver(offset) for offset in again), (
        "a rewind must not give a record twice"
    )
    for offset in again:
        resumed.finish(offset)
    assert resumed.watermark == log[-1] + 1


@given(log=logs, data=st.data())
def test_vanished_records_do_not_hold_the_watermark(log: list[int], data: st.DataObject) -> None:
    """Owed records that retention or compaction removed are passed over once a later one arrives."""
    tracker = Tracker.resume(Progress.at(log[0]))
    for offset in log:
        tracker.deliver(offset)
    resumed = Tracker.resume(tracker.progress(horizon=0))
    kept = data.draw(st.lists(st.sampled_from(log), min_size=1, unique=True).map(sorted))
    for offset in kept:
        assert resumed.deliver(offset)
    assert resumed.watermark == kept[0]
    assert set(resumed.unfinished) == set(kept) | {offset for offset in log if offset > kept[-1]}


def test_a_thousand_scattered_records_fit_the_metadata() -> None:
    """A full window spread over ten million offsets still fits the broker's 4,096 bytes."""
    unfinished = tuple(range(0, 10_000_000, 10_000))
    progress = Progress(0, 10_000_000, unfinished, 10_004_000)
    text = offset_codec.encode(progress)
    assert len(text) <= offset_codec.FULL_BYTES
    assert offset_codec.decode(0, text) == progress


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_foreign_metadata_is_not_ours_or_is_harmless(metadata: str) -> None:
    """Any text in a commit's metadata decodes to a progress or to None, and never raises."""
    progress = offset_codec.decode(100, metadata)
    assert progress is None or progress.position >= 100


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(data=st.data(), log=logs, workers=st.lists(names, min_size=1, max_size=5, unique=True))
def test_the_commit_tells_who_holds_what(
    data: st.DataObject, log: list[int], workers: list[str]
) -> None:
    """Whoever reads a commit learns of each unfinished record whether somebody runs it, and who."""
    held = tuple(
        Held(offset, data.draw(st.sampled_from(workers)), data.draw(st.sampled_from([1, 2**50])))
        for offset in log
        if data.draw(st.booleans())
    )
    progress = Progress(log[0], log[-1] + 1, tuple(log), log[-1] + 4000, held)
    assert offset_codec.decode(log[0], offset_codec.encode(progress)) == progress


@given(junk=st.binary(max_size=200), version=st.integers(0, 255))
def test_what_is_not_ours_is_told_apart(junk: bytes, version: int) -> None:
    """Metadata of other tools and of later versions gives nothing, and never fails."""
    text = base64.b64encode(bytes([version]) + junk).decode()
    for metadata in (text, text[:-1], junk.decode("latin-1")):
        found = offset_codec.decode(5, metadata)
        assert found is None or found.watermark == 5
