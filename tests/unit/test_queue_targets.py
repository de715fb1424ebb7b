"""What an order is about, by the words of people."""

import pytest

from taskstream import App
from taskstream.admin.queues import Target, _holding, find
from taskstream.core.errors import ConfigError
from taskstream.core.queue_orders import PAUSE, QueueOrder, QueueOrders


@pytest.fixture
def app() -> App:
    """Two queues, one task of two names."""
    app = App("shop", queues={"tasks": {"high": 2, "low": 1}, "mail": {"normal": 1}})

    @app.task(queue="tasks", priority="low", aliases=["charge_old"])
    def charge() -> None: ...

    return app


def test_a_queue_is_all_of_its_priorities(app: App) -> None:
    """And one of them is itself alone."""
    whole, part = find(app, "queue:tasks"), find(app, "queue:tasks.low")
    assert (whole.targets, whole.lanes) == (
        ("queue:tasks",),
        (("tasks", "high"), ("tasks", "low")),
    )
    assert (part.targets, part.lanes) == (("queue:tasks.low",), (("tasks", "low"),))
    assert whole.tasks is part.tasks is None


def test_a_task_is_all_of_its_names(app: App) -> None:
    """Records that were published under an old one are meant as well."""
    by_name, by_alias = find(app, "task:charge"), find(app, "task:charge_old")
    assert by_name == by_alias
    assert by_name.name == "task:charge"
    assert by_name.targets == ("task:charge", "task:charge_old")
    assert by_name.tasks == frozenset({"charge", "charge_old"})
    assert by_name.lanes == (("tasks", "high"), ("tasks", "low"))


@pytest.mark.parametrize("target", ["tasks", "queue:", "task:", "topic:tasks", "queue:tasks.", ""])
def test_what_names_nothing_is_refused(app: App, target: str) -> None:
    """With what could have been meant."""
    if target == "queue:tasks.":
        assert find(app, target).lanes == find(app, "queue:tasks").lanes
    else:
        with pytest.raises(ConfigError, match="queue:NAME"):
            find(app, target)


def test_what_holds_a_target_is_told_by_its_names() -> None:
    """A queue whose name begins with that of another is another queue; a priority is held by its queue's order."""
    orders = QueueOrders(
        QueueOrder(PAUSE, target, 1.0)
        for target in ("queue:thumbs", "queue:thumbs2", "queue:thumbs.high")
    )
    lanes = (("thumbs", "high"), ("thumbs", "low"))
    whole = Target("queue:thumbs", ("queue:thumbs",), lanes)
    assert _holding(orders, whole) == ("queue:thumbs is paused", "queue:thumbs.high is paused")
    low = Target("queue:thumbs.low", ("queue:thumbs.low",), lanes[1:])
    assert _holding(orders, low) == ("queue:thumbs is paused",)
