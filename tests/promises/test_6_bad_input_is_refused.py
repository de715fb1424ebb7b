"""Promise 6: bad input is refused where it enters; what gets in all the same dies byte for byte.

The second half is `tests/scenarios/test_failures.py::test_broken_bytes_die_at_once_and_the_line_moves_on`.

Broken on purpose once, and seen to fail: `ArgumentsCodec.encode` without its checks.
"""

import pytest
from tests.support.stage import Stage

from taskstream import BadArguments, TooLarge


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n": "one"}, "n"),
        ({"n": True}, "n"),
        ({"n": 2**63}, "n"),
        ({"n": 1, "plus": None}, "plus"),
        ({"plus": 1}, "n"),
        ({"n": 1, "times": 2}, "times"),
    ],
)
def test_publish_names_task_and_field(
    stage: Stage, arguments: dict[str, object], named: str
) -> None:
    """Nothing of a wrong call reaches Kafka, and the error says which task and which field."""
    with pytest.raises(BadArguments, match=rf"task add: .*\b{named}\b"):
        stage.task("add").publish(**arguments)
    assert stage.left_over() == 0


def test_a_large_one_is_refused_before_it_is_sent(stage: Stage) -> None:
    """A record that would not fit the topic is refused, with its task named."""
    with pytest.raises(TooLarge, match="receipt"):
        stage.task("receipt").publish("x" * 1_100_000, cents=1)
    assert stage.left_over() == 0
