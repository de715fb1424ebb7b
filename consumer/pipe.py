"""What parent and child say to each other, and how it becomes bytes on their socket.

One msgpack array is one frame; its first element is its kind. Frames hold many tasks at a time,
because a system call and a wake-up for each task would cost more than the task. The order in which
frames are sent is the order in which they are heard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from taskstream.broker.records import Record
from taskstream.consumer.suspicion import Suspicion
from taskstream.consumer.verdict import Again, Dead, Done, Verdict
from taskstream.core.envelope import Header, Place
from taskstream.core.limits import Concurrency, Rate
from taskstream.core.states import State
from taskstream.observability.metrics import Told

FRAME_TASKS = 250
"""How many tasks one frame holds at most."""

BLAMELESS = 213
"""Exit status of a child that ends itself by our own rules: nothing that it held is to blame."""


class Turn(IntEnum):
    """In which order a child runs what it holds.

    Attributes:
        URGENT: first, in any slot.
        SOON: before the rest.
        COMMON: the rest.
    """

    URGENT = 0
    SOON = 1
    COMMON = 2


class Given(NamedTuple):
    """A task on its way to a child.

    Args:
        number: the parent's number for it, unique while the parent lives.
        record: what Kafka delivered.
        given_us: when it was given out, microseconds since 1970: the timestamp of its row.
        fence: grows with each owner of its partition.
        group: the consumer group it was read for.
        lookup: whether to look in the store before running it.
        suspicion: whether a process may have died of it.
        cancelled: whether it is not to be run, only to be recorded as cancelled.
        turn: before which others it runs.
        why: by which order it is cancelled, where that is more than a request for its own end.
    """

    number: int
    record: Record
    given_us: int
    fence: int
    group: str
    lookup: bool
    suspicion: Suspicion
    cancelled: bool = False
    turn: Turn = Turn.COMMON
    why: str = ""


class Reply(NamedTuple):
    """A record of replies, and the partition where somebody waits for them."""

    place: Place
    value: bytes


class Judged(NamedTuple):
    """A task whose row is stored: what is left to do is the parent's.

    Args:
        number: as in `Given`.
        verdict: what to do.
        trace: W3C headers of the attempt, the parents of what is handed off.
        task_id: the task's id, derived by the child for a foreign record; empty where nothing is handed off.
        task: the task's name; empty where the record didn't tell, or nothing is handed off.
        recalled: whether its row was found in the store, so that nothing ran here.
        attempt: which attempt it was; that of the record, but for one whose retries hold their key.
        uncounted: how many of those before it don't count.
    """

    number: int
    verdict: Verdict
    trace: tuple[Header, ...]
    task_id: str
    task: str
    recalled: bool
    attempt: int = 1
    uncounted: int = 0


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a child has recorded since it last said so.

    Args:
        tasks: one for each task.
        replies: what those who wait for them are told.
        events: what the events topic is told, before their offsets count as finished.
        write_seconds: how long their rows took to be stored: how far ahead the child must be fed.
    """

    tasks: list[Judged]
    replies: list[Reply]
    events: list[bytes]
    write_seconds: float


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What the parent must know of a task without importing it.

    Args:
        name: its name; the same for all its aliases.
        queue: the queue it is published to.
        runs: "async", "thread" or "process".
        strict_order: whether its retries hold their key.
        concurrency: how many of it may run at once.
        rates: how many of it may start in a time.
    """

    name: str
    queue: str
    runs: str
    strict_order: bool = False
    concurrency: tuple[Concurrency, ...] = ()
    rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """A child knows what the app is, and goes on to open what its tasks need: `Ready` follows.

    Args:
        app: the app's name.
        settings: the settings by name, as `dataclasses.asdict` gives them.
        queues: for each queue its priorities with their weights.
        tasks: for each task name and alias what the parent must know of it.
    """

    app: str
    settings: dict[str, Any]
    queues: dict[str, dict[str, int]]
    tasks: dict[str, TaskFacts]


@dataclass(frozen=True, slots=True)
class Ready:
    """A child takes tasks from now on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A child can't start: the parent reports the text and ends.

    Args:
        message: one line that says what to do.
        traceback: where it came from; empty for an error of ours that speaks for itself.
    """

    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Retiring:
    """A child wants to be replaced: a task of it goes on past its limit.

    Args:
        serves: whether it takes tasks until its successor is ready. Not where the task holds up
            others: on an event loop, or in the main thread.
    """

    serves: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Suspects that a child has not run, because it must not run them in company.

    Args:
        numbers: as in `Given`.
    """

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a child has ended, or never begun, on the parent's order, and has not recorded.

    Args:
        numbers: as in `Given`.
    """

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a child is; its answer to a `Beat`.

    Args:
        rss_bytes: its resident memory.
        rows_pending: rows that wait for the result store.
        store_healthy: whether the store answers.
        loop_turns: how often its event loop has come round when asked; stands still while a task
            blocks it.
        told: what it has counted since the last one.
    """

    rss_bytes: int
    rows_pending: int
    store_healthy: bool
    loop_turns: int
    told: Told


@dataclass(frozen=True, slots=True)
class Beat:
    """The parent's sign of life.

    Args:
        limit: without another one in so many seconds the child ends by itself, and records nothing
            more: the parent may be frozen, and its partitions be somebody else's.
    """

    limit: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """The parent's word to a child: end these tasks.

    Args:
        numbers: as in `Given`; those that the child no longer holds are passed over.
        record: whether their end is to be recorded. False where they have another owner by now, or
            may have: then they come back as `Dropped`.
    """

    numbers: tuple[int, ...]
    record: bool


@dataclass(frozen=True, slots=True)
class Recall:
    """The parent's word to a child: give back those of these tasks that you have not begun.

    They come back as `Dropped`; what has begun goes on. Suspects stay: their strikes are written.

    Args:
        numbers: as in `Given`.
    """

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The parent's word to a child: end once everything you hold is stored."""


def pack_given(tasks: list[Given]) -> bytes:
    """Frames that hand tasks to a child."""
    return b"".join(
        _pack(("run", tasks[start : start + FRAME_TASKS]))
        for start in range(0, len(tasks), FRAME_TASKS)
    )


def pack_verdicts(verdicts: Verdicts) -> bytes:
    """A frame that hands verdicts to the parent."""
    rows = [_plain_judged(judged) for judged in verdicts.tasks]
    return _pack(("judged", rows, verdicts.replies, verdicts.events, verdicts.write_seconds))


def pack_hello(hello: Hello) -> bytes:
    """The frame of a child that knows the app; see `Hello`."""
    tasks = {name: astuple(facts) for name, facts in hello.tasks.items()}
    return _pack(("hello", hello.app, hello.settings, hello.queues, tasks))


def pack_ready() -> bytes:
    """The frame of a child that takes tasks."""
    return _pack(("ready",))


def pack_failure(failure: Failure) -> bytes:
    """The frame of a child that can't start."""
    return _pack(("failure", failure.message, failure.traceback))


def pack_retiring(*, serves: bool) -> bytes:
    """The frame of a child that wants to be replaced; see `Retiring`."""
    return _pack(("retiring", serves))


def pack_quarantined(numbers: Sequence[int]) -> bytes:
    """A frame that gives suspects back to the parent, not run."""
    return _pack(("quarantined", tuple(numbers)))


def pack_dropped(numbers: Sequence[int]) -> bytes:
    """A frame that gives tasks back to the parent, unrecorded."""
    return _pack(("dropped", tuple(numbers)))


def pack_pulse(pulse: Pulse) -> bytes:
    """The frame that answers a beat."""
    return _pack(
        (
            "pulse",
            pulse.rss_bytes,
            pulse.rows_pending,
            pulse.store_healthy,
            pulse.loop_turns,
            pulse.told,
        )
    )


def pack_beat(limit: float) -> bytes:
    """The frame of the parent's sign of life; see `Beat`."""
    return _pack(("beat", limit))


def pack_cancel(numbers: Sequence[int], *, record: bool) -> bytes:
    """A frame that ends tasks; see `Cancel`."""
    return _pack(("cancel", tuple(numbers), record))


def pack_recall(numbers: Sequence[int]) -> bytes:
    """A frame that takes back what has not begun; see `Recall`."""
    return _pack(("recall", tuple(numbers)))


def pack_stop() -> bytes:
    """The frame that ends a child."""
    return _pack(("stop",))


Frame = (
    list[Given]
    | Verdicts
    | Quarantined
    | Dropped
    | Hello
    | Ready
    | Failure
    | Retiring
    | Pulse
    | Beat
    | Cancel
    | Recall
    | Stop
)


class Frames:
    """Turns bytes as they arrive, in whatever pieces, into whole frames."""

    def __init__(self) -> None:
        # Both ends are ours, and what they may hold is bounded elsewhere: no limit here.
        self._unpacker = msgpack.Unpacker(use_list=False, strict_map_key=False, max_buffer_size=0)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now that `data` has arrived."""
        self._unpacker.feed(data)
        for frame in self._unpacker:
            yield _READERS[frame[0]](frame)


def _read_given(frame: Any) -> list[Given]:
    return [
        Given(
            number, Record._make(record), given_us, fence, group, lookup,
            _SUSPICIONS[suspicion], cancelled, _TURNS[turn], why,
        )
        for number, record, given_us, fence, group, lookup, suspicion, cancelled, turn, why in frame[1]
    ]  # fmt: skip


def _read_judged(frame: Any) -> Verdicts:
    _, tasks, replies, events, write_seconds = frame
    return Verdicts(
        [_judged(task) for task in tasks],
        [Reply(Place._make(place), value) for place, value in replies],
        list(events),
        write_seconds,
    )


def _read_pulse(frame: Any) -> Pulse:
    _, rss_bytes, rows_pending, store_healthy, loop_turns, told = frame
    return Pulse(rss_bytes, rows_pending, store_healthy, loop_turns, Told(*told))


def _read_hello(frame: Any) -> Hello:
    _, app, settings, queues, tasks = frame
    return Hello(app, settings, queues, {name: _facts(facts) for name, facts in tasks.items()})


def _facts(plain: Any) -> TaskFacts:
    name, queue, runs, strict_order, concurrency, rates = plain
    return TaskFacts(
        name,
        queue,
        runs,
        strict_order,
        tuple(Concurrency(*limit) for limit in concurrency),
        tuple(Rate(*limit) for limit in rates),
    )


_READERS: dict[str, Any] = {
    "run": _read_given,
    "judged": _read_judged,
    "hello": _read_hello,
    "ready": lambda _frame: Ready(),
    "failure": lambda frame: Failure(*frame[1:]),
    "retiring": lambda frame: Retiring(frame[1]),
    "quarantined": lambda frame: Quarantined(frame[1]),
    "dropped": lambda frame: Dropped(frame[1]),
    "pulse": _read_pulse,
    "beat": lambda frame: Beat(frame[1]),
    "cancel": lambda frame: Cancel(*frame[1:]),
    "recall": lambda frame: Recall(frame[1]),
    "stop": lambda _frame: Stop(),
}

# A look-up costs a tenth of what an enumeration's call does.
_SUSPICIONS = tuple(Suspicion)
_TURNS = tuple(Turn)
_DONE = {str(state): Done(state) for state in State}


# What follows its number where an attempt succeeded and nothing else is to be told: as nearly always.
_SUCCEEDED = Judged(0, Done(), (), "", "", recalled=False)[1:]


def succeeded(number: int) -> Judged:
    """The word on an attempt that ran and succeeded: in a frame it takes up its number alone."""
    return Judged(number, *_SUCCEEDED)


def _plain_judged(judged: Judged) -> Any:
    number, verdict, *rest = judged
    return number if judged[1:] == _SUCCEEDED else (number, _plain(verdict), *rest)


def _judged(plain: Any) -> Judged:
    if isinstance(plain, int):
        return Judged(plain, *_SUCCEEDED)
    number, verdict, *rest = plain
    return Judged(number, _verdict(verdict), *rest)


def _plain(verdict: Verdict) -> Any:
    match verdict:
        case Done(state):
            return state
        case Again(due, counts, grace):
            return (due, counts, grace)
        case Dead(reason, message):
            return (reason, message)


def _verdict(plain: Any) -> Verdict:
    if isinstance(plain, str):
        return _DONE[plain]
    return Again(*plain) if len(plain) == 3 else Dead(*plain)


def _pack(frame: Any) -> bytes:
    packed: bytes = msgpack.packb(frame)
    return packed
