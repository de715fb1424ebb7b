"""Queues, priorities and routes: where a task goes."""

from typing import Any

import pytest

from taskstream.app.queues import DEFAULT_WEIGHTS, Queue, Queues
from taskstream.core.errors import BadArguments, ConfigError, DefinitionError


def test_without_a_word_there_is_one_queue_with_three_priorities() -> None:
    """The default is the queue `tasks` with high, normal and low at 6:3:1, and normal for tasks."""
    queues = Queues(None, None)
    assert queues.weights == {"tasks": {"high": 6, "normal": 3, "low": 1}}
    assert queues.assign("charge", None, None) == ("tasks", "normal")


def test_a_task_may_name_a_new_queue_where_none_are_declared() -> None:
    """Queues that only tasks name come with the default priorities."""
    queues = Queues(None, None)
    assert queues.assign("resize", "gpu", "low") == ("gpu", "low")
    assert queues.weights["gpu"] == DEFAULT_WEIGHTS


def test_declared_queues_are_all_there_are() -> None:
    """A typo in a task's queue is refused where the queues are declared."""
    queues = Queues({"mail": {"normal": 1}}, None)
    with pytest.raises(DefinitionError, match="task greet: no queue 'mial'"):
        queues.assign("greet", "mial", None)


def test_a_queue_may_have_partitions_of_its_own() -> None:
    """Where a limit is small, its queue has few; others have what the settings say."""
    queues = Queues({"tasks": DEFAULT_WEIGHTS, "one": Queue({"normal": 1}, partitions=1)}, None)
    assert queues.weights["one"] == {"normal": 1}
    assert queues.partitions == {"one": 1}
    assert Queue().priorities == DEFAULT_WEIGHTS
    with pytest.raises(ConfigError, match=r"Queue\(partitions=0\)"):
        Queue(partitions=0)


def test_the_only_queue_and_the_only_priority_are_the_default() -> None:
    """Where there is one of a kind, a task need not name it."""
    assert Queues({"mail": {"bulk": 1}}, None).assign("greet", None, None) == ("mail", "bulk")


def test_a_choice_that_has_no_default_must_be_made() -> None:
    """Several queues without `tasks`, or several priorities without `normal`, ask for a word."""
    with pytest.raises(DefinitionError, match="say queue="):
        Queues({"mail": {"normal": 1}, "sms": {"normal": 1}}, None).assign("greet", None, None)
    with pytest.raises(DefinitionError, match="set priority= to one of fast, slow"):
        Queues({"tasks": {"fast": 2, "slow": 1}}, None).assign("greet", None, None)


def test_routes_win_over_definitions_and_the_first_match_wins() -> None:
    """A route moves tasks by name to another queue without a change of their code."""
    queues = Queues(None, {"thumb_*": "gpu", "thumb_old": "cpu"})
    assert queues.assign("thumb_old", "tasks", "high") == ("gpu", "high")
    assert queues.assign("charge", "tasks", None) == ("tasks", "normal")
    assert set(queues.weights) == {"tasks", "gpu", "cpu"}


def test_names_match_as_written() -> None:
    """A pattern tells capitals apart on every system."""
    assert Queues(None, {"Thumb": "gpu"}).assign("thumb", None, None)[0] == "tasks"


@pytest.mark.parametrize(
    ("declared", "routes", "named"),
    [
        ({"a.b": {"normal": 1}}, None, "queue name 'a.b'"),
        ({"dead": {"normal": 1}}, None, "reserved"),
        ({"tasks": {}}, None, "needs a priority"),
        ({"tasks": {"no.w": 1}}, None, "priority name"),
        ({"tasks": {"normal": 0}}, None, "weight of priority normal"),
        ({"tasks": "normal"}, None, "neither a Queue nor weights"),
        ({"tasks": {"normal": 1}}, {"thumb_*": "gpu"}, "no such queue"),
    ],
)
def test_wrong_queues_and_routes_are_refused(declared: Any, routes: Any, named: str) -> None:
    """What can't be part of a topic's name, or leads nowhere, is refused when the app is made."""
    with pytest.raises(ConfigError, match=named):
        Queues(declared, routes)


def test_a_publish_to_nowhere_is_refused() -> None:
    """A publish that asks for an unknown queue or priority is refused with what there is."""
    queues = Queues(None, None)
    queues.check("tasks", "high", task="charge")
    with pytest.raises(BadArguments, match="task charge: no queue 'gpu'"):
        queues.check("gpu", "high", task="charge")
    with pytest.raises(BadArguments, match="no priority 'urgent'; there are high, normal, low"):
        queues.check("tasks", "urgent", task="charge")
