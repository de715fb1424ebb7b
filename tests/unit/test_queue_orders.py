"""What a pause, a drain and a purge mean, and how long they hold.

Broken on purpose once, and seen to fail: `fading` that does not keep the moment since which a drain holds;
a purge that is later than what entered at its very moment.
"""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from taskstream.core.control import Control, Order
from taskstream.core.queue_orders import (
    DRAIN,
    NO_ORDERS,
    PAUSE,
    PURGE,
    QueueOrder,
    QueueOrders,
    is_queue_order,
    of_queue,
    of_task,
)
from taskstream.core.tiers import DAY
from taskstream.schemas.control import decode_order, encode_order
from taskstream.schemas.records import Records

LIFETIME = 40 * DAY
NOW = 1_700_000_000.0

LANES = ("tasks.high", "tasks.low", "mail.normal")
TASKS = ("charge", "refund")
targets = st.sampled_from(
    [
        of_queue("tasks"),
        of_queue("tasks", "high"),
        of_queue("mail", "normal"),
        of_task("charge"),
        of_task("refund"),
    ]
)
orders = st.builds(
    QueueOrder, st.sampled_from([PAUSE, DRAIN, PURGE]), targets, st.integers(0, 9).map(float)
)


def covers(target: str, lane: str, task: str) -> bool:
    """Whether a target is about such a task; written out, as people read it."""
    return target in (f"queue:{lane.split('.', maxsplit=1)[0]}", f"queue:{lane}", f"task:{task}")


@given(
    # One for each verb and target: a later one takes the place of the first.
    st.lists(orders, max_size=6, unique_by=lambda one: (one.verb, one.target)),
    st.sampled_from(LANES),
    st.sampled_from(TASKS),
    st.integers(0, 9).map(float),
)
def test_orders_mean_what_their_words_say(
    given_: Sequence[QueueOrder], lane: str, task: str, entered: float
) -> None:
    """Whatever stands beside each other, against the sentences of the documentation."""
    standing = QueueOrders(given_)
    about = [one for one in given_ if covers(one.target, lane, task)]
    waits = any(one.verb == PAUSE or (one.verb == DRAIN and entered > one.since) for one in about)
    ends = any(one.verb == PURGE and entered <= one.since for one in about)
    assert standing.holds_back(lane, task, entered) == waits
    assert (standing.purge_of(lane, task, entered) is not None) == ends
    assert standing.pauses(lane) == any(
        one.verb == PAUSE and one.target.startswith("queue:") for one in about
    )
    assert standing.any == bool(given_)


def order(verb: str, target: str, since: float | None = None) -> Order:
    return Order(verb=verb, target=target, at=NOW, who="me@here", reason="a test", since=since)


def test_an_order_holds_until_its_tombstone() -> None:
    """Each change makes another value, and no change none; a cancel is no change."""
    control = Control(LIFETIME)
    assert control.queues is NO_ORDERS
    control.give(order(PAUSE, of_queue("tasks")), NOW)
    control.give(order("cancel", "a/0"), NOW)
    paused = control.queues
    assert paused.holds_back("tasks.high", "charge", NOW)
    control.take_back(b"drain/queue:tasks")
    assert control.queues is paused
    control.take_back(b"pause/queue:tasks")
    assert not control.queues.any


def test_an_order_says_what_it_does_and_who_wants_it() -> None:
    """As people read it in a row, in a log and under /ready."""
    control = Control(LIFETIME)
    control.give(order(PURGE, of_task("charge")), NOW)
    (one,) = control.queues.orders
    assert str(one) == "task:charge is purged by me@here: a test"
    assert str(QueueOrder(PAUSE, of_queue("tasks"), NOW)) == "queue:tasks is paused"


def test_a_drain_that_is_said_again_keeps_its_moment() -> None:
    """Else what entered in between would go on; by whichever worker, through the topic's bytes."""
    records = Records()
    control = Control(LIFETIME)
    control.give(order(DRAIN, of_queue("tasks")), NOW + 0.123)
    control.give(order(PURGE, of_queue("tasks")), NOW)
    later = NOW + 0.6 * LIFETIME
    (again,) = control.fading("whoever", later)
    assert (again.verb, again.since) == (DRAIN, NOW + 0.123)
    control.give(decode_order(records, encode_order(records, again)), later)
    assert not control.queues.holds_back("tasks.high", "charge", NOW + 0.123)
    assert control.queues.holds_back("tasks.high", "charge", NOW + 0.124)
    assert control.fading("whoever", later) == []
    control.expire(NOW + 1.5 * LIFETIME)
    assert [one.verb for one in control.queues.orders] == [DRAIN]


def test_only_what_names_a_queue_or_a_task_is_such_an_order() -> None:
    """An order of a later version, or to all workers, is passed over."""
    control = Control(LIFETIME)
    control.give(order(PAUSE, "*"), NOW)
    control.give(order("rate", of_queue("tasks")), NOW)
    assert control.queues is NO_ORDERS
    assert not is_queue_order("cancel", "task:a/0")
