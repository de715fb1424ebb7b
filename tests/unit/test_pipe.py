"""Frames between parent and child survive any cut of the stream."""

from hypothesis import given
from hypothesis import strategies as st

from taskstream.broker.records import Record
from taskstream.consumer.pipe import (
    Failure,
    Frames,
    Given,
    Hello,
    Judged,
    Pulse,
    Quarantined,
    Ready,
    Recall,
    Reply,
    Retiring,
    Stop,
    TaskFacts,
    Turn,
    Verdicts,
    pack_failure,
    pack_given,
    pack_hello,
    pack_pulse,
    pack_quarantined,
    pack_ready,
    pack_recall,
    pack_retiring,
    pack_stop,
    pack_verdicts,
    succeeded,
)
from taskstream.consumer.suspicion import Suspicion
from taskstream.consumer.verdict import Again, Dead, Done
from taskstream.core.envelope import Place
from taskstream.core.limits import Concurrency, Rate
from taskstream.core.states import State
from taskstream.observability.metrics import Told

headers = st.lists(st.tuples(st.text(), st.binary() | st.none()), max_size=3).map(tuple)
records = st.builds(
    Record,
    topic=st.text(),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**62),
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
    headers=headers,
    timestamp=st.floats(0, 4e9),
    size_bytes=st.integers(0, 2**40),
)
tasks = st.builds(
    Given,
    number=st.integers(0, 2**62),
    record=records,
    given_us=st.integers(0, 2**62),
    fence=st.integers(0, 2**62),
    group=st.text(),
    lookup=st.booleans(),
    suspicion=st.sampled_from(Suspicion),
    turn=st.sampled_from(Turn),
    cancelled=st.booleans(),
    why=st.text(),
)
verdicts = (
    st.sampled_from([Done(state) for state in State])
    | st.builds(Again, st.floats(0, 4e9), st.booleans(), st.none() | st.floats(0, 4e9))
    | st.builds(Dead, st.text(), st.text())
)
judged = st.builds(
    Judged,
    number=st.integers(0, 2**62),
    verdict=verdicts,
    trace=headers,
    task_id=st.text(),
    task=st.text(),
    attempt=st.integers(1, 99),
    uncounted=st.integers(0, 99),
) | st.builds(succeeded, st.integers(0, 2**62))


replies = st.builds(Reply, st.builds(Place, st.text(), st.integers(0, 99)), st.binary())


@given(
    st.lists(tasks, max_size=5),
    st.lists(judged, max_size=5),
    st.lists(replies, max_size=3),
    st.lists(st.binary(max_size=9), max_size=3),
    st.data(),
)
def test_frames_survive_any_cut(
    given_: list[Given],
    told: list[Judged],
    heard_by: list[Reply],
    events: list[bytes],
    data: st.DataObject,
) -> None:
    """However the bytes arrive in pieces, the same frames come out in the same order."""
    stream = pack_given(given_) + pack_verdicts(Verdicts(told, heard_by, events, 0.5)) + pack_stop()
    stream += pack_retiring(serves=True) + pack_quarantined([3, 5]) + pack_recall([7])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    frames = Frames()
    heard = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in frames.feed(stream[start:end])
    ]
    assert heard == [
        *([given_] if given_ else []),
        Verdicts(told, heard_by, events, 0.5),
        Stop(),
        Retiring(True),
        Quarantined((3, 5)),
        Recall((7,)),
    ]


def test_long_lists_are_cut_into_frames() -> None:
    """A thousand tasks are four frames of 250."""
    record = Record("t", 0, 0, None, None, (), 0.0)
    many = [Given(number, record, 0, 0, "g", False, Suspicion.NONE) for number in range(1000)]
    frames = list(Frames().feed(pack_given(many)))
    assert [len(frame) for frame in frames if isinstance(frame, list)] == [250] * 4


def test_hello_ready_and_failure_pass_whole() -> None:
    """What a child says at its start arrives as it was said."""
    hello = Hello(
        "shop",
        {"partitions": 8, "kafka": {"a": 1}},
        {"tasks": {"high": 6}},
        {
            "a": TaskFacts("a", "tasks", "async"),
            "b": TaskFacts(
                "b", "mail", "thread", True, (Concurrency(3),), (Rate(1, 60.0, "key"), Rate(5))
            ),
        },
    )
    failure = Failure("no such module", "Traceback ...")
    said = pack_hello(hello) + pack_ready() + pack_failure(failure)
    assert list(Frames().feed(said)) == [hello, Ready(), failure]


def test_a_pulse_brings_what_was_counted() -> None:
    """Numbers, buckets and exemplars arrive as they were taken; a child that counted nothing says so."""
    counted = (("taskstream.retries", ("charge", "OSError"), 2.0),)
    exemplar = (1, 0.2, "ab" * 16, "cd" * 8, 1_800_000_000.0)
    seen = (("taskstream.rows.batch", (), (0, 1), 0.2, (exemplar,)),)
    full = Pulse(1, 2, True, 3, Told(counted, seen, (("librdkafka.msg_cnt", ("publish",), 7.0),)))
    empty = Pulse(1, 0, False, 0, Told((), (), ()))
    assert list(Frames().feed(pack_pulse(full) + pack_pulse(empty))) == [full, empty]
