"""Promise 5: tasks of one key run one at a time, in publish order; others run beside them.

Broken on purpose once, and seen to fail: `Lanes.push` without the lock on the key.
"""

from collections import defaultdict

from tests.support.stage import Stage

from taskstream import State


def test_a_key_keeps_its_order_and_only_its_own(stage: Stage) -> None:
    """Forty keys, two workers of two children: each key's tasks start in the order of publish."""
    handles = stage.task("keyed").publish_many(
        {"customer": f"c{n % 40}", "n": n} for n in range(2_000)
    )
    for _ in range(2):
        stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 2_000})
    starts: dict[str, list[int]] = defaultdict(list)
    for run in sorted(stage.journal, key=lambda run: run.at):
        starts[run.more["key"]].append(int(run.more["n"]))
    assert len(starts) == 40
    assert all(numbers == sorted(numbers) for numbers in starts.values())
    assert len({run.pid for run in stage.journal}) > 1
